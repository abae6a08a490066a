"""Matrices of the engine: a linear map, the norm before it, and the form in which few rows are
multiplied fastest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from burnish.models.matmul import use_fast_exact_matmul
from burnish.models.precision import packed

_NARROWEST = 64  # columns of a piece: below that, a piece's cost is its call


@dataclass(frozen=True, slots=True, eq=False)
class Norm:
    """RMS norm: x / sqrt(mean(x²) + ε) · weight (Zhang and Sennrich, arXiv:1910.07467, equation
    4)."""

    weight_K: Tensor
    epsilon: float

    def __call__(self, x: Tensor) -> Tensor:
        """Over the last dimension."""
        return F.rms_norm(x, (x.shape[-1],), self.weight_K, self.epsilon)


@dataclass(frozen=True, slots=True, eq=False)
class Thin:
    """norm(x) W in the precision of `weight`, which is [K, N], or what `packed` made of that, or
    [c, K, N / c]: in pieces.

    A product of few rows is shared out badly among threads; a batch of products, of the same rows
    and each piece of the columns, gives every thread its own.
    """

    weight: Tensor
    norm: Norm | None = None

    @classmethod
    def of(cls, weight_KN: Tensor, norm: Norm | None = None) -> Thin:
        """In the layout that is fastest here."""
        count = _pieces(weight_KN)
        if count > 1:
            return cls(_cut(weight_KN, count).contiguous(), norm)
        return cls(packed(weight_KN.contiguous()), norm)

    def renewed(self, weight_KN: Tensor, norm: Norm | None = None) -> Thin:
        """With other numbers, in the same memory where that can be."""
        if self.weight.is_mkldnn:
            return Thin.of(weight_KN.to(torch.bfloat16), norm)
        self.weight.copy_(
            _cut(weight_KN, len(self.weight)) if self.weight.dim() == 3 else weight_KN
        )
        return Thin(self.weight, norm)

    def inputs(self, x_MK: Tensor) -> Tensor:
        """What is multiplied."""
        return x_MK if self.norm is None else self.norm(x_MK)

    def product(self, x_MK: Tensor, *, out: Tensor | None = None) -> Tensor:
        """[M, N]; written into `out` if given, which a whole matrix alone can do."""
        if out is not None:
            return torch.mm(self.inputs(x_MK), self.weight, out=out)
        y = self._multiply(x_MK)
        return y.transpose(0, 1).flatten(1) if y.dim() == 3 else y

    def added(self, residual_MN: Tensor, x_MK: Tensor) -> Tensor:
        """[M, N]: residual + norm(x) W."""
        y = self._multiply(x_MK)
        if y.dim() == 2:
            return residual_MN + y
        return (residual_MN.unflatten(1, (len(y), -1)) + y.transpose(0, 1)).flatten(1)

    def gated(self, x_MK: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
        """[M, N / 2]: activation(norm(x) W₁) · (norm(x) W₂), of the halves of W's columns."""
        y = self._multiply(x_MK)
        if y.dim() == 2:
            gate, up = y.chunk(2, dim=1)
            return activation(gate).mul_(up)
        gate, up = y.chunk(2)
        return activation(gate).mul_(up).transpose(0, 1).flatten(1)

    def _multiply(self, x_MK: Tensor) -> Tensor:
        """[M, N], or in pieces [c, M, N / c]."""
        x_MK = self.inputs(x_MK)
        narrow = x_MK.to(self.weight.dtype)
        if self.weight.dim() == 3:
            return torch.bmm(narrow.expand(len(self.weight), *narrow.shape), self.weight)
        if self.weight.is_mkldnn:
            return torch.ops.mkldnn._linear_pointwise(narrow, self.weight, None, "none", [], "").to(
                x_MK.dtype
            )
        return (narrow @ self.weight).to(x_MK.dtype)


def _pieces(weight_KN: Tensor) -> int:
    """How many pieces the columns are best cut into: two a thread, where MKL multiplies float32 on
    a CPU. An even number, so that halves of the columns are halves of the pieces."""
    threads = torch.get_num_threads()
    shared = weight_KN.dtype == torch.float32 and weight_KN.device.type == "cpu" and threads > 1
    if not shared or use_fast_exact_matmul():
        return 1
    most = min(2 * threads, weight_KN.shape[1] // _NARROWEST)
    return next(
        (count for count in range(most - most % 2, 1, -2) if weight_KN.shape[1] % count == 0), 1
    )


def _cut(weight_KN: Tensor, count: int) -> Tensor:
    """[c, K, N / c]."""
    return weight_KN.unflatten(1, (count, -1)).transpose(0, 1)
