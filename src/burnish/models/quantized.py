"""Frozen linear maps in 8 or 4 bits under adapters (QLoRA, Dettmers et al., arXiv:2305.14314).

    int8   W_nk ~ s_n c_nk,             c in {−127 .. 127},  s_n = max_k |W_nk| / 127
    int4   W_nk ~ s_ng c_nk / 7,        c in {−7 .. 7},      s_ng = max of |W| over group g
    nf4    W_nk ~ s_ng level[c_nk],     16 levels, quantiles of a normal distribution (appendix E)

A group is 64 neighbours of a row. A matrix is widened as a whole for each product that it takes
part in, forward and backward, in memory that all of them share: what is kept is codes and scales.
Inputs are not rounded, so that values and gradients are those of the widened matrix, on every
device.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from burnish.models.narrow import borrowed
from burnish.models.stored import GROUP, Quantization
from burnish.system import page_out

_NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
)  # fmt: skip
_LEVELS = {"nf4": _NF4, "int4": tuple((code - 8) / 7 for code in range(1, 16))}
_ROWS = 256  # that are quantized at once
_TINY = 1e-30  # a row or group of zeros has no scale of its own


class QuantizedLinear(nn.Linear):
    """A linear map that does not learn, from codes and scales; products are made in `products`."""

    codes: Tensor
    scales: Tensor
    read = True

    def __init__(
        self, weight_NK: Tensor, bias: Tensor | None, *, kind: Quantization, products: torch.dtype
    ) -> None:
        nn.Module.__init__(self)  # nn.Linear's own would make a weight
        self.out_features, self.in_features = weight_NK.shape
        self.kind, self.products = kind, products
        codes, scales = _rounded(weight_NK, kind)
        self.register_buffer("codes", codes, persistent=False)
        self.register_buffer("scales", scales, persistent=False)
        held = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        self.register_parameter("bias", held)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """[N, K] float32: what the codes stand for, made anew at each call."""
        if not self.read:
            return self.scales.new_zeros(()).expand(self.out_features, self.in_features)
        return self.widened(torch.float32).clone()

    def widened(self, dtype: torch.dtype) -> Tensor:
        """[N, K]: what the codes stand for, until the next call for any matrix: they share the
        memory."""
        if self.kind == "int8":
            wide = borrowed(self.codes.shape, torch.float32, self.codes.device)
            return _as(wide.copy_(self.codes).mul_(self.scales[:, None]), dtype)
        if self.kind == "nf4" and self.codes.is_cuda and has_kernel():
            return by_kernel(self.codes, self.scales, self.in_features).to(dtype)
        device, count = self.codes.device, self.codes.numel()
        places = borrowed((count,), torch.int64, device).copy_(self.codes.flatten())
        wide = borrowed((*self.scales.shape, GROUP), torch.float32, device)
        pairs = wide.view(-1).view(torch.int64)
        torch.gather(_pairs(self.kind, device), 0, places, out=pairs)  # twice as fast as indexing
        wide = wide.mul_(self.scales[..., None]).flatten(1)
        return _as(wide[:, : self.in_features], dtype)

    def forward(self, input: Tensor) -> Tensor:
        """x Wᵀ + b."""
        return cast(Any, _FrozenProduct).apply(input, self)

    def extra_repr(self) -> str:
        """As `print` shows it."""
        return f"{self.in_features}, {self.out_features}, {self.kind}"


@lru_cache(maxsize=1)
def has_kernel() -> bool:
    """Whether bitsandbytes is installed, whose kernel widens nf4 on a GPU in one pass."""
    return find_spec("bitsandbytes") is not None


def by_kernel(codes: Tensor, scales: Tensor, width: int) -> Tensor:
    """[N, `width`] float32 by that kernel: codes and scales are laid out as it has them."""
    functional: Any = import_module("bitsandbytes.functional")
    state = functional.QuantState(
        absmax=scales.flatten(), shape=torch.Size((len(scales), scales.shape[1] * GROUP)),
        dtype=torch.float32, blocksize=GROUP, quant_type="nf4",
        code=functional.get_4bit_type("nf4", device=codes.device),
    )  # fmt: skip
    return functional.dequantize_4bit(codes.reshape(-1, 1), state)[:, :width]


class _FrozenProduct(torch.autograd.Function):
    """y = x Wᵀ + b, which keeps nothing for its backward pass but where the codes are."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, linear: QuantizedLinear) -> Tensor:
        ctx.linear = linear
        bias = None if linear.bias is None else linear.bias.to(linear.products)
        y = F.linear(x.to(linear.products), linear.widened(linear.products), bias)
        return y.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None]:  # type: ignore[override]
        linear: QuantizedLinear = ctx.linear
        if not ctx.needs_input_grad[0]:
            return None, None
        return (grad.to(linear.products) @ linear.widened(linear.products)).to(grad.dtype), None


def quantize(decoder: nn.Module, kind: Quantization, *, products: torch.dtype) -> None:
    """Put a `QuantizedLinear` in the place of each linear map of a decoder, one after the other, so
    that never more than one stands there twice."""
    for module in list(decoder.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                quantized = QuantizedLinear(
                    child.weight.detach(), child.bias, kind=kind, products=products
                )
                setattr(module, name, quantized)
                if child.weight.device.type == "cpu":
                    page_out(child.weight.data_ptr(), child.weight.nbytes)
                # bound to the module itself, which would keep its weight until it is collected
                vars(child).pop("forward", None)


@contextmanager
def unread(model: nn.Module, *, unless: bool) -> Iterator[None]:
    """Within this the weights have a shape, a precision and a device, and no numbers: PEFT asks
    each layer for them, and widening all takes time. `unless` it takes more than these."""
    maps = [] if unless else list(frozen_weights(model).values())
    for one in maps:
        one.read = False
    try:
        yield
    finally:
        for one in maps:
            one.read = True


def frozen_weights(model: nn.Module) -> dict[str, QuantizedLinear]:
    """The quantized maps of a model by the name that their weight would have."""
    return {
        f"{name}.weight": module
        for name, module in model.named_modules()
        if isinstance(module, QuantizedLinear)
    }


def _as(wide: Tensor, dtype: torch.dtype) -> Tensor:
    if dtype == wide.dtype:
        return wide
    return borrowed(tuple(wide.shape), dtype, wide.device).copy_(wide)


@torch.no_grad()
def _rounded(weight_NK: Tensor, kind: Quantization) -> tuple[Tensor, Tensor]:
    """As `_rounded_rows`, a few rows at a time: what is passing is small."""
    parts = [_rounded_rows(rows, kind) for rows in weight_NK.split(_ROWS)]
    codes, scales = zip(*parts, strict=True)
    return torch.cat(codes), torch.cat(scales)


def _rounded_rows(weight_NK: Tensor, kind: Quantization) -> tuple[Tensor, Tensor]:
    """(codes, scales): [N, K] int8 and [N], or [N, K' / 2] uint8, two codes a byte, and [N, groups]
    float32, K' being K filled up with zeros to whole groups."""
    wide = weight_NK.float()
    if kind == "int8":
        scales = wide.abs().amax(dim=1).div_(127.0).clamp_(min=_TINY)
        return (wide / scales[:, None]).round_().to(torch.int8), scales
    filled = F.pad(wide, (0, -wide.shape[1] % GROUP)).unflatten(1, (-1, GROUP))
    scales = filled.abs().amax(dim=2).clamp_(min=_TINY)
    levels = torch.tensor(_LEVELS[kind], device=wide.device)
    middles = (levels[1:] + levels[:-1]) / 2
    codes = torch.bucketize(filled / scales[..., None], middles, out_int32=True)
    codes = codes.flatten(1).to(torch.uint8)
    return codes[:, ::2] * 16 + codes[:, 1::2], scales


@lru_cache(maxsize=4)
def _pairs(kind: Quantization, device: torch.device) -> Tensor:
    """[256] int64: the two float32 levels that a byte of codes stands for, looked up as one."""
    levels = torch.zeros(16)
    levels[: len(_LEVELS[kind])] = torch.tensor(_LEVELS[kind])
    both = torch.stack((levels.repeat_interleave(16), levels.repeat(16)), dim=1)
    return both.contiguous().view(torch.int64).flatten().to(device)
