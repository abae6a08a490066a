"""Taking and answering items. Every function is one transaction; each changes the leases, the
answers and the log together.

Locks on PostgreSQL are taken in the order member, lease, item, so that no two transactions wait for
each other; on SQLite there is one writer.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, exists, insert, select
from sqlalchemy.orm import Session, lazyload

from burnish.annotation.assignment import drawn, grade, is_disputed, quota_left, shuffled
from burnish.annotation.records import Answer, Kind, answer_from
from burnish.annotation.service import drafts
from burnish.annotation.service.accounts import Caller
from burnish.annotation.service.choosing import TESTS, Desk, advance, choose, desk, refuse_idle
from burnish.annotation.service.database import Database
from burnish.annotation.service.refusals import ConflictError, NotFoundError
from burnish.annotation.service.showing import Held, as_held, as_taken, asked_of, held_of, shown_of
from burnish.annotation.service.submission import Submission, answer_of, on_screen
from burnish.annotation.service.watching import watch
from burnish.annotation.service.webhooks import announce_completed
from burnish.annotation.settings import settings_of
from burnish.annotation.tables import (
    Annotation,
    Draft,
    Event,
    Item,
    Lease,
    Member,
    Project,
    Version,
    now,
)
from burnish.annotation.versions import under
from burnish.errors import UserError

_NO_CANDIDATES = lazyload(Item.candidates)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What comes back after an answer: `again` if it had been given before. `score` and
    `explanation` teach, in training only."""

    again: bool = False
    score: float | None = None
    explanation: str = ""
    gold: dict[str, Any] | None = None
    kind: str = ""
    presented: tuple[int, ...] = ()


def take(database: Database, caller: Caller, project_id: int) -> Held | None:
    """The item that the caller has in hand, or else the next one; None if there is none. Taking
    starts or renews the lease."""
    caller.needs("label")
    with database.write() as session:
        at = desk(session, caller, project_id, lock=True)
        held = _in_hand(session, at)
        if held is None:
            advance(session, at)
            refuse_idle(at)
            item_id = _left_before(session, at) or choose(session, at)
            if item_id is None and sweep_in(session):
                item_id = _left_before(session, at) or choose(session, at)
            if item_id is None:
                return None
            shown = shown_of(session, item_id)
            return as_held(session, at, _lease(session, at, item_id, count=len(shown.texts)), shown)
        return held_of(session, at, held)


def answer(database: Database, caller: Caller, lease_id: str, given: Submission) -> Verdict:
    """Record an answer or a skip. The same lease counts once: sent again with the same content, it
    is acknowledged again.

    Raises NotFoundError for a lease that is unknown or another's, ConflictError for one that has
    run out or was answered otherwise, UserError for an answer that does not fit.
    """
    caller.needs("label")
    with database.write() as session:
        found = locked(session, caller, lease_id)
        if found is None and drafts.revive(
            session, caller, lease_id
        ):  # late, but nobody else filled the place
            found = locked(session, caller, lease_id)
        if found is None and drafts.keep_late(
            session, caller, lease_id, given.model_dump(exclude_defaults=True)
        ):
            late = ConflictError(
                "others have answered this item meanwhile; what you wrote is kept."
            )
        elif found is None:
            return _again(session, caller, lease_id, given)
        else:
            return _record(session, found, given)
    raise late  # after the commit: what was written is kept all the same


def _record(session: Session, found: tuple[Desk, Lease, Item], given: Submission) -> Verdict:
    at, lease, item = found
    drafts.seen(lease, at.settings)
    kind: Kind = item.kind or at.settings.kind  # type: ignore[assignment]
    said = answer_of(
        given,
        kind=kind,
        settings=asked_of(session, item.id, at.settings),
        presented=lease.presented,
        texts=lambda: shown_of(session, item.id).texts,
        chat=lease.chat or (),
        rubric=item.columns.get("rubric", ()) if kind == "rubric" else (),
        counts=lambda: shown_of(session, item.id).step_counts,
    )
    if (
        kind != "correction"
        and said.corrected is not None
        and shown_of(session, item.id).traces[said.corrected]
    ):
        raise UserError("an answer that calls tools cannot be edited as a text.", field="text")
    # What a page says of time is believed as far as the server has seen the person at work.
    seconds = None if given.seconds is None else min(given.seconds, lease.worked)
    session.flush()
    _store(session, at, lease, item, said, seconds)
    watch(session, at, lease, item, said)
    if item.part == "training":
        mark = grade(item.gold or {}, said)
        return Verdict(
            score=mark,
            explanation=item.explanation,
            gold=item.gold,
            kind=kind,
            presented=said.presented,
        )
    if item.part == "qualification":
        session.flush()
        advance(session, at)
    return Verdict()


def draft(database: Database, caller: Caller, lease_id: str, content: dict[str, Any]) -> datetime:
    """Keep what is written so far, and renew the lease; returns when it now runs out."""
    caller.needs("label")
    with database.write() as session:
        found = locked(session, caller, lease_id)
        if found is None and drafts.revive(session, caller, lease_id):
            found = locked(session, caller, lease_id)
        if found is not None:
            at, lease, _ = found
            lease.draft = content
            drafts.seen(lease, at.settings)
            return lease.expires_at
        kept = session.get(Draft, lease_id)
        if kept is not None and kept.annotator_id == caller.annotator_id:
            kept.content = content
        refusal = gone(session, caller, lease_id)
    raise refusal  # after the commit: the text is kept all the same


def release(database: Database, caller: Caller, lease_id: str) -> None:
    """Give an item back unanswered, as when it runs out."""
    caller.needs("label")
    with database.write() as session:
        found = locked(session, caller, lease_id)
        if found is None:
            raise gone(session, caller, lease_id)
        _, lease, item = found
        drafts.keep(session, lease)
        session.delete(lease)
        give_slot(item)
        _log(session, "released", item.id, caller.annotator_id, lease.id)


def undo(database: Database, caller: Caller, project_id: int) -> Held:
    """Take the last answer back: the item is in hand again, with the answer as its draft.

    Raises ConflictError if there is none, or if it is settled: tests stay, and so does what a
    reviewer has decided on.
    """
    caller.needs("label")
    with database.write() as session:
        at = desk(session, caller, project_id, lock=True)
        row = session.scalar(
            select(Annotation)
            .join(Item, Item.id == Annotation.item_id)
            .where(
                Item.project_id == project_id,
                Annotation.annotator_id == caller.annotator_id,
                Annotation.source == "label",
                Annotation.lease.is_not(None),
            )
            .order_by(Annotation.id.desc())
            .limit(1)
        )
        if row is None:
            raise ConflictError("there is nothing to undo.")
        item = _item(session, row.item_id)
        if item.part in TESTS or _is_decided(session, item.id):
            raise ConflictError("the last answer is settled and cannot be taken back.")
        if row.skipped is not None and not _is_test(item):
            if item.slots == 0:
                raise ConflictError("somebody else has taken this item since.")
            item.slots -= 1
        item.disputed = item.sampled = False
        at.member.met -= 1
        at.member.answered -= row.skipped is None
        said = answer_from(
            row.kind, row.payload, presented=row.presented, ranks=row.ranks, skipped=row.skipped
        )
        session.delete(row)
        session.flush()
        _log(session, "undone", item.id, caller.annotator_id, row.lease)
        at = as_taken(session, at, row.version_id)  # an answer comes back as what it was
        lease = _lease(session, at, item.id, presented=row.presented, taken=False)
        lease.draft = {"answer": on_screen(said)}
        lease.chat = row.payload.get("turns")
        return held_of(session, at, lease)


def sweep(database: Database) -> int:
    """Free the items whose leases have run out; returns how many."""
    with database.read() as session:
        if session.scalar(select(Lease.id).where(Lease.expires_at < now()).limit(1)) is None:
            return 0
    with database.write() as session:
        return sweep_in(session)


def sweep_in(session: Session) -> int:
    """`sweep` within a transaction. A lease that is being answered at this moment is left alone."""
    expired = list(
        session.scalars(
            select(Lease)
            .where(Lease.expires_at < now())
            .order_by(Lease.item_id)
            .limit(500)
            .with_for_update(skip_locked=True)
        )
    )
    for lease in expired:
        item = _item(session, lease.item_id)
        drafts.keep(session, lease)
        session.delete(lease)
        give_slot(item)
        _log(session, "expired", item.id, lease.annotator_id, lease.id)
    session.flush()
    return len(expired)


def _in_hand(session: Session, at: Desk) -> Lease | None:
    lease = session.scalar(
        select(Lease)
        .join(Item, Item.id == Lease.item_id)
        .where(Item.project_id == at.project_id, Lease.annotator_id == at.member.annotator_id)
        .order_by(Lease.taken_at.desc())
        .limit(1)
        .with_for_update(of=Lease)
    )
    if lease is not None:
        drafts.seen(lease, at.settings)
    return lease


def _left_before(session: Session, at: Desk) -> int | None:
    """An open item of which the person has a draft, its place taken; None where there is none, or
    the work is not open yet."""
    member, settings = at.member, at.settings
    if (
        member.state != "active"
        or quota_left(answered=member.answered, project=settings.quota, own=member.quota) == 0
    ):
        return None
    item_id = drafts.of_mine(session, at.project_id, member.annotator_id)
    if item_id is None:
        return None
    item = _item(session, item_id)
    if item.slots == 0:
        return None
    item.slots -= 1
    return item_id


def _lease(
    session: Session,
    at: Desk,
    item_id: int,
    *,
    count: int = 0,
    presented: Sequence[int] | None = None,
    taken: bool = True,
) -> Lease:
    """A new lease: its `count` candidates shuffled, or in the order `presented`."""
    secret, moment = secrets.token_urlsafe(24), now()
    lease = Lease(
        id=secret,
        item_id=item_id,
        annotator_id=at.member.annotator_id,
        presented=list(shuffled(count, secret) if presented is None else presented),
        taken_at=moment,
        expires_at=moment + timedelta(minutes=at.settings.lease_minutes),
        version_id=at.version_id,
    )
    if presented is None:
        drafts.bring_back(session, lease)
    session.add(lease)
    if taken:
        _log(session, "taken", item_id, at.member.annotator_id, secret)
    return lease


def locked(session: Session, caller: Caller, lease_id: str) -> tuple[Desk, Lease, Item] | None:
    """The caller's lease with its desk and item, locked in the order of FOR UPDATE; None if there
    is none (any more)."""
    row = session.execute(
        select(Member, Project.settings, Lease, Item, Version.schema)
        .options(_NO_CANDIDATES)
        .select_from(Lease)
        .join(Item, Item.id == Lease.item_id)
        .join(Project, Project.id == Item.project_id)
        .join(
            Member,
            (Member.project_id == Item.project_id) & (Member.annotator_id == Lease.annotator_id),
        )
        .outerjoin(Version, Version.id == Lease.version_id)
        .where(Lease.id == lease_id, Lease.annotator_id == caller.annotator_id)
        .with_for_update(of=(Member, Lease, Item))
    ).first()
    if row is None:
        return None
    # What is asked of an open task is what was asked when it was taken, whatever the project has
    # become since.
    settings = under(settings_of(row.settings), row.schema)
    return Desk(row.Member, settings, row.Lease.version_id), row.Lease, row.Item


def _item(session: Session, item_id: int) -> Item:
    """An item, locked, without its candidates."""
    query = select(Item).options(_NO_CANDIDATES).where(Item.id == item_id)
    return session.scalars(query.with_for_update(of=Item)).one()


def _store(
    session: Session, at: Desk, lease: Lease, item: Item, said: Answer, seconds: float | None
) -> None:
    session.execute(
        insert(Annotation).values(
            item_id=item.id,
            annotator_id=lease.annotator_id,
            presented=list(said.presented),
            ranks=None if said.ranks is None else list(said.ranks),
            skipped=said.skipped,
            seconds=seconds,
            created_at=now(),
            kind=said.kind,
            payload=said.payload(),
            source="label",
            lease=lease.id,
            version_id=lease.version_id,
        )
    )
    session.execute(
        delete(Lease).where(Lease.id == lease.id), execution_options={"synchronize_session": False}
    )
    _log(
        session,
        "answered" if said.skipped is None else "skipped",
        item.id,
        lease.annotator_id,
        lease.id,
    )
    if item.part != "work":
        return
    at.member.met += 1
    at.member.answered += said.skipped is None
    if said.skipped is not None:
        give_slot(item)
    elif not _is_test(item) and item.slots == 0:
        _complete(session, at, item)


def _complete(session: Session, at: Desk, item: Item) -> None:
    """An item without slots or leases has all its answers: see whether they agree, and tell who
    wants to know."""
    session.flush()
    if session.scalar(select(exists().where(Lease.item_id == item.id))):
        return
    rows = session.execute(
        select(Annotation.kind, Annotation.payload, Annotation.presented, Annotation.ranks).where(
            Annotation.item_id == item.id,
            Annotation.source == "label",
            Annotation.skipped.is_(None),
        )
    ).all()
    answers = [
        answer_from(row.kind, row.payload, presented=row.presented, ranks=row.ranks) for row in rows
    ]
    if not _is_decided(session, item.id):
        item.disputed = is_disputed(answers, below=at.settings.dispute_below)
        chance = drawn("review", item.project_id, item.id)
        item.sampled = not item.disputed and chance < at.settings.review_share
    session.flush()
    announce_completed(session, at.project_id, at.settings, item)


def _is_decided(session: Session, item_id: int) -> bool:
    decision = exists().where(Annotation.item_id == item_id, Annotation.source == "adjudication")
    return bool(session.scalar(select(decision)))


def _again(session: Session, caller: Caller, lease_id: str, given: Submission) -> Verdict:
    """A lease that is there no more: answered already (acknowledge the same, refuse another), run
    out, or never the caller's."""
    row = session.scalar(
        select(Annotation).where(
            Annotation.lease == lease_id, Annotation.annotator_id == caller.annotator_id
        )
    )
    if row is None:
        raise gone(session, caller, lease_id)
    item = session.scalars(select(Item).options(_NO_CANDIDATES).where(Item.id == row.item_id)).one()
    at = as_taken(session, desk(session, caller, item.project_id), row.version_id)
    said = answer_of(
        given,
        kind=row.kind,  # type: ignore[arg-type]
        settings=asked_of(session, item.id, at.settings),
        presented=row.presented,
        texts=lambda: shown_of(session, item.id).texts,
        chat=row.payload.get("turns", ()),
        rubric=item.columns.get("rubric", ()) if row.kind == "rubric" else (),
        counts=lambda: shown_of(session, item.id).step_counts,
    )
    if (
        answer_from(
            row.kind, row.payload, presented=row.presented, ranks=row.ranks, skipped=row.skipped
        )
        != said
    ):
        raise ConflictError("this item was answered already, and otherwise.")
    return Verdict(again=True)


def gone(session: Session, caller: Caller, lease_id: str) -> NotFoundError | ConflictError:
    """Why there is no such lease: it was the caller's and has ended, or it never was."""
    known = session.scalar(
        select(Event.id)
        .where(Event.annotator_id == caller.annotator_id, Event.lease == lease_id)
        .limit(1)
    )
    if known is not None:
        return ConflictError(
            "this item is no longer in your hands: the time for it ran out, or it was answered."
        )
    return NotFoundError("there is no such task in your hands.")


def _is_test(item: Item) -> bool:
    """Items with a known answer are for everybody: they have no slots."""
    return item.gold is not None or item.part != "work"


def give_slot(item: Item) -> None:
    """A place of an item that is in work is open to others again."""
    if not _is_test(item):
        item.slots += 1


def _log(session: Session, what: str, item_id: int, annotator_id: int, lease: str | None) -> None:
    session.execute(
        insert(Event).values(
            at=now(), what=what, item_id=item_id, annotator_id=annotator_id, lease=lease
        )
    )
