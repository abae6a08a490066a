"""Which requests are run when: pure bookkeeping of rows, without a tensor."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from burnish.generation.finish import Finisher
from burnish.generation.in_flight import InFlight


class Move(NamedTuple):
    """A sequence whose row is another one now, with the places of the cache that it needs."""

    source: int
    target: int
    length: int


class Scheduler:
    """Continuous batching: a finished sequence leaves its row at once, and a waiting one takes it.

    Args:
        rows: how many are written side by side.
        prefill_tokens: prompts are run together up to this many tokens.
        refill: waiting ones are taken once this many rows are free, or all that wait fit.
    """

    def __init__(self, *, rows: int, prefill_tokens: int, refill: int) -> None:
        self._rows, self._prefill_tokens, self._refill = rows, prefill_tokens, refill
        self._waiting: deque[InFlight] = deque()
        self.active: list[InFlight] = []

    def add(self, sequence: InFlight) -> None:
        """Have one more written, behind those that wait already."""
        self._waiting.append(sequence)

    @property
    def unfinished(self) -> bool:
        """Whether anything is still to be written."""
        return bool(self._waiting or self.active)

    def admit(self) -> list[InFlight]:
        """Take waiting requests for the free rows, up to the prefill budget; a prompt seen in the
        same call costs nothing.

        A prompt run alone costs as much as a whole decode step, and shares nothing with the others
        of its group: so rows are filled once several are free, not one by one. They are active from
        `start` on.
        """
        free = self._rows - len(self.active)
        if self.active and free < min(self._refill, len(self._waiting)):
            return []
        taken: list[InFlight] = []
        budget, seen = self._prefill_tokens, set[tuple[int, ...]]()
        while self._waiting and len(taken) < free:
            prompt = self._waiting[0].request.prompt_tokens
            cost = 0 if prompt in seen else len(prompt)
            if taken and cost > budget:
                break
            budget -= cost
            seen.add(prompt)
            taken.append(self._waiting.popleft())
        return taken

    def start(self, fresh: Sequence[InFlight]) -> None:
        """Those whose prompts have been run are active, in the rows behind the others."""
        self.active += fresh

    def retire(self, finisher: Finisher) -> list[Move]:
        """Take finished sequences out; the last row moves into the gap, so active rows stay 0, 1,
        2, ..."""
        moves: list[Move] = []
        for row in range(len(self.active) - 1, -1, -1):
            sequence = self.active[row]
            sequence.completion = sequence.finished(finisher)
            if sequence.completion is not None:
                moves += self._leave(row)
        return moves

    def cancel(self, sequence: InFlight) -> list[Move]:
        """Take one out before it is finished; nothing happens where it is not there any more."""
        if sequence in self._waiting:
            self._waiting.remove(sequence)
        return self._leave(self.active.index(sequence)) if sequence in self.active else []

    def _leave(self, row: int) -> list[Move]:
        last = self.active.pop()
        if row == len(self.active):
            return []
        self.active[row] = last
        return [Move(len(self.active), row, last.length)]
