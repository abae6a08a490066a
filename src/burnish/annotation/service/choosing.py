"""Which item comes next for an annotator: training, then the test, then gold and open items. Reads
and takes slots; no leases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import exists, select, update
from sqlalchemy.orm import Session

from burnish.annotation.assignment import Open, gold_due, grade, in_order, quota_left
from burnish.annotation.records import answer_from
from burnish.annotation.service.accounts import Caller
from burnish.annotation.service.refusals import ForbiddenError, NotFoundError
from burnish.annotation.settings import Settings, settings_of
from burnish.annotation.tables import Annotation, Item, Lease, Member, Project

_WINDOW = 64  # open items that are looked at for one taking
TESTS = ("training", "qualification")


@dataclass(frozen=True, slots=True)
class Desk:
    """A member at work in a project, under a version of what is asked. `member` is locked where the
    transaction writes."""

    member: Member
    settings: Settings
    version_id: int | None = None

    @property
    def project_id(self) -> int:
        """Of the project."""
        return self.member.project_id


def desk(session: Session, caller: Caller, project_id: int, *, lock: bool = False) -> Desk:
    """The caller's place in a project. Raises NotFoundError for a project that is not there or not
    the caller's."""
    query = (
        select(Member, Project.settings, Project.version_id)
        .join(Project, Project.id == Member.project_id)
        .where(Member.project_id == project_id, Member.annotator_id == caller.annotator_id)
    )
    row = session.execute(query.with_for_update(of=Member) if lock else query).first()
    if row is None:
        raise NotFoundError("there is no such project, or you are not a member of it.")
    return Desk(row.Member, settings_of(row.settings), row.version_id)


def advance(session: Session, at: Desk) -> None:
    """From training to qualification to work, as soon as nothing of the former is left."""
    member = at.member
    if member.state == "training" and not _untaken(session, at, "training", limit=1):
        member.state = "qualification"
    if member.state == "qualification" and not _untaken(session, at, "qualification", limit=1):
        score = _test_score(session, at)
        member.score = score
        member.state = "active" if score is None or score >= at.settings.pass_mark else "failed"


def _test_score(session: Session, at: Desk) -> float | None:
    """The mean mark over the qualification test; None where there is no test."""
    rows = session.execute(
        select(
            Annotation.kind,
            Annotation.payload,
            Annotation.presented,
            Annotation.ranks,
            Annotation.skipped,
            Item.gold,
        )
        .join(Item, Item.id == Annotation.item_id)
        .where(
            Item.project_id == at.project_id,
            Item.part == "qualification",
            Annotation.annotator_id == at.member.annotator_id,
        )
    ).all()
    marks = [
        grade(
            r.gold or {},
            answer_from(r.kind, r.payload, presented=r.presented, ranks=r.ranks, skipped=r.skipped),
        )
        for r in rows
    ]
    return sum(marks) / len(marks) if marks else None


def refuse_idle(at: Desk) -> None:
    """Raises ForbiddenError for a member who has failed, is paused or was stopped."""
    if at.member.state == "stopped":
        raise ForbiddenError(
            "your work here has ended: too many answers were too fast, or too many known ones"
            " missed."
        )
    if at.member.state == "failed":
        raise ForbiddenError(
            "the qualification test was not passed; the project's owner can let you try again."
        )
    if at.member.state == "paused":
        raise ForbiddenError("the project's owner has paused your work here.")


def _not_mine(at: Desk) -> tuple[Any, Any]:
    own = at.member.annotator_id
    return (
        ~exists().where(Annotation.item_id == Item.id, Annotation.annotator_id == own),
        ~exists().where(Lease.item_id == Item.id, Lease.annotator_id == own),
    )


def _untaken(session: Session, at: Desk, part: str, *, limit: int) -> list[int]:
    """Items that teach or examine and that this annotator has not had, in their order."""
    query = select(Item.id).where(
        Item.project_id == at.project_id, Item.part == part, *_not_mine(at)
    )
    return list(session.scalars(query.order_by(Item.priority.desc(), Item.id).limit(limit)))


def choose(session: Session, at: Desk) -> int | None:
    """An item for this annotator, its slot taken."""
    member, settings = at.member, at.settings
    if member.state in TESTS:
        found = _untaken(session, at, member.state, limit=1)
        return found[0] if found else None
    if quota_left(answered=member.answered, project=settings.quota, own=member.quota) == 0:
        return None
    if gold_due(met=member.met, rate=settings.gold_rate, annotator=member.annotator_id):
        gold = list(
            session.scalars(
                select(Item.id).where(
                    Item.project_id == at.project_id,
                    Item.part == "work",
                    Item.gold.is_not(None),
                    *_not_mine(at),
                )
            )
        )
        if gold:
            return in_order([Open(id, 0, 0.0, 1, 1) for id in gold], annotator=member.annotator_id)[
                0
            ].id
    return _choose_open(session, at)


def _choose_open(session: Session, at: Desk) -> int | None:
    rows = session.execute(
        select(Item.id, Item.priority, Item.score, Item.slots)
        .where(
            Item.project_id == at.project_id, Item.slots > 0, Item.part == "work", *_not_mine(at)
        )
        .order_by(Item.priority.desc(), Item.score.desc(), Item.id)
        .limit(_WINDOW)
    ).all()
    items = [Open(row.id, row.priority, row.score, row.slots, at.settings.overlap) for row in rows]
    for item in in_order(items, annotator=at.member.annotator_id):
        # Another may have taken the last slot since it was read; then this changes no row and the
        # next one is tried.
        take_slot = (
            update(Item).where(Item.id == item.id, Item.slots > 0).values(slots=Item.slots - 1)
        )
        taken = session.execute(take_slot, execution_options={"synchronize_session": False})
        if taken.rowcount == 1:  # type: ignore[attr-defined]
            return item.id
    return None
