"""Items on which annotators differ, and reviewers' decisions on them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from burnish.annotation.assignment import agreement
from burnish.annotation.records import Answer, Kind, answer_from
from burnish.annotation.service.accounts import Caller, record
from burnish.annotation.service.database import Database
from burnish.annotation.service.projects import role_in
from burnish.annotation.service.refusals import ConflictError, NotFoundError
from burnish.annotation.service.submission import Submission, answer_of
from burnish.annotation.settings import settings_of
from burnish.annotation.tables import Annotation, Event, Item, Version, now
from burnish.annotation.versions import scale_of

_ASKED_OF_REVIEWERS = {"critique": "optional", "dimensions": [], "edit_winner": "off"}


def disputes(database: Database, caller: Caller, project_id: int) -> list[dict[str, Any]]:
    """Items on which annotators differ and nobody has decided, for reviewers. Annotators have
    numbers, not names."""
    with database.read() as session:
        role_in(session, caller, project_id, least="reviewer")
        rows = list(
            session.scalars(
                select(Item)
                .where(Item.project_id == project_id, Item.disputed)
                .order_by(Item.id)
                .limit(200)
            )
        )
        return [dispute_of(session, row) for row in rows]


def dispute_of(session: Session, item: Item) -> dict[str, Any]:
    """A disputed item with its answers, by candidate position."""
    rows = _answers(session, item.id)
    answers = [answer for answer, _ in rows]
    return {
        "item_id": item.id,
        "kind": answers[0].kind if answers else item.kind,
        "messages": item.messages,
        "candidates": [candidate.text for candidate in item.candidates],
        "traces": [candidate.messages for candidate in item.candidates],
        "answers": answers,
        "scales": [scale for _, scale in rows],
        "agreement": agreement(answers),
    }


def _answers(session: Session, item_id: int) -> list[tuple[Answer, int | None]]:
    """The answers to an item, each with k of the scale that it was given on."""
    rows = session.execute(
        select(
            Annotation.kind,
            Annotation.payload,
            Annotation.presented,
            Annotation.ranks,
            Version.schema,
        )
        .outerjoin(Version, Version.id == Annotation.version_id)
        .where(
            Annotation.item_id == item_id,
            Annotation.source == "label",
            Annotation.skipped.is_(None),
        )
        .order_by(Annotation.id)
    )
    return [
        (
            answer_from(row.kind, row.payload, presented=row.presented, ranks=row.ranks),
            None if row.schema is None else scale_of(row.schema),
        )
        for row in rows
    ]


def decide(
    database: Database, caller: Caller, project_id: int, item_id: int, given: Submission
) -> None:
    """A reviewer's decision on a disputed item; places are candidate positions. Who labelled an
    item does not decide on it."""
    with database.write() as session:
        project = role_in(session, caller, project_id, least="reviewer")
        item = session.scalar(
            select(Item)
            .where(Item.id == item_id, Item.project_id == project_id)
            .with_for_update(of=Item)
        )
        if item is None or not item.disputed:
            raise NotFoundError("there is no such item that waits for a decision.")
        own = select(Annotation.id).where(
            Annotation.item_id == item_id, Annotation.annotator_id == caller.annotator_id
        )
        if session.scalar(own) is not None:
            raise ConflictError(
                "you have labelled this item yourself: another reviewer must decide."
            )
        settings = settings_of(project.settings)
        texts = [candidate.text for candidate in item.candidates]
        kind: Kind = item.kind or settings.kind  # type: ignore[assignment]
        said = answer_of(
            given, kind=kind, settings=settings.model_copy(update=_ASKED_OF_REVIEWERS),
            presented=range(len(texts)), texts=lambda: texts, chat=(),
        )  # fmt: skip
        session.execute(
            insert(Annotation).values(
                _decision(said, item_id, caller, given.seconds, project.version_id)
            )
        )
        session.execute(
            insert(Event).values(
                at=now(), what="adjudicated", item_id=item_id, annotator_id=caller.annotator_id
            )
        )
        item.disputed = False
        record(session, "decided", caller=caller, project_id=project_id, subject=item.external_id)


def _decision(
    said: Answer, item_id: int, caller: Caller, seconds: float | None, version_id: int | None
) -> dict[str, Any]:
    return {
        "item_id": item_id,
        "annotator_id": caller.annotator_id,
        "presented": list(said.presented),
        "ranks": None if said.ranks is None else list(said.ranks),
        "skipped": said.skipped,
        "seconds": seconds,
        "created_at": now(),
        "kind": said.kind,
        "payload": said.payload(),
        "source": "adjudication",
        "version_id": version_id,
    }
