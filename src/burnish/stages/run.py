"""Running a recipe: stage after stage of its graph, each skipped if it has been done with the same
settings and inputs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from burnish._version import __version__
from burnish.atomic import clean_leftovers, recover, write_text
from burnish.config.describe import show
from burnish.config.kinds import KINDS
from burnish.config.needs import require_sources
from burnish.config.recipe import Recipe
from burnish.config.yaml_file import dump_yaml
from burnish.errors import UserError
from burnish.models.device import peak_gb, reset_peak
from burnish.planning.machine import this_machine
from burnish.planning.plan import make_plan
from burnish.runs.manifest import (
    environment,
    explain_difference,
    file_hash,
    fingerprint,
    peak_memory_gb,
    release_memory,
    run_lock,
    write_sealed,
)
from burnish.runs.stage_record import (
    StageRecord,
    begin,
    begun,
    checksums,
    clear_if_nothing_was_made,
    reopen,
    verify,
)
from burnish.stages import preflight
from burnish.stages.chat_settings import dated
from burnish.stages.context import Run, Step
from burnish.stages.inputs import inputs_of, reads_store
from burnish.stages.plan import data_sizes, refuse_what_cannot_fit, shape_of, summary
from burnish.stages.stored import freeze
from burnish.system import reset_peak_memory, usable_cores


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
        say: shows a line to the person watching.
        progress: makes what a stage's trainer reports its steps to.
        finished: is called with the name and the folder of each stage that this call has done.

    Raises UserError when the folder holds a run that was made with another configuration, saying
    what differs, and when the run cannot fit the memory, saying which settings would.
    """
    if recipe.seeds:
        hint = (
            "`burnish run` and burnish.sweep run a recipe with several seeds, one after the other."
        )
        raise UserError(
            "a run has one seed, and this recipe names several.", field="seeds", hint=hint
        )
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
        inputs, accepted, longer = _settled(this, wanted, accept=accept_change, extend=extend)
        left = [stage for stage in wanted if stage in longer or not _is_done(this, stage)]
        _verify_kept(this, wanted, left)
        if recipe.data.store is not None and any(reads_store(this.step(stage)) for stage in wanted):
            freeze(this.stored, folder)
        if left:
            preflight.check(this, left)
        _check_memory(this, left, refuse=memory_check)
        for stage in (
            longer
        ):  # only now, when nothing is refused any more, for it takes the finished model away
            reopen(this.place(stage))
        write_text(folder / "recipe.yaml", dump_yaml(recipe))
        manifest = {
            "burnish": __version__, "environment": environment(), "seed": recipe.seed, "inputs": inputs,
            "accepted": accepted, "recipe_sha256": file_hash(folder / "recipe.yaml"),
        }  # fmt: skip
        write_sealed(folder / "manifest.json", manifest)
        for stage in wanted:
            if _run_stage(this, stage, inputs[stage], accepted.get(stage, ())):
                finished(stage, this.place(stage))
    return folder


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
        missing = [stage for stage in this.graph.ancestors(only) if not _is_done(this, stage)]
        if missing:
            raise UserError(
                f"the stage {only} needs {' and '.join(missing)} first.",
                file=this.folder,
                hint=f"Run `burnish run ... --until {missing[-1]}`, or the whole recipe.",
            )
        return (only,)
    return stages[: stages.index(until) + 1] if until is not None else stages


def _record(this: Run, stage: str) -> StageRecord | None:
    return StageRecord.read(this.place(stage) / "stage.json")


def _is_done(this: Run, stage: str) -> bool:
    return _record(this, stage) is not None


def _settled(
    this: Run, wanted: Sequence[str], *, accept: bool, extend: bool
) -> tuple[dict[str, dict[str, Any]], dict[str, list[str]], list[str]]:
    """(what each stage depends on, what of it was changed since it was begun and taken all the
    same, by stage; the stages that go on to more steps or epochs).

    A finished or begun stage whose inputs are no longer the same is never mixed with new ones, and
    never thrown away: it is an error. A finished stage is not refused because of another version of
    the package; what differs is said. The user's own code may be mended while a stage is under way.
    More steps or epochs go on from the last checkpoint. What only later stages read need not be
    there yet.
    """
    needed = {*wanted, *(parent for stage in wanted for parent in this.graph.ancestors(stage))}
    inputs: dict[str, dict[str, Any]] = {}
    prints: dict[str, str] = {}
    accepted: dict[str, list[str]] = {}
    longer: list[str] = []
    for node in (node for node in this.graph if node.name in needed):
        step = this.step(node.name)
        inputs[node.name] = inputs_of(step, prints)
        record = _record(this, node.name)
        if record is not None:
            old, before = record.inputs, record.accepted
        else:
            old, _, before = begun(this.place(node.name))
        if before and node.name in wanted:
            accepted[node.name] = list(before)
        looked_at = not KINDS[node.kind].always and node.name in wanted
        if looked_at and old is not None and fingerprint(old) != fingerprint(inputs[node.name]):
            changes = explain_difference(old, inputs[node.name])
            finished = record is not None
            follows = _is_longer(old, inputs[node.name], finished=finished)
            if follows and (extend or not _rate_depends_on_the_length(node.settings)):
                longer.append(node.name)
                record = None
            elif follows and not accept:
                raise _longer(this, node.name, changes)
            elif not accept and not _is_tolerated(old, inputs[node.name], finished=finished):
                raise _changed(this, node.name, changes)
            accepted[node.name] = [*before, *changes]
            this.say(f"{node.name}: goes on although {_several(changes)}")
        prints[node.name] = (
            record.fingerprint if record is not None else fingerprint(inputs[node.name])
        )
    return {stage: inputs[stage] for stage in wanted}, accepted, longer


def _is_tolerated(old: Mapping[str, Any], new: Mapping[str, Any], *, finished: bool) -> bool:
    """Whether nothing differs but the package's code, in a finished stage, or the user's own, in
    one under way."""
    apart = "code" if finished else "own_code"
    kept = [{key: value for key, value in side.items() if key != apart} for side in (old, new)]
    return fingerprint(kept[0]) == fingerprint(kept[1])


def _is_longer(old: Mapping[str, Any], new: Mapping[str, Any], *, finished: bool) -> bool:
    """Whether the stage is to be trained on: nothing differs, but for what is tolerated, than that
    it has more steps, or, where it makes passes over its data, more epochs."""
    settings = [side.get("settings", {}) for side in (old, new)]
    # beside steps, epochs are passes over a batch of rollouts
    key = "steps" if "steps" in settings[0] else "epochs"
    if key not in settings[0] or key not in settings[1] or settings[1][key] <= settings[0][key]:
        return False
    same = {**new, "settings": {**settings[1], key: settings[0][key]}}
    return _is_tolerated(old, same, finished=finished)


def _rate_depends_on_the_length(settings: Any) -> bool:
    """Whether what was trained so far would have been trained at another learning rate."""
    optimizer = getattr(settings, "optimizer", None)
    return optimizer is None or optimizer.schedule != "constant" or optimizer.warmup > 0


def _longer(this: Run, stage: str, changes: Sequence[str]) -> UserError:
    return UserError(
        f"the stage {stage} was run with other settings ({_several(changes)}), and its learning rate followed the former length.",
        file=this.folder,
        hint="Add --extend to go on from its last checkpoint all the same, at the rate of the new length from there; or run again "
        f"with --fork {this.folder} --out NEW_FOLDER.",
    )


def _changed(this: Run, stage: str, changes: Sequence[str]) -> UserError:
    return UserError(
        f"the stage {stage} was run with other settings ({_several(changes)}).",
        file=this.folder,
        hint=f"Nothing was changed. To keep what still fits, run again with --fork {this.folder} --out NEW_FOLDER; to start over, "
        "choose another --out; to go on as it is, add --accept-change.",
    )


def _several(changes: Sequence[str]) -> str:
    return "; ".join(changes[:4]) + (f"; and {len(changes) - 4} more" if len(changes) > 4 else "")


def _verify_kept(this: Run, wanted: Sequence[str], left: Sequence[str]) -> None:
    """Refuse to build on files of finished stages that were changed since; each is looked at once
    in a run."""
    read = {parent for stage in left for parent in this.graph[stage].parents}
    for node in this.graph:
        record = _record(this, node.name)
        if record is None or KINDS[node.kind].always:
            continue
        if node.name in read:
            verify(this.place(node.name), record)
        elif any(this.step(stage).row.always for stage in wanted):
            verify(this.place(node.name), record, parts=("result.json",))


def _check_memory(this: Run, left: Sequence[str], *, refuse: bool) -> None:
    """Say what the stages that are still to be done will need; refuse them if that is more than
    there is."""
    stages = [stage for stage in left if not this.step(stage).row.always]
    if not stages:
        return
    recipe = this.recipe
    shape, data = shape_of(recipe.model.name, say=this.say), data_sizes(this, stages)
    machine = this_machine(this.device, products=recipe.model.dtype, seconds=0.1)
    plan = make_plan(recipe, shape, data, machine, stages=stages)
    this.say(summary(plan))
    if refuse:
        refuse_what_cannot_fit(plan, recipe, shape, data, machine)


def _run_stage(this: Run, stage: str, inputs: Mapping[str, Any], accepted: Sequence[str]) -> bool:
    """Run a stage; False: it was done already."""
    step, folder = this.step(stage), this.place(stage)
    if _is_done(this, stage) and not step.row.always:
        this.say(f"{stage}: done already")
        return False
    this.say(f"{stage}: starting{_from(step)}")
    recover(folder / "model")
    clear_if_nothing_was_made(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _, earlier, _ = begun(folder)
    begin(folder, inputs, seconds=earlier, accepted=accepted)
    reset_peak_memory()
    reset_peak()
    start = time.perf_counter()
    try:
        step.row.function()(step)
    except SystemExit as error:
        raise UserError(
            f"code that the stage {stage} ran ended the process (exit {error.code}), so the stage is not done.",
            hint="Look for sys.exit() or exit() in your reward, environment or tracker, and raise an error there instead.",
        ) from error
    finally:
        seconds = earlier + time.perf_counter() - start
        begin(folder, inputs, seconds=seconds, accepted=accepted)
        release_memory()
    peak = peak_gb()
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
    where = "" if peak is None else " of the GPU"
    this.say(f"{stage}: done in {seconds:.0f} s, at most {record.peak_memory_gb:.1f} GB{where}")
    return True


def _from(step: Step) -> str:
    """What a stage starts from, where that is no stage before it and may surprise."""
    start = step.node.input("start")
    if start is None or start.stage is not None or step.row.first:
        return ""
    return f" from {step.start} as it is"


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
        record = _record(old, node.name)
        fits = record is not None and (
            record.fingerprint == fingerprint(inputs)
            or _is_tolerated(record.inputs, inputs, finished=True)
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
