"""A recipe's adapters as the models' room has them."""

from __future__ import annotations

from burnish.config.sections import Lora
from burnish.models.adapters import LoraSpec


def lora_spec(lora: Lora) -> LoraSpec:
    """The shape of the adapter sets that a section asks for."""
    return LoraSpec(lora.r, lora.alpha, lora.targets, lora.rslora, lora.dora, lora.dropout)
