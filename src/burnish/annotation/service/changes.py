"""What a change of a project does to the answers and drafts that are there: told before it is made,
and done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from burnish.annotation.gold import unpassable
from burnish.annotation.service.accounts import Caller
from burnish.annotation.service.database import Database
from burnish.annotation.settings import Settings, read_settings, settings_of
from burnish.annotation.tables import (
    Annotation,
    Annotator,
    Candidate,
    Item,
    Lease,
    Project,
    Reading,
    Version,
)
from burnish.annotation.versions import (
    NAMED,
    Renames,
    mapped_draft,
    renamed_since,
    renew,
    schema_of,
    under,
    version_of,
)
from burnish.errors import UserError


def renew_version(session: Session, project: Project, renames: Renames) -> Version:
    """The version after a change. Raises UserError for a rename of what was not there, or to what
    is not there now."""
    before = version_of(session, project)
    settings = settings_of(project.settings)
    old = settings if before is None else under(settings, before.schema)
    for field, names in renames.items():
        if field not in NAMED:
            raise UserError(f"{', '.join(NAMED)} can be renamed.", field="renames")
        for name, new in names.items():
            if name not in _names(old, field) or new not in _names(settings, field):
                raise UserError(
                    f'"{name}" cannot become "{new}": one of them is not there.',
                    field=f"renames.{field}",
                )
            if new in _names(old, field):
                raise UserError(
                    f'"{name}" cannot become "{new}", which was there before.',
                    field=f"renames.{field}",
                )
        if len(set(names.values())) < len(names):
            raise UserError("two names cannot become one.", field=f"renames.{field}")
    return renew(session, project, renames=renames)


def renew_open_tasks(session: Session, project: Project) -> None:
    """Ask tasks in people's hands under the present version; their drafts keep what still has a
    place."""
    versions = session.scalars(select(Version).where(Version.project_id == project.id)).all()
    settings, by_id = settings_of(project.settings), {version.id: version for version in versions}
    leases = select(Lease).join(Item, Item.id == Lease.item_id).where(Item.project_id == project.id)
    for lease in session.scalars(leases.with_for_update(of=Lease)):
        known = by_id.get(lease.version_id or 0)
        old = settings if known is None else under(settings, known.schema)
        lease.draft = mapped_draft(
            lease.draft, renamed_since(versions, lease.version_id), old, settings
        )
        lease.version_id = project.version_id


def consequences(
    database: Database,
    caller: Caller,
    project_id: int,
    settings: Mapping[str, Any],
    guidelines: str,
) -> dict[str, Any]:
    """What saving these settings would do: `answers` that stay under the version they have, `open`
    tasks and how many of them have `drafts`, which flags and attributes are `gone` and which are
    `new`; `changes` names the fields of the schema, and `unpassable` the items whose known answer
    nobody could give any more."""
    from burnish.annotation.service.projects import role_in

    with database.read() as session:
        project = role_in(session, caller, project_id, least="owner")
        before, after = (
            settings_of(project.settings),
            read_settings({**project.settings, **settings}),
        )
        old, new = schema_of(before), schema_of(after)
        here = (Item.id == Annotation.item_id, Item.project_id == project_id)
        answers = select(func.count(Annotation.id)).where(*here, Annotation.skipped.is_(None))
        leases = (
            select(Lease.draft)
            .join(Item, Item.id == Lease.item_id)
            .where(Item.project_id == project_id)
        )
        drafts = list(session.scalars(leases))
        return {
            "changes": [name for name in new if old[name] != new[name]],
            "guidelines": guidelines.replace("\r\n", "\n") != project.guidelines,
            "answers": session.scalar(answers) or 0,
            "open": len(drafts),
            "drafts": sum(draft is not None for draft in drafts),
            "gone": {
                field: [n for n in _names(before, field) if n not in _names(after, field)]
                for field in NAMED
            },
            "unpassable": [name for name, _ in unpassable_items(session, project, after)],
            "new": {
                field: [n for n in _names(after, field) if n not in _names(before, field)]
                for field in NAMED
            },
        }


def unpassable_items(
    session: Session, project: Project, settings: Settings
) -> list[tuple[str, str]]:
    """The items whose known answer nobody can give under some settings, by id, each with the
    reason."""
    rows = session.execute(
        select(Item.external_id, Item.kind, Item.gold, func.count(Candidate.id).label("candidates"))
        .outerjoin(Candidate, Candidate.item_id == Item.id)
        .where(Item.project_id == project.id, Item.gold.is_not(None))
        .group_by(Item.id)
        .order_by(Item.id)
    )
    found = []
    for row in rows:
        problem = row.gold and unpassable(
            row.gold, row.kind or settings.kind, row.candidates, settings
        )
        if problem:
            found.append((row.external_id, f"gold.{problem[0]}: {problem[1]}"))
    return found


def guidelines(database: Database, caller: Caller, project_id: int) -> dict[str, Any]:
    """The present guidelines, the version that they came in with, and whether the caller has read
    them."""
    from burnish.annotation.service.projects import role_in

    with database.read() as session:
        project = role_in(session, caller, project_id, least="annotator", scope="label")
        version = version_of(session, project)
        number = 0 if version is None else version.guidelines_number
        read = select(Reading.id).where(
            Reading.project_id == project_id,
            Reading.annotator_id == caller.annotator_id,
            Reading.guidelines_number == number,
        )
        return {
            "version": number,
            "text": project.guidelines,
            "read": session.scalar(read) is not None,
        }


def has_read(database: Database, caller: Caller, project_id: int, number: int) -> None:
    """Record that the caller has read the guidelines of a version. Raises UserError for a version
    that there is not."""
    from burnish.annotation.service.projects import role_in

    with database.write() as session:
        role_in(session, caller, project_id, least="annotator", scope="label")
        known = select(Version.id).where(
            Version.project_id == project_id, Version.guidelines_number == number
        )
        if session.scalar(known.limit(1)) is None:
            raise UserError("there are no guidelines of this version.", field="version")
        mine = (Reading.project_id == project_id, Reading.annotator_id == caller.annotator_id)
        if (
            session.scalar(select(Reading.id).where(*mine, Reading.guidelines_number == number))
            is None
        ):
            session.add(
                Reading(
                    project_id=project_id,
                    annotator_id=caller.annotator_id,
                    guidelines_number=number,
                )
            )


def readers(session: Session, project_id: int) -> dict[str, int]:
    """By annotator's name, the latest version of the guidelines that they have read."""
    rows = session.execute(
        select(Annotator.name, func.max(Reading.guidelines_number))
        .join(Annotator, Annotator.id == Reading.annotator_id)
        .where(Reading.project_id == project_id)
        .group_by(Annotator.name)
    )
    return {name: number for name, number in rows}


def _names(settings: Settings, field: str) -> list[str]:
    return settings.flags if field == "flags" else [one.name for one in getattr(settings, field)]
