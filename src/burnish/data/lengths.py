"""Texts that cannot fit, known by their length alone: a row of 100 MB is not tokenised to find that
out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from burnish.data.columns import Record
from burnish.data.render import TooLong
from burnish.records import PreferenceGroup

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SLACK = 4  # a character is at most as many bytes; and normalizers drop some white space


def refuse_what_cannot_fit(
    tokenizer: PreTrainedTokenizerBase, item: Record, *, max_tokens: int
) -> None:
    """Raise TooLong where a text has more characters than `max_tokens` of the tokenizer's longest
    tokens can spell."""
    if isinstance(item, PreferenceGroup):
        characters = _characters(item.prompt.messages, item.prompt.tools) + max(
            map(len, item.responses), default=0
        )
    else:
        characters = _characters(item.messages, item.tools)
    if characters > max_tokens * _longest_token(tokenizer) * _SLACK:
        problem = f"has {characters:,} characters, far more than {max_tokens} tokens can spell."
        raise TooLong(problem, field="messages", hint="Shorten it, drop it, or allow more tokens.")


def _characters(*values: Any) -> int:
    """Characters of every text in some messages or tools: what is said, and reasoning, calls and
    descriptions beside it."""
    count, left = 0, list(values)
    while left:
        value = left.pop()
        if isinstance(value, str):
            count += len(value)
        elif isinstance(value, Mapping):
            # words of the template's own
            left += (inner for key, inner in value.items() if key not in ("role", "type"))
        elif isinstance(value, list | tuple):
            left += value
    return count


_longest_tokens: WeakKeyDictionary[Any, int] = WeakKeyDictionary()


def _longest_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """Characters of the longest entry of the vocabulary, looked up once for each tokenizer."""
    found = _longest_tokens.get(tokenizer)
    if found is None:
        found = max((len(token) for token in tokenizer.get_vocab()), default=1)
        _longest_tokens[tokenizer] = found
    return found
