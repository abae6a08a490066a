"""Which engine samples a model, told from its configuration alone: before weights are read, and by planners too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from burnish.models.supported import SUPPORTED

NATIVE_ACTIVATIONS = ("silu", "gelu", "gelu_pytorch_tanh")
SLOWER = 2.0
"""Times as long as with the native engine that sampling through transformers takes, measured."""


def why_not_native(config: Mapping[str, Any]) -> str | None:
    """What in a model's configuration (config.json as a dict) the native engine lacks, as the end of a sentence; None if nothing."""
    name = str(config.get("model_type"))
    row = SUPPORTED.get(name)
    if row is None or row.sampled != "native":
        return f"it does not run models of type {name}"
    activation = config.get("hidden_activation") or config.get("hidden_act") or "silu"
    if activation not in NATIVE_ACTIVATIONS:
        return f"it has no activation {activation!r}"
    if config.get("attention_bias") and name != "qwen2":
        return "it has no bias behind attention (attention_bias)"
    if config.get("mlp_bias"):
        return "it has no bias in the MLP (mlp_bias)"
    return None
