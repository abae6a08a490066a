"""What a person sees of a run: a progress bar in a terminal, plain lines in a log."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_SHOWN = ("loss", "eval_loss", "accuracy", "eval_accuracy", "reward", "kl_ref", "completion_length")


class Reporter(Protocol):
    """Shows lines and the progress of stages."""

    def say(self, line: str) -> None:
        """Show a line."""
        ...

    def stage(self, name: str) -> Any:
        """What a stage's trainer reports its steps to."""
        ...

    def close(self) -> None:
        """Nothing more will come."""
        ...


class Bars:
    """A bar a stage, with tokens a second, time left and the metrics that matter."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = (
            TextColumn("[bold]{task.description:<8}"), BarColumn(bar_width=24), MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"), TimeRemainingColumn(), TextColumn("[dim]{task.fields[metrics]}"),
        )  # fmt: skip
        self._progress = Progress(*columns, console=console)
        self._progress.start()

    def say(self, line: str) -> None:
        """Show a line above the bars."""
        self._progress.console.print(line, highlight=False, markup=False)

    def stage(self, name: str) -> Any:
        """A new bar."""
        task = self._progress.add_task(name, total=None, rate="", metrics="")
        clock = _Clock()

        def report(done: int, total: int, tokens: int, values: Mapping[str, float]) -> None:
            rate = f"{clock.rate(tokens):,.0f} tok/s"
            self._progress.update(task, completed=done, total=total, rate=rate, metrics=_metrics(values))

        return report

    def close(self) -> None:
        """Take the bars down."""
        self._progress.stop()


class Lines:
    """One line a step, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, line: str) -> None:
        """Show a line."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def stage(self, name: str) -> Any:
        """Lines that begin with the stage's name."""
        clock = _Clock()

        def report(done: int, total: int, tokens: int, values: Mapping[str, float]) -> None:
            self.say(f"{name} {done}/{total}  {clock.rate(tokens):,.0f} tok/s  {_metrics(values)}".rstrip())

        return report

    def close(self) -> None:
        """Nothing to do."""


def reporter(*, quiet: bool) -> Reporter:
    """Bars in a terminal, lines elsewhere or when asked to be quiet. Everything goes to standard error."""
    console = Console(stderr=True)
    return Lines(console) if quiet or not console.is_terminal else Bars(console)


class _Clock:
    def __init__(self) -> None:
        self._last = time.perf_counter()

    def rate(self, tokens: int) -> float:
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        return tokens / seconds if seconds > 0 else 0.0


def _metrics(values: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {values[name]:.3g}" for name in _SHOWN if name in values)
