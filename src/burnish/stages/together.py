"""A stage that trains, run by several ranks on this machine: each calls the stage's own
function."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from burnish.config.recipe import Recipe
from burnish.execution.group import Deadlines, keep_running, run_group
from burnish.models.device import peak_gb
from burnish.ranks import first, gathered
from burnish.runs.checkpoint import steps_in
from burnish.runs.manifest import peak_memory_gb
from burnish.stages.context import Run, Step
from burnish.system import usable_cores


def train_together(step: Step) -> float:
    """Run the stage on `scale.trainers` ranks; returns the memory that the one with the most had at
    its peak, in GB.

    A group that loses one of its ranks starts again from the newest checkpoint. Raises what a rank
    raises, and UserError where it dies again and again.
    """
    run, scale = step.run, step.recipe.scale
    threads = step.recipe.threads or max(1, usable_cores() // scale.trainers)
    work = partial(_train, step.recipe.model_dump_json(), str(run.folder), step.name, threads)
    bar = step.progress()

    def hear(message: tuple[str, tuple[Any, ...]]) -> None:
        kind, what = message
        if kind == "line":
            run.say(*what)
        elif bar is not None:
            bar(*what)

    once = partial(
        run_group,
        work,
        world=scale.trainers,
        deadline=Deadlines(scale.deadline.start, scale.deadline.train),
        device=run.device.type,
        hear=hear,
    )
    checkpoints = step.folder / "checkpoints"
    return keep_running(
        once,
        restarts=scale.restarts.trainers,
        progress_of=lambda: steps_in(checkpoints),
        say=lambda line: run.say(f"{step.name}: {line}"),
    )


def _train(
    recipe: str, folder: str, stage: str, threads: int, send: Callable[[Any], None]
) -> float:
    """What each rank does."""
    import torch

    torch.set_num_threads(threads)
    line = lambda text: send(("line", (text,)))  # noqa: E731
    report = lambda *values: send(("step", values))  # noqa: E731
    if not first():
        line = lambda _: None  # noqa: E731
    run = Run(
        Recipe.model_validate_json(recipe, strict=True),
        Path(folder),
        say=line,
        progress=lambda _: report,
    )
    step = run.step(stage)
    step.row.function()(step)
    peak = peak_gb()
    return max(gathered(peak_memory_gb() if peak is None else peak))
