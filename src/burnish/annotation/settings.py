"""What the owner of a project decides: the kind of task and its scales, who labels how often, what
is paid."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from burnish.annotation.records import Kind
from burnish.errors import UserError


class Attribute(BaseModel):
    """Something that is rated on a scale from `low` to `high`."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=60)
    low: int = Field(default=1, ge=0, le=10)
    high: int = Field(default=5, ge=1, le=10)
    help: str = Field(default="", max_length=500)

    @model_validator(mode="after")
    def _ordered(self) -> Attribute:
        if self.low >= self.high:
            raise ValueError("high must be above low")
        return self


def _attributes() -> list[Attribute]:
    return [Attribute(name=name) for name in ("helpful", "honest", "harmless")]


def _flags() -> list[str]:
    # The metadata of InstructGPT, Table 3 (arXiv:2203.02155), in plain words.
    return [
        "fails the instruction",
        "makes things up",
        "unsafe",
        "private information",
        "wrong language",
    ]


def _reasons() -> list[str]:
    return [
        "I do not know the subject",
        "the prompt makes no sense",
        "it disturbs me",
        "it does not display",
        "other",
    ]


class Dimension(BaseModel):
    """Something by which two answers are compared beside the whole."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=60)
    help: str = Field(default="", max_length=500)


class Settings(BaseModel):
    """A project's settings. Every field has a default, so `{}` is a project too."""

    model_config = ConfigDict(extra="forbid")

    kind: Kind = "ranking"
    """The task of items that do not say themselves."""
    steps: Literal[2, 4, 6, 7, 8] = 4
    """Pairwise: steps of the scale. An even number has no middle; 7 has one, which is a tie."""
    tie: bool = True
    """Pairwise: offer "about the same"; ranking: equal ranks are allowed."""
    both_bad: bool = True
    """Pairwise and chat: offer "both are bad"."""
    attributes: list[Attribute] = Field(default_factory=_attributes, max_length=12)
    """Likert: what is rated."""
    flags: list[str] = Field(default_factory=_flags, max_length=20)
    """What an answer can be flagged with; an empty list takes flags away."""
    critique: Literal["off", "optional", "required"] = "optional"
    """Free text and marked spans."""
    dimensions: list[Dimension] = Field(default_factory=list, max_length=8)
    """Pairwise: by what the answers are compared beside the whole, each on the same scale and with
    a reason if one likes; none unless named."""
    edit_winner: Literal["off", "optional", "required"] = "off"
    """Pairwise and ranking: the best answer may (or must) be edited; the edited text is better than
    all."""
    step_verdicts: Literal["off", "optional", "required"] = "off"
    """Whether each step of each answer is marked as right, neutral or wrong, beside what is asked
    of the whole."""
    turns: int = Field(default=3, ge=1, le=20)
    """Chat: turns that a conversation must have at least."""
    overlap: int = Field(default=3, ge=1, le=100)
    """Annotators per item."""
    lease_minutes: float = Field(default=30.0, gt=0, le=24 * 60)
    """How long an item is kept for the person who has it open."""
    idle_minutes: float = Field(default=10.0, gt=0, le=24 * 60)
    """The longest silence (nothing typed, chosen or sent) that still counts as time of work."""
    quota: int | None = Field(default=None, ge=1)
    """Most items for one annotator; a member's own quota goes before it."""
    gold_rate: float = Field(default=0.0, ge=0, le=0.5)
    """Share of the items an annotator meets that have a known answer."""
    pass_mark: float = Field(default=0.7, ge=0, le=1)
    """Share of the qualification test that must be right."""
    dispute_below: float = Field(default=0.67, ge=0, le=1)
    """An item whose annotators agree less than this (share of pairs of annotators) goes to a
    reviewer."""
    review_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the items on which annotators agree that a reviewer looks at too."""
    fast_seconds: float = Field(default=0.0, ge=0, le=3600)
    """An answer to work that took less is too fast; 0: none is."""
    stop_fast: int = Field(default=3, ge=1)
    """So many answers that were too fast end an annotator's work."""
    stop_gold: float = Field(default=0.0, ge=0, le=1)
    """An annotator whose mean mark on known answers is below this stops; 0: nobody does."""
    stop_gold_after: int = Field(default=5, ge=1)
    """So many known answers must have been met before."""
    study: str = Field(default="", max_length=60)
    """The STUDY_ID of a crowd platform whose people come in by /start; empty: the door is
    closed."""
    consent: str = Field(default="", max_length=20_000)
    """What they agree to before they begin (Markdown)."""
    completion_code: str = Field(default="", max_length=60)
    """What they hand in on the platform when they are done."""
    price_per_task: float = Field(default=0.0, ge=0)
    price_per_hour: float = Field(default=0.0, ge=0)
    currency: str = Field(default="EUR", max_length=8)
    skip_reasons: list[str] = Field(default_factory=_reasons, min_length=1, max_length=20)
    milestones: list[int] = Field(default=[25, 50, 75, 100], max_length=20)
    """Percentages of the work at which webhooks are told."""

    @model_validator(mode="after")
    def _names_once(self) -> Settings:
        for kind, names in (("attributes", self.attributes), ("dimensions", self.dimensions)):
            if len({one.name for one in names}) < len(names):
                raise ValueError(f"two {kind} have the same name")
        return self

    @property
    def strength(self) -> int:
        """k: strengths run from −k to k."""
        return self.steps // 2

    @property
    def ties(self) -> bool:
        """Whether a pairwise tie can be given."""
        return self.tie or self.steps % 2 == 1


def settings_of(stored: dict[str, Any] | None) -> Settings:
    """The settings in a project's column; what an older version stored gets today's defaults."""
    return Settings.model_validate(stored or {})


def is_storable(value: Any, *, depth: int = 50) -> bool:
    """Whether every database can hold a JSON value: no NUL, no half of a surrogate pair, no NaN, at
    most `depth` levels."""
    if depth == 0 or (isinstance(value, float) and not math.isfinite(value)):
        return False
    if isinstance(value, str):
        return "\x00" not in value and not any("\ud800" <= c <= "\udfff" for c in value)
    if isinstance(value, dict):
        return all(is_storable(k) and is_storable(v, depth=depth - 1) for k, v in value.items())
    return not isinstance(value, list) or all(is_storable(v, depth=depth - 1) for v in value)


def read_settings(given: dict[str, Any]) -> Settings:
    """Settings from a person: raises UserError naming the field that is wrong."""
    if not is_storable(given):
        raise UserError("there are characters that cannot be stored.", field="settings")
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            f"{first['msg']}.", field=".".join(str(part) for part in first["loc"]) or "settings"
        ) from error
