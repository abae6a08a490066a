"""What a program hears of a run while it goes on: callbacks, and what is shown of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.jsonio import read_object

Callback = Callable[["Event"], Any]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a run has just done.

    Args:
        stage: the stage's name.
        folder: the stage's folder.
        step: how many steps are done; 0 for what is no training.
        steps: how many there are in all.
        metrics: the step's metrics; of an evaluation those that begin with `eval_`, or its
            `result.json`.
        tokens: how many tokens the step worked on.
        checkpoint: the folder of the checkpoint that was written, for `on_checkpoint`.
    """

    stage: str
    folder: Path
    step: int = 0
    steps: int = 0
    metrics: Mapping[str, Any] | None = None
    tokens: int = 0
    checkpoint: Path | None = None


@dataclass(frozen=True)
class Callbacks:
    """The functions that a program gave. Each is called with one `Event`; what it raises ends the
    run, which can be resumed.

    Args:
        folder: the run's.
        on_step: after every step of a training stage.
        on_checkpoint: after a checkpoint is on disk.
        on_evaluate: after an evaluation in the middle of training, and after a stage of the kind
            evaluate.
    """

    folder: Path
    on_step: Callback | None = None
    on_checkpoint: Callback | None = None
    on_evaluate: Callback | None = None

    def stage(self, name: str) -> Callable[[int, int, int, Mapping[str, float]], None]:
        """What a stage's trainer reports its steps to."""
        folder = self.folder / name

        def report(done: int, total: int, tokens: int, values: Mapping[str, float]) -> None:
            if self.on_step is not None:
                self.on_step(Event(name, folder, done, total, values, tokens))
            measured = {key: value for key, value in values.items() if key.startswith("eval_")}
            if measured and self.on_evaluate is not None:
                self.on_evaluate(Event(name, folder, done, total, measured, tokens))
            checkpoint = folder / "checkpoints" / f"checkpoint-{done}"
            if self.on_checkpoint is not None and checkpoint.is_dir():
                self.on_checkpoint(Event(name, folder, done, total, values, tokens, checkpoint))

        return report

    def finished(self, name: str, folder: Path) -> None:
        """A stage is done."""
        result = folder / "result.json"
        if self.on_evaluate is None or (folder / "metrics.jsonl").exists() or not result.is_file():
            return
        findings = read_object(result, hint="Run the recipe again.")
        if {"models", "not_evaluated"} & findings.keys():
            self.on_evaluate(Event(name, folder, metrics=findings))
