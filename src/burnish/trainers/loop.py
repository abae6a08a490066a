"""What every trainer's loop shares: resuming, metrics, checkpoints and progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from burnish.config.sections import Checkpointing
from burnish.ranks import first
from burnish.runs.checkpoint import Checkpoints, load_state, rng_state, set_rng_state
from burnish.runs.metrics import MetricLog, SilentLog, Writer

Progress = Callable[[int, int, int, Mapping[str, float]], None]
"""Told after each step: steps done, steps in all, tokens of this step, its metrics."""


class Stateful(Protocol):
    """Something whose state belongs into a checkpoint."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that cannot be computed again."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put it back."""
        ...


class Loop:
    """Iterate over the steps of a training run that may be killed at any instant.

    `for step in loop.steps(): ...; loop.log({...}, tokens=n)`. After the body of a step its metrics
    are on disk, and every `checkpoint.every` steps so is the state of everything in `state`. A run
    that starts again loads the newest intact checkpoint, cuts the metrics back to it and goes on;
    since nothing random depends on anything but the seed and the step, it ends with the same
    numbers. Timings differ between runs and go to a file of their own.

    On several ranks all run the loop; rank 0 writes metrics and reports progress.
    """

    def __init__(
        self,
        folder: Path,
        *,
        total: int,
        checkpoint: Checkpointing,
        state: Mapping[str, Stateful],
        progress: Progress | None = None,
        writers: Sequence[Writer] = (),
    ) -> None:
        self._folder, self._total, self._every, self._state, self._progress = (
            folder,
            total,
            checkpoint.every,
            state,
            progress,
        )
        self._checkpoints = Checkpoints(folder / "checkpoints", keep=checkpoint.keep)
        log = MetricLog if first() else SilentLog
        self._metrics = log(folder / "metrics.jsonl", writers=writers)
        self._timings = log(folder / "timing.jsonl")
        self._pending: tuple[Mapping[str, float], int] = ({}, 0)
        self._stopped = False
        self.start = 0

    def stop(self) -> None:
        """Make no further step after the present one, now or when the run is started again."""
        self._stopped = True

    def steps(self) -> Iterator[int]:
        """The steps that are left, from 0."""
        self.start = self._resume()
        for step in range(self.start, self._total):
            if self._stopped:
                break
            began = time.perf_counter()
            yield step
            values, tokens = self._pending
            seconds = time.perf_counter() - began
            self._metrics.log(step + 1, values)
            self._timings.log(step + 1, {"seconds": seconds, "tokens_per_second": tokens / seconds})
            if (step + 1) % self._every == 0 or step + 1 == self._total or self._stopped:
                self._save(step + 1)
            if self._progress is not None and first():
                self._progress(step + 1, self._total, tokens, values)
        self._metrics.close()
        self._timings.close()

    def log(self, values: Mapping[str, float], *, tokens: int) -> None:
        """The metrics of the present step, and how many tokens it worked on."""
        self._pending = (values, tokens)

    def _save(self, step: int) -> None:
        state = {
            "holders": self._holders(),
            "rng": rng_state(),
            "metrics": self._metrics.position(),
            "timings": self._timings.position(),
            "stopped": self._stopped,
        }
        self._checkpoints.save(step, state)

    def _holders(self) -> dict[str, Any]:
        return {name: holder.state_dict() for name, holder in self._state.items()}

    def _resume(self) -> int:
        latest = self._checkpoints.latest()
        if latest is None:
            self._metrics.truncate_to(0)
            self._timings.truncate_to(0)
            return 0
        step, folder = latest
        state = load_state(folder, like={"holders": self._holders()})
        for name, holder in self._state.items():
            holder.load_state_dict(state["holders"][name])
        self._stopped = state.get("stopped", False)
        set_rng_state(state["rng"])
        self._metrics.truncate_to(state["metrics"])
        self._timings.truncate_to(state["timings"])
        return step
