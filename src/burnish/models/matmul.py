"""Which library multiplies fp32 matrices on a CPU.

torch sends fp32 products to MKL, which leaves more than half of an AMD processor's AVX-512 rate
unused; oneDNN, in the same wheel, does not. On an Intel processor MKL is the faster of the two.
torch hands fp32 products to oneDNN only when oneDNN's "bf16" precision is asked for. That permits
oneDNN to round the inputs to bfloat16, which it does where the processor has AMX units, and nowhere
else: so it is asked for only where a product turns out as
exact as before.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch

from burnish.models.processor import vendor

_DEFAULT, _ONEDNN = "none", "bf16"


@lru_cache(maxsize=1)
def use_fast_exact_matmul() -> bool:
    """Send large fp32 products on the CPU to oneDNN where that is faster and costs no accuracy;
    returns whether they go there.

    A precision that was set before (`torch.backends.mkldnn.matmul.fp32_precision`) is left as it
    is. The answer depends on the machine alone, so that a run which resumes multiplies as it did
    before.
    """
    # oneDNN keeps the code it generates for each shape, 1,024 of them by default: gigabytes in the
    # end, for packed batches have a new shape every time. A training step needs about 30. Read by
    # oneDNN when it is first used.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    settings = _settings()
    if settings is None or settings.fp32_precision != _DEFAULT or vendor() == "GenuineIntel":
        return False
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(64, 512, generator=generator), torch.randn(512, 256, generator=generator)
    exact = a.double() @ b.double()
    before = float((a @ b - exact).abs().max())
    settings.fp32_precision = _ONEDNN
    # Rounding the inputs to bfloat16 costs three decimal digits; another order of summation a small
    # factor.
    if float((a @ b - exact).abs().max()) > 8 * before:
        settings.fp32_precision = _DEFAULT
        return False
    return True


@contextmanager
def small_products() -> Iterator[None]:
    """In this block fp32 products go where torch sends them by default: oneDNN's cost a call
    outweighs tiny products."""
    settings = _settings()
    if settings is None or settings.fp32_precision != _ONEDNN:
        yield
        return
    settings.fp32_precision = _DEFAULT
    try:
        yield
    finally:
        settings.fp32_precision = _ONEDNN


def _settings() -> Any | None:
    """torch's switch; None in a torch that has none."""
    settings = getattr(torch.backends.mkldnn, "matmul", None)
    return settings if hasattr(settings, "fp32_precision") else None
