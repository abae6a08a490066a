"""A recipe's adapters as the models' room has them."""

from __future__ import annotations

from typing import Literal

from burnish.config.sections import Lora
from burnish.models.adapters import LoraSpec
from burnish.models.stored import Quantization


def quantization_of(lora: Lora | None) -> Quantization | Literal["none"]:
    """How the frozen matrices under a section's adapters are held, where it has some."""
    return "none" if lora is None else lora.quantization


def lora_spec(lora: Lora) -> LoraSpec:
    """The shape of the adapter sets that a section asks for."""
    return LoraSpec(lora.r, lora.alpha, lora.targets, lora.rslora, lora.dora, lora.dropout)
