"""In how many bits a frozen matrix is held, without torch: for plans."""

from __future__ import annotations

from typing import Literal

Quantization = Literal["int8", "int4", "nf4"]
GROUP = 64
"""Neighbours in a row of a 4-bit matrix that share a scale."""
BITS: dict[str, float] = {"int8": 8.0, "int4": 4.0 + 32 / GROUP, "nf4": 4.0 + 32 / GROUP}
"""Bits of a weight, the scale of its group included; that of a row of int8 is next to nothing."""
