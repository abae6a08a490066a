"""What owners and reviewers do: projects, members, invitations, items, progress, decisions on
disagreements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from burnish.annotation.assignment import slots_left
from burnish.annotation.service import changes, webhooks
from burnish.annotation.service.accounts import (
    Caller,
    clean_name,
    record,
)
from burnish.annotation.service.database import Database
from burnish.annotation.service.refusals import ForbiddenError, NotFoundError
from burnish.annotation.settings import read_settings, settings_of
from burnish.annotation.tables import (
    Account,
    Annotation,
    Annotator,
    Audit,
    Item,
    Lease,
    Member,
    Project,
    Webhook,
)
from burnish.annotation.versions import Renames, renew
from burnish.errors import UserError

ROLES = {"annotator": 0, "reviewer": 1, "owner": 2}


def role_in(
    session: Session, caller: Caller, project_id: int, *, least: str, scope: str = "manage"
) -> Project:
    """The project, if the caller's role in it is at least `least`. Members of a lower role learn
    that they may not; others learn nothing."""
    caller.needs(scope)
    row = session.execute(
        select(Project, Member.role)
        .join(Member, Member.project_id == Project.id)
        .where(Project.id == project_id, Member.annotator_id == caller.annotator_id)
    ).first()
    if row is None:
        raise NotFoundError("there is no such project, or you are not a member of it.")
    if ROLES[row.role] < ROLES[least]:
        raise ForbiddenError(f"this is for the project's {least}{'s' if least != 'owner' else ''}.")
    return row.Project


def name_of(session: Session, project_id: int) -> str:
    """A project's name."""
    return session.scalar(select(Project.name).where(Project.id == project_id)) or ""


def member_role(session: Session, caller: Caller, project_id: int) -> str:
    """The caller's role. Raises NotFoundError if there is none."""
    found = session.scalar(
        select(Member.role).where(
            Member.project_id == project_id, Member.annotator_id == caller.annotator_id
        )
    )
    if found is None:
        raise NotFoundError("there is no such project, or you are not a member of it.")
    return found


def create(
    database: Database, caller: Caller, name: str, *, guidelines: str, settings: Mapping[str, Any]
) -> int:
    """A new project with the caller as its owner; returns its id. Raises UserError for settings or
    a name that do not do."""
    caller.needs("manage")
    if not caller.creates_projects:
        raise ForbiddenError("you may not create projects; ask who runs this server.")
    checked, name = read_settings(dict(settings)), clean_name(name)
    with database.write() as session:
        if (
            session.scalar(select(Project.id).where(func.lower(Project.name) == name.lower()))
            is not None
        ):
            raise UserError(f'there is a project "{name}" already.', field="name")
        project = Project(name=name, guidelines=_lines(guidelines), settings=checked.model_dump())
        session.add(project)
        renew(session, project)
        session.add(
            Member(
                project_id=project.id,
                annotator_id=caller.annotator_id,
                role="owner",
                state="active",
            )
        )
        record(session, "project created", caller=caller, project_id=project.id, subject=name)
        return project.id


def change(
    database: Database,
    caller: Caller,
    project_id: int,
    *,
    guidelines: str | None = None,
    settings: Mapping[str, Any] | None = None,
    renames: Renames | None = None,
    open_tasks: Literal["finish", "renew"] = "finish",
) -> None:
    """New guidelines or settings. With another overlap, items that are done open again, or open
    ones close.

    Answers stay what they are: they belong to the version under which they were given. `renames`
    says which flags and attributes go on under another name. Tasks in people's hands are finished
    as they were begun, or, with `open_tasks="renew"`, asked anew under the new version, their
    drafts mapped to it.
    """
    with database.write() as session:
        project = role_in(session, caller, project_id, least="owner")
        if guidelines is not None:
            project.guidelines = _lines(guidelines)
        if settings is not None:
            before, after = (
                settings_of(project.settings),
                read_settings({**project.settings, **settings}),
            )
            project.settings = after.model_dump()
            if after.overlap != before.overlap:
                _reslot(session, project_id, after.overlap)
        left = project.version_id
        version = changes.renew_version(session, project, renames or {})
        if open_tasks == "renew" and version.id != left:
            changes.renew_open_tasks(session, project)
        record(
            session,
            "project changed",
            caller=caller,
            project_id=project_id,
            settings=sorted(settings or ()),
            guidelines=guidelines is not None,
            version=version.number,
        )


def _lines(text: str) -> str:
    """With plain ends of lines: what a browser's form sends back unchanged is the same text."""
    return text.replace("\r\n", "\n")


def _reslot(session: Session, project_id: int, overlap: int) -> None:
    answers = _counts(
        session, project_id, Annotation, Annotation.skipped.is_(None), Annotation.source == "label"
    )
    leases = _counts(session, project_id, Lease)
    work = select(Item.id).where(
        Item.project_id == project_id, Item.part == "work", Item.gold.is_(None)
    )
    changes = [
        {
            "id": item_id,
            "slots": slots_left(
                overlap=overlap, answers=answers.get(item_id, 0), leases=leases.get(item_id, 0)
            ),
        }
        for item_id in session.scalars(work.with_for_update())
    ]
    if changes:
        session.execute(update(Item), changes)


def _counts(session: Session, project_id: int, table: Any, *conditions: Any) -> dict[int, int]:
    rows = session.execute(
        select(table.item_id, func.count())
        .join(Item, Item.id == table.item_id)
        .where(Item.project_id == project_id, *conditions)
        .group_by(table.item_id)
    )
    return {item_id: count for item_id, count in rows}


def mine(database: Database, caller: Caller) -> list[dict[str, Any]]:
    """The projects that the caller is a member of."""
    with database.read() as session:
        rows = session.execute(
            select(Project.id, Project.name, Member.role, Member.state, Member.answered)
            .join(Member, Member.project_id == Project.id)
            .where(Member.annotator_id == caller.annotator_id)
            .order_by(Project.name)
        )
        return [dict(row._mapping) for row in rows]


def describe(database: Database, caller: Caller, project_id: int) -> dict[str, Any]:
    """A project as its members may see it."""
    with database.read() as session:
        project = role_in(session, caller, project_id, least="annotator", scope="read")
        return {
            "id": project.id,
            "name": project.name,
            "guidelines": project.guidelines,
            "settings": settings_of(project.settings).model_dump(),
            "created_at": project.created_at,
        }


def add_items(
    database: Database, caller: Caller, project_id: int, rows: Iterable[Mapping[str, Any]]
) -> dict[str, int]:
    """Put items in; those whose id is there already are left as they are, and counted. Raises
    UserError naming the row.

    A row has `id`, `prompt` (text) or `messages`, `candidates` (texts, or {"text", "source"}), and
    may have `kind`, `part`, `gold`, `explanation`, `priority`, `columns`.
    """
    with database.write() as session:
        project = role_in(session, caller, project_id, least="owner")
        counted = insert_items(session, project, rows)
        record(session, "items added", caller=caller, project_id=project_id, counted=counted)
        return counted


def insert_items(
    session: Session, project: Project, rows: Iterable[Mapping[str, Any]]
) -> dict[str, int]:
    """`add_items` within a transaction, for callers that have the right already."""
    from burnish.annotation.service.images import keep, lifted
    from burnish.annotation.service.rows import item_of

    settings = settings_of(project.settings)
    known = set(session.scalars(select(Item.external_id).where(Item.project_id == project.id)))
    added = there = 0
    for number, row in enumerate(rows, 1):
        row, pictures = lifted(row, number)
        item = item_of(row, number, settings)
        if item.external_id in known:
            there += 1
            continue
        known.add(item.external_id)
        item.project_id = project.id
        keep(session, project.id, pictures)
        session.add(item)
        added += 1
        if added % 500 == 0:
            session.flush()
    session.flush()
    return {"added": added, "there_already": there}


def progress(database: Database, caller: Caller, project_id: int) -> dict[str, Any]:
    """How far the project is, for owners and reviewers."""
    with database.read() as session:
        project = role_in(session, caller, project_id, least="reviewer", scope="read")
        settings = settings_of(project.settings)
        parts = dict(
            session.execute(
                select(Item.part, func.count())
                .where(Item.project_id == project_id)
                .group_by(Item.part)
            ).all()
        )
        answers = session.execute(
            select(func.count(), func.coalesce(func.sum(Annotation.seconds), 0.0))
            .join(Item, Item.id == Annotation.item_id)
            .where(
                Item.project_id == project_id, Item.part == "work", Annotation.source == "label",
                Annotation.skipped.is_(None),
            )
        ).one()  # fmt: skip
        disputed = (
            session.scalar(select(func.count()).where(Item.project_id == project_id, Item.disputed))
            or 0
        )
        return {
            "items": parts,
            "answers": answers[0],
            "hours": float(answers[1] or 0.0) / 3600,
            "share_done": webhooks.share_done(session, project_id, settings),
            "disputed": disputed,
            "webhooks": session.scalar(
                select(func.count()).where(Webhook.project_id == project_id)
            ),
        }


def audit(
    database: Database, caller: Caller, project_id: int, *, limit: int = 200
) -> list[dict[str, Any]]:
    """The latest lines of the project's audit log, for owners."""
    with database.read() as session:
        role_in(session, caller, project_id, least="owner")
        rows = session.execute(
            select(
                Audit.at, Annotator.name, Audit.action, Audit.subject, Audit.address, Audit.detail
            )
            .outerjoin(Account, Account.id == Audit.account_id)
            .outerjoin(Annotator, Annotator.id == Account.annotator_id)
            .where(Audit.project_id == project_id)
            .order_by(Audit.id.desc())
            .limit(limit)
        )
        return [dict(row._mapping) for row in rows]
