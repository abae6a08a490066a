"""Running a recipe: stage after stage, each skipped if it has been done with the same configuration, inputs and code."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import burnish
from burnish.atomic import clean_leftovers, recover, write_text
from burnish.config.describe import show
from burnish.config.needs import require_sources
from burnish.config.rewards import PythonReward
from burnish.config.schema import Recipe
from burnish.config.yaml_file import dump_yaml
from burnish.data.sources import builtin_file, local_files
from burnish.errors import UserError
from burnish.models.device import peak_gb, reset_peak
from burnish.pipeline import preflight
from burnish.pipeline.chat_settings import dated, template_text
from burnish.pipeline.context import STAGES, Context
from burnish.pipeline.plan import data_size, refuse_what_cannot_fit, shape_of, summary
from burnish.pipeline.stored import freeze
from burnish.planning.machine import this_machine
from burnish.planning.plan import make_plan
from burnish.rewards.functions import file_of
from burnish.runs.manifest import (
    code_hash,
    environment,
    explain_difference,
    file_hash,
    fingerprint,
    peak_memory_gb,
    release_memory,
    run_lock,
    write_sealed,
)
from burnish.runs.stage_record import StageRecord, begin, begun, checksums, clear_if_nothing_was_made, verify
from burnish.system import reset_peak_memory, usable_cores

_PACKAGE = Path(burnish.__file__).parent
_TRAINING = ("atomic", "batch", "records", "algorithms", "data", "models", "trainers", "runs/checkpoint")
_CODE = {
    "sft": (*_TRAINING, "pipeline/sft"),
    "collect": (
        "records",
        "data",
        "models",
        "generation",
        "labels",
        "annotation/agreement",
        "annotation/panel",
        "annotation/statistics",
        "annotation/store",
        "rewards/taste",
        "pipeline/collect",
        "pipeline/sampling",
    ),
    "reward": (*_TRAINING, "evaluation/reward_report", "evaluation/uncertainty", "pipeline/reward"),
    "preference": (
        *_TRAINING,
        "evaluation/reward_report",
        "evaluation/uncertainty",
        "pipeline/preference",
        "pipeline/preference_findings",
        "pipeline/reward",
    ),
    "ppo": (*_TRAINING, "generation", "rewards/model", "pipeline/ppo", "pipeline/sampling"),
    "online": (
        *_TRAINING,
        "generation",
        "environments",
        "rewards",
        "sandbox",
        "pipeline/online",
        "pipeline/rewards",
        "pipeline/sampling",
        "pipeline/turns",
    ),
    "evaluate": (
        "batch",
        "data",
        "models",
        "generation",
        "environments",
        "rewards",
        "evaluation/uncertainty",
        "evaluation/verifiable",
        "pipeline/evaluate",
        "pipeline/rewards",
        "pipeline/sampling",
        "pipeline/turns",
        "pipeline/verify",
        "sandbox",
    ),
    "report": (),
}
_SECTIONS = {
    "sft": ("sft",),
    "collect": ("collect", "taste"),
    "reward": ("reward",),
    "preference": ("preference",),
    "ppo": ("ppo",),
    "online": ("online", "rewards"),
    "evaluate": ("evaluate", "rewards", "taste"),
    "report": (),
}
_NEEDS = {
    "sft": (),
    "collect": ("sft",),
    "reward": ("sft", "collect"),
    "preference": ("sft", "collect"),
    "ppo": ("sft", "reward"),
    "online": ("sft", "reward"),
    "evaluate": ("sft", "reward", "preference", "ppo", "online"),
    "report": (),
}
_FROM_SFT = ("collect", "reward", "preference", "ppo", "online")
_ALWAYS_NEEDED = {"ppo": ("reward",)}
"""Stages without which another cannot be run; any other may be left out of a recipe, and its successor starts further back."""
_ROUNDS = ("generation", "annotation", "rewards/taste", "pipeline/collect", "pipeline/sampling")
"""Code that preference optimisation runs too where it has more than one round."""


def run(
    recipe: Recipe,
    *,
    out: str | Path | None = None,
    until: str | None = None,
    only: str | None = None,
    fork: str | Path | None = None,
    memory_check: bool = True,
    say: Callable[[str], None] = lambda _: None,
    progress: Callable[[str], Any] = lambda _: None,
) -> Path:
    """Run a recipe's stages and return the run's folder; what is done already is not done again.

    Args:
        recipe: see `burnish.config.schema.Recipe`.
        out: the run's folder; by default `runs/NAME`.
        until: stop after this stage.
        only: run this stage alone; those it needs must be done.
        fork: copy the stages that still fit from this run's folder into a new `out` first.
        memory_check: refuse a run whose plan needs more memory than is free.
        say: shows a line to the person watching.
        progress: makes what a stage's trainer reports its steps to.

    Raises UserError when the folder holds a run that was made with another configuration, saying what differs, and when
    the run cannot fit the memory, saying which settings would.
    """
    folder = Path("runs") / recipe.name if out is None else folder_named(out, "out")
    source = None if fork is None else folder_named(fork, "fork")
    _set_threads(recipe)
    with run_lock(folder):
        clean_leftovers(folder)
        recipe = dated(recipe, folder, source)
        if source is not None:
            _fork(recipe, source=source, target=folder, say=say)
        context = Context(recipe, folder, say, progress)
        wanted = _wanted(context, until=until, only=only)
        require_sources(recipe, wanted)
        plans = {stage: _inputs(context, stage) for stage in wanted}
        for stage in wanted:
            _refuse_changed(context, stage, plans[stage])
        left = [stage for stage in wanted if not _is_done(context, stage)]
        _verify_kept(context, wanted, left)
        if recipe.data.store is not None and any(_reads_store(recipe, stage) for stage in wanted):
            freeze(context.stored, folder)
        if left:
            preflight.check(context, left)
        _check_memory(context, wanted, refuse=memory_check)
        write_text(folder / "recipe.yaml", dump_yaml(recipe))
        manifest = {
            "burnish": burnish.__version__, "environment": environment(), "seed": recipe.seed, "inputs": plans,
            "recipe_sha256": file_hash(folder / "recipe.yaml"),
        }  # fmt: skip
        write_sealed(folder / "manifest.json", manifest)
        for stage in wanted:
            _run_stage(context, stage, plans[stage])
    return folder


def folder_named(name: str | Path, argument: str) -> Path:
    """The folder that an argument names, as text or as a path. Raises UserError where it cannot be a folder's name."""
    text = str(name)
    if not isinstance(name, str | Path) or not text.strip() or not text.isprintable():
        raise UserError(f"{argument} is no folder's name: {show(text)}.", hint="Give a path, for instance runs/first.")
    return Path(name)


def stages_of(recipe: Recipe) -> tuple[str, ...]:
    """The recipe's stages in the order they run; nothing is collected where people's comparisons are given."""
    given = recipe.data.labelled
    return tuple(s for s in STAGES if s in recipe.stages and not (s == "collect" and given))


def _wanted(context: Context, *, until: str | None, only: str | None) -> tuple[str, ...]:
    stages = stages_of(context.recipe)
    asked = only or until
    if asked is not None and asked not in stages:
        raise UserError(f'this recipe has no stage "{asked}".', hint=f"It has: {', '.join(stages)}.")
    if only is not None:
        needed = [s for s in _needs(context.recipe, only) if s in stages or s in _ALWAYS_NEEDED.get(only, ())]
        missing = [s for s in needed if not _is_done(context, s)]
        if missing:
            raise UserError(
                f"the stage {only} needs {' and '.join(missing)} first.",
                file=context.folder,
                hint=f"Run `burnish {missing[0]}` or `burnish run`.",
            )
        return (only,)
    return stages[: stages.index(until) + 1] if until is not None else stages


def stages_with(stage: str, folder: Path) -> tuple[str, ...]:
    """What a command that runs `stage` without a recipe takes the recipe's stages to be: those that are done in the run's
    folder, and the stage itself. So DPO starts from the folder's SFT model, or, where there is none, from the model as it is.
    """
    return tuple(s for s in STAGES if s == stage or (s != "report" and (folder / s / "stage.json").exists()))


def _is_done(context: Context, stage: str) -> bool:
    return StageRecord.read(_record_path(context, stage)) is not None


def _verify_kept(context: Context, wanted: Sequence[str], left: Sequence[str]) -> None:
    """Refuse to build on files of finished stages that were changed since; each is looked at once in a run."""
    read = {needed for stage in left for needed in _needs(context.recipe, stage)}
    for stage in STAGES:
        record = StageRecord.read(_record_path(context, stage))
        if record is None or stage == "report":
            continue
        if stage in read:
            verify(context.stage(stage), record)
        elif "report" in wanted:
            verify(context.stage(stage), record, parts=("result.json",))


def _check_memory(context: Context, stages: tuple[str, ...], *, refuse: bool) -> None:
    """Say what the stages that are still to be done will need; refuse them if that is more than there is."""
    left = [s for s in stages if s != "report" and not _is_done(context, s)]
    if not left:
        return
    recipe = context.recipe
    if recipe.data.store is not None and not any(
        _reads_store(recipe, stage) for stage in left
    ):  # nobody need have labelled anything yet
        unlabelled = recipe.data.model_copy(update={"store": None, "project": None})
        recipe = recipe.model_copy(update={"data": unlabelled})
        context = Context(recipe, context.folder, context.say)
    shape, data = shape_of(recipe.model.name, say=context.say), data_size(context)
    machine = this_machine(context.device, products=recipe.model.products, seconds=0.1)
    plan = make_plan(recipe, shape, data, machine, stages=left)
    context.say(summary(plan))
    if refuse:
        refuse_what_cannot_fit(plan, recipe, shape, data, machine)


def _run_stage(context: Context, stage: str, inputs: Mapping[str, Any]) -> None:
    path = _record_path(context, stage)
    mark = fingerprint(inputs)
    if StageRecord.read(path) is not None and stage != "report":
        context.say(f"{stage}: done already")
        return
    context.say(f"{stage}: starting")
    if stage in _FROM_SFT and not (context.stage("sft") / "model").is_dir():
        context.say(f"{stage}: there is no SFT model, so it starts from {context.recipe.model.name} as it is")
    folder = context.stage(stage)
    recover(folder / "model")
    clear_if_nothing_was_made(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _, earlier = begun(folder)
    begin(folder, inputs, seconds=earlier)
    reset_peak_memory()
    reset_peak()
    start = time.perf_counter()
    try:
        import_module(f"burnish.pipeline.{stage}").run(context)
        context.dropped = {}  # written down in the stage's result
    except SystemExit as error:
        raise UserError(
            f"code that the stage {stage} ran ended the process (exit {error.code}), so the stage is not done.",
            hint="Look for sys.exit() or exit() in your reward, environment or tracker, and raise an error there instead.",
        ) from error
    finally:
        seconds = earlier + time.perf_counter() - start
        begin(folder, inputs, seconds=seconds)
        release_memory()
    peak = peak_gb()
    record = StageRecord(
        stage,
        mark,
        inputs,
        round(seconds, 2),
        round(peak_memory_gb() if peak is None else peak, 3),
        datetime.now(UTC).isoformat(timespec="seconds"),
        checksums(folder),
    )
    record.write(path)
    where = "" if peak is None else " of the GPU"
    context.say(f"{stage}: done in {seconds:.0f} s, at most {record.peak_memory_gb:.1f} GB{where}")


def _inputs(context: Context, stage: str) -> dict[str, Any]:
    """Everything that a stage's outcome depends on: its fingerprint is the hash of this."""
    recipe = context.recipe
    config = recipe.model_dump(mode="json")
    hashes = {name: _source_hash(config["data"][name]) for name in ("demonstrations", "prompts", "comparisons")}
    if recipe.data.store is not None and _reads_store(recipe, stage):
        hashes["store"] = context.stored.hash
    data = config["data"] | {"hashes": hashes}
    present = stages_of(recipe)
    iterated = stage == "preference" and recipe.preference.rounds > 1
    return {
        "seed": recipe.seed,
        "model": config["model"] | _template_hash(recipe) | context.model_contents,
        "data": data,
        **{name: config[name] for name in (*_SECTIONS[stage], *(("collect", "taste") if iterated else ()))},
        "code": {
            **{room: code_hash(_PACKAGE, [room]) for room in (*_CODE[stage], *(_ROUNDS if iterated else ()))},
            **(_users_code(recipe) if "rewards" in _SECTIONS[stage] else {}),
        },
        "after": {name: fingerprint(_inputs(context, name)) for name in _needs(recipe, stage) if name in present},
    }


def _template_hash(recipe: Recipe) -> dict[str, str]:
    """The hash of the chat template that the recipe names, which stands for it wherever its file lies."""
    text = template_text(recipe.model)
    return {} if text is None else {"chat_template": fingerprint(text)}


def _users_code(recipe: Recipe) -> dict[str, str]:
    """The hashes of the files that the recipe's own reward functions and environment stand in."""
    named = [one.function for one in recipe.rewards if isinstance(one, PythonReward)]
    if recipe.online.environment is not None and ":" in recipe.online.environment.name:
        named.append(recipe.online.environment.name)
    return {name: file_hash(path) for name in named if (path := file_of(name)) is not None}


def _reads_store(recipe: Recipe, stage: str) -> bool:
    """Whether a stage itself reads the labels, so that new ones change it. What only follows such a stage changes with it,
    and a fork can keep what does not: SFT on demonstrations of its own, say, while the reward model is trained anew."""
    comparisons = stage not in ("sft", "evaluate", "report")
    return comparisons or (stage == "sft" and recipe.data.demonstrations is None) or recipe.data.prompts is None


def _needs(recipe: Recipe, stage: str) -> tuple[str, ...]:
    """The stages that `stage` builds on."""
    judged = stage == "preference" and recipe.preference.rounds > 1 and recipe.preference.online.judge == "reward_model"
    return (*_NEEDS[stage], *(("reward",) if judged else ()))


def _source_hash(source: Any) -> Any:
    """Of the bytes of a local or built-in source; a hub id or a task stands for itself."""
    if source is None:
        return None
    if isinstance(source, list):
        return [_source_hash(one) for one in source]
    if isinstance(source, dict):
        return [_source_hash(source[name]) for name in ("source", "heldout")]
    if source.startswith("builtin:"):
        return file_hash(Path(str(builtin_file(source))))
    files = local_files(source)
    if files is None:
        return source
    place = Path(source).expanduser()
    if files == [place]:
        return file_hash(place)
    return fingerprint({file.relative_to(place).as_posix(): file_hash(file) for file in files})


def _refuse_changed(context: Context, stage: str, inputs: Mapping[str, Any]) -> None:
    """A finished or begun stage whose inputs are no longer the same is never mixed with new ones, and never thrown away."""
    record = StageRecord.read(_record_path(context, stage))
    old = record.inputs if record is not None else begun(context.stage(stage))[0]
    if old is None or fingerprint(old) == fingerprint(inputs) or stage == "report":
        return
    changes = explain_difference(old, inputs)
    shown = "; ".join(changes[:4]) + (f"; and {len(changes) - 4} more" if len(changes) > 4 else "")
    raise UserError(
        f"the stage {stage} was run with other settings ({shown}).",
        file=context.folder,
        hint=f"Nothing was changed. To keep what still fits, run again with --fork {context.folder} --out NEW_FOLDER; to start over, choose another --out.",
    )


def _fork(recipe: Recipe, *, source: Path, target: Path, say: Callable[[str], None]) -> None:
    """Copy the finished stages of `source` that this recipe would make the same way; the first that differs ends it."""
    if not source.is_dir():
        raise UserError("there is no such run to fork from.", file=source)
    if source.resolve() == target.resolve():
        raise UserError("a fork needs a folder of its own.", file=target, hint="Give another --out.")
    old, new = Context(recipe, source), Context(recipe, target)
    for stage in stages_of(recipe):
        record = StageRecord.read(_record_path(old, stage))
        if stage == "report" or record is None or record.fingerprint != fingerprint(_inputs(new, stage)):
            continue
        verify(old.stage(stage), record)
        if not new.stage(stage).exists():
            shutil.copytree(old.stage(stage), new.stage(stage))
            say(f"{stage}: taken over from {source}")


def _record_path(context: Context, stage: str) -> Path:
    return context.stage(stage) / "stage.json"


def _set_threads(recipe: Recipe) -> None:
    import torch

    torch.set_num_threads(recipe.threads or usable_cores())
