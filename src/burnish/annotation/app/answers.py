"""What the REST API answers with, for its OpenAPI document: what programs may count on. More may
stand beside it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Answered(BaseModel):
    """A part of an answer. Fields that are left out here do not apply."""

    model_config = ConfigDict(extra="allow")


class Me(Answered):
    """Who asks."""

    name: str
    creates_projects: bool
    scopes: list[str] | None = Field(description="Of the token; null for a browser's session.")
    preferences: dict[str, Any]


class TokenRow(Answered):
    """A token, without its value."""

    id: int
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked: bool


class MyProject(Answered):
    """A project that I am a member of, and what I am there."""

    id: int
    name: str
    role: Literal["annotator", "reviewer", "owner"]
    state: str
    answered: int


class ProjectView(Answered):
    """A project as its members see it."""

    id: int
    name: str
    guidelines: str
    settings: dict[str, Any]
    created_at: datetime


class Guidelines(Answered):
    """The present guidelines."""

    version: int
    text: str
    read: bool
    html: str = Field(default="", description="Where it was asked for.")


class Words(Answered):
    """A text; `html` where it was asked for."""

    text: str
    html: str = ""


class ShownTurn(Words):
    """A turn of a conversation, or of an answer that calls tools."""

    role: str = Field(description="system, developer, user, assistant or tool.")
    reasoning: Words = Field(default=Words(text=""), description="What the model thought.")
    calls: list[str] = Field(default=[], description="Calls of tools, in words.")
    tool: str = Field(default="", description="Whose result it is.")


class ShownAnswer(Words):
    """What is shown at a place."""

    turns: list[ShownTurn] = Field(default=[], description="Of an answer that calls tools.")
    steps: list[dict[str, Any]] = Field(default=[], description="Where steps are marked.")


class Exchange(Answered):
    """A turn of a chat: what the person said, the candidates by place, and the choice."""

    user: Words
    answers: list[Words]
    chosen: int | None
    strength: int | None
    both_bad: bool


class Asked(Answered):
    """What is asked of the item."""

    steps: int = Field(description="Of the scale of pairs.")
    strength: int = Field(description="Strengths go from minus this to this.")
    ties: bool
    both_bad: bool
    attributes: list[dict[str, Any]]
    flags: list[str]
    critique: Literal["off", "optional", "required"]
    turns: int
    dimensions: list[dict[str, Any]]
    edit_winner: Literal["off", "optional", "required"]
    step_verdicts: Literal["off", "optional", "required"]
    skip_reasons: list[str]
    criteria: list[str]


class Task(Answered):
    """An item in somebody's hands, by places on the screen: neither who wrote what, nor what is
    known to be right."""

    lease: str
    kind: str
    part: str
    expires_at: str = Field(json_schema_extra={"format": "date-time"})
    messages: list[ShownTurn]
    answers: list[ShownAnswer]
    chat: list[Exchange]
    draft: dict[str, Any] | None
    notes: list[dict[str, Any]]
    progress: dict[str, Any]
    guidelines_version: int
    scenario: Words
    asks: Asked


class Feedback(Answered):
    """In training: how right the answer was, and what was expected, by place."""

    score: float
    right: bool
    explanation: Words
    expected: dict[str, Any]


class Acknowledged(Answered):
    """The answer counts."""

    recorded: bool
    again: bool = Field(description="It was there already.")
    feedback: Feedback = Field(default=None, description="In training.")  # type: ignore[assignment]


class CandidateView(Answered):
    """A candidate as it was uploaded."""

    text: str
    source: str


class ItemRow(Answered):
    """An item as its owners see it."""

    id: int
    external_id: str
    kind: str
    part: str
    messages: list[dict[str, Any]]
    candidates: list[CandidateView]
    gold: dict[str, Any] | None
    priority: int
    slots: int = Field(description="How many more people may take it.")
    disputed: bool
    sampled: bool
    agreement: float | None


class GivenAnswer(Answered):
    """An answer by candidate position; what its kind has stands beside these."""

    id: int
    annotator: str
    annotator_kind: str
    source: Literal["label", "adjudication"]
    at: datetime
    seconds: float | None
    version: int | None
    skipped: str | None
    presented: list[int] | None
    ranks: list[int] | None
    kind: str


class ItemPage(ItemRow):
    """An item with all that was said of it and done to it."""

    columns: dict[str, Any]
    explanation: str
    answers: list[GivenAnswer]
    held_by: list[str]
    history: list[dict[str, Any]]


class MemberRow(Answered):
    """Somebody who takes part."""

    id: int
    annotator_id: int
    name: str
    kind: str
    role: Literal["annotator", "reviewer", "owner"]
    state: str
    quota: int | None
    score: float | None
    answered: int
    joined_at: datetime
    logs_in: bool | None
    guidelines_read: int | None


class ImageRow(Answered):
    """An image of a project."""

    name: str
    width: int
    height: int
    size: int
