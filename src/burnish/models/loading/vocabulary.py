"""A model's tokenizer, and whether its tokens and the model's rows are of one vocabulary."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from burnish.errors import UserError
from burnish.models.loading.folder import (
    TOKENIZER_FILES,
    holds_tokenizer,
    own_code,
    own_code_error,
    read_json_object,
)
from burnish.models.loading.guard import one_line

_SETTINGS = "tokenizer_config.json"
_SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id")
_MEDIA = re.compile(r"image|img|vision|video|audio", re.IGNORECASE)
_SAMPLE = "Two words, 2+2."


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in `folder`, by transformers' own classes. Raises UserError if there is none or
    it cannot be used."""
    from transformers import AutoTokenizer

    if not holds_tokenizer(folder):
        raise UserError(
            f"this folder holds no tokenizer (no {' or '.join(TOKENIZER_FILES[:2])}).",
            file=folder,
            hint="Save the tokenizer into it as well (tokenizer.save_pretrained).",
        )
    settings = read_json_object(folder / _SETTINGS) if (folder / _SETTINGS).exists() else {}
    code = own_code(settings)
    try:
        with one_line(
            "the tokenizer cannot be loaded", file=folder, hint="Copy or download its files again."
        ):
            tokenizer = AutoTokenizer.from_pretrained(
                folder, trust_remote_code=False, local_files_only=True
            )
            tokens = tokenizer(_SAMPLE, add_special_tokens=False)["input_ids"]
    except UserError as error:
        if not code:
            raise
        raise own_code_error(folder / _SETTINGS, code) from error
    if not isinstance(tokenizer.chat_template, str | dict | None):
        raise UserError(
            "the chat template is no text.", file=folder / _SETTINGS, field="chat_template"
        )
    if not tokens:
        raise UserError(
            "the tokenizer makes no tokens of a text.",
            file=folder,
            hint="Copy or download its files again.",
        )
    return tokenizer


def refuse_unfitting_vocabulary(
    model: Any, tokenizer: Any, folder: Path, say: Callable[[str], None] = lambda _: None
) -> None:
    """Refuse a tokenizer with tokens, or settings with special tokens, that the embedding has no
    row for.

    An embedding with more rows than there are tokens is padded, which is usual. Tokens that stand
    for images or sound may lie outside where only the text part of a model is trained: text never
    makes them, and it is said.
    """
    rows = int(model.get_input_embeddings().weight.shape[0])
    outside = {token: i for token, i in tokenizer.get_vocab().items() if not 0 <= i < rows}
    special = set(tokenizer.all_special_tokens) | {
        str(t) for t in tokenizer.added_tokens_decoder.values()
    }
    media = sorted(token for token in outside if token in special and _MEDIA.search(token))
    words = sorted((i, token) for token, i in outside.items() if token not in media)
    if words:
        raise UserError(
            f"the tokenizer has {words[-1][0] + 1:,} tokens and the model's embedding {rows:,}"
            f" rows: none for {', '.join(repr(token) for _, token in words[:3])}.",
            file=folder,
            hint=(
                "Name the tokenizer that the model was trained with, or grow the model"
                " (resize_token_embeddings)."
            ),
        )
    if media:
        say(
            f"{folder}: the embedding has no row for {', '.join(media)}, so text must not contain"
            " them"
        )
    for source, field, token in _special_ids(model):
        if not isinstance(token, int) or isinstance(token, bool) or not -1 <= token < rows:
            raise UserError(
                f"{field} is {token!r}, and the model has tokens 0 to {rows - 1:,}.",
                file=folder / source,
            )


def _special_ids(model: Any) -> Iterator[tuple[str, str, Any]]:
    for source, settings in (
        ("config.json", model.config),
        ("generation_config.json", model.generation_config),
    ):
        for field in _SPECIAL:
            value = getattr(settings, field, None)
            for token in value if isinstance(value, list | tuple) else [value]:
                if token is not None:
                    yield source, field, token
