"""The text part of a model that also sees or hears: its language model, as if it had been published
alone.

What stands for images and sound is left out, in memory and in what is saved. The names of the
weights are those of the language model by itself, so that what is saved is a model of the text
type, which transformers loads as such.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from burnish.models.supported import SUPPORTED, model_type

_OF_TEXT = (
    ("language_model.model.", "model."),
    ("language_model.lm_head.", "lm_head."),
    ("model.language_model.", "model."),
    ("lm_head.", "lm_head."),
)
_OF_OTHERS = re.compile(
    r"^(model\.)?(vision_\w+|visual|multi_modal_projector|audio_\w+|embed_vision|embed_audio|mtp)\."
)
Weight = TypeVar("Weight")


def is_whole(settings: Mapping[str, Any]) -> bool:
    """Whether a config.json describes a model of which only the text part is trained."""
    row = SUPPORTED.get(settings["model_type"])
    return row is not None and row.text_part


def text_config(config: Any, file: Path) -> Any:
    """The configuration of the language model in a whole one. Raises UserError if its type is not
    supported."""
    text = config.get_text_config()
    model_type(text.model_type, file=file)
    # Whether head and embedding are one is a fact of the checkpoint, which the whole configuration
    # tells.
    text.tie_word_embeddings = getattr(config, "tie_word_embeddings", text.tie_word_embeddings)
    return text


def text_weights(
    weights: Mapping[str, Weight], folder: Path, say: Callable[[str], None] = lambda _: None
) -> dict[str, Weight]:
    """The weights of the language model by the names it has alone. What is of no known part keeps
    its name, for later checks to refuse; what is left out is counted."""
    kept: dict[str, Weight] = {}
    left_out = 0
    for name, weight in weights.items():
        prefix = next(((old, new) for old, new in _OF_TEXT if name.startswith(old)), None)
        if prefix is not None:
            kept[prefix[1] + name.removeprefix(prefix[0])] = weight
        elif _OF_OTHERS.match(name):
            left_out += 1
        else:
            kept[name] = weight
    say(
        f"{folder}: the text part is trained, and saved as a model of its own; "
        f"{left_out:,} weights for images, sound and drafts are left out"
    )
    return kept
