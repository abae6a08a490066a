"""Which engine samples a role: the native one, or transformers' own generation where it lacks the
model's shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch

from burnish.errors import UserError
from burnish.generation.base import Engine
from burnish.generation.native import NativeEngine, missing_feature
from burnish.generation.transformers_engine import TransformersEngine
from burnish.models import int8
from burnish.models.roles import View
from burnish.models.sampled import fallback_notice


def make_engine(
    view: View,
    *,
    end_tokens: frozenset[int],
    quantization: Literal["auto", "none", "int8"] = "none",
    longest: int | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Engine:
    """The engine for a role. Where it is not the native one, `say` is told why and what it costs.

    `quantization`: the matrices in the model's own precision, in 8 bits, or whichever of them is
    faster here; the model's own without the native engine. `longest`, where known, is how many
    tokens a prompt and its completion may have. Raises UserError if 8 bits are asked for by name
    and there is no engine that has them, or no processor.
    """
    reason = missing_feature(view.backbone, longest=longest)
    if reason is None:
        fast = view.backbone.device.type == "cpu" and int8.fast_here()
        narrow = quantization == "int8" or (quantization == "auto" and fast)
        return NativeEngine.of(view, end_tokens=end_tokens, products=torch.int8 if narrow else None)
    if quantization == "int8":
        raise no_int8(reason)
    say(fallback_notice(reason))
    return TransformersEngine(view, end_tokens=end_tokens)


def no_int8(reason: str) -> UserError:
    """8-bit products were asked for by name, and the engine that makes them cannot run the
    model."""
    return UserError(
        "sampling.quantization int8 needs Burnish's own engine, which cannot sample this model:"
        f" {reason}.",
        field="sampling.quantization",
        hint="Set sampling.quantization to auto or none.",
    )
