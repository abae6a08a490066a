"""Rules that end an annotator's work: known answers that were missed, answers that came too
fast."""

from __future__ import annotations

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from burnish.annotation.assignment import grade
from burnish.annotation.records import Answer, answer_from
from burnish.annotation.service.accounts import record
from burnish.annotation.service.choosing import Desk
from burnish.annotation.tables import Annotation, Annotator, Event, Item, Lease

TOO_FAST = "too fast"


def watch(session: Session, at: Desk, lease: Lease, item: Item, said: Answer) -> None:
    """After an answer to work: note one that came too fast, and stop who has given too many such,
    or misses known answers.

    Time is what the server has seen of it. An answer that was taken back and given again is no fast
    one.
    """
    if at.member.role != "annotator" or item.part != "work" or said.skipped is not None:
        return
    settings = at.settings
    if (
        settings.fast_seconds
        and lease.worked < settings.fast_seconds
        and not _taken_back(session, lease)
    ):
        session.add(
            Event(what=TOO_FAST, item_id=item.id, annotator_id=lease.annotator_id, lease=lease.id)
        )
        session.flush()
        count = _too_fast(session, at)
        if count >= settings.stop_fast:
            _stop(session, at, f"{count} answers in less than {settings.fast_seconds:g} seconds")
    if settings.stop_gold and item.gold is not None and at.member.state == "active":
        marks = _marks(session, at)
        mean = sum(marks) / len(marks) if marks else 1.0
        if len(marks) >= settings.stop_gold_after and mean < settings.stop_gold:
            _stop(session, at, f"{100 * mean:.0f} % of {len(marks)} known answers")


def _taken_back(session: Session, lease: Lease) -> bool:
    mine = (
        Event.item_id == lease.item_id,
        Event.annotator_id == lease.annotator_id,
        Event.what == "undone",
    )
    return bool(session.scalar(select(exists().where(*mine))))


def _too_fast(session: Session, at: Desk) -> int:
    query = select(func.count(Event.id)).join(Item, Item.id == Event.item_id)
    mine = (
        Item.project_id == at.project_id,
        Event.annotator_id == at.member.annotator_id,
        Event.what == TOO_FAST,
    )
    return session.scalar(query.where(*mine)) or 0


def _marks(session: Session, at: Desk) -> list[float]:
    rows = session.execute(
        select(Annotation, Item.gold)
        .join(Item, Item.id == Annotation.item_id)
        .where(
            Item.project_id == at.project_id, Item.part == "work", Item.gold.is_not(None),
            Annotation.annotator_id == at.member.annotator_id,
        )
    )  # fmt: skip
    return [
        grade(
            gold or {},
            answer_from(a.kind, a.payload, presented=a.presented, ranks=a.ranks, skipped=a.skipped),
        )
        for a, gold in rows
    ]


def _stop(session: Session, at: Desk, why: str) -> None:
    at.member.state = "stopped"
    name = (
        session.scalar(select(Annotator.name).where(Annotator.id == at.member.annotator_id)) or ""
    )
    record(session, "member stopped", project_id=at.project_id, subject=name, why=why)
