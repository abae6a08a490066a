"""Which engine samples a model, told from its configuration alone: before weights are read, and by
planners too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from burnish.models.supported import SUPPORTED

NATIVE_ACTIVATIONS = ("silu", "gelu", "gelu_pytorch_tanh")
SLOWER = 2.0
"""At most about this many times as long as with the native engine takes sampling through
transformers: measured, 1.2 with the weights as they are, 1.7 with an adapter on them
(docs/performance.md), and more where prompts' lengths differ."""
_MOVING_ROPE = ("dynamic", "longrope")  # frequencies that depend on a sequence's length


def why_not_native(config: Mapping[str, Any], *, longest: int | None = None) -> str | None:
    """What the native engine lacks for a model, as the end of a sentence; None if nothing.

    Args:
        config: the model's configuration, as config.json has it.
        longest: tokens of the longest sequence, where known: the engine knows no sliding window
            that cuts one short.
    """
    name = str(config.get("model_type"))
    row = SUPPORTED.get(name)
    if row is None or row.sampled != "native":
        return f"it does not run models of type {name}"
    config = config.get("text_config") or config
    activation = config.get("hidden_activation") or config.get("hidden_act") or "silu"
    if activation not in NATIVE_ACTIVATIONS:
        return f"it has no activation {activation!r}"
    lacking = ["attention_bias"] if name != "qwen2" else []
    for key in (*lacking, "mlp_bias", "attn_logit_softcapping", "final_logit_softcapping"):
        if config.get(key):
            return f"it has no {key}"
    moving = next((kind for kind in _rope_kinds(config) if kind in _MOVING_ROPE), None)
    if moving is not None:
        return f"it has no rotary embedding of type {moving}"
    window = window_of(config)
    if window is not None and longest is not None and window < longest:
        return (
            f"it has no sliding window: this model's is {window} tokens, and sequences may have"
            f" {longest}; with model.max_length at most {window} it would be used"
        )
    return None


def window_of(config: Mapping[str, Any]) -> int | None:
    """Tokens that a layer with a sliding window sees; None where every layer sees the whole
    sequence."""
    window, kinds = config.get("sliding_window"), config.get("layer_types")
    if not isinstance(window, int) or not window or config.get("use_sliding_window") is False:
        return None
    return window if kinds is None or "sliding_attention" in kinds else None


def turned_alike(config: Mapping[str, Any]) -> int | None:
    """Tokens up to which positions are turned by the same frequencies, however long a sequence
    becomes; None: always.

    A longer one is turned by others from its first token on (longrope: Ding et al.,
    arXiv:2402.13753), so that what was written before it became so long is not what is trained.
    `config` is as transformers completes it. Frequencies of type `dynamic` change beyond the
    context alone, where no sequence comes.
    """
    lengths = [
        int(part.get("original_max_position_embeddings") or config["max_position_embeddings"])
        for part in _ropes(config)
        if (part.get("rope_type") or part.get("type")) == "longrope"
    ]
    return min(lengths, default=None)


def shorter_notice(longest: int, asked: int) -> str:
    """One line for the person watching: sequences are sampled up to `longest` tokens, not up to
    `asked`."""
    return (
        f"sequences are sampled up to {longest} tokens, not {asked}: beyond, this model's rotary"
        " embedding (longrope) turns every token otherwise, and what is trained would not be what"
        " was sampled"
    )


def fallback_notice(reason: str) -> str:
    """One line for the person watching a run or a plan."""
    return (
        "sampling goes through transformers, not through Burnish's own engine "
        f"({reason}): expect up to {SLOWER:g} times the time"
    )


def _rope_kinds(config: Mapping[str, Any]) -> list[str]:
    """The types of rotary embedding."""
    return [str(part.get("rope_type") or part.get("type")) for part in _ropes(config)]


def _ropes(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The settings of the rotary embedding; one for each kind of layer where they differ."""
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(rope, Mapping):
        return []
    return [part for part in rope.values() if isinstance(part, Mapping)] or [rope]
