"""Forgetting a person on request: the account goes, what they wrote goes or stays without a
name."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, cast

from sqlalchemy import CursorResult, delete, or_, select, update
from sqlalchemy.orm import Session, lazyload

from burnish.annotation.service import curation, work
from burnish.annotation.service.accounts import Caller, find_annotator, record
from burnish.annotation.service.database import Database
from burnish.annotation.service.projects import role_in
from burnish.annotation.service.refusals import ConflictError, ForbiddenError, NotFoundError
from burnish.annotation.service.resets import is_beyond
from burnish.annotation.tables import (
    Account,
    Annotation,
    Annotator,
    Audit,
    CrowdEntry,
    Draft,
    Event,
    Item,
    Lease,
    Member,
    Note,
    Project,
    Reading,
)


def of_member(
    database: Database,
    caller: Caller,
    project_id: int,
    annotator_id: int,
    *,
    keep_answers: bool = True,
) -> dict[str, int]:
    """Erase a member of the caller's project (`erase`).

    Raises ForbiddenError for somebody who has a part in projects that are not the caller's, or may
    create some: whoever runs the server erases them.
    """
    with database.write() as session:
        role_in(session, caller, project_id, least="owner")
        member = select(Member.id).where(
            Member.project_id == project_id, Member.annotator_id == annotator_id
        )
        if session.scalar(member) is None:
            raise NotFoundError("there is no such member.")
        if annotator_id == caller.annotator_id:
            raise ConflictError("you cannot erase yourself; another owner can.")
        if is_beyond(session, caller, annotator_id):
            raise ForbiddenError(
                "this person has rights beyond your projects: whoever runs the server erases them "
                "(burnish annotate users erase NAME)."
            )
        counts = erase(session, annotator_id, keep_answers=keep_answers)
        detail: dict[str, Any] = {**counts}
        record(session, "person erased", caller=caller, project_id=project_id, **detail)
        return counts


def by_name(database: Database, name: str, *, keep_answers: bool = True) -> dict[str, int]:
    """Erase a person by name (`erase`): what the operator does at the server itself."""
    with database.write() as session:
        annotator = find_annotator(session, name)
        if annotator is None:
            raise NotFoundError(f'there is nobody called "{name}".')
        last = _only_owner_of(session, annotator.id)
        if last:
            raise ConflictError(f'"{name}" is the only owner of {", ".join(last)}: name another.')
        counts = erase(session, annotator.id, keep_answers=keep_answers)
        detail: dict[str, Any] = {**counts}
        record(session, "person erased", **detail)
        return counts


def erase(session: Session, annotator_id: int, *, keep_answers: bool) -> dict[str, int]:
    """Forget a person, within a transaction; returns how many answers and notes went.

    Login, tokens, drafts, notes, readings, ids of a crowd platform and addresses go, and the name
    from everywhere, the audit log among it. Answers stay under a name that says nothing, or,
    without `keep_answers`, go with their events: their items are open again.
    """
    annotator = session.get_one(Annotator, annotator_id)
    old, new = annotator.name, f"erased-{secrets.token_hex(6)}"
    leases, items = _locked(session, annotator_id)
    for lease in leases:
        work.give_slot(items[lease.item_id])
        session.delete(lease)
    gone = 0 if keep_answers else _remove_answers(session, annotator_id, items)
    session.flush()
    theirs: list[Any] = [
        Draft,
        Reading,
        CrowdEntry,
        Member,
        *([] if keep_answers else [Event]),
    ]
    account = session.scalar(select(Account.id).where(Account.annotator_id == annotator_id))
    for table in theirs:
        _run(session, delete(table).where(table.annotator_id == annotator_id))
    of_person = or_(Note.annotator_id == annotator_id, Note.author_id == annotator_id)
    notes = _run(session, delete(Note).where(of_person))
    if account is not None:  # sessions, tokens and links go with it
        _run(
            session,
            update(Audit).where(Audit.account_id == account).values(account_id=None, address=""),
        )
        _run(session, delete(Account).where(Account.id == account))
    _run(session, update(Audit).where(Audit.subject == old).values(subject=new, address=""))
    annotator.name = new
    return {"answers": gone, "notes": notes}


def _locked(session: Session, annotator_id: int) -> tuple[list[Lease], dict[int, Item]]:
    """The open tasks of a person, and by id the items that they have in hand or answered; locked in
    the order member, lease, item, as when they work."""
    members = select(Member).where(Member.annotator_id == annotator_id)
    session.scalars(members.order_by(Member.id).with_for_update()).all()
    mine = select(Lease).where(Lease.annotator_id == annotator_id)
    leases = session.scalars(mine.order_by(Lease.item_id).with_for_update()).all()
    touched = or_(
        *(
            Item.id.in_(select(table.item_id).where(table.annotator_id == annotator_id))
            for table in (Lease, Annotation)
        )
    )
    query = select(Item).options(lazyload(Item.candidates)).where(touched).order_by(Item.id)
    items = {item.id: item for item in session.scalars(query.with_for_update(of=Item))}
    return list(leases), items


def _remove_answers(session: Session, annotator_id: int, items: Mapping[int, Item]) -> int:
    """Delete what a person answered and decided; returns how much. The place of an answer is open
    again, and what they decided waits for another reviewer."""
    rows = session.scalars(select(Annotation).where(Annotation.annotator_id == annotator_id)).all()
    for row in rows:
        item = items[row.item_id]
        session.delete(row)
        session.flush()
        if row.source == "adjudication":
            item.disputed = item.part == "work"
        elif row.skipped is None:
            curation.reopen_place(session, item)
    return len(rows)


def _only_owner_of(session: Session, annotator_id: int) -> list[str]:
    """The projects that would have no owner any more."""
    owned = select(Member.project_id).where(
        Member.annotator_id == annotator_id, Member.role == "owner"
    )
    others = select(Member.project_id).where(
        Member.annotator_id != annotator_id, Member.role == "owner"
    )
    query = select(Project.name).where(Project.id.in_(owned), Project.id.not_in(others))
    return list(session.scalars(query.order_by(Project.name)))


def _run(session: Session, statement: Any) -> int:
    """How many rows a statement changed."""
    done = session.execute(statement, execution_options={"synchronize_session": False})
    return cast(CursorResult[Any], done).rowcount
