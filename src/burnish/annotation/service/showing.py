"""A task as it lies in somebody's hands: what is shown of the item, in which order, under which
version it is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, NamedTuple, cast

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from burnish.annotation.records import Kind
from burnish.annotation.service import notes
from burnish.annotation.service.choosing import Desk
from burnish.annotation.settings import Settings
from burnish.annotation.tables import Annotation, Candidate, Item, Lease, Project, Version
from burnish.annotation.versions import under
from burnish.labels.steps import steps_of


@dataclass(frozen=True, slots=True)
class Held:
    """An item in somebody's hands, with all that its screen needs. `texts` are the candidates by
    position, `traces` the turns of those that call tools."""

    lease: str
    project_id: int
    item_id: int
    kind: Kind
    part: str
    messages: list[dict[str, Any]]
    texts: tuple[str, ...]
    presented: tuple[int, ...]
    expires_at: datetime
    draft: dict[str, Any] | None
    chat: tuple[dict[str, Any], ...]
    progress: dict[str, Any]
    settings: Settings
    guidelines_number: int = 0
    traces: tuple[list[dict[str, Any]] | None, ...] = ()
    notes: tuple[dict[str, Any], ...] = ()
    columns: Mapping[str, Any] = field(default_factory=dict)


class Shown(NamedTuple):
    """What is shown of an item. `kind` is the item's own, "" for its project's; `texts` are the
    candidates by position."""

    kind: Kind | Literal[""]
    part: str
    messages: list[dict[str, Any]]
    texts: tuple[str, ...]
    traces: tuple[list[dict[str, Any]] | None, ...]
    columns: Mapping[str, Any]

    @property
    def step_counts(self) -> tuple[int, ...]:
        """How many steps each candidate has."""
        both = zip(self.texts, self.traces, strict=True)
        return tuple(len(steps_of(text, cast(Any, turns))) for text, turns in both)


def held_of(session: Session, at: Desk, lease: Lease) -> Held:
    """A lease with all that its screen needs."""
    return as_held(
        session, as_taken(session, at, lease.version_id), lease, shown_of(session, lease.item_id)
    )


def as_held(session: Session, at: Desk, lease: Lease, shown: Shown) -> Held:
    """A lease whose item is read already."""
    return Held(
        lease=lease.id,
        project_id=at.project_id,
        item_id=lease.item_id,
        kind=shown.kind or at.settings.kind,
        part=shown.part,
        messages=shown.messages,
        texts=shown.texts,
        presented=tuple(lease.presented),
        expires_at=lease.expires_at,
        draft=lease.draft,
        chat=tuple(lease.chat or ()),
        progress=progress_of(session, at, shown.part),
        settings=can_edit(at.settings, shown.traces),
        guidelines_number=guidelines_number(session, at.project_id),
        traces=shown.traces,
        columns=shown.columns,
        notes=tuple(notes.on_item(session, lease.item_id, lease.annotator_id)),
    )


def guidelines_number(session: Session, project_id: int) -> int:
    """The version in which the present guidelines came in."""
    now_at = select(Version.guidelines_number).join(Project, Project.version_id == Version.id)
    return session.scalar(now_at.where(Project.id == project_id)) or 0


def shown_of(session: Session, item_id: int) -> Shown:
    """An item with its candidates, read at once."""
    rows = session.execute(
        select(
            Item.kind,
            Item.part,
            Item.messages,
            Item.columns,
            Candidate.text,
            Candidate.messages.label("turns"),
        )
        .outerjoin(Candidate, Candidate.item_id == Item.id)
        .where(Item.id == item_id)
        .order_by(Candidate.position)
    ).all()
    candidates = [row for row in rows if row.text is not None]
    texts, traces = tuple(row.text for row in candidates), tuple(row.turns for row in candidates)
    first = rows[0]
    return Shown(first.kind, first.part, first.messages, texts, traces, first.columns)


def progress_of(session: Session, at: Desk, part: str) -> dict[str, Any]:
    """How far the person is: within training or test, or in the work (`of` is the quota, None
    without one)."""
    if part == "work":
        return {
            "done": at.member.answered,
            "of": at.member.quota if at.member.quota is not None else at.settings.quota,
        }
    tests = (Item.project_id == at.project_id, Item.part == part)
    done = (
        select(func.count())
        .select_from(Annotation)
        .join(Item, Item.id == Annotation.item_id)
        .where(*tests, Annotation.annotator_id == at.member.annotator_id)
    )
    return {
        "done": session.scalar(done) or 0,
        "of": session.scalar(select(func.count()).select_from(Item).where(*tests)),
    }


def can_edit(settings: Settings, traces: Sequence[Any]) -> Settings:
    """The settings for an item with these traces: an answer that calls tools is not edited as a
    text, so nobody must."""
    must = settings.edit_winner == "required" and any(traces)
    return settings.model_copy(update={"edit_winner": "optional"}) if must else settings


def asked_of(session: Session, item_id: int, settings: Settings) -> Settings:
    """What is asked of an item (`can_edit`)."""
    return (
        settings
        if settings.edit_winner != "required"
        else can_edit(settings, shown_of(session, item_id).traces)
    )


def as_taken(session: Session, at: Desk, version_id: int | None) -> Desk:
    """The desk under the version that a task was taken (or answered) under."""
    if version_id is None or version_id == at.version_id:
        return at
    schema = session.scalar(select(Version.schema).where(Version.id == version_id))
    return replace(at, settings=under(at.settings, schema), version_id=version_id)
