"""Checkpoints whose weights are stored in few bits: which can be widened again, and which are
refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from burnish.errors import UserError
from burnish.models.loading.folder import CONFIG, StoredTensor

_WIDENED = {"mxfp4": "Mxfp4Config", "fp8": "FineGrainedFP8Config"}
"""Methods that transformers widens by itself, on any machine and without another package; and its
class for each."""
_FRACTIONS = ("F64", "F32", "F16", "BF16")
_BENIGN = re.compile(
    r"(inv_freq|position_ids|masked_bias|attn\.bias|attention\.bias|_extra_state)$"
)
_FULL = "Name the full-precision model that it was made from."


def widening(config: Mapping[str, Any], folder: Path) -> tuple[str, Any] | None:
    """(method, transformers' settings) for quantised weights that are widened while they load; None
    where none are.

    Raises UserError for methods that need a package of their own or cannot be undone.
    """
    settings = _quantization(config)
    if settings is None:
        return None
    method = settings.get("quant_method") or _by_fields(settings)
    if method in _WIDENED:
        import transformers

        return method, getattr(transformers, _WIDENED[method])(dequantize=True)
    raise UserError(
        f"these weights are quantised ({method}), and quantised weights cannot be trained.",
        file=folder / CONFIG,
        hint=_FULL,
    )


def refuse_whole_numbers(tensors: Mapping[str, StoredTensor]) -> None:
    """Weights stored as integers or 8-bit fractions without a word of it in config.json."""
    for tensor in tensors.values():
        if tensor.dtype not in _FRACTIONS and not _BENIGN.search(tensor.name):
            raise UserError(
                f"the weight {tensor.name} is stored as {tensor.dtype}: a quantised or damaged"
                " checkpoint.",
                file=tensor.file,
                hint=_FULL,
            )


def _quantization(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    text = config.get("text_config")
    inner = text.get("quantization_config") if isinstance(text, Mapping) else None
    settings = config.get("quantization_config") or config.get("compression_config") or inner
    if settings is None or isinstance(settings, Mapping):
        return settings
    return {"quant_method": str(settings)}


def _by_fields(settings: Mapping[str, Any]) -> str:
    bitsandbytes = any(settings.get(key) for key in ("load_in_4bit", "load_in_8bit"))
    return "bitsandbytes" if bitsandbytes else "of a kind that is not named"
