"""From a recipe's stages to a graph: what each reads, with types checked and what was left out
filled in. Torch-free."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from burnish.config.bounds import MOST_SEED
from burnish.config.hints import nearest
from burnish.config.kinds import BASE, KINDS, Artifact, Input, Inputs, Slot
from burnish.config.narrow import is_tuple
from burnish.config.recipe import Recipe
from burnish.config.rewards import ModelReward
from burnish.config.schema import Data
from burnish.config.sections import Section
from burnish.errors import UserError, shown

PREVIOUS = "previous"
_SEED_STRIDE = 1_000_003

SOURCES = ("demonstrations", "prompts", "comparisons")
"""The keys that name sources of data, in the recipe's section `data` and in stages."""
CALLED = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9_.+-]*)=(?P<reference>.+)")
"""NAME=REFERENCE, of the models of an evaluation."""
_SUFFIXES = (".jsonl", ".json", ".parquet", ".gz", ".csv")


@dataclass(frozen=True, slots=True)
class Node:
    """A stage of a recipe with everything it reads.

    Args:
        name: the stage's, and its folder's.
        kind: a key of `kinds.KINDS`.
        settings: its section.
        inputs: what stands in each slot, by the slot's key; `rewards.0` and the like for reward
            models among rewards.
        data: the recipe's, with the sources that this stage names or inherits from the newest stage
            before it that names some.
        seed: what its random numbers follow from; different for stages of one kind.
        makes: the type of what it makes; None: nothing that a stage reads.
    """

    name: str
    kind: str
    settings: Any
    inputs: Inputs
    data: Data
    seed: int
    makes: Artifact | None

    @property
    def parents(self) -> tuple[str, ...]:
        """The stages it reads, each once."""
        names = (
            one.stage for inputs in self.inputs.values() for one in inputs if one.stage is not None
        )
        return tuple(dict.fromkeys(names))

    def input(self, key: str) -> Input | None:
        """What stands in a slot for one; None: nothing."""
        return next(iter(self.inputs.get(key, ())), None)


@dataclass(frozen=True)
class Graph:
    """The stages of a recipe in the order they run."""

    nodes: Mapping[str, Node]

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def ancestors(self, name: str) -> tuple[str, ...]:
        """Every stage that `name` rests on, in the order they run."""
        wanted, waiting = set[str](), [name]
        while waiting:
            new = set(self.nodes[waiting.pop()].parents) - wanted
            wanted |= new
            waiting += new
        return tuple(one for one in self.nodes if one in wanted)


Locate = Callable[[tuple[str, ...]], tuple[str | None, int | None]]
"""(file, line) of the place of a key in the recipe."""


def graph_of(recipe: Recipe, locate: Locate = lambda _: (None, None)) -> Graph:
    """What each stage of a recipe reads.

    Raises UserError naming the line and the stage where a reference is unknown, comes later, or is
    of the wrong type, and where a stage has nothing to read; it says what would fit.
    """
    resolver = _Resolver(recipe, locate)
    for name in recipe.stages:
        resolver.add(name)
    return Graph(resolver.nodes)


@dataclass
class _Resolver:
    recipe: Recipe
    locate: Locate
    nodes: dict[str, Node] = field(default_factory=dict[str, Node])

    def add(self, name: str) -> None:
        settings = self.recipe.stages[name]
        kind, before = settings.kind, tuple(self.nodes.values())
        row = KINDS[kind]
        settings = settings if row.inherit is None else row.inherit(settings, before)
        data = self._data(settings)
        inputs: dict[str, tuple[Input, ...]] = {}
        for slot in row.slots:
            inputs[slot.key] = self._fill(name, slot, settings, inputs)
        inputs |= self._rewards(name, settings)
        for slot, reference in () if row.nested is None else row.nested(settings):
            found = self._find(name, slot, reference, 0)
            inputs[slot.key] = () if found is None else (found,)
        ordinal = sum(node.kind == kind for node in self.nodes.values())
        seed = (self.recipe.seed + ordinal * _SEED_STRIDE) % (MOST_SEED + 1)
        makes = (
            row.makes
            if row.made is None
            else row.made(settings, inputs, lambda stage: self.nodes[stage].makes)
        )
        self.nodes[name] = Node(name, kind, settings, inputs, data, seed, makes)

    def _data(self, settings: Section) -> Data:
        """The recipe's data with what this stage, or the newest stage before it, names as a source,
        where that is not its own."""
        before = next(
            (node for node in reversed(self.nodes.values()) if not KINDS[node.kind].own_sources),
            None,
        )
        data = self.recipe.data if before is None else before.data
        changes: dict[str, Any] = {}
        for key in SOURCES:
            given = getattr(settings, key, None)
            if given is not None and not self._is_stage(given):
                changes[key] = given
        return data.model_copy(update=changes) if changes else data

    def _is_stage(self, given: Any) -> bool:
        return isinstance(given, str) and (given in self.recipe.stages or not _looks_outside(given))

    def _fill(self, name: str, slot: Slot, settings: Section, filled: Inputs) -> tuple[Input, ...]:
        given = getattr(settings, slot.key)
        if slot.unless(settings):
            return ()
        if given is not None:
            references = given if is_tuple(given) else (given,)
            found = [
                self._find(name, slot, one, position) for position, one in enumerate(references)
            ]
            artifacts = tuple(one for one in found if one is not None)
            if slot.otherwise == "data" and artifacts and len(found) > 1:
                raise self._mixed(name, slot, artifacts[0].shown)
            return artifacts
        if slot.empty(settings):
            return ()
        default = (
            None
            if slot.default is None
            else slot.default(settings, tuple(self.nodes.values()), filled)
        )
        if default is not None:
            return default
        newest = self._newest(slot.takes, self.nodes)
        return self._otherwise(name, slot) if newest is None else (newest,)

    def _mixed(self, name: str, slot: Slot, stage: str) -> UserError:
        file, line = self.locate(("stages", name, slot.key))
        problem = f"a list is of sources, and {stage} is a stage."
        hint = (
            f"Give {stage} alone, or its file and the others: runs/NAME/{stage}/{slot.key}.jsonl."
        )
        return UserError(problem, file=file, row=line, field=f"stages.{name}.{slot.key}", hint=hint)

    def _otherwise(self, name: str, slot: Slot) -> tuple[Input, ...]:
        """What stands in a slot where no stage before has made what fits."""
        if slot.otherwise == "base":
            return (Input(outside=BASE),)
        if slot.otherwise in ("nothing", "data"):
            return ()
        takes = slot.takes[0]
        makers = [kind for kind, row in KINDS.items() if row.makes == takes]
        file, line = self.locate(("stages", name))
        raise UserError(
            f"the stage {name} needs {_noun(takes)}, and no stage before it makes one.",
            file=file,
            row=line,
            field=f"stages.{name}.{slot.key}",
            hint=(
                f"Put a stage of the kind {' or '.join(makers)} before it, or set"
                f" {name}.{slot.key}."
            ),
        )

    def _find(self, name: str, slot: Slot, reference: Any, position: int) -> Input | None:
        """What a reference of the stage `name` means; None: a source of data, which is read as
        such."""
        place = ("stages", name, *slot.key.split("."), *((str(position),) if slot.many else ()))
        if not isinstance(reference, str):
            return None
        if reference == BASE and "Policy" in slot.takes:
            return Input(outside=BASE)
        called = CALLED.match(reference)
        if called is not None and slot.named and reference not in self.nodes:
            meant = self._find(name, slot, called["reference"], position)
            return None if meant is None else replace(meant, name=called["name"])
        found = self._stage_called(name, reference, slot.takes)
        if found is not None and found.makes in slot.takes:
            return Input(stage=found.name)
        if found is None and self._means_what_was_before(name, reference):
            before = self._before_the_rounds(name, slot.takes)
            if before is not None or slot.otherwise == "base":
                return before or Input(outside=BASE)
        if found is None and _looks_outside(reference):
            return None if slot.otherwise == "data" else Input(outside=reference)
        raise self._unfit(name, slot, reference, found, place)

    def _stage_called(self, name: str, reference: str, takes: Sequence[Artifact]) -> Node | None:
        """The stage before `name` that a reference means: of its own round first, then outside."""
        rounds, here = name.rpartition(".")[0], _round_of(name)
        if here and reference.split(".")[0] == PREVIOUS:
            before, wanted = f"{here[0]}.{here[1] - 1}.", reference.partition(".")[2]
            inside = {key: node for key, node in self.nodes.items() if key.startswith(before)}
            if wanted:
                return inside.get(before + wanted)
            newest = self._newest(takes, inside)
            return None if newest is None or newest.stage is None else self.nodes[newest.stage]
        while rounds:
            if f"{rounds}.{reference}" in self.nodes:
                return self.nodes[f"{rounds}.{reference}"]
            rounds = rounds.rpartition(".")[0]
        if reference in self.nodes:
            return self.nodes[reference]
        group, _, inner = reference.rpartition(".")
        last = [key for key in self.nodes if group and _in_some_round(key, group, inner)]
        return self.nodes[last[-1]] if last else None

    def _means_what_was_before(self, name: str, reference: str) -> bool:
        """Whether `previous` leads out of the rounds: in the first of them, or where none of them
        makes what fits."""
        head, _, wanted = reference.partition(".")
        group, number = _round_of(name) or ("", 0)
        if head != PREVIOUS or not number:
            return False
        return not wanted or (number == 1 and f"{group}.1.{wanted}" in self.recipe.stages)

    def _before_the_rounds(self, name: str, takes: Sequence[Artifact]) -> Input | None:
        group = name.rpartition(".")[0].rpartition(".")[0]
        before = {key: node for key, node in self.nodes.items() if not key.startswith(f"{group}.")}
        return self._newest(takes, before)

    def _newest(self, takes: Sequence[Artifact], nodes: Mapping[str, Node]) -> Input | None:
        fitting = [node.name for node in nodes.values() if node.makes in takes]
        return Input(stage=fitting[-1]) if fitting else None

    def _of_type(self, takes: Sequence[Artifact]) -> list[Node]:
        return [node for node in self.nodes.values() if node.makes in takes]

    def _rewards(self, name: str, settings: Section) -> dict[str, tuple[Input, ...]]:
        """The reward models that a stage's rewards name."""
        found: dict[str, tuple[Input, ...]] = {}
        rewards: tuple[Any, ...] = getattr(settings, "rewards", None) or ()
        for position, one in enumerate(rewards):
            if isinstance(one, ModelReward):
                slot = Slot(f"rewards.{position}.model", ("RewardModel",))
                given = None if one.model is None else self._find(name, slot, one.model, 0)
                newest = given or self._newest(slot.takes, self.nodes)
                found[f"rewards.{position}"] = (newest,) if newest else self._otherwise(name, slot)
        return found

    def _unfit(
        self, name: str, slot: Slot, reference: str, found: Node | None, place: tuple[str, ...]
    ) -> UserError:
        file, line = self.locate(place)
        takes = " or ".join(_noun(one) for one in slot.takes)
        fitting = [node.name for node in self._of_type(slot.takes)]
        fits = ", ".join([*fitting, *([BASE] if "Policy" in slot.takes else [])])
        outside = "a path or a hub id" if slot.otherwise == "data" else "a folder"
        hint = f"Fits: {fits}{', or ' if fits else ''}{outside}."
        if found is not None:
            made = "nothing" if found.makes is None else _noun(found.makes)
            problem = f"the stage {name} needs {takes} here, and {reference} makes {made}."
        elif reference == name:
            problem = f"the stage {name} cannot read what it makes itself."
        elif reference in self.recipe.stages:
            problem = f"the stage {reference} comes after {name}, so it cannot be read here."
        elif reference.split(".")[0] == PREVIOUS and not _round_of(name):
            problem = f"previous is the round before, and the stage {name} stands in no rounds."
        else:
            problem = f'there is no stage "{shown(reference)}" before {name}.'
            near = nearest(reference, [*self.nodes, BASE])
            hint = f'Did you mean "{near}"? {hint}' if near else hint
        return UserError(problem, file=file, row=line, field=".".join(place), hint=hint)


def _round_of(name: str) -> tuple[str, int] | None:
    """(rounds, number of the round) that a stage stands in, the innermost; None: it stands in
    none."""
    group, _, number = name.rpartition(".")[0].rpartition(".")
    return (group, int(number)) if group else None


def _in_some_round(key: str, group: str, inner: str) -> bool:
    prefix, _, rest = key.partition(f"{group}.")
    number, _, own = rest.partition(".")
    return prefix == "" and number.isdecimal() and own == inner


def _looks_outside(reference: str) -> bool:
    """Whether a text names a folder, a file, a hub id, a built-in source or a shipped model rather
    than a stage."""
    if any(sign in reference for sign in "/:\\~") or Path(reference).suffix in _SUFFIXES:
        return True
    try:
        return reference in ("smollm2-135m", "tiny") or Path(reference).exists()
    except (OSError, ValueError):
        return False  # no file's name


def _noun(artifact: Artifact) -> str:
    return {
        "Policy": "a policy", "RewardModel": "a reward model", "Demonstrations": "demonstrations",
        "Answers": "answers",
        "Comparisons": "comparisons", "Evaluation": "an evaluation",
    }[artifact]  # fmt: skip
