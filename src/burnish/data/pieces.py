"""From text to tokens, cut where a sampler would cut: no token lies across the border of a prompt
and its answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

from burnish.data.kept import kept
from burnish.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SHORT = 120  # characters; texts up to this length come again and again: headers of turns


def encoded(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    """The tokens of a text, nothing added."""
    return _pieces_of(tokenizer).encode(text)


def tokenised(
    tokenizer: PreTrainedTokenizerBase, text: str, cuts: Sequence[int]
) -> list[tuple[int, ...]]:
    """The tokens of `text` in len(cuts) + 1 pieces, no token lying across a cut.

    A piece is what the tokens up to its end add to those up to its beginning. Where a merge across
    the cut changes those, it is tokenised alone; if its text would not survive that, no cut is
    possible there, which is a UserError.
    """
    return _pieces_of(tokenizer).cut(text, cuts)


class _Pieces:
    """A tokenizer as a function of text that knows where a text can be taken apart.

    Tokens of their own (`<|im_start|>`) are found before anything else, and what lies between two
    of them is tokenised by
    itself: the tokens of a text up to such a token do not depend on what follows, and need not be
    worked out twice.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._short = lru_cache(maxsize=4096)(self._encode)
        self._borders = _border_pattern(tokenizer)

    def encode(self, text: str) -> tuple[int, ...]:
        return self._short(text) if len(text) <= _SHORT else self._encode(text)

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(
            self._tokenizer(text, add_special_tokens=False, return_attention_mask=False)[
                "input_ids"
            ]
        )

    def cut(self, text: str, cuts: Sequence[int]) -> list[tuple[int, ...]]:
        stops = [*cuts, len(text)]
        borders = (
            []
            if self._borders is None
            else [match.span() for match in self._borders.finditer(text)]
        )
        pieces = [self.encode(text[: stops[0]])]
        for start, stop in pairwise(stops):
            base = max((begin for begin, end in borders if end <= start), default=0)
            head, longer = self.encode(text[base:start]), self.encode(text[base:stop])
            if longer[: len(head)] == head:
                pieces.append(longer[len(head) :])
                continue
            pieces.append(self.encode(text[start:stop]))
            if self._tokenizer.decode([*head, *pieces[-1]]) != self._tokenizer.decode(list(longer)):
                problem = (
                    "the tokenizer cannot cut prompt from response here: a token lies across them."
                )
                raise UserError(problem, hint="Trim the text.")
        return pieces


def _pieces_of(tokenizer: PreTrainedTokenizerBase) -> _Pieces:
    state = (len(tokenizer), tokenizer.all_special_tokens)
    return kept(tokenizer, "burnish_pieces", state, lambda: _Pieces(tokenizer))


def _border_pattern(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str] | None:
    """Finds the tokens that cut a text whatever stands beside them; None where that cannot be
    told."""
    tokens = [
        token
        for token in tokenizer.added_tokens_decoder.values()
        if not token.normalized and token.content
    ]
    if not getattr(tokenizer, "is_fast", False) or any(
        token.lstrip or token.single_word for token in tokens
    ):
        return None
    longest_first = sorted((token.content for token in tokens), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
