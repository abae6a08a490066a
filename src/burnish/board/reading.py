"""What a folder of runs says of them, read without touching anything."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from burnish.config.graph import graph_of
from burnish.config.kinds import KINDS
from burnish.errors import UserError
from burnish.runs.metrics import read_metrics
from burnish.runs.stage_record import StageRecord
from burnish.stages.report import read_run

State = Literal["waiting", "running", "stopped", "done"]
_QUIET = 300.0  # seconds without a sign of life after which a stage counts as stopped
_DEEP = 3  # a run lies at most this far below the folder
_SAMPLES = 4


@dataclass(frozen=True, slots=True)
class StageView:
    """One stage: what it reads, how far it is, and its numbers.

    `left` are seconds until it is done, where its number of steps is known; `memory_gb` is there
    once it is done.
    """

    name: str
    kind: str
    reads: tuple[str, ...]
    state: State
    rows: tuple[Mapping[str, Any], ...] = ()
    total: int | None = None
    seconds: float | None = None
    left: float | None = None
    memory_gb: float | None = None
    samples: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class RunView:
    """One run; `problem` says why it cannot be read, where it cannot."""

    path: str
    name: str
    stages: tuple[StageView, ...] = ()
    report: Path | None = None
    touched: float = 0.0
    problem: str | None = None

    @property
    def state(self) -> State:
        """Of the whole: done where every stage is."""
        states = {stage.state for stage in self.stages}
        if "running" in states:
            return "running"
        if states == {"done"}:
            return "done"
        return "stopped" if states - {"waiting"} else "waiting"


def find_runs(root: Path) -> dict[str, Path]:
    """The runs in a folder by their paths below it, or the folder where it is one itself, by its
    name: "." in a URL is not sent."""
    found = {root.resolve().name if folder == root else folder.relative_to(root).as_posix(): folder
             for folder in _runs(root, _DEEP)}  # fmt: skip
    return dict(sorted(found.items()))


def _runs(folder: Path, deep: int) -> Iterator[Path]:
    if (folder / "recipe.yaml").is_file():
        yield folder
        return
    if deep == 0:
        return
    try:
        inner = sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError:
        return
    for path in inner:
        if not path.name.startswith(".") and not path.is_symlink():
            yield from _runs(path, deep - 1)


def overview(path: str, folder: Path) -> RunView:
    """A run as it is now, as far as the table of all runs shows it: its stages' states without
    their numbers. What is damaged, or being written at this moment, is said in place of it."""
    try:
        recipe, _ = read_run(folder)
        stages = tuple(
            _stage(folder / node.name, node.name, node.kind, node.parents, node.settings)
            for node in graph_of(recipe)
            if not KINDS[node.kind].always
        )
    except (UserError, OSError) as error:
        return RunView(path, folder.name, problem=str(error))
    report = folder / "report.html"
    return RunView(
        path, recipe.name, stages, report if report.is_file() else None, _last_touched(folder)
    )


def read(path: str, folder: Path) -> RunView:
    """`overview` with the numbers and the samples of each stage."""
    run = overview(path, folder)
    try:
        stages = tuple(_with_numbers(stage, folder / stage.name) for stage in run.stages)
    except (UserError, OSError) as error:
        return RunView(path, folder.name, problem=str(error))
    return replace(run, stages=stages)


def _stage(folder: Path, name: str, kind: str, reads: Any, settings: Any) -> StageView:
    total = getattr(settings, "steps", None) or getattr(settings, "max_steps", None)
    view = StageView(name, kind, tuple(reads), "waiting", total=total)
    record = StageRecord.read(folder / "stage.json")
    if record is not None:
        return replace(view, state="done", seconds=record.seconds, memory_gb=record.peak_memory_gb)
    if not (folder / "begun.json").is_file():
        return view
    quiet = time.time() - _last_touched(folder) >= _QUIET
    return replace(view, state="stopped" if quiet else "running")


def _with_numbers(stage: StageView, folder: Path) -> StageView:
    if stage.state == "waiting":
        return stage
    rows = tuple(read_metrics(folder / "metrics.jsonl"))
    stage = replace(stage, rows=rows, samples=_samples(folder))
    if stage.state == "done":
        return stage
    timings = [row["seconds"] for row in read_metrics(folder / "timing.jsonl")]
    left = None
    if stage.total and timings:
        recent = timings[-20:]
        left = max(0, stage.total - len(rows)) * sum(recent) / len(recent)
    return replace(stage, seconds=sum(timings) or None, left=left)


def _last_touched(folder: Path) -> float:
    """When a file right in this folder, or in one of its folders, was last written."""
    newest = 0.0
    for path in (*folder.glob("*"), *folder.glob("*/*")):
        try:
            newest = max(newest, path.stat().st_mtime)
        except OSError:
            continue  # it was renamed meanwhile: the others tell enough
    return newest


def _samples(folder: Path) -> tuple[Mapping[str, Any], ...]:
    """A few of the newest answers."""
    try:
        files = sorted((folder / "samples").glob("step-*.jsonl"))
        lines = files[-1].read_text(encoding="utf-8").splitlines() if files else []
        rows = [json.loads(line) for line in lines[:_SAMPLES]]
    except (OSError, ValueError):
        return ()
    return tuple(row for row in rows if isinstance(row, dict))


def curves_of(stage: StageView) -> dict[str, tuple[list[float], list[float]]]:
    """(steps, values) of every metric that is a finite number somewhere."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    for row in stage.rows:
        for name, value in row.items():
            if name != "step" and isinstance(value, int | float) and math.isfinite(value):
                steps, values = found.setdefault(name, ([], []))
                steps.append(float(row["step"]))
                values.append(float(value))
    return found
