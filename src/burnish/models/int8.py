"""Products in 8 bits, for sampling: weights rounded once, inputs at each product (W8A8, symmetric).

    x W^T  ~  a_m b_n  sum_k round(x_mk / a_m) round(W_nk / b_n),    a_m = max_k |x_mk| / 127,  b_n
        = max_k |W_nk| / 127

(Dettmers et al., arXiv:2208.07339, "vector-wise" quantisation.) A few input channels are far larger
than the rest and would take all 127 steps for themselves; where it is known how large each gets,
channel k of the input is divided by s_k and that of the weights multiplied by it, s_k = sqrt(max
|x_k| / max_n |W_nk|) (Xiao et al., "SmoothQuant", arXiv:2211.10438, eq. 4 with alpha = 1/2). A
processor with VNNI units multiplies bytes four times as fast as float32, and weights take a quarter
of the memory's time. Each row has its own scale and sums of integers are
exact, so what a row gives depends on no other row: the same request gives the same tokens whatever
else is in the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from burnish.errors import UserError
from burnish.models.processor import flags
from burnish.models.thin import Norm

_LARGEST = 127.0
# inputs are stored as unsigned bytes, which is what the processor multiplies with signed weights
_ZERO = 128
_SMALL = 1e-5  # a channel that is always smaller is treated as if it were this large
_TINY = 1e-30  # a row or column of zeros has no scale of its own


@dataclass(frozen=True, slots=True, eq=False)
class Int8Matrix:
    """norm(x) W of a matrix [K in, N out] of 8-bit weights, in the layout that oneDNN multiplies
    in, with a scale for each output.

    A row's own scale is that of the norm as well, so that the norm's division is made with it, once
    a row, after the product.
    """

    packed: Tensor
    scale_N: Tensor
    zero_N: Tensor
    inverse_K: Tensor | None = None  # 1 / s
    norm: Norm | None = None
    gain_K: Tensor | None = None  # of the norm and 1 / s together

    @classmethod
    def of(
        cls, weight_NK: Tensor, peaks_K: Tensor | None = None, norm: Norm | None = None
    ) -> Int8Matrix:
        """Round `weight_NK` (out, in); `peaks_K` are the largest absolute values that its input
        channels are known to have.

        Raises UserError where this device, processor or torch has no such products."""
        check(weight_NK.device)
        inverse_K = None
        if peaks_K is not None:
            smooth_K = (
                peaks_K.clamp(min=_SMALL) / weight_NK.abs().amax(dim=0).float().clamp(min=_SMALL)
            ).sqrt()
            smooth_K = smooth_K / smooth_K.log().mean().exp()  # only their ratios count
            weight_NK, inverse_K = weight_NK * smooth_K, 1.0 / smooth_K
        scale_N = weight_NK.abs().amax(dim=1).float().div_(_LARGEST).clamp_(min=_TINY)
        rounded_NK = (weight_NK / scale_N[:, None]).round_().to(torch.int8)
        zero_N = torch.zeros(len(scale_N), dtype=torch.int32)
        return cls(_prepack(rounded_NK), scale_N, zero_N, inverse_K).after(norm)

    def after(self, norm: Norm | None) -> Int8Matrix:
        """The same with this norm before it."""
        gain_K = None if norm is None else norm.weight_K
        if self.inverse_K is not None:
            gain_K = self.inverse_K if gain_K is None else gain_K * self.inverse_K
        return replace(self, norm=norm, gain_K=gain_K)

    def inputs(self, x_MK: Tensor) -> Tensor:
        """What is rounded and multiplied, but for the scale of each channel."""
        return x_MK if self.norm is None else self.norm(x_MK)

    def product(self, x_MK: Tensor, *, out: Tensor | None = None) -> Tensor:
        """[M, N], inputs rounded row by row; written into `out` if given."""
        sums_MN, scale_M1 = self._multiply(x_MK)
        return torch.mul(sums_MN, scale_M1, out=sums_MN if out is None else out)

    def added(self, residual_MN: Tensor, x_MK: Tensor) -> Tensor:
        """[M, N]: residual + norm(x) W."""
        return torch.addcmul(residual_MN, *self._multiply(x_MK))

    def gated(self, x_MK: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
        """[M, N / 2]: activation(norm(x) W₁) · (norm(x) W₂), of the halves of W's columns."""
        gate, up = self.product(x_MK).chunk(2, dim=1)
        return activation(gate).mul_(up)

    def _multiply(self, x_MK: Tensor) -> tuple[Tensor, Tensor]:
        """(sums [M, N], what each of their rows is to be multiplied by [M, 1])."""
        y_MK = x_MK if self.gain_K is None else x_MK * self.gain_K
        scale_M1 = y_MK.abs().amax(dim=-1, keepdim=True).div_(_LARGEST).clamp_(min=_TINY)
        # truncation: so that halves round up
        bytes_MK = (y_MK / scale_M1).add_(_ZERO + 0.5).to(torch.uint8)
        if self.norm is not None:
            length_M1 = torch.linalg.vector_norm(x_MK, dim=-1, keepdim=True)
            scale_M1.mul_(length_M1.square_().div_(x_MK.shape[-1]).add_(self.norm.epsilon).rsqrt_())
        return _multiply(bytes_MK, self.packed, self.scale_N, self.zero_N), scale_M1


@lru_cache(maxsize=1)
def lacking() -> str | None:
    """What keeps this processor from such products, as the end of a sentence; None where their sums
    are exact.

    torch's operators are its own compiler's and may change. A processor without VNNI units adds two
    products of bytes up in 16 bits, which saturate where both are large: one that sums wrongly is
    found by summing the largest.
    """
    x = torch.tensor([[255] * 16, [0] * 16, [255, 1] * 8], dtype=torch.uint8)
    w = torch.tensor(
        [[127] * 16, [-127] * 16, [127, -127] * 8, [64, -3] * 8], dtype=torch.int8
    ).repeat(2, 1)
    try:
        found = _multiply(x, _prepack(w), torch.ones(8), torch.zeros(8, dtype=torch.int32))
    except (AttributeError, RuntimeError, TypeError, NotImplementedError):
        return "this torch has no operators for them"
    if torch.equal(found, ((x.int() - _ZERO) @ w.int().T).float()):
        return None
    return "this processor has no units for them (VNNI), and without those their sums are wrong"


def available() -> bool:
    """Whether this processor, with this torch, has such products."""
    return lacking() is None


def check(device: torch.device) -> None:
    """Raise UserError where there are no such products on `device`."""
    reason = (
        lacking()
        if device.type == "cpu"
        else f"they are a CPU's, and the model is on {device.type}"
    )
    if reason is not None:
        raise UserError(
            f"there are no 8-bit products here: {reason}.",
            field="sampling.quantization",
            hint="Set sampling.quantization to auto or model.",
        )


@lru_cache(maxsize=1)
def fast_here() -> bool:
    """Whether this processor multiplies bytes faster than float32."""
    return available() and bool(flags() & {"avx512_vnni", "avx_vnni", "amx_int8", "i8mm"})


def _prepack(weight_NK: Tensor) -> Tensor:
    # it takes rows for granted
    return torch.ops.onednn.qlinear_prepack(weight_NK.contiguous(), None)


def _multiply(x_MK: Tensor, packed: Tensor, scale_N: Tensor, zero_N: Tensor) -> Tensor:
    return torch.ops.onednn.qlinear_pointwise(
        x_MK, 1.0, _ZERO, packed, scale_N, zero_N, None, 1.0, 0, torch.float32, "none", [], ""
    )
