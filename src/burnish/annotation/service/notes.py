"""Notes between an annotator and a project's owners: one thread a person, about an item or not.

Reviewers add to a thread when they send an answer back. Annotators see their own thread alone, and
who wrote in it only as themselves or the project.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from burnish.annotation.service.accounts import Caller
from burnish.annotation.service.database import Database
from burnish.annotation.service.projects import ROLES, member_role
from burnish.annotation.service.refusals import NotFoundError
from burnish.annotation.tables import Annotation, Annotator, Draft, Item, Lease, Member, Note
from burnish.errors import UserError

LONGEST_NOTE = 4000
_MOST = 500


def write(
    database: Database,
    caller: Caller,
    project_id: int,
    text: str,
    *,
    item_id: int | None = None,
    to: int | None = None,
) -> int:
    """Add a note to one's own thread, or, as an owner, to that of the member `to` (an annotator's
    id); returns its id.

    Raises UserError for an empty or too long text, NotFoundError for somebody else's thread or an
    item that is not in the project (for annotators: that they never had).
    """
    caller.needs("label" if to in (None, caller.annotator_id) else "manage")
    with database.write() as session:
        role = member_role(session, caller, project_id)
        thread = caller.annotator_id if to is None else to
        if thread != caller.annotator_id and (
            role != "owner" or not _is_member(session, project_id, thread)
        ):
            raise NotFoundError("there is no such member.")
        if item_id is not None and not _may_name(session, project_id, item_id, role, thread):
            raise NotFoundError("there is no such item.")
        return add(session, project_id, caller, text, item_id=item_id, thread=thread)


def add(
    session: Session,
    project_id: int,
    caller: Caller,
    text: str,
    *,
    item_id: int | None,
    thread: int,
) -> int:
    """A note, within a transaction. Raises UserError for an empty or too long text."""
    if not text.strip() or len(text) > LONGEST_NOTE:
        raise UserError("a note has 1 to 4,000 characters.", field="text")
    note = Note(
        project_id=project_id, item_id=item_id, annotator_id=thread, author_id=caller.annotator_id,
        text=text.strip(),
    )  # fmt: skip
    session.add(note)
    session.flush()
    return note.id


def about_task(database: Database, caller: Caller, lease_id: str, text: str) -> int:
    """A note to the owners about the task in hand; returns its id."""
    caller.needs("label")
    with database.write() as session:
        row = session.execute(
            select(Lease.item_id, Item.project_id)
            .join(Item, Item.id == Lease.item_id)
            .where(Lease.id == lease_id, Lease.annotator_id == caller.annotator_id)
        ).first()
        if row is None:
            raise NotFoundError("there is no such task in your hands.")
        thread = caller.annotator_id
        return add(session, row.project_id, caller, text, item_id=row.item_id, thread=thread)


def listed(database: Database, caller: Caller, project_id: int) -> list[dict[str, Any]]:
    """The notes that the caller may see, the latest first: an owner all, others their own thread.
    What was not seen yet is marked so, this once."""
    caller.needs("label")
    with database.write() as session:
        role = member_role(session, caller, project_id)
        owner = role == "owner"
        author = aliased(Annotator)
        query = (
            select(
                Note, Annotator.name, author.name.label("author"), Item.external_id,
                _waits(caller, role).label("waits"),
            )
            .join(Annotator, Annotator.id == Note.annotator_id)
            .join(author, author.id == Note.author_id)
            .outerjoin(Item, Item.id == Note.item_id)
            .where(Note.project_id == project_id)
            .order_by(Note.id.desc())
            .limit(_MOST)
        )  # fmt: skip
        if not owner:
            query = query.where(Note.annotator_id == caller.annotator_id)
        found = [
            {
                "id": row.Note.id, "annotator_id": row.Note.annotator_id, "annotator": row.name,
                "mine": row.Note.author_id == caller.annotator_id,
                "author": row.author if owner else None,
                "text": row.Note.text, "at": row.Note.at, "item_id": row.Note.item_id,
                "item": row.external_id if owner else None, "new": row.waits,
            }
            for row in session.execute(query)
        ]  # fmt: skip
        new = [one["id"] for one in found if one["new"]]
        session.execute(update(Note).where(Note.id.in_(new)).values(seen=True))
        return found


def unread(session: Session, caller: Caller, project_id: int, role: str) -> int:
    """How many notes wait for the caller."""
    query = select(func.count(Note.id)).where(Note.project_id == project_id, _waits(caller, role))
    return session.scalar(query) or 0


def on_item(session: Session, item_id: int, annotator_id: int) -> list[dict[str, Any]]:
    """What stands in somebody's thread about an item, in order."""
    query = select(Note).where(Note.item_id == item_id, Note.annotator_id == annotator_id)
    return [
        {"text": note.text, "mine": note.author_id == annotator_id, "at": note.at.isoformat()}
        for note in session.scalars(query.order_by(Note.id))
    ]


def _waits(caller: Caller, role: str) -> ColumnElement[bool]:
    """Whether a note waits for the caller: somebody else's, unseen, in the caller's own thread or,
    for an owner, in that of who wrote it."""
    to_caller = Note.annotator_id == caller.annotator_id
    to_owners = Note.author_id == Note.annotator_id
    addressed = or_(to_caller, to_owners) if role == "owner" else to_caller
    return and_(~Note.seen, Note.author_id != caller.annotator_id, addressed)


def _is_member(session: Session, project_id: int, annotator_id: int) -> bool:
    mine = (Member.project_id == project_id, Member.annotator_id == annotator_id)
    return bool(session.scalar(select(exists().where(*mine))))


def _may_name(session: Session, project_id: int, item_id: int, role: str, thread: int) -> bool:
    there = select(Item.id).where(Item.id == item_id, Item.project_id == project_id)
    if session.scalar(there) is None:
        return False
    if ROLES[role] >= ROLES["owner"]:
        return True
    return any(
        session.scalar(
            select(exists().where(table.item_id == item_id, table.annotator_id == thread))
        )
        for table in (Lease, Draft, Annotation)
    )
