"""Rows that become items: what they must have, by kind of task."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from burnish.annotation.gold import unpassable
from burnish.annotation.records import KINDS
from burnish.annotation.service.messages import MessageRow
from burnish.annotation.service.submission import LONGEST_TEXT, StorableText
from burnish.annotation.settings import Settings, is_storable
from burnish.annotation.tables import Candidate, Item
from burnish.errors import UserError
from burnish.labels.steps import MOST_STEPS, steps_of
from burnish.labels.traces import is_trace, trace_text

_CANDIDATES = {
    "pairwise": (2, 2),
    "ranking": (2, 9),
    "best_worst": (3, 9),
    "likert": (1, 9),
    "rubric": (1, 9),
    "correction": (1, 9),
    "demonstration": (0, 0),
    "chat": (0, 0),
}
SCENARIO = "annotator_scenario"
"""The column with what only the person sees, and no model."""
_PARTS = ("work", "training", "qualification")


class CandidateRow(BaseModel):
    """A response: a text, or the turns of one that calls tools. Who wrote it is kept and never
    shown."""

    model_config = ConfigDict(extra="forbid")

    text: StorableText = Field(default="", max_length=LONGEST_TEXT)
    source: StorableText = Field(default="", max_length=200)
    messages: list[MessageRow] | None = Field(default=None, min_length=1, max_length=100)
    steps: list[StorableText] | None = Field(default=None, min_length=1, max_length=MOST_STEPS)

    @model_validator(mode="after")
    def _one_form(self) -> CandidateRow:
        if self.steps is not None:
            self._join_steps(self.steps)
            return self
        if self.messages is None:
            if "text" not in self.model_fields_set:
                raise ValueError("a candidate has text, or messages")
            return self
        if self.text:
            raise ValueError("give text or messages, not both")
        roles = [message.role for message in self.messages]
        if (
            not {*roles} <= {"assistant", "tool"}
            or roles[0] != "assistant"
            or roles[-1] != "assistant"
        ):
            raise ValueError(
                "a candidate's messages are the assistant's and its tools', the assistant's first"
                " and last"
            )
        turns = [message.turn() for message in self.messages]
        self.text = trace_text(turns)
        if len(self.text) > LONGEST_TEXT:
            raise ValueError(f"the turns have more than {LONGEST_TEXT} characters together")
        return self

    def _join_steps(self, steps: list[str]) -> None:
        """The text whose steps these are."""
        if self.text or self.messages is not None:
            raise ValueError("give text, messages or steps, one of them")
        self.text = "\n\n".join(steps)
        if steps_of(self.text) != tuple(steps):
            raise ValueError(
                "a step is no empty text, and has no empty line but in code and formulas"
            )
        if len(self.text) > LONGEST_TEXT:
            raise ValueError(f"the steps have more than {LONGEST_TEXT} characters together")

    def row(self, position: int) -> Candidate:
        """As it is stored."""
        turns = [message.turn() for message in self.messages or ()]
        messages = [dict(turn) for turn in turns] if is_trace(turns) else None
        return Candidate(position=position, text=self.text, source=self.source, messages=messages)


class GoldRow(BaseModel):
    """A known answer, by candidate position."""

    model_config = ConfigDict(extra="forbid")

    strength: int | None = Field(default=None, ge=-4, le=4)
    ranks: list[int] | None = Field(default=None, max_length=9)
    ratings: dict[StorableText, list[int]] = Field(default_factory=dict, max_length=20)
    flags: dict[StorableText, list[int]] = Field(default_factory=dict, max_length=30)
    best: int | None = Field(default=None, ge=0, le=8)
    worst: int | None = Field(default=None, ge=0, le=8)
    verdicts: list[list[bool]] | None = Field(default=None, max_length=50)


class Criterion(BaseModel):
    """A criterion of a rubric: what is asked of an answer, and what meeting it is worth (below 0:
    what it costs). Annotators do not see the weight."""

    model_config = ConfigDict(extra="forbid")

    criterion: StorableText = Field(min_length=1, max_length=2000)
    weight: float = Field(default=1.0, ge=-1000, le=1000, allow_inf_nan=False)


_RUBRIC: TypeAdapter[list[Criterion]] = TypeAdapter(
    Annotated[list[Criterion], Field(min_length=1, max_length=50)]
)


class ItemRow(BaseModel):
    """An item. `id` may be left out: a hash of the row's content stands in, the same in every file.
    Fields that an item does not have become its columns."""

    model_config = ConfigDict(extra="forbid")

    id: StorableText | int | None = None
    prompt: StorableText | None = Field(default=None, max_length=LONGEST_TEXT)
    messages: list[MessageRow] | None = Field(default=None, max_length=200)
    candidates: list[CandidateRow] = Field(default_factory=list, max_length=9)
    kind: str = ""
    part: str = "work"
    gold: GoldRow | None = None
    explanation: StorableText = Field(default="", max_length=LONGEST_TEXT)
    scenario: StorableText = Field(default="", max_length=LONGEST_TEXT)
    priority: int = Field(default=0, ge=-1_000_000, le=1_000_000)
    columns: dict[str, Any] = Field(default_factory=dict)

    @field_validator("candidates", mode="before")
    @classmethod
    def _plain(cls, given: Any) -> Any:
        return [_candidate(one) for one in given] if isinstance(given, list) else given


def _candidate(given: Any) -> Any:
    """A text, or a list of messages, as the object that it stands for."""
    if isinstance(given, str):
        return {"text": given}
    return {"messages": given} if isinstance(given, list) else given


def item_of(row: Mapping[str, Any], number: int, settings: Settings) -> Item:
    """The item that a row describes, not yet in any project. Raises UserError naming row and
    field."""
    others = {name: value for name, value in row.items() if name not in ItemRow.model_fields}
    known = {name: value for name, value in row.items() if name in ItemRow.model_fields}
    for name in others:
        near = get_close_matches(name, ItemRow.model_fields, n=1, cutoff=0.8)
        if near:
            raise UserError(
                f'is no field of an item. Did you mean "{near[0]}"?', row=number, field=name
            )
    if others and isinstance(known.get("columns", {}), Mapping):
        known["columns"] = {**others, **known.get("columns", {})}
    try:
        given = ItemRow.model_validate(known)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            f"{first['msg'].removeprefix('Value error, ')}.",
            row=number,
            field=".".join(map(str, first["loc"])),
        ) from error
    if not is_storable(given.columns):
        raise UserError(
            "there are characters or numbers that cannot be stored.", row=number, field="columns"
        )
    kind = given.kind or settings.kind
    _check(given, kind, number)
    if kind == "rubric":
        given.columns["rubric"] = _rubric(given.columns.get("rubric"), number)
        _check_verdicts(given, number)
    if given.scenario.strip():
        given.columns[SCENARIO] = given.scenario
    if given.gold is not None:
        _check_passable(given.gold, kind, len(given.candidates), settings, number)
    messages = [dict(m.turn()) for m in given.messages or ()] or [
        {"role": "user", "content": given.prompt or ""}
    ]
    gold = None if given.gold is None else given.gold.model_dump(exclude_defaults=True)
    open_to = settings.overlap if gold is None and given.part == "work" else 0
    item = Item(
        external_id=_content_id(row) if given.id is None else str(given.id),
        messages=messages if given.messages or given.prompt else [],
        columns=given.columns,
        kind=kind,
        part=given.part,
        gold=gold,
        explanation=given.explanation,
        priority=given.priority,
        slots=open_to,
    )
    item.candidates = [candidate.row(i) for i, candidate in enumerate(given.candidates)]
    return item


def _rubric(given: Any, number: int) -> list[dict[str, Any]]:
    """The criteria of an item, from its column `rubric`."""
    try:
        found = _RUBRIC.validate_python(given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in ("rubric", *first["loc"]))
        raise UserError(
            f"{first['msg'].removeprefix('Value error, ')}.", row=number, field=where,
            hint='A rubric is a list of {"criterion": "...", "weight": 1}.',
        ) from error  # fmt: skip
    if not any(one.weight > 0 for one in found):
        raise UserError("needs a criterion with a weight above 0.", row=number, field="rubric")
    if any(one.weight == 0 for one in found):
        raise UserError("a criterion of weight 0 says nothing.", row=number, field="rubric")
    return [one.model_dump() for one in found]


def _check_verdicts(given: ItemRow, number: int) -> None:
    verdicts = None if given.gold is None else given.gold.verdicts
    shape = (len(given.columns["rubric"]), len(given.candidates))
    if verdicts is not None and [len(row) for row in verdicts] != [shape[1]] * shape[0]:
        raise UserError(
            f"needs {shape[0]} lists of {shape[1]} verdicts, by criterion.",
            row=number,
            field="gold.verdicts",
        )


def _content_id(row: Mapping[str, Any]) -> str:
    text = json.dumps(dict(row), sort_keys=True, ensure_ascii=False, default=str)
    return f"row:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def _check(given: ItemRow, kind: str, number: int) -> None:
    if kind not in KINDS:
        raise UserError(f"kinds are {', '.join(KINDS)}.", row=number, field="kind")
    if given.part not in _PARTS:
        raise UserError(f"parts are {', '.join(_PARTS)}.", row=number, field="part")
    if given.id is not None and not 1 <= len(str(given.id)) <= 500:
        raise UserError("an id has 1 to 500 characters.", row=number, field="id")
    if given.prompt is not None and given.messages is not None:
        raise UserError("give prompt or messages, not both.", row=number, field="prompt")
    if kind != "chat" and not given.prompt and not given.messages:
        raise UserError("an item needs a prompt.", row=number, field="prompt")
    low, high = _CANDIDATES[kind]
    count = len(given.candidates)
    if not low <= count <= high:
        wanted = "none" if high == 0 else str(low) if low == high else f"{low} to {high}"
        raise UserError(
            f"a {kind} item has {wanted} candidates, not {count}.", row=number, field="candidates"
        )
    if kind == "correction" and any(candidate.messages for candidate in given.candidates):
        raise UserError(
            "an answer that calls tools cannot be corrected as a text.",
            row=number,
            field="candidates",
        )
    texts = [candidate.text for candidate in given.candidates]
    twice = next((at for at, text in enumerate(texts) if text in texts[:at]), None)
    if twice is not None:
        first = texts.index(texts[twice])
        raise UserError(
            f"has the text of candidate {first} again: nothing can be preferred to itself. Leave"
            " one out.",
            row=number,
            field=f"candidates.{twice}",
        )
    if given.part != "work" and given.gold is None:
        raise UserError(f"a {given.part} item needs the right answer.", row=number, field="gold")
    if given.gold is not None:
        _check_gold(given.gold, count, number)


def _check_passable(gold: GoldRow, kind: str, count: int, settings: Settings, number: int) -> None:
    problem = unpassable(gold.model_dump(exclude_defaults=True), kind, count, settings)
    if problem is not None:
        field, why = problem
        raise UserError(why, row=number, field=f"gold.{field}" if field else "gold")


def _check_gold(gold: GoldRow, count: int, number: int) -> None:
    if gold.ranks is not None and (
        len(gold.ranks) != count or any(rank < 1 for rank in gold.ranks)
    ):
        raise UserError(
            f"each of the {count} candidates needs a rank of 1 or more.",
            row=number,
            field="gold.ranks",
        )
    if any(len(values) != count for values in gold.ratings.values()):
        raise UserError(
            f"each of the {count} candidates needs a rating.", row=number, field="gold.ratings"
        )
    if any(at is not None and at >= count for at in (gold.best, gold.worst)):
        raise UserError(f"positions go from 0 to {count - 1}.", row=number, field="gold.best")
    if gold.best is not None and gold.best == gold.worst:
        raise UserError(
            "the best and the worst are two candidates.", row=number, field="gold.worst"
        )
    if any(not 0 <= at < count for places in gold.flags.values() for at in places):
        raise UserError(f"positions go from 0 to {count - 1}.", row=number, field="gold.flags")
