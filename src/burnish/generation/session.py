"""An open call of the native engine: requests join it, get a token a step, and leave.

A step is three calls: the scheduler says which requests take the free rows, the runner runs their
prompts and the next token of the others, and a token is drawn for every row.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

import torch

from burnish.generation.base import Request, SamplingParams
from burnish.generation.decoder import Decoder
from burnish.generation.finish import Finisher
from burnish.generation.in_flight import InFlight, check_room, draw
from burnish.generation.model_runner import ModelRunner
from burnish.generation.scheduler import Move, Scheduler


class NativeSession:
    """See `NativeEngine.open`, which makes it; the engine's weights must stay while it is open.

    Args:
        decoder: the model.
        finisher: says where a completion ends.
        rows: sequences that there is memory for at first.
        places: tokens of each of them that there is memory for at first.
        refill: waiting requests are taken once this many rows are free, or all that wait fit.
        prefill_tokens: prompts are run together up to this many tokens.
        max_rows: sequences side by side.
        max_length: tokens of a prompt and its completion.
    """

    def __init__(
        self, decoder: Decoder, finisher: Finisher, *, rows: int, places: int, refill: int,
        prefill_tokens: int, max_rows: int, max_length: int,
    ) -> None:  # fmt: skip
        self._finisher, self._max_rows, self.max_length = finisher, max_rows, max_length
        self._scheduler = Scheduler(rows=max_rows, prefill_tokens=prefill_tokens, refill=refill)
        self._runner = ModelRunner(
            decoder, rows=min(rows, max_rows), places=min(places, max_length)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def unfinished(self) -> bool:
        """Whether anything is still to be written."""
        return self._scheduler.unfinished

    def add(self, request: Request, params: SamplingParams, *, top_logprobs: int = 0) -> InFlight:
        """Have one more completion written. What is returned is filled as it goes, and has its
        `completion` at the end.

        Raises UserError for a prompt without tokens, ValueError if it and its completion are longer
        than `max_length`.
        """
        check_room(request, params, context=self.max_length)
        sequence = InFlight(request, params, top_logprobs)
        self._scheduler.add(sequence)
        return sequence

    def cancel(self, sequence: InFlight) -> None:
        """Write no more of this one; nothing happens where it is finished already."""
        self._move(self._scheduler.cancel(sequence))

    @torch.no_grad()
    def step(self) -> list[InFlight]:
        """One token for each sequence that is being written; Returns these. Raises UserError where
        the model's logits are no numbers."""
        scheduler, runner = self._scheduler, self._runner
        fresh = scheduler.admit()
        lengths = [s.length + 1 for s in (*scheduler.active, *fresh)]
        runner.fit(
            len(lengths),
            max(lengths, default=0),
            most_rows=self._max_rows,
            most_places=self.max_length,
        )
        if scheduler.active:
            runner.decode(scheduler.active)
        if fresh:  # after the step, which may write into rows beyond its own
            runner.prefill(fresh, first_row=len(scheduler.active))
        scheduler.start(fresh)
        active = list(scheduler.active)
        if active:
            logits_BV = runner.logits_RV[: len(active)]
            draw(active, logits_BV, self._finisher, scratch_RV=runner.scratch_RV)
            self._move(scheduler.retire(self._finisher))
        return active

    def _move(self, moves: Iterable[Move]) -> None:
        for move in moves:
            self._runner.cache.move(*move)

    def close(self) -> None:
        """Give its memory back, whatever is still being written."""
        self._runner.free()
