"""Text that grows with its tokens: only what no later token can change is given out."""

from __future__ import annotations

from collections.abc import Sequence

from burnish.generation.base import SamplingParams
from burnish.generation.finish import Finisher

_HALF = "\ufffd"  # stands for bytes that are no whole character yet


class TextStream:
    """The text of one completion in pieces, which put together are the completion's text.

    What is held back: bytes of a character that is not whole, and the beginning of what may become
    a stop string. Each token is decoded behind those of the piece before it, for some tokenizers
    write the space before a word only inside a text.

    Args:
        finisher: decodes.
        params: those of the completion; it stops at `params.stop`.
    """

    def __init__(self, finisher: Finisher, params: SamplingParams) -> None:
        self._finisher, self._stops = finisher, params.stop
        self._start = self._read = 0
        self._held = ""
        self._given = 0  # characters

    def push(self, tokens: Sequence[int]) -> str:
        """What can be given out now that `tokens`, all of the completion so far, have been drawn.
        Call it before the completion has come to its end."""
        text = self._finisher.decoded(tokens[self._start :])
        if text.endswith(_HALF):
            return ""
        before = self._finisher.decoded(tokens[self._start : self._read])
        self._start, self._read = self._read, len(tokens)
        self._held += text[len(before) :]
        safe = len(self._held) - _begun(self._held, self._stops)
        return self._give(safe)

    def close(self, text: str) -> str:
        """The rest of `text`, the whole completion's."""
        self._held = text[self._given :]
        return self._give(len(self._held))

    def _give(self, count: int) -> str:
        piece, self._held = self._held[:count], self._held[count:]
        self._given += len(piece)
        return piece


def _begun(text: str, stops: Sequence[str]) -> int:
    """Characters at the end of the text with which a stop string may have begun."""
    most = max((len(stop) - 1 for stop in stops), default=0)
    lengths = range(min(most, len(text)), 0, -1)
    return next((n for n in lengths if any(stop.startswith(text[-n:]) for stop in stops)), 0)
