"""The crowd's door: people of a platform such as Prolific come in by an address with their ids,
agree, work up to the quota, and get a code to hand in there. An account of theirs is good for one
project, has no password, and is found again by the same ids."""

from __future__ import annotations

import csv
import hmac
import io
import re
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from burnish.annotation.assignment import quota_left
from burnish.annotation.service import work
from burnish.annotation.service.accounts import Caller, add_account, open_session, record
from burnish.annotation.service.choosing import desk
from burnish.annotation.service.database import Database
from burnish.annotation.service.people import add_member
from burnish.annotation.service.projects import role_in
from burnish.annotation.service.refusals import ConflictError, ForbiddenError, NotFoundError
from burnish.annotation.settings import Settings, settings_of
from burnish.annotation.tables import (
    Account,
    Annotation,
    Annotator,
    CrowdEntry,
    Item,
    Member,
    Project,
    now,
)
from burnish.errors import UserError

_ID = re.compile(r"[A-Za-z0-9_-]{1,60}")


def study(database: Database, study_id: str) -> dict[str, Any]:
    """The project whose door is open to a study: id, name, what is agreed to. Raises NotFoundError
    if there is none."""
    with database.read() as session:
        found, settings = _open_to(session, study_id)
        return {
            "project_id": found.id,
            "name": found.name,
            "consent": settings.consent,
            "quota": settings.quota,
        }


def enter(
    database: Database, study_id: str, person: str, session_id: str, *, address: str
) -> tuple[int, str]:
    """Let somebody in who has agreed: their project's id, and the cookie of a session of theirs.

    Raises UserError for ids that are none, NotFoundError for a study that there is not,
    ConflictError for a person who began in another session of the platform: a person's id alone is
    not enough to go on with their work.
    """
    for name, value in (("PROLIFIC_PID", person), ("SESSION_ID", session_id)):
        if not _ID.fullmatch(value):
            raise UserError("must have 1 to 60 letters, digits, - and _.", field=name)
    with database.write() as session:
        project, _ = _open_to(session, study_id)
        known = select(CrowdEntry).where(
            CrowdEntry.project_id == project.id, CrowdEntry.person == person
        )
        entry = session.scalar(known)
        if entry is None:
            account = add_account(session, f"crowd-{project.id}-{person}"[:60], None)
            session.flush()
            add_member(session, project.id, account.annotator_id, role="annotator")
            session.add(
                CrowdEntry(
                    project_id=project.id,
                    annotator_id=account.annotator_id,
                    person=person,
                    session=session_id,
                )
            )
            record(
                session,
                "came in by the door",
                project_id=project.id,
                subject=person,
                address=address,
            )
        else:
            if not hmac.compare_digest(entry.session.encode(), session_id.encode()):
                raise ConflictError(
                    "you have begun this study in another session; go on there, or write to its"
                    " owner."
                )
            account = session.scalars(
                select(Account).where(Account.annotator_id == entry.annotator_id)
            ).one()
            if not account.active:
                raise ForbiddenError("this account is shut out.")
        return project.id, open_session(session, account, address=address)


def _open_to(session: Session, study_id: str) -> tuple[Project, Settings]:
    for project in session.scalars(select(Project).order_by(Project.id)):
        settings = settings_of(project.settings)
        if study_id and settings.study == study_id:
            return project, settings
    raise NotFoundError("there is no study of this STUDY_ID here, or it is closed.")


def completion(database: Database, caller: Caller, project_id: int) -> dict[str, Any]:
    """Whether the caller is done, and the code to hand in: after the quota, or when there is
    nothing left to do.

    Raises NotFoundError for who did not come in by the door, ForbiddenError for who failed or was
    stopped.
    """
    with database.read() as session:
        at = desk(session, caller, project_id)
        mine = (CrowdEntry.project_id == project_id, CrowdEntry.annotator_id == caller.annotator_id)
        if session.scalar(select(CrowdEntry.id).where(*mine)) is None:
            raise NotFoundError("you did not come in by a crowd platform.")
        left = quota_left(
            answered=at.member.answered, project=at.settings.quota, own=at.member.quota
        )
        answered = at.member.answered
    done = left == 0 or work.take(database, caller, project_id) is None
    if not done or not answered:
        return {"done": False, "answered": answered, "left": left, "code": None}
    with database.write() as session:
        entry = session.scalars(select(CrowdEntry).where(*mine)).one()
        if entry.code_shown_at is None:
            entry.code_shown_at = now()
            record(
                session,
                "completion code shown",
                caller=caller,
                project_id=project_id,
                subject=entry.person,
            )
    return {"done": True, "answered": answered, "left": left, "code": at.settings.completion_code}


def came_by_the_door(session: Session, project_id: int, annotator_id: int) -> bool:
    """Whether somebody came in so."""
    mine = (CrowdEntry.project_id == project_id, CrowdEntry.annotator_id == annotator_id)
    return session.scalar(select(CrowdEntry.id).where(*mine)) is not None


def pay_sheet(database: Database, caller: Caller, project_id: int) -> list[dict[str, Any]]:
    """What each annotator did and is owed, by name; for owners.

    All that people did is paid, as in the project's cost: answers, known answers, training, skips
    and decisions, by the task and by the hour of work.
    """
    with database.read() as session:
        project = role_in(session, caller, project_id, least="owner", scope="export")
        settings = settings_of(project.settings)
        skipped = func.count(Annotation.skipped)
        query = (
            select(
                Annotator.name,
                Member.role,
                Member.state,
                CrowdEntry.person,
                CrowdEntry.session,
                CrowdEntry.code_shown_at,
                func.count(Annotation.id).label("tasks"),
                skipped.label("skipped"),
                func.coalesce(func.sum(Annotation.seconds), 0.0).label("seconds"),
            )
            .select_from(Annotation)
            .join(Item, Item.id == Annotation.item_id)
            .join(Annotator, Annotator.id == Annotation.annotator_id)
            .outerjoin(
                Member,
                (Member.annotator_id == Annotator.id) & (Member.project_id == Item.project_id),
            )
            .outerjoin(
                CrowdEntry,
                (CrowdEntry.annotator_id == Annotator.id)
                & (CrowdEntry.project_id == Item.project_id),
            )
            .where(Item.project_id == project_id, Annotator.kind != "ai")
            .group_by(
                Annotator.id,
                Annotator.name,
                Member.role,
                Member.state,
                CrowdEntry.person,
                CrowdEntry.session,
                CrowdEntry.code_shown_at,
            )
            .order_by(Annotator.name)
        )
        return [_owed(row, settings) for row in session.execute(query)]


def _owed(row: Any, settings: Settings) -> dict[str, Any]:
    hours = float(row.seconds) / 3600
    return {
        "annotator": row.name,
        "person": row.person or "",
        "session": row.session or "",
        "role": row.role or "",
        "state": row.state or "",
        "tasks": row.tasks,
        "skipped": row.skipped,
        "hours": round(hours, 4),
        "pay": round(settings.price_per_task * row.tasks + settings.price_per_hour * hours, 2),
        "currency": settings.currency,
        "code_shown_at": (
            "" if row.code_shown_at is None else row.code_shown_at.isoformat(timespec="seconds")
        ),
    }


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    """A pay sheet as a table. A cell that a spreadsheet would compute is kept text by a quote
    before it."""
    names = (
        "annotator",
        "person",
        "session",
        "role",
        "state",
        "tasks",
        "skipped",
        "hours",
        "pay",
        "currency",
        "code_shown_at",
    )
    out = io.StringIO(newline="")
    table = csv.writer(out)
    table.writerow(names)
    for row in rows:
        table.writerow([_harmless(row[name]) for name in names])
    return out.getvalue().encode("utf-8-sig")


def _harmless(cell: Any) -> Any:
    return (
        f"'{cell}"
        if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r")
        else cell
    )
