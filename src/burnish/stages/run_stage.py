"""Running one stage: its folder, its time and memory, its record."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from burnish.atomic import recover
from burnish.errors import UserError
from burnish.execution.journal import JOURNAL
from burnish.models.device import peak_gb, reset_peak
from burnish.runs.manifest import fingerprint, peak_memory_gb, release_memory
from burnish.runs.stage_record import (
    StageRecord,
    begin,
    begun,
    checksums,
    clear_if_nothing_was_made,
)
from burnish.stages.context import Run, Step
from burnish.stages.together import train_together
from burnish.system import reset_peak_memory


def run_stage(this: Run, stage: str, inputs: Mapping[str, Any], accepted: Sequence[str]) -> None:
    """Run a stage that is still to do, from its last checkpoint where it was begun."""
    step, folder = this.step(stage), this.place(stage)
    this.say(f"{stage}: starting{_from(step)}")
    recover(folder / "model")
    clear_if_nothing_was_made(folder)
    folder.mkdir(parents=True, exist_ok=True)
    before, earlier, _ = begun(folder)
    if before is not None and fingerprint(before) != fingerprint(inputs):
        # it was drawn by weights that will not come again
        shutil.rmtree(folder / JOURNAL, ignore_errors=True)
    begin(folder, inputs, seconds=earlier, accepted=accepted)
    reset_peak_memory()
    reset_peak()
    start = time.perf_counter()
    try:
        of_ranks = _do(step)
    except SystemExit as error:
        raise UserError(
            f"code that the stage {stage} ran ended the process (exit {error.code}), so the stage"
            " is not done.",
            hint=(
                "Look for sys.exit() or exit() in your reward, environment or tracker, and raise an"
                " error there instead."
            ),
        ) from error
    finally:
        seconds = earlier + time.perf_counter() - start
        begin(folder, inputs, seconds=seconds, accepted=accepted)
        release_memory()
    peak = peak_gb() if of_ranks is None else of_ranks
    record = StageRecord(
        stage,
        fingerprint(inputs),
        inputs,
        round(seconds, 2),
        round(peak_memory_gb() if peak is None else peak, 3),
        datetime.now(UTC).isoformat(timespec="seconds"),
        checksums(folder),
        list(accepted),
    )
    record.write(folder / "stage.json")
    where = "" if peak is None or this.device.type == "cpu" else " of the GPU"
    where += "" if of_ranks is None else f" on each of {this.recipe.scale.trainers} trainers"
    this.say(f"{stage}: done in {seconds:.0f} s, at most {record.peak_memory_gb:.1f} GB{where}")


def _do(step: Step) -> float | None:
    """Do what the stage does, here or, where it trains and the recipe has several trainers, on as
    many ranks: then the most memory in GB that one of them had."""
    if step.row.trains and step.recipe.scale.trainers > 1:
        return train_together(step)
    step.row.function()(step)
    return None


def _from(step: Step) -> str:
    """What a stage starts from, where that is no stage before it and may surprise."""
    start = step.node.input("start")
    if start is None or start.stage is not None or step.row.first:
        return ""
    return f" from {step.start} as it is"
