"""Other processors than this one, as far as rounding goes: what is equal to the bit here need not
be elsewhere.

Two are pretended. `OtherRounding` moves every product by about one unit in the last place, in
another way for each shape, as a processor does that sums in another order for each shape: the same
computation twice gives the same bits, the same numbers in another batch, packing or number of
threads do not. `library` sends float32 products to the library that is faster on another vendor's
processors. Instruction sets are limited from outside, before torch is loaded (`make
test-processors`).
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

ROUNDING, VENDOR = "BURNISH_TEST_ROUNDING", "BURNISH_TEST_VENDOR"

_aten = torch.ops.aten
_PRODUCTS = {
    _aten.mm.default,
    _aten.bmm.default,
    _aten.addmm.default,
    _aten.baddbmm.default,
    _aten.mm.out,
    _aten.bmm.out,
    _aten.addmm.out,
    _aten._scaled_dot_product_flash_attention_for_cpu.default,
}


class OtherRounding(TorchDispatchMode):
    """Float32 products come out with another rounding for each shape of what is multiplied."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in _PRODUCTS:
            product = result[0] if isinstance(result, tuple) else result
            if product.dtype == torch.float32 and product.device.type == "cpu":
                shapes = [tuple(a.shape) for a in args if isinstance(a, torch.Tensor)]
                _move(product, shapes)
        return result


def _move(product: torch.Tensor, shapes: list[tuple[int, ...]]) -> None:
    """Multiply by 1 + e, |e| at most 2⁻²³, drawn by the shapes of the operands and the place in the
    product."""
    seed = hash(tuple(shapes)) % 2**31  # of numbers alone: the same in every process
    noise = torch.rand(product.shape, generator=torch.Generator().manual_seed(seed)).sub_(0.5)
    product.mul_(noise.mul_(2.0**-22).add_(1.0))


def pretended_vendor() -> str | None:
    """The vendor that tests are to take this processor's for, or None."""
    return os.environ.get(VENDOR) or None


def rounds_otherwise() -> bool:
    """Whether tests run under `OtherRounding`."""
    return bool(os.environ.get(ROUNDING))
