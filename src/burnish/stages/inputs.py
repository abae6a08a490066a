"""What a stage's outcome depends on: its settings, what it reads and the code it can reach. Its
fingerprint is the hash of this."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from burnish.config.graph import SOURCES
from burnish.config.kinds import BASE, Input, place_of
from burnish.config.rewards import PythonReward
from burnish.config.sections import Source
from burnish.config.shipped import located
from burnish.data.sources import builtin_file, local_files
from burnish.own_code import file_of
from burnish.rewards.functions import code_of
from burnish.runs.code import Code
from burnish.runs.manifest import file_hash, fingerprint
from burnish.stages.chat_settings import template_text
from burnish.stages.context import Run, Step
from burnish.stages.reading import resolved

NUMBERLESS = ("checkpoint", "eval_every", "micro_batch_tokens", "device", "samples")
"""Settings that change no number that is learnt: how often something is looked at or kept, and what
is computed at once or where."""
_FALLS_BACK = {
    "demonstrations": ("comparisons",),
    "prompts": ("comparisons", "demonstrations"),
    "comparisons": (),
}
"""What is read in place of a source that is not named."""


def inputs_of(step: Step, parents: Mapping[str, str]) -> dict[str, Any]:
    """Everything that a stage's outcome depends on, as JSON holds it.

    Args:
        step: the stage.
        parents: the fingerprints of the stages that it reads, by name.
    """
    node, recipe = step.node, step.recipe
    config = recipe.model_dump(mode="json")
    settings = node.settings.model_dump(mode="json")
    slots = {slot.key for slot in step.row.slots}
    own = {
        name: value for name, value in settings.items() if name not in slots and name not in SOURCES
    }
    inputs: dict[str, Any] = {
        "seed": node.seed,
        "model": _inside(step.run, _counting(config["model"]))
        | _template_hash(step.run)
        | _contents(step.run),
        "settings": _counting(own),
        "data": _data(step),
        "reads": {
            key: [_mark(step.run, one, parents) for one in artifacts]
            for key, artifacts in node.inputs.items()
        },
        "code": {} if step.row.always else _code(step),
        "own_code": _users_code(step),
        "texts": _texts(step),
    }
    if step.row.of_taste(step.settings):
        inputs["taste"] = config["taste"]
    return inputs


def reads_store(step: Step) -> bool:
    """Whether a stage itself reads the labels of the recipe's store, so that new ones change it.
    What only follows such a stage changes with it, and a fork can keep what does not: SFT on
    demonstrations of its own, say, while the reward model is trained anew."""
    return step.node.data.store is not None and "comparisons" in _sources(step)


def _counting(settings: Any) -> Any:
    """Settings without those that change no number."""
    if isinstance(settings, dict):
        return {
            name: _counting(value) for name, value in settings.items() if name not in NUMBERLESS
        }
    return [_counting(value) for value in settings] if isinstance(settings, list) else settings


def _sources(step: Step) -> set[str]:
    """Which of the recipe's sources the stage reads, `comparisons` standing for a store too."""
    data = step.node.data
    wanted = [*step.row.sources, *step.row.wants(step.settings)]
    found = set[str]()
    while wanted:
        key = wanted.pop()
        if any(one.stage is not None for one in step.node.inputs.get(key, ())) or key in found:
            continue
        found.add(key)
        if getattr(data, key) is None:
            wanted += _FALLS_BACK[key]
    return found


def _data(step: Step) -> dict[str, Any]:
    """How data is read, and the contents of what is."""
    data = step.node.data.model_dump(mode="json")
    read = _sources(step)
    options = {
        name: value for name, value in data.items() if name not in (*SOURCES, "store", "project")
    }
    # what one source holds out, no other trains on: where one is read, each of them counts
    hashes = {
        name: step.run.once(data[name], source_hash)
        for name in SOURCES
        if read and data[name] is not None
    }
    found = {
        **options,
        **{name: _inside(step.run, data[name]) for name in hashes},
        "hashes": hashes,
    }
    if reads_store(step):
        found |= {"store": data["store"], "project": data["project"]}
        hashes["store"] = step.run.stored.hash
    return found


def _inside(run: Run, named: Any) -> Any:
    """Paths of what stands in the run's own folder as seen from there: a fork has the same files in
    another folder."""
    if isinstance(named, Mapping):
        return {name: _inside(run, value) for name, value in named.items()}
    if isinstance(named, list):
        return [_inside(run, value) for value in named]
    inside = isinstance(named, str) and named.startswith(f"{run.folder}{os.sep}")
    return Path(named).relative_to(run.folder).as_posix() if inside else named


def _mark(run: Run, artifact: Input, parents: Mapping[str, str]) -> str:
    """What stands for an artifact: the fingerprint of the stage that made it, or the contents of a
    folder."""
    if artifact.stage is not None:
        return parents[artifact.stage]
    if artifact.outside == BASE:
        return BASE
    reference = run.reference(artifact)
    return run.contents(reference) or reference


def _contents(run: Run) -> dict[str, dict[str, str]]:
    """What stands in the recipe's model; nothing for what is no folder here."""
    found = run.contents(run.recipe.model.name)
    return {"contents": {"name": found}} if found else {}


def _template_hash(run: Run) -> dict[str, str]:
    """The hash of the chat template that the recipe names, which stands for it wherever its file
    lies."""
    text = template_text(run.recipe.model)
    return {} if text is None else {"chat_template": fingerprint(text)}


def _texts(step: Step) -> dict[str, str]:
    """The hashes of the constitutions and other files that the stage reads; one that is not there
    is an error where it is read."""
    named = [*step.row.texts(step.settings), *step.row.files(step.settings)]
    return {
        name: file_hash(path)
        for name in named
        if (path := located(Path(name).expanduser())).is_file()
    }


def _users_code(step: Step) -> dict[str, str]:
    """The hashes of the files that the recipe's own code stands in: its kind, rewards, environment,
    loss and algorithm."""
    settings = step.settings
    watch = getattr(getattr(settings, "watch", None), "judge", None)
    rewards = [*(getattr(settings, "rewards", None) or ()), *getattr(watch, "rewards", ())]
    named = [one.function for one in rewards if isinstance(one, PythonReward)]
    tables = (getattr(settings, key, None) for key in ("environment", "loss", "algorithm"))
    named += [table.name for table in tables if table is not None and ":" in table.name]
    found = {name: file_hash(path) for name in named if (path := file_of(name)) is not None}
    found |= {name: fingerprint(code) for name in named if (code := code_of(name)) is not None}
    return found | {name: file_hash(path) for name, path in _files_of_its_kind(step).items()}


def _files_of_its_kind(step: Step) -> dict[str, Path]:
    """The files of a kind that is not Burnish's: that of its row, and that of what runs it."""
    kind, run = step.node.kind, step.row.run
    place = place_of(kind)
    named = {} if place is None else {kind: place}
    if isinstance(run, str) and not run.startswith("burnish."):
        named[run] = run
    return {name: path for name, code in named.items() if (path := file_of(code)) is not None}


def _code(step: Step) -> dict[str, str]:
    """The hash of every module of the package that what runs the stage reaches."""
    run, found = step.row.run, dict[str, str]()
    if isinstance(run, str) and run.startswith("burnish."):
        found |= _reached(run)
    for path in _files_of_its_kind(step).values():
        found |= _sources_of_package().hashes_from(path)
    return found


@cache
def _sources_of_package() -> Code:
    return Code(Path(__file__).parents[1])


@cache
def _reached(run: str) -> dict[str, str]:
    return _sources_of_package().hashes(run.partition(":")[0].removeprefix("burnish."))


def source_hash(source: Any) -> Any:
    """Of the bytes of a local or built-in source; a hub id or a task stands for itself."""
    if source is None:
        return None
    if isinstance(source, Sequence) and not isinstance(source, str):
        return [source_hash(one) for one in source]
    if isinstance(source, dict):
        if source.get("dataset") is not None:
            source = resolved(Source.model_validate(source)).model_dump(mode="json")
        return [source_hash(source[name]) for name in ("source", "heldout")]
    if source.startswith("builtin:"):
        return file_hash(Path(str(builtin_file(source))))
    files = local_files(source)
    if files is None:
        return source
    place = Path(source).expanduser()
    if files == [place]:
        return file_hash(place)
    return fingerprint({file.relative_to(place).as_posix(): file_hash(file) for file in files})
