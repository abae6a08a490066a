"""Norms and gated activations that keep less for the backward pass.

autograd keeps the inputs of every operation. Of x · rsqrt(mean x² + ε) · w it keeps the product in the middle as well, of
silu(gate) · up the SiLU: both are cheap to make again from what is kept anyway. The numbers are those of the modules that
are replaced, in both directions.
"""

from __future__ import annotations

from types import MethodType
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_GATED = ("gate_proj", "up_proj", "down_proj", "act_fn")


def keep_less(model: nn.Module) -> None:
    """Replace what `model` computes in its RMS norms and SiLU-gated layers (Llama, Mistral, Qwen; Gemma's are others)."""
    for module in model.modules():
        if hasattr(module, "variance_epsilon") and hasattr(module, "weight"):
            cast(Any, module).forward = MethodType(_norm, module)
        elif all(hasattr(module, name) for name in _GATED) and "silu" in type(module.act_fn).__name__.lower():
            cast(Any, module).forward = MethodType(_gated, module)


def _norm(module: Any, x: Tensor) -> Tensor:
    if x.dtype != torch.float32:  # the module's own way of widening and narrowing
        return type(module).forward(module, x)
    return _RmsNorm.apply(x, module.weight, module.variance_epsilon)


def _gated(module: Any, x: Tensor) -> Tensor:
    return module.down_proj(_SwiGlu.apply(module.gate_proj(x), module.up_proj(x)))


class _RmsNorm(torch.autograd.Function):
    """y = n · w, n = x · rsqrt(mean(x²) + ε) over the last dimension (Zhang and Sennrich, arXiv:1910.07467, equation 4)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon)
        ctx.save_for_backward(x, scale, weight)
        return (x * scale).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, scale, weight = ctx.saved_tensors
        normed = x * scale
        by_weight = (grad * normed).flatten(0, -2).sum(0) if ctx.needs_input_grad[1] else None
        by_normed = grad * weight
        along = (by_normed * normed).mean(-1, keepdim=True)  # what would change the length, which the norm takes away
        return by_normed.sub_(normed.mul_(along)).mul_(scale), by_weight, None


class _SwiGlu(torch.autograd.Function):
    """silu(gate) · up (Shazeer, arXiv:2002.05202, equation 6, without its products)."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        gate, up = ctx.saved_tensors
        by_gate = torch.ops.aten.silu_backward(grad * up, gate)
        return by_gate, F.silu(gate).mul_(grad)
