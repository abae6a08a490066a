"""What is left of a task when its lease ends: the draft, the order of showing, the time of work. It
belongs to annotator and item, comes back with the item, and lets a late answer count."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import delete, exists, func, select
from sqlalchemy.orm import Session, lazyload

from burnish.annotation.service.accounts import Caller
from burnish.annotation.service.choosing import desk
from burnish.annotation.settings import Settings, settings_of
from burnish.annotation.tables import Annotation, Draft, Item, Lease, Project, now


def seen(lease: Lease, settings: Settings) -> None:
    """A sign of life: the time since the last one counts as work, at most the longest pause that
    does."""
    moment = now()
    since = lease.seen_at or lease.taken_at
    lease.worked += min(max(0.0, (moment - since).total_seconds()), 60.0 * settings.idle_minutes)
    lease.seen_at = moment
    lease.expires_at = moment + timedelta(minutes=settings.lease_minutes)


def keep(session: Session, lease: Lease) -> None:
    """Keep what an ending lease holds."""
    mine = (Draft.item_id == lease.item_id, Draft.annotator_id == lease.annotator_id)
    session.execute(delete(Draft).where(*mine), execution_options={"synchronize_session": False})
    session.add(
        Draft(
            lease=lease.id,
            item_id=lease.item_id,
            annotator_id=lease.annotator_id,
            presented=lease.presented,
            content=lease.draft,
            chat=lease.chat,
            version_id=lease.version_id,
            worked=lease.worked,
        )
    )


def bring_back(session: Session, lease: Lease) -> None:
    """Give a fresh lease what the person had of its item before: shown in the same order, asked as
    it was begun."""
    kept = session.scalar(
        select(Draft).where(
            Draft.item_id == lease.item_id, Draft.annotator_id == lease.annotator_id
        )
    )
    if kept is None:
        return
    lease.presented, lease.draft, lease.chat = kept.presented, kept.content, kept.chat
    lease.version_id, lease.worked = kept.version_id, kept.worked
    session.delete(kept)


def revive(session: Session, caller: Caller, lease_id: str) -> bool:
    """Put an ended lease back into the caller's hands, unless other people's answers have filled
    the item's places.

    False where there is none to put back. Who holds a place without having answered does not keep a
    late answer out.
    """
    kept = session.get(Draft, lease_id)
    if kept is None or kept.annotator_id != caller.annotator_id:
        return False
    query = select(Item).options(lazyload(Item.candidates)).where(Item.id == kept.item_id)
    item = session.scalars(query.with_for_update(of=Item)).one()
    desk(session, caller, item.project_id)
    if item.part == "retired":
        return False
    settings = settings_of(
        session.scalar(select(Project.settings).where(Project.id == item.project_id))
    )
    on_it = Annotation.item_id == item.id
    answers = select(func.count()).where(
        on_it, Annotation.source == "label", Annotation.skipped.is_(None)
    )
    has_places = item.gold is None and item.part == "work"
    if has_places and (session.scalar(answers) or 0) >= settings.overlap:
        return False
    if session.scalar(select(exists().where(on_it, Annotation.source == "adjudication"))):
        return False
    moment = now()
    session.add(
        Lease(
            id=kept.lease,
            item_id=item.id,
            annotator_id=kept.annotator_id,
            presented=kept.presented,
            taken_at=moment,
            expires_at=moment + timedelta(minutes=settings.lease_minutes),
            draft=kept.content,
            chat=kept.chat,
            version_id=kept.version_id,
            worked=kept.worked,
            seen_at=kept.ended_at,
        )
    )
    session.delete(kept)
    if has_places:
        item.slots = max(0, item.slots - 1)
    session.flush()
    return True


def keep_late(session: Session, caller: Caller, lease_id: str, answer: dict[str, Any]) -> bool:
    """Keep an answer that came too late as the draft that it was; False where no lease of the
    caller's ended so."""
    kept = session.get(Draft, lease_id)
    if kept is None or kept.annotator_id != caller.annotator_id:
        return False
    kept.content = {"answer": answer}
    return True


def of_mine(session: Session, project_id: int, annotator_id: int) -> int | None:
    """An open item that the person has a draft of, the one left last; None: there is none."""
    query = (
        select(Item.id)
        .join(Draft, Draft.item_id == Item.id)
        .where(
            Item.project_id == project_id,
            Draft.annotator_id == annotator_id,
            Draft.content.is_not(None),
        )
        .where(
            Item.slots > 0,
            ~exists().where(Lease.item_id == Item.id, Lease.annotator_id == annotator_id),
        )
        .where(
            ~exists().where(Annotation.item_id == Item.id, Annotation.annotator_id == annotator_id)
        )
    )
    return session.scalar(query.order_by(Draft.ended_at.desc()).limit(1))
