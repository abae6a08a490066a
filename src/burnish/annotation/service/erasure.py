"""Forgetting a person on request: the account goes, what they wrote goes or stays without a name."""

from __future__ import annotations

import secrets
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from burnish.annotation.service import curation
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
    from everywhere, the audit log among it. Answers stay under a name that says nothing, or, without
    `keep_answers`, go with their events: their items are open again.
    """
    annotator = session.get_one(Annotator, annotator_id)
    old, new = annotator.name, f"erased-{secrets.token_hex(6)}"
    for lease in session.scalars(select(Lease).where(Lease.annotator_id == annotator_id)):
        item = session.get_one(Item, lease.item_id)
        item.slots += item.part == "work" and item.gold is None
        session.delete(lease)
    gone = 0 if keep_answers else _remove_answers(session, annotator_id)
    notes = len(session.scalars(select(Note.id).where(Note.annotator_id == annotator_id)).all())
    session.flush()
    theirs: list[Any] = [
        Note,
        Draft,
        Reading,
        CrowdEntry,
        Member,
        *([] if keep_answers else [Event]),
    ]
    account = session.scalar(select(Account.id).where(Account.annotator_id == annotator_id))
    for table in theirs:
        _run(session, delete(table).where(table.annotator_id == annotator_id))
    _run(session, delete(Note).where(Note.author_id == annotator_id))
    if account is not None:  # sessions, tokens and links go with it
        _run(
            session,
            update(Audit).where(Audit.account_id == account).values(account_id=None, address=""),
        )
        _run(session, delete(Account).where(Account.id == account))
    _run(session, update(Audit).where(Audit.subject == old).values(subject=new, address=""))
    annotator.name = new
    return {"answers": gone, "notes": notes}


def _remove_answers(session: Session, annotator_id: int) -> int:
    rows = session.scalars(select(Annotation).where(Annotation.annotator_id == annotator_id)).all()
    for row in rows:
        item = session.get_one(Item, row.item_id)
        session.delete(row)
        session.flush()
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


def _run(session: Session, statement: Any) -> None:
    session.execute(statement, execution_options={"synchronize_session": False})
