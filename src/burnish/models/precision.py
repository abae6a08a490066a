"""Products of the decoder in bfloat16; everything else stays in float32.

A processor with bfloat16 units multiplies twice as fast in it, and weights take half the memory.
Only the linear maps of the decoder are stored and multiplied so: norms, attention, the residual
stream, the head and its log-probabilities, adapters and their optimizer keep float32, so that what
is rounded is rounded once, at a product. Where every weight is trained, the decoder's stay in
float32 too, for the optimizer, and are rounded at each product.
"""

from __future__ import annotations

import weakref
from functools import lru_cache
from types import MethodType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from burnish.models.processor import flags

NAMES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

_last: tuple[weakref.ref[Tensor], int, Tensor] | None = None


@lru_cache(maxsize=1)
def _has_instructions() -> bool:
    """Whether this processor has instructions for bfloat16. Thin products, which wait for memory,
    are then faster in it; whether training's are must be measured
    (`burnish.planning.machine.bfloat16_speed`)."""
    return torch.backends.mkldnn.is_available() and bool(
        flags() & {"avx512_bf16", "amx_bf16", "bf16"}
    )


def multiply_in_bfloat16(decoder: nn.Module, *, trained: bool = False) -> None:
    """Round the decoder's linear maps to bfloat16 and freeze them, or leave what is `trained` to be
    rounded at each product, as their inputs are."""
    for module in decoder.modules():
        if type(module) is nn.Linear:  # what is derived from it computes more (Llama 4's router)
            if not trained:
                module.weight = nn.Parameter(
                    module.weight.detach().to(torch.bfloat16), requires_grad=False
                )
                if module.bias is not None:
                    module.bias = nn.Parameter(
                        module.bias.detach().to(torch.bfloat16), requires_grad=False
                    )
            module.forward = MethodType(_forward, module)


def narrowed(x: Tensor, dtype: torch.dtype) -> Tensor:
    """`x` in `dtype`. Queries, keys and values read the same input one after the other: it is
    rounded once for them."""
    global _last
    if x.dtype == dtype:
        return x
    if _last is not None and _last[0]() is x and _last[1] == x._version and _last[2].dtype == dtype:
        return _last[2]
    narrow = x.detach().to(dtype)
    _last = (weakref.ref(x), x._version, narrow)
    return narrow


def packed(weight: Tensor) -> Tensor:
    """A bfloat16 `weight` (in, out) in the layout that oneDNN multiplies in; any other, or where
    that cannot be had, as it is.

    Left plain, it would be brought into that layout at every product, which costs a thin product as
    much as itself.
    """
    if weight.dtype != torch.bfloat16 or weight.device.type != "cpu" or not _has_instructions():
        return weight
    try:
        return torch.ops.mkldnn._reorder_linear_weight(weight.T.contiguous())
    except (
        AttributeError,
        RuntimeError,
        TypeError,
    ):  # the operator is torch's own, for its compiler: it may change
        return weight


def _forward(linear: nn.Linear, x: Tensor) -> Tensor:
    bias = None if linear.bias is None else linear.bias.to(torch.bfloat16)
    return F.linear(x.to(torch.bfloat16), linear.weight.to(torch.bfloat16), bias).to(x.dtype)
