"""A model of a run, or any other, made ready to answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from burnish.config.graph import graph_of
from burnish.errors import UserError
from burnish.generation.engine import make_engine
from burnish.generation.finish import Finisher
from burnish.generation.native import NativeEngine
from burnish.generation.transformers_engine import TransformersEngine
from burnish.models.backbone import load_backbone
from burnish.models.device import resolve
from burnish.models.roles import View
from burnish.runs.stage_record import verify_if_stage
from burnish.stages.chat_settings import settle_as_in_its_run
from burnish.stages.report import read_run
from burnish.stages.sampling import end_tokens_of


@dataclass(frozen=True)
class Ready:
    """An engine with a model's weights, what its tokens mean, and how long a sequence may be."""

    engine: NativeEngine | TransformersEngine
    tokenizer: Any
    finisher: Finisher
    vocabulary: int
    max_length: int


def model_of(reference: str) -> str:
    """A model reference; a run's folder stands for its policy, or else its SFT model."""
    folder = Path(reference)
    if (folder / "recipe.yaml").is_file():
        policies = [node.name for node in graph_of(read_run(folder)[0]) if node.makes == "Policy"]
        trained = [
            folder / name / "model" for name in policies if (folder / name / "model").is_dir()
        ]
        if trained:
            return str(trained[-1])
        raise UserError(
            "this run has no trained model yet.", file=folder, hint="Run its recipe first."
        )
    return reference


def make_ready(
    reference: str,
    *,
    adapter: Path | None = None,
    dtype: Literal["float32", "bfloat16"] = "float32",
    device: str = "auto",
    quantization: Literal["auto", "none", "int8"] = "none",
    max_length: int | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Ready:
    """Load a model (a reference as `model_of` takes it), with the adapter in a folder merged, and
    an engine for it; `max_length` is at most what the model can read, and that by default.

    Raises UserError where there is no such model or adapter, or no such device.
    """
    model = model_of(reference)
    verify_if_stage(Path(model))
    adapters = [] if adapter is None else [adapter]
    products = torch.bfloat16 if dtype == "bfloat16" else None
    backbone = load_backbone(
        model, products=products, device=resolve(device), adapters=adapters, say=say
    )
    backbone.freeze()
    settle_as_in_its_run(backbone, model)
    longest = backbone.turned_alike if max_length is None else max_length
    if longest > backbone.turned_alike:
        problem = f"this model reads at most {backbone.turned_alike} tokens, not {longest}."
        raise UserError(problem, field="--max-length")
    ends = frozenset(end_tokens_of(backbone))
    view = View(backbone)
    engine = make_engine(view, end_tokens=ends, quantization=quantization, longest=longest, say=say)
    assert isinstance(engine, NativeEngine | TransformersEngine)
    finisher = Finisher(backbone.tokenizer, ends)
    return Ready(engine, backbone.tokenizer, finisher, len(backbone.embeddings), longest)
