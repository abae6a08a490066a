"""The table of kinds of stages: what the recipe, the planner, the executor and the report know of
each. Torch-free.

A kind is a module of `burnish.stages.kinds` that ends in its row, `STAGE`. The table is read by
name, and a kind's module is imported when somebody asks for it. A recipe may name a row of its own,
`folder/file.py:NAME`, and packages may bring some.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import Field, create_model

from burnish.config.sections import Section
from burnish.errors import UserError
from burnish.own_code import own

if TYPE_CHECKING:
    from burnish.config.graph import Node

Artifact = Literal[
    "Policy", "RewardModel", "Demonstrations", "Answers", "Comparisons", "Evaluation"
]
BASE = "base"
"""The recipe's pretrained model, as an artifact."""
_BUILT_IN, _GROUP = "burnish.stages.kinds", "burnish.stages"


@dataclass(frozen=True, slots=True)
class Input:
    """One artifact that a stage reads: that of a `stage`, or, where `stage` is None, `outside`:
    base, a folder, a hub id, an endpoint. `name`: what it is called instead."""

    stage: str | None = None
    outside: str | None = None
    name: str | None = None

    @property
    def shown(self) -> str:
        """As the recipe would name it."""
        return self.name or self.stage or self.outside or BASE


Inputs = Mapping[str, tuple[Input, ...]]
"""What stands in each slot, by the slot's key."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A key of a kind's section that names an artifact.

    Where the recipe leaves it out it is the newest of its type before the stage; where there is
    none, `otherwise` says what: base, nothing, a source of data, or an error.

    Args:
        key: of the section.
        takes: the types that fit.
        otherwise: what stands in it where no stage before has made what fits.
        many: whether it holds several.
        named: whether NAME=REFERENCE calls what stands in it something else.
        default: what stands in it where the recipe leaves it out, from (the section, the stages
            before, the slots filled so far);
            None: the newest, as above.
        empty: whether it stays empty where the recipe leaves it out, whatever has been made before.
        unless: whether a section's key names no artifact at all.
    """

    key: str
    takes: tuple[Artifact, ...]
    otherwise: Literal["base", "nothing", "data", "error"] = "error"
    many: bool = False
    named: bool = False
    default: Callable[[Any, Sequence[Node], Inputs], tuple[Input, ...] | None] | None = None
    empty: Callable[[Any], bool] = lambda _: False
    unless: Callable[[Any], bool] = lambda _: False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A kind of stage: the row that its module ends in.

    Args:
        section: its settings in the recipe.
        run: what does it, given a `burnish.stages.context.Step`: a function, or
            "package.module:function", which is imported only then.
        plan: what it will need: from a `burnish.planning.estimate.Forecast` a `StagePlan`; None:
            nothing to speak of.
        report: what the report says of it: from a `burnish.evaluation.stages.Found` a `Told`; None:
            nothing, or a part of its own.
        slots: the artifacts that it reads.
        makes: the type of what it makes; None: nothing that a stage reads.
        sources: the recipe's own data that it reads besides, or where no stage makes it.
        needs: of those, the ones without which it cannot run.
        wants: further ones that its settings ask for, which it then needs too.
        split: the side of the prompts that it answers.
        texts: the files that its section names and whose contents count: constitutions.
        files: further files that its section names and whose contents count.
        of_taste: whether the gold taste of simulated annotators decides anything in it.
        samples: whether a stage of it samples; by default where its section says how.
        check: what is looked at before anything runs, from the stage and all that are still to be
            done; raises UserError.
        made: what it makes, where that depends on its settings or on what it reads: from (section,
            inputs, type by stage).
        inherit: its section with what it takes over from the stages before.
        nested: slots deeper in its section, with the names that stand in them.
        own_sources: whether the sources that it names count for no stage behind it.
        first: whether it is what one does first with a pretrained model, so that it surprises
            nobody to start from one.
        always: whether it is made anew in every run, from whatever there is: nothing rests on it.
        family: the key of its section whose `name` is a row of a table; `rows` are their names,
            each of which says kind and row.
        by_row: what a stage of a row has for settings that are left out, where that is not the
            section's own default.
    """

    section: type[Section]
    run: Callable[[Any], None] | str
    plan: Callable[[Any], Any] | None = None
    report: Callable[[Any], Any] | None = None
    slots: tuple[Slot, ...] = ()
    makes: Artifact | None = None
    sources: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    wants: Callable[[Any], tuple[str, ...]] = lambda _: ()
    split: Literal["train", "heldout"] = "train"
    texts: Callable[[Any], Sequence[str]] = lambda _: ()
    files: Callable[[Any], Sequence[str]] = lambda _: ()
    of_taste: Callable[[Any], bool] = lambda _: False
    samples: Callable[[Any], bool] = lambda step: hasattr(step.settings, "sampling")
    check: Callable[[Any, Sequence[Any]], None] = lambda _step, _left: None
    made: Callable[[Any, Inputs, Callable[[str], Artifact | None]], Artifact | None] | None = None
    inherit: Callable[[Any, Sequence[Node]], Any] | None = None
    nested: Callable[[Any], Iterable[tuple[Slot, str]]] | None = None
    own_sources: bool = False
    first: bool = False
    always: bool = False
    family: str | None = None
    rows: tuple[str, ...] = ()
    by_row: Callable[[str], Mapping[str, Any]] = lambda _: {}

    @property
    def trains(self) -> bool:
        """Whether it updates weights."""
        return "optimizer" in self.section.model_fields

    def function(self) -> Callable[[Any], None]:
        """What does it, imported."""
        if not isinstance(self.run, str):
            return self.run
        module, _, name = self.run.partition(":")
        return getattr(import_module(module), name)

    def left_out(self, row: str | None) -> Section:
        """The section of a stage, of this row of its family, that leaves everything out."""
        return self.section.model_construct(**({} if row is None else self.by_row(row)))

    def row_of(self, settings: Section) -> str | None:
        """The row of its family's table that a section names; None: it is of no family."""
        return None if self.family is None else getattr(settings, self.family).name


def _as_start(_settings: Any, _before: Sequence[Node], filled: Inputs) -> tuple[Input, ...]:
    return filled["start"]


START = Slot("start", ("Policy",), "base")
"""The policy that a trained one starts from."""
HELD_TO = Slot("reference", ("Policy",), "base", default=_as_start)
"""The policy that a trained one is held to: what it starts from, where the recipe says nothing
else."""


@cache
def _built_in() -> tuple[str, ...]:
    spec = find_spec(_BUILT_IN)
    places = () if spec is None else spec.submodule_search_locations
    return tuple(sorted(module.name for module in pkgutil.iter_modules(places)))


@cache
def _installed() -> Mapping[str, str]:
    """Kinds of other packages: what each is called, and where its row stands."""
    found = {entry.name: entry.value for entry in entry_points(group=_GROUP)}
    return {name: found[name] for name in sorted(found.keys() - set(_built_in()))}


_named: dict[tuple[str, int], tuple[Stage, Stage]] = {}


def _own(name: str, place: str) -> Stage:
    """The row at `package.module:NAME` or `folder/file.py:NAME`, its section's kind being `name`.

    Raises UserError where nothing that can be a kind stands there.
    """
    row = own(place, field="kind", fresh=False)
    if not isinstance(row, Stage):
        problem = f"{place} is {type(row).__name__}, which is no kind of stage."
        raise UserError(problem, hint="A kind is a burnish.config.kinds.Stage (docs/extending.md).")
    known = _named.get((name, id(row)))
    if known is not None and known[0] is row:
        return known[1]
    section: Any = row.section  # whatever a user's row says
    if not (isinstance(section, type) and issubclass(section, Section)):
        raise UserError(f"the section of {place} is no burnish.config.sections.Section.")
    missing = [slot.key for slot in row.slots if slot.key not in row.section.model_fields]
    if missing:
        raise UserError(f"the section of {place} has no key {missing[0]}, and a slot is called so.")
    if row.makes not in (None, *get_args(Artifact)):
        raise UserError(
            f"{place} makes {row.makes!r}.", hint=f"There are {', '.join(get_args(Artifact))}."
        )
    kind = Field(default=name, description="The kind of stage.")
    fields: Any = {"kind": (Literal[name], kind)}
    section = create_model(
        row.section.__name__, __base__=row.section, __doc__=row.section.__doc__, **fields
    )
    named = replace(row, section=section)
    _named[name, id(row)] = (row, named)
    return named


def place_of(kind: str) -> str | None:
    """Where the row of a kind stands that is not Burnish's, as a recipe would name it; None: it
    is."""
    return None if kind in _built_in() else _installed().get(kind, kind)


class _Kinds(Mapping[str, Stage]):
    """The rows by the names that recipes call them by; those of a user's own code by where they
    stand."""

    def __getitem__(self, name: str) -> Stage:
        if name in _built_in():
            return import_module(f"{_BUILT_IN}.{name}").STAGE
        if ":" in name:
            return _own(name, name)
        return _own(name, _installed()[name])

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (":" in name or name in (*_built_in(), *_installed()))

    def __iter__(self) -> Iterator[str]:
        return iter((*_built_in(), *_installed()))

    def __len__(self) -> int:
        return len(_built_in()) + len(_installed())


KINDS: Mapping[str, Stage] = _Kinds()
"""Every kind by its name: those of Burnish, those of installed packages (the entry points
`burnish.stages`), and, not counted among them, whatever stands at `folder/file.py:NAME`."""
