"""Metrics as JSON lines, and trackers behind one small interface."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from burnish.atomic import disk_errors, write_text
from burnish.errors import UserError
from burnish.jsonio import dumps


class Writer(Protocol):
    """A tracker that wants the metrics of each step too."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """The metrics of one step."""
        ...

    def close(self) -> None:
        """No more will come."""
        ...


class MetricLog:
    """One JSON object a step: `{"step": 1, "loss": 0.5, ...}`. Floats are written so that they read
    back exactly.

    JSON has no NaN and no infinity: they are written as the strings "nan", "inf" and "-inf", which
    `float()` reads.
    """

    def __init__(self, path: Path, *, writers: Sequence[Writer] = ()) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._writers = path, writers
        self._file = path.open("ab")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Append the metrics of a step."""
        row = {"step": step, **{name: _plain(value) for name, value in values.items()}}
        with disk_errors(self._path):
            self._file.write(dumps(row).encode() + b"\n")
            self._file.flush()
        for writer in self._writers:
            writer.log(step, values)

    def position(self) -> int:
        """How many bytes there are, all of them on disk."""
        with disk_errors(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
        return self._file.tell()

    def truncate_to(self, position: int) -> None:
        """Forget what was appended after `position`: steps that a killed run had done since its
        last checkpoint.

        Raises UserError when the file is shorter than that, which no kill can bring about.
        """
        if self._file.seek(0, os.SEEK_END) < position:
            hint = "Put the file back, or remove the stage's folder to run it from its start."
            raise UserError(
                "this log has lost lines that the checkpoint counts on.", file=self._path, hint=hint
            )
        self._file.truncate(position)
        self._file.seek(position)

    def close(self) -> None:
        """Close the file and the trackers."""
        self._file.close()
        for writer in self._writers:
            writer.close()


class SilentLog:
    """A `MetricLog` that writes nothing: of the ranks that are not the first."""

    def __init__(self, path: Path, *, writers: Sequence[Writer] = ()) -> None:
        pass

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Nothing."""

    def position(self) -> int:
        """0; the first rank's is what is kept."""
        return 0

    def truncate_to(self, position: int) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a log; a last line that a killed process left unfinished is passed over. No file:
    no rows."""
    if not path.is_file():
        return []
    rows = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            rows.append(
                {
                    name: float(v) if v in ("nan", "inf", "-inf") else v
                    for name, v in json.loads(line).items()
                }
            )
        except (ValueError, AttributeError) as error:
            raise UserError(
                "this line is not a JSON object.", file=path, row=number, hint="Remove it."
            ) from error
    return rows


def make_writers(
    names: Sequence[str], *, folder: Path, run: str, stage: str, config: Mapping[str, Any]
) -> list[Writer]:
    """The trackers of those names. Raises UserError when one is not installed, saying how to
    install it."""
    makers = {"tensorboard": _TensorBoard, "wandb": _Wandb, "trackio": _Trackio}
    writers: list[Writer] = []
    for name in names:
        try:
            writers.append(makers[name](folder=folder, run=run, stage=stage, config=config))
        except ImportError as error:
            raise UserError(
                f"the tracker {name} is not installed.", hint=f"pip install 'burnish[{name}]'"
            ) from error
    return writers


class _TensorBoard:
    def __init__(self, *, folder: Path, run: str, stage: str, config: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    def __init__(self, *, folder: Path, run: str, stage: str, config: Mapping[str, Any]) -> None:
        import wandb  # type: ignore[import-not-found]

        self._run = wandb.init(
            project="burnish",
            name=f"{run}/{stage}",
            id=f"{_tracker_id(folder)}-{stage}",
            resume="allow",
            dir=str(folder),
            config=dict(config),
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


class _Trackio:
    def __init__(self, *, folder: Path, run: str, stage: str, config: Mapping[str, Any]) -> None:
        import trackio  # type: ignore[import-not-found]

        name = f"{run}-{stage}-{_tracker_id(folder)}"
        self._run = trackio.init(project="burnish", name=name, config=dict(config), resume="allow")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


def _tracker_id(folder: Path) -> str:
    """What trackers know a run's folder by: a run that resumes goes on in its curve, another of the
    same name does not."""
    path = folder / "tracker_id"
    if not path.is_file():
        write_text(path, uuid4().hex[:8])
    return path.read_text()


def _plain(value: float | int | str) -> float | int | str:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
