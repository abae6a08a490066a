"""The review desk: disagreements and a share of agreed items, one at a time; accepted, sent back
with a comment, or decided. A decision can be revised."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, func, insert, or_, select
from sqlalchemy.orm import Session

from burnish.annotation.assignment import agreement
from burnish.annotation.records import Answer, Kind, answer_from
from burnish.annotation.service import notes
from burnish.annotation.service.accounts import Caller, record
from burnish.annotation.service.database import Database
from burnish.annotation.service.projects import role_in
from burnish.annotation.service.refusals import ConflictError, NotFoundError
from burnish.annotation.service.submission import Submission, answer_of, on_screen
from burnish.annotation.settings import Settings, settings_of
from burnish.annotation.tables import Annotation, Event, Item, Lease, Member, Version, now
from burnish.annotation.versions import scale_of
from burnish.errors import UserError

_ASKED_OF_REVIEWERS = {
    "critique": "optional",
    "dimensions": [],
    "edit_winner": "off",
    "step_verdicts": "off",
}
SENT_BACK_FOR = timedelta(days=7)
"""How long an answer that was sent back lies with who gave it; then its place is open to others."""


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


def waiting(
    database: Database,
    caller: Caller,
    project_id: int,
    *,
    after: int = 0,
    item_id: int | None = None,
) -> dict[str, Any]:
    """The next item at the desk behind the item `after` (then from the start again), or the item
    asked for, with how many wait (`left`). What the caller has labelled is another reviewer's.

    `why` is "disputed", "sampled" (drawn from the agreed ones), "decided" or "".
    """
    with database.read() as session:
        project = role_in(session, caller, project_id, least="reviewer")
        own = select(Annotation.item_id).where(
            Annotation.annotator_id == caller.annotator_id, Annotation.source == "label"
        )
        there = (
            Item.project_id == project_id,
            or_(Item.disputed, Item.sampled),
            Item.id.not_in(own),
        )
        left = session.scalar(select(func.count(Item.id)).where(*there)) or 0
        if item_id is not None:
            item = session.scalar(
                select(Item).where(Item.id == item_id, Item.project_id == project_id)
            )
            if item is None:
                raise NotFoundError("there is no such item.")
        else:
            queue = select(Item).where(*there).order_by(Item.id <= after, Item.id).limit(1)
            item = session.scalar(queue)
        shown = None if item is None else _at_desk(session, item, settings_of(project.settings))
        return {"left": left, "item": shown}


def _at_desk(session: Session, item: Item, settings: Settings) -> dict[str, Any]:
    """An item with all that a reviewer looks at."""
    found = dispute_of(session, item)
    decision = _decision_on(session, item.id)
    why = (
        "disputed" if item.disputed
        else "decided" if decision is not None
        else "sampled" if item.sampled else ""
    )  # fmt: skip
    ids = session.scalars(_labels(item.id).with_only_columns(Annotation.id)).all()
    return {
        **found,
        "external_id": item.external_id,
        "kind": item.kind or settings.kind,
        "why": why,
        "ids": list(ids),
        "decision": decision,
        "columns": item.columns,
        "settings": settings.model_copy(update=_ASKED_OF_REVIEWERS),
    }


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


def _labels(item_id: int) -> Any:
    """The annotators' answers to an item."""
    return (
        select(Annotation)
        .where(
            Annotation.item_id == item_id,
            Annotation.source == "label",
            Annotation.skipped.is_(None),
        )
        .order_by(Annotation.id)
    )


def _answers(session: Session, item_id: int) -> list[tuple[Answer, int | None]]:
    """The answers to an item, each with k of the scale that it was given on."""
    rows = session.execute(
        _labels(item_id)
        .outerjoin(Version, Version.id == Annotation.version_id)
        .with_only_columns(
            Annotation.kind,
            Annotation.payload,
            Annotation.presented,
            Annotation.ranks,
            Version.schema,
        )
    )
    return [
        (
            answer_from(row.kind, row.payload, presented=row.presented, ranks=row.ranks),
            None if row.schema is None else scale_of(row.schema),
        )
        for row in rows
    ]


def _decision_row(session: Session, item_id: int) -> Annotation | None:
    return session.scalar(
        select(Annotation).where(Annotation.item_id == item_id, Annotation.source == "adjudication")
    )


def _decision_on(session: Session, item_id: int) -> Answer | None:
    row = _decision_row(session, item_id)
    return (
        None
        if row is None
        else answer_from(row.kind, row.payload, presented=row.presented, ranks=row.ranks)
    )


def _to_review(
    session: Session, caller: Caller, project_id: int, item_id: int, *, decided: bool = False
) -> tuple[Settings, Item, int | None]:
    """An item that the caller may review, locked, with the project's settings and version. With
    `decided`, one that is decided already may come again."""
    project = role_in(session, caller, project_id, least="reviewer")
    item = session.scalar(
        select(Item)
        .where(Item.id == item_id, Item.project_id == project_id)
        .with_for_update(of=Item)
    )
    again = decided and item is not None and _decision_on(session, item.id) is not None
    if item is None or not (item.disputed or item.sampled or again):
        raise NotFoundError("there is no such item that waits for a decision.")
    own = select(Annotation.id).where(
        Annotation.item_id == item_id,
        Annotation.annotator_id == caller.annotator_id,
        Annotation.source == "label",
    )
    if session.scalar(own) is not None:
        raise ConflictError("you have labelled this item yourself: another reviewer must decide.")
    return settings_of(project.settings), item, project.version_id


def decide(
    database: Database, caller: Caller, project_id: int, item_id: int, given: Submission
) -> None:
    """A reviewer's decision on an item at the desk; places are candidate positions. A later one
    takes the place of an earlier one, which the audit log keeps.

    Who labelled an item does not decide on it.
    """
    with database.write() as session:
        settings, item, version_id = _to_review(session, caller, project_id, item_id, decided=True)
        texts = [candidate.text for candidate in item.candidates]
        kind: Kind = item.kind or settings.kind  # type: ignore[assignment]
        said = answer_of(
            given, kind=kind, settings=settings.model_copy(update=_ASKED_OF_REVIEWERS),
            presented=range(len(texts)), texts=lambda: texts, chat=(),
            rubric=item.columns.get("rubric", ()) if kind == "rubric" else (),
        )  # fmt: skip
        before = _forget_decision(session, item.id)
        session.execute(
            insert(Annotation).values(_decision(said, item_id, caller, given.seconds, version_id))
        )
        _log(session, "adjudicated", item, caller)
        item.disputed = item.sampled = False
        record(
            session,
            "decided",
            caller=caller,
            project_id=project_id,
            subject=item.external_id,
            before=before,
        )


def withdraw(database: Database, caller: Caller, project_id: int, item_id: int) -> None:
    """Take a decision back: the item is at the desk again."""
    with database.write() as session:
        _, item, _ = _to_review(session, caller, project_id, item_id, decided=True)
        before = _forget_decision(session, item.id)
        if before is None:
            raise ConflictError("nobody has decided on this item.")
        item.disputed = True
        _log(session, "decision withdrawn", item, caller)
        record(
            session,
            "decision withdrawn",
            caller=caller,
            project_id=project_id,
            subject=item.external_id,
            before=before,
        )


def accept(database: Database, caller: Caller, project_id: int, item_id: int) -> None:
    """Leave an item as its annotators answered it: where they differ, their votes are its label."""
    with database.write() as session:
        _, item, _ = _to_review(session, caller, project_id, item_id)
        item.disputed = item.sampled = False
        _log(session, "accepted", item, caller)
        record(session, "accepted", caller=caller, project_id=project_id, subject=item.external_id)


def send_back(
    database: Database,
    caller: Caller,
    project_id: int,
    item_id: int,
    comment: str,
    answers: Sequence[int],
) -> None:
    """Give answers back to who gave them, with a comment: each is in its annotator's hands again,
    filled in as it was, for a week; then its place is open to others.

    Raises UserError where no answer is named, ConflictError for one that is not there (any more).
    """
    if not answers:
        raise UserError("say whose answers go back.", field="answers")
    wanted = _labels(item_id).where(Annotation.id.in_(answers), Annotation.lease.is_not(None))
    with database.write() as session:
        members = _members_of(session, project_id, wanted)
        _, item, _ = _to_review(session, caller, project_id, item_id)
        rows = session.scalars(wanted).all()
        if len(rows) != len({*answers}):
            raise ConflictError("there is no such answer any more, or nobody here gave it.")
        for row in rows:
            _give_back(session, item, row, members.get(row.annotator_id))
            notes.add(
                session, project_id, caller, comment, item_id=item.id, thread=row.annotator_id
            )
        item.disputed = item.sampled = False
        _log(session, "sent back", item, caller)
        record(
            session,
            "sent back",
            caller=caller,
            project_id=project_id,
            subject=item.external_id,
            answers=len(answers),
        )


def _members_of(session: Session, project_id: int, answers: Any) -> dict[int, Member]:
    """By annotator, the members who gave `answers` (a query); locked, as always before the item."""
    authors = answers.with_only_columns(Annotation.annotator_id).order_by(None)
    query = select(Member).where(
        Member.project_id == project_id, Member.annotator_id.in_(authors.scalar_subquery())
    )
    found = session.scalars(query.order_by(Member.id).with_for_update())
    return {member.annotator_id: member for member in found}


def _give_back(session: Session, item: Item, row: Annotation, member: Member | None) -> None:
    said = answer_from(row.kind, row.payload, presented=row.presented, ranks=row.ranks)
    if member is not None:
        member.met -= 1
        member.answered -= 1
    until = now() + SENT_BACK_FOR
    lease = Lease(
        id=secrets.token_urlsafe(24), item_id=item.id, annotator_id=row.annotator_id,
        presented=row.presented, version_id=row.version_id, expires_at=until,
        draft={"answer": on_screen(said)}, chat=row.payload.get("turns"), worked=row.seconds or 0.0,
        seen_at=until,  # the days until the person comes back are no work
    )  # fmt: skip
    session.delete(row)
    session.flush()
    session.add(lease)


def _forget_decision(session: Session, item_id: int) -> dict[str, Any] | None:
    """Delete the decision on an item; returns what it was."""
    row = _decision_row(session, item_id)
    if row is None:
        return None
    before = {"ranks": row.ranks, **row.payload}
    session.execute(
        delete(Annotation).where(Annotation.id == row.id),
        execution_options={"synchronize_session": False},
    )
    session.expunge(row)
    return before


def _log(session: Session, what: str, item: Item, caller: Caller) -> None:
    session.execute(
        insert(Event).values(at=now(), what=what, item_id=item.id, annotator_id=caller.annotator_id)
    )


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
