"""What a person sees of a run: a progress bar in a terminal, plain lines in a log, a table in a
notebook."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
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
            TextColumn("[bold]{task.description:<8}"), BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[metrics]}"),
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
            self._progress.update(
                task, completed=done, total=total, rate=rate, metrics=_metrics(values)
            )

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
            self.say(
                f"{name} {done}/{total}  {clock.rate(tokens):,.0f} tok/s  {_metrics(values)}".rstrip()  # noqa: E501
            )

        return report

    def close(self) -> None:
        """Nothing to do."""


@dataclass
class _Row:
    """A stage as a table in a notebook shows it."""

    name: str
    done: int = 0
    total: int = 0
    rate: float = 0.0
    seconds: float = 0.0
    values: Mapping[str, float] | None = None


class Table:
    """A table in a notebook that is written anew after each step: a row a stage, and the lines that
    were said below."""

    def __init__(self, show: Any) -> None:
        self._rows: list[_Row] = []
        self._lines: list[str] = []
        self._handle = show(self, display_id=True)

    def say(self, line: str) -> None:
        """Show a line below the table."""
        self._lines.append(line)
        self._draw()

    def stage(self, name: str) -> Any:
        """A new row."""
        row, clock = _Row(name), _Clock()
        self._rows.append(row)

        def report(done: int, total: int, tokens: int, values: Mapping[str, float]) -> None:
            row.rate, row.seconds = (
                clock.rate(tokens),
                clock.since_start() / max(done, 1) * (total - done),
            )
            row.done, row.total, row.values = done, total, values
            self._draw()

        return report

    def close(self) -> None:
        """What was shown stays."""

    def _draw(self) -> None:
        if self._handle is not None:
            self._handle.update(self)

    def _repr_html_(self) -> str:
        heads = "".join(
            f"<th>{name}</th>" for name in ("stage", "step", "tokens/s", "left", "metrics")
        )
        rows = "".join(map(_cells, self._rows))
        lines = html.escape("\n".join(self._lines))
        return f"<table><tr>{heads}</tr>{rows}</table><pre>{lines}</pre>"


def _cells(row: _Row) -> str:
    left = f"{int(row.seconds) // 60}:{int(row.seconds) % 60:02d}"
    texts = (
        row.name,
        f"{row.done}/{row.total or '?'}",
        f"{row.rate:,.0f}",
        left,
        _metrics(row.values or {}),
    )
    return f"<tr>{''.join(f'<td>{html.escape(text)}</td>' for text in texts)}</tr>"


def _notebook() -> Any:
    """What shows things in the notebook that this runs in; None outside of one."""
    python = sys.modules.get("IPython")
    shell = None if python is None else python.get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from IPython.display import display  # type: ignore[import-not-found]

    return display


def reporter(*, quiet: bool) -> Reporter:
    """A table in a notebook, bars in a terminal, lines elsewhere or when asked to be quiet; the
    latter go to standard error."""
    show = None if quiet else _notebook()
    if show is not None:
        return Table(show)
    console = Console(stderr=True)
    return Lines(console) if quiet or not console.is_terminal else Bars(console)


class _Clock:
    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()

    def since_start(self) -> float:
        """Seconds."""
        return time.perf_counter() - self._start

    def rate(self, tokens: int) -> float:
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        return tokens / seconds if seconds > 0 else 0.0


def _metrics(values: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {values[name]:.3g}" for name in _SHOWN if name in values)
