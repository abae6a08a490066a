"""Running a recipe: stage after stage of its graph, each skipped if it has been done with the same
settings and inputs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish._version import __version__
from burnish.atomic import clean_leftovers, write_text
from burnish.config.describe import show
from burnish.config.kinds import KINDS
from burnish.config.needs import require_sources
from burnish.config.recipe import Recipe
from burnish.config.yaml_file import dump_yaml
from burnish.errors import UserError
from burnish.planning.machine import this_machine
from burnish.planning.plan import make_plan
from burnish.runs.manifest import (
    environment,
    file_hash,
    fingerprint,
    run_lock,
    write_sealed,
)
from burnish.runs.stage_record import (
    reopen,
    verify,
)
from burnish.stages import preflight
from burnish.stages.chat_settings import dated
from burnish.stages.context import Run
from burnish.stages.inputs import inputs_of, reads_store
from burnish.stages.plan import data_sizes, refuse_what_cannot_fit, shape_of, summary
from burnish.stages.run_stage import run_stage
from burnish.stages.settled import is_tolerated, record_of, settle
from burnish.stages.side_by_side import Room, run_side_by_side
from burnish.stages.stored import freeze
from burnish.system import usable_cores


def run(
    recipe: Recipe,
    *,
    out: str | Path | None = None,
    until: str | None = None,
    only: str | None = None,
    fork: str | Path | None = None,
    accept_change: bool = False,
    extend: bool = False,
    memory_check: bool = True,
    jobs: int = 1,
    say: Callable[[str], None] = lambda _: None,
    progress: Callable[[str], Any] = lambda _: None,
    finished: Callable[[str, Path], None] = lambda _, __: None,
) -> Path:
    """Run a recipe's stages and return the run's folder; what is done already is not done again.

    Args:
        recipe: see `burnish.config.recipe.Recipe`.
        out: the run's folder; by default `runs/NAME`.
        until: stop after this stage.
        only: run this stage alone; those it needs must be done.
        fork: copy the stages that still fit from this run's folder into a new `out` first.
        accept_change: go on with stages that were begun or done with other settings, as they are;
            the manifest says so.
        extend: train a stage that is done, or begun, on to more steps or epochs although its
            learning rate has followed the former number; where the rate does not depend on the
            number, nothing need be said.
        memory_check: refuse a run whose plan needs more memory than is free.
        jobs: run so many stages at a time, each in a process of its own, where none of them rests
            on another and their planned memory is free.
        say: shows a line to the person watching.
        progress: makes what a stage's trainer reports its steps to.
        finished: is called with the name and the folder of each stage that this call has done.

    Raises UserError when the folder holds a run that was made with another configuration, saying
    what differs, and when the run cannot fit the memory, saying which settings would.
    """
    _refuse(recipe, jobs=jobs)
    folder = Path("runs") / recipe.name if out is None else folder_named(out, "out")
    source = None if fork is None else folder_named(fork, "fork")
    _set_threads(recipe)
    with run_lock(folder):
        clean_leftovers(folder)
        recipe = dated(recipe, folder, source)
        if source is not None:
            _fork(recipe, source=source, target=folder, say=say)
        this = Run(recipe, folder, say, progress)
        wanted = _wanted(this, until=until, only=only)
        require_sources(this.graph, wanted)
        inputs, accepted, longer = settle(this, wanted, accept=accept_change, extend=extend)
        left = [stage for stage in wanted if stage in longer or record_of(this, stage) is None]
        _verify_kept(this, wanted, left)
        if recipe.data.store is not None and any(reads_store(this.step(stage)) for stage in wanted):
            freeze(this.stored, folder)
        if left:
            preflight.check(this, left)
        room = _check_memory(this, left, jobs=jobs, refuse=memory_check)
        for stage in longer:
            # only now, when nothing is refused any more, for it takes the finished model away
            reopen(this.place(stage))
        _write_manifest(this, inputs, accepted)
        work = {stage: (inputs[stage], accepted.get(stage, ())) for stage in wanted}
        _run_stages(this, work, room, lambda stage: finished(stage, this.place(stage)))
    return folder


def _refuse(recipe: Recipe, *, jobs: int) -> None:
    """Raise UserError for what one run cannot be."""
    if recipe.seeds:
        hint = (
            "`burnish run` and burnish.sweep run a recipe with several seeds, one after the other."
        )
        raise UserError(
            "a run has one seed, and this recipe names several.", field="seeds", hint=hint
        )
    if jobs > 1 and recipe.scale.trainers > 1:
        raise UserError(
            f"--jobs {jobs} goes with one trainer a stage, and scale.trainers is"
            f" {recipe.scale.trainers}.",
            field="scale.trainers",
            hint="Leave one of the two out.",
        )


def folder_named(name: str | Path, argument: str) -> Path:
    """The folder that an argument names, as text or as a path. Raises UserError where it cannot be
    a folder's name."""
    text = str(name)
    if not isinstance(name, str | Path) or not text.strip() or not text.isprintable():
        raise UserError(
            f"{argument} is no folder's name: {show(text)}.",
            hint="Give a path, for instance runs/first.",
        )
    return Path(name)


def _wanted(this: Run, *, until: str | None, only: str | None) -> tuple[str, ...]:
    stages = tuple(this.graph.nodes)
    asked = only or until
    if asked is not None and asked not in stages:
        raise UserError(
            f'this recipe has no stage "{asked}".', hint=f"It has: {', '.join(stages)}."
        )
    if only is not None:
        missing = [stage for stage in this.graph.ancestors(only) if record_of(this, stage) is None]
        if missing:
            raise UserError(
                f"the stage {only} needs {' and '.join(missing)} first.",
                file=this.folder,
                hint=f"Run `burnish run ... --until {missing[-1]}`, or the whole recipe.",
            )
        return (only,)
    return stages[: stages.index(until) + 1] if until is not None else stages


def _verify_kept(this: Run, wanted: Sequence[str], left: Sequence[str]) -> None:
    """Refuse to build on files of finished stages that were changed since; each is looked at once
    in a run."""
    read = {parent for stage in left for parent in this.graph[stage].parents}
    for node in this.graph:
        record = record_of(this, node.name)
        if record is None or KINDS[node.kind].always:
            continue
        if node.name in read:
            verify(this.place(node.name), record)
        elif any(this.step(stage).row.always for stage in wanted):
            verify(this.place(node.name), record, parts=("result.json",))


def _is_to_do(this: Run, stage: str) -> bool:
    return record_of(this, stage) is None or this.step(stage).row.always


def _write_manifest(
    this: Run, inputs: Mapping[str, Any], accepted: Mapping[str, Sequence[str]]
) -> None:
    """The resolved recipe, and what the run was made of."""
    write_text(this.folder / "recipe.yaml", dump_yaml(this.recipe))
    manifest = {
        "burnish": __version__, "environment": environment(), "seed": this.recipe.seed,
        "inputs": inputs,
        "accepted": accepted, "trainers": this.recipe.scale.trainers,
        "recipe_sha256": file_hash(this.folder / "recipe.yaml"),
    }  # fmt: skip
    write_sealed(this.folder / "manifest.json", manifest)


def _run_stages(
    this: Run,
    work: Mapping[str, tuple[Mapping[str, Any], Sequence[str]]],
    room: Room,
    finished: Callable[[str], None],
) -> None:
    left = {stage: made_of for stage, made_of in work.items() if _is_to_do(this, stage)}
    for stage in work:
        if stage not in left:
            this.say(f"{stage}: done already")
    if room.jobs > 1:
        run_side_by_side(this, left, room, finished)
        return
    for stage, (inputs, accepted) in left.items():
        run_stage(this, stage, inputs, accepted)
        finished(stage)


def _check_memory(this: Run, left: Sequence[str], *, jobs: int, refuse: bool) -> Room:
    """Say what the stages that are still to be done will need; refuse them if one of them needs
    more than there is."""
    stages = [stage for stage in left if not this.step(stage).row.always]
    if not stages:
        return Room(jobs, 0.0, {})
    recipe = this.recipe
    shape, data = shape_of(recipe.model.name, say=this.say), data_sizes(this, stages)
    machine = this_machine(this.device, products=recipe.model.dtype, seconds=0.1)
    plan = make_plan(recipe, shape, data, machine, stages=stages)
    this.say(summary(plan))
    if refuse:
        refuse_what_cannot_fit(plan, recipe, shape, data, machine)
    return Room(jobs, machine.memory, {stage.name: stage.peak for stage in plan.stages})


def _fork(recipe: Recipe, *, source: Path, target: Path, say: Callable[[str], None]) -> None:
    """Copy the finished stages of `source` that this recipe would make the same way."""
    if not source.is_dir():
        raise UserError("there is no such run to fork from.", file=source)
    if source.resolve() == target.resolve():
        raise UserError(
            "a fork needs a folder of its own.", file=target, hint="Give another --out."
        )
    old, new = Run(recipe, source), Run(recipe, target)
    prints: dict[str, str] = {}
    for node in new.graph:
        inputs = inputs_of(new.step(node.name), prints)
        record = record_of(old, node.name)
        fits = record is not None and (
            record.fingerprint == fingerprint(inputs)
            or is_tolerated(record.inputs, inputs, finished=True)
        )
        prints[node.name] = (
            record.fingerprint if record is not None and fits else fingerprint(inputs)
        )
        if KINDS[node.kind].always or record is None or not fits:
            continue
        verify(old.place(node.name), record)
        if not new.place(node.name).exists():
            shutil.copytree(old.place(node.name), new.place(node.name))
            say(f"{node.name}: taken over from {source}")


def _set_threads(recipe: Recipe) -> None:
    import torch

    torch.set_num_threads(recipe.threads or usable_cores())
