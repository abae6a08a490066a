"""Norms and gated activations that keep less for the backward pass.

autograd keeps the inputs of every operation. Of x · rsqrt(mean x² + ε) · w it keeps the product in
the middle as well, of silu(gate) · up the SiLU: both are cheap to make again from what is kept
anyway. The numbers are those of the modules that are replaced, in both directions.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

_GATED = ("gate_proj", "up_proj", "down_proj")
_CLOSE = 1e-5


def keep_less(model: nn.Module) -> None:
    """Replace what `model` computes in its RMS norms and SiLU-gated layers, where that is what is
    computed here.

    Whether it is, is tried once for each class, with small random weights: a norm that shifts its
    weight (Gemma) or is gated (Qwen 3.5), an activation that is clamped (gpt-oss) stay as they are.
    """
    replacements: dict[type, Callable[..., Tensor] | None] = {}
    for module in model.modules():
        kind = type(module)
        if kind not in replacements:
            replacements[kind] = _replacement(module)
        replacement = replacements[kind]
        if replacement is not None:
            cast(Any, module).forward = MethodType(replacement, module)


def _replacement(module: nn.Module) -> Callable[..., Tensor] | None:
    """`_norm` or `_gated`, if the module computes that; None for any other module."""
    names = dict(module.named_parameters())
    if (
        names.keys() == {"weight"}
        and hasattr(module, "variance_epsilon")
        and names["weight"].ndim == 1
    ):
        shapes = {"weight": (6,)}
        replacement = _norm
    elif all(isinstance(getattr(module, name, None), nn.Linear) for name in _GATED):
        shapes = {f"{name}.weight": (5, 6) for name in _GATED[:2]} | {"down_proj.weight": (6, 5)}
        shapes |= {f"{name}.bias": (5,) for name in _GATED[:2]} | {"down_proj.bias": (6,)}
        shapes = {name: shapes[name] for name in names if name in shapes}
        replacement = _gated
    else:
        return None
    return (
        replacement
        if shapes.keys() == names.keys() and _computes(module, replacement, shapes)
        else None
    )


def _computes(
    module: nn.Module, replacement: Callable[..., Tensor], shapes: dict[str, tuple[int, ...]]
) -> bool:
    """Whether the module and its replacement agree, with weights of these shapes in the place of
    its own."""
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    x = torch.randn(3, 4, 6, generator=generator) * 3
    try:
        theirs = functional_call(module, weights, (x,))
        ours = functional_call(
            _Other(module, replacement), {f"module.{n}": w for n, w in weights.items()}, (x,)
        )
    except (
        TypeError,
        ValueError,
        RuntimeError,
        AttributeError,
    ):  # it wants other inputs, or other shapes
        return False
    return (
        isinstance(theirs, Tensor)
        and theirs.shape == ours.shape
        and torch.allclose(theirs, ours, atol=_CLOSE)
    )


class _Other(nn.Module):
    """A module with another forward."""

    def __init__(self, module: nn.Module, forward: Callable[..., Tensor]) -> None:
        super().__init__()
        self.module, self.other = module, forward

    def forward(self, x: Tensor) -> Tensor:
        return self.other(self.module, x)


def _norm(module: Any, x: Tensor) -> Tensor:
    if x.dtype != torch.float32:  # the module's own way of widening and narrowing
        return type(module).forward(module, x)
    return _RmsNorm.apply(x, module.weight, module.variance_epsilon)


def _gated(module: Any, x: Tensor) -> Tensor:
    return module.down_proj(_SwiGlu.apply(module.gate_proj(x), module.up_proj(x)))


class _RmsNorm(torch.autograd.Function):
    """y = n · w, n = x · rsqrt(mean(x²) + ε) over the last dimension (Zhang and Sennrich,
    arXiv:1910.07467, equation 4)."""

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
        # what would change the length, which the norm takes away
        along = (by_normed * normed).mean(-1, keepdim=True)
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
