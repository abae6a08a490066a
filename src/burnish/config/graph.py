"""From a recipe's stages to a graph: what each reads, with types checked and what was left out filled in. Torch-free."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from burnish.config.bounds import MOST_SEED
from burnish.config.hints import nearest
from burnish.config.making import Compare, Merge, Revise, Sample, Select
from burnish.config.online import Online
from burnish.config.preference import Preference
from burnish.config.recipe import Recipe
from burnish.config.rewards import ModelReward
from burnish.config.schema import Data, Evaluate, Report, RewardModel, Sft
from burnish.config.sections import Section
from burnish.errors import UserError, shown

Artifact = Literal["Policy", "RewardModel", "Demonstrations", "Answers", "Comparisons", "Evaluation"]
BASE, PREVIOUS = "base", "previous"
_SEED_STRIDE = 1_000_003


@dataclass(frozen=True, slots=True)
class Input:
    """One artifact that a stage reads: that of a `stage`, or, where `stage` is None, `outside`: base, a folder, a hub id."""

    stage: str | None = None
    outside: str | None = None

    @property
    def shown(self) -> str:
        """As the recipe would name it."""
        return self.stage or self.outside or BASE


@dataclass(frozen=True, slots=True)
class Slot:
    """A key of a kind's section that names an artifact.

    Where the recipe leaves it out it is the newest of its type before the stage; where there is none, `otherwise` says what: base,
    nothing, a source of data, or an error.
    """

    key: str
    takes: tuple[Artifact, ...]
    otherwise: Literal["base", "nothing", "data", "error"] = "error"
    many: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of stage, as the graph sees it: the artifacts that it reads, what it makes, and the recipe's own data that it reads
    besides, or where no stage makes it."""

    section: type[Section]
    slots: tuple[Slot, ...] = ()
    makes: Artifact | None = None
    sources: tuple[str, ...] = ()


SOURCES = ("demonstrations", "prompts", "comparisons")
"""The keys that name sources of data, in the recipe's section `data` and in stages."""
_START = Slot("start", ("Policy",), "base")
KINDS: dict[str, Kind] = {
    "sft": Kind(Sft, (_START, Slot("demonstrations", ("Demonstrations",), "data")), "Policy", ("demonstrations",)),
    "sample": Kind(Sample, (Slot("models", ("Policy",), "base", many=True),), "Answers", ("prompts",)),
    "compare": Kind(Compare, (Slot("answers", ("Answers",)),), "Comparisons"),
    "select": Kind(
        Select,
        (Slot("answers", ("Answers",)), Slot("reward", ("RewardModel",), "nothing")),
        "Demonstrations",
    ),
    "revise": Kind(Revise, (Slot("model", ("Policy",), "base"),), "Demonstrations", ("prompts",)),
    "merge": Kind(Merge, (Slot("models", ("Policy", "RewardModel"), many=True),), "Policy"),
    "reward": Kind(
        RewardModel,
        (_START, Slot("comparisons", ("Comparisons",), "data")),
        "RewardModel",
        ("comparisons", "prompts"),
    ),
    "preference": Kind(
        Preference,
        (_START, Slot("reference", ("Policy",), "base"), Slot("comparisons", ("Comparisons",), "data")),
        "Policy",
        ("comparisons",),
    ),
    "online": Kind(
        Online,
        (
            _START,
            Slot("reference", ("Policy",), "base"),
            Slot("reward", ("RewardModel",), "nothing"),
            Slot("demonstrations", ("Demonstrations",), "data"),
        ),
        "Policy",
        ("prompts",),
    ),
    "evaluate": Kind(
        Evaluate,
        (
            Slot("models", ("Policy",), "base", many=True),
            Slot("reference", ("Policy",), "base"),
            Slot("reward", ("RewardModel",), "nothing"),
        ),
        "Evaluation",
        ("prompts",),
    ),
    "report": Kind(Report),
}
_SUFFIXES = (".jsonl", ".json", ".parquet", ".gz", ".csv")
_MAKERS: dict[Artifact, str] = {
    "RewardModel": "reward",
    "Answers": "sample",
    "Comparisons": "compare",
    "Demonstrations": "select",
}
"""The kind of stage to add where an artifact is missing."""


@dataclass(frozen=True, slots=True)
class Node:
    """A stage of a recipe with everything it reads.

    Args:
        name: the stage's, and its folder's.
        kind: a key of `KINDS`.
        settings: its section.
        inputs: what stands in each slot, by the slot's key; `rewards.0` and the like for reward models among rewards.
        data: the recipe's, with the sources that this stage names or inherits from the newest stage before it that names some.
        seed: what its random numbers follow from; different for stages of one kind.
        makes: the type of what it makes; None: nothing that a stage reads.
    """

    name: str
    kind: str
    settings: Any
    inputs: Mapping[str, tuple[Input, ...]]
    data: Data
    seed: int
    makes: Artifact | None

    @property
    def parents(self) -> tuple[str, ...]:
        """The stages it reads, each once."""
        names = (one.stage for inputs in self.inputs.values() for one in inputs if one.stage is not None)
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

    def of_kind(self, *kinds: str) -> tuple[Node, ...]:
        """The stages of these kinds, in order."""
        return tuple(node for node in self if node.kind in kinds)


Locate = Callable[[tuple[str, ...]], tuple[str | None, int | None]]
"""(file, line) of the place of a key in the recipe."""


def graph_of(recipe: Recipe, locate: Locate = lambda _: (None, None)) -> Graph:
    """What each stage of a recipe reads.

    Raises UserError naming the line and the stage where a reference is unknown, comes later, or is of the wrong type, and
    where a stage has nothing to read; it says what would fit.
    """
    resolver = _Resolver(recipe, locate)
    for name in recipe.stages:
        resolver.add(name)
    return Graph(resolver.nodes)


@dataclass
class _Resolver:
    recipe: Recipe
    locate: Locate
    nodes: dict[str, Node] = field(default_factory=dict)

    def add(self, name: str) -> None:
        settings = self._inherited(self.recipe.stages[name])
        kind = settings.kind
        data = self._data(settings)
        inputs: dict[str, tuple[Input, ...]] = {}
        for slot in KINDS[kind].slots:
            inputs[slot.key] = self._fill(name, slot, settings, inputs)
        inputs |= self._rewards(name, settings) | self._judges(name, settings)
        ordinal = sum(node.kind == kind for node in self.nodes.values())
        seed = (self.recipe.seed + ordinal * _SEED_STRIDE) % (MOST_SEED + 1)
        self.nodes[name] = Node(name, kind, settings, inputs, data, seed, self._makes(settings, inputs))

    def _makes(self, settings: Any, inputs: Mapping[str, tuple[Input, ...]]) -> Artifact | None:
        """What a stage makes, where that depends on its settings or on what it reads."""
        if isinstance(settings, Select) and settings.make == "pairs":
            return "Comparisons"
        if isinstance(settings, Merge):
            first = inputs["models"][0]
            if first.stage is not None:
                return self.nodes[first.stage].makes
            return "RewardModel" if (Path(first.outside or "") / "head.safetensors").is_file() else "Policy"
        return KINDS[settings.kind].makes

    def _inherited(self, settings: Any) -> Any:
        """An evaluation that names no judge has that of the newest stage before it that was trained on rewards."""
        if not isinstance(settings, Evaluate) or settings.rewards is not None or settings.environment is not None:
            return settings
        trained = [
            node
            for node in self.nodes.values()
            if isinstance(node.settings, Online) and (node.settings.rewards or node.settings.environment)
        ]
        if not trained:
            return settings
        last = trained[-1].settings
        judges = tuple(
            one.model_copy(update={"model": trained[-1].inputs[f"rewards.{position}"][0].shown})
            if isinstance(one, ModelReward)
            else one
            for position, one in enumerate(last.rewards)
        )
        return settings.model_copy(update={"rewards": judges, "environment": last.environment, "pass_at": last.pass_at})

    def _data(self, settings: Section) -> Data:
        """The recipe's data with what this stage, or the newest stage before it, names as a source. What an evaluation asks is
        its own."""
        before = next((node for node in reversed(self.nodes.values()) if node.kind != "evaluate"), None)
        data = self.recipe.data if before is None else before.data
        changes = {}
        for key in SOURCES:
            given = getattr(settings, key, None)
            if given is not None and not self._is_stage(given):
                changes[key] = given
        return data.model_copy(update=changes) if changes else data

    def _is_stage(self, given: Any) -> bool:
        return isinstance(given, str) and (given in self.recipe.stages or not _looks_outside(given))

    def _fill(
        self, name: str, slot: Slot, settings: Section, filled: Mapping[str, tuple[Input, ...]]
    ) -> tuple[Input, ...]:
        given = getattr(settings, slot.key)
        if isinstance(settings, Revise) and settings.endpoint is not None:
            return ()  # the model's name there
        if given is not None:
            references = given if isinstance(given, tuple) else (given,)
            found = (self._find(name, slot, one, position) for position, one in enumerate(references))
            return tuple(one for one in found if one is not None)
        if stays_empty(settings, slot.key):
            return ()
        if slot.key == "reference":
            return self._held_to(settings, filled)
        if isinstance(settings, Evaluate) and slot.many:
            base = (Input(outside=BASE),) if settings.base else ()
            return (*base, *(Input(stage=node.name) for node in self._of_type(slot.takes)))
        newest = self._newest(slot.takes, self.nodes)
        if newest is not None:
            return (newest,)
        return self._otherwise(name, slot)

    def _held_to(self, settings: Section, filled: Mapping[str, tuple[Input, ...]]) -> tuple[Input, ...]:
        """What a policy is held to, or measured from, where the recipe does not say."""
        if not isinstance(settings, Evaluate):
            return filled["start"]
        first = next((node.name for node in self.nodes.values() if node.kind == "sft"), None)
        return (Input(outside=BASE) if first is None else Input(stage=first),)

    def _otherwise(self, name: str, slot: Slot) -> tuple[Input, ...]:
        """What stands in a slot where no stage before has made what fits."""
        if slot.otherwise == "base":
            return (Input(outside=BASE),)
        if slot.otherwise in ("nothing", "data"):
            return ()
        takes = slot.takes[0]
        file, line = self.locate(("stages", name))
        raise UserError(
            f"the stage {name} needs {_noun(takes)}, and no stage before it makes one.", file=file, row=line,
            field=f"stages.{name}.{slot.key}",
            hint=f"Put a stage of the kind {_MAKERS.get(takes, 'sft')} before it, or set {name}.{slot.key}.",
        )  # fmt: skip

    def _find(self, name: str, slot: Slot, reference: Any, position: int) -> Input | None:
        """What a reference of the stage `name` means; None: a source of data, which is read as such."""
        place = ("stages", name, *slot.key.split("."), *((str(position),) if slot.many else ()))
        if not isinstance(reference, str):
            return None
        if reference == BASE and "Policy" in slot.takes:
            return Input(outside=BASE)
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
        """Whether `previous` leads out of the rounds: in the first of them, or where none of them makes what fits."""
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
        found = {}
        for position, one in enumerate(getattr(settings, "rewards", None) or ()):
            if isinstance(one, ModelReward):
                slot = Slot(f"rewards.{position}.model", ("RewardModel",))
                given = None if one.model is None else self._find(name, slot, one.model, 0)
                newest = given or self._newest(slot.takes, self.nodes)
                found[f"rewards.{position}"] = (newest,) if newest else self._otherwise(name, slot)
        return found

    def _judges(self, name: str, settings: Section) -> dict[str, tuple[Input, ...]]:
        """The reward models and policies that compare."""
        found: dict[str, tuple[Input, ...]] = {}
        for position, one in enumerate(settings.by if isinstance(settings, Compare) else ()):
            if one.reward is not None:
                slot, named = Slot(f"by.{position}.reward", ("RewardModel",)), one.reward
            elif one.judge is not None and one.judge.endpoint is None:
                slot, named = Slot(f"by.{position}.judge.model", ("Policy",)), one.judge.model
            else:
                continue
            judge = self._find(name, slot, named, 0)
            found[slot.key] = () if judge is None else (judge,)
        return found

    def _unfit(self, name: str, slot: Slot, reference: str, found: Node | None, place: tuple[str, ...]) -> UserError:
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


def stays_empty(settings: Section, key: str) -> bool:
    """Whether a slot that the recipe leaves out stays empty, whatever has been made before."""
    if key == "demonstrations" and isinstance(settings, Online):
        return settings.ptx_coefficient == 0
    if key != "reward" or not isinstance(settings, Select | Online):
        return False
    return bool(settings.rewards) or getattr(settings, "environment", None) is not None


def _round_of(name: str) -> tuple[str, int] | None:
    """(rounds, number of the round) that a stage stands in, the innermost; None: it stands in none."""
    group, _, number = name.rpartition(".")[0].rpartition(".")
    return (group, int(number)) if group else None


def _in_some_round(key: str, group: str, inner: str) -> bool:
    prefix, _, rest = key.partition(f"{group}.")
    number, _, own = rest.partition(".")
    return prefix == "" and number.isdecimal() and own == inner


def _looks_outside(reference: str) -> bool:
    """Whether a text names a folder, a file, a hub id, a built-in source or a shipped model rather than a stage."""
    if any(sign in reference for sign in "/:\\~") or Path(reference).suffix in _SUFFIXES:
        return True
    try:
        return reference in ("smollm2-135m", "tiny") or Path(reference).exists()
    except (OSError, ValueError):
        return False  # no file's name


def _noun(artifact: Artifact) -> str:
    return {
        "Policy": "a policy", "RewardModel": "a reward model", "Demonstrations": "demonstrations", "Answers": "answers",
        "Comparisons": "comparisons", "Evaluation": "an evaluation",
    }[artifact]  # fmt: skip
