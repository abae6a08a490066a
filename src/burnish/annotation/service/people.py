"""Who takes part in a project: invitations, joining, roles and states, passwords that were lost."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from burnish.annotation.service.accounts import (
    Caller,
    account_of,
    add_account,
    clean_name,
    digest,
    open_session,
    record,
)
from burnish.annotation.service.changes import readers as guidelines_readers
from burnish.annotation.service.database import Database
from burnish.annotation.service.projects import ROLES, role_in
from burnish.annotation.service.refusals import ConflictError, NotFoundError
from burnish.annotation.tables import (
    Account,
    Annotation,
    Annotator,
    Invitation,
    Item,
    Lease,
    Member,
    Project,
    now,
)
from burnish.errors import UserError


def invite(
    database: Database,
    caller: Caller,
    project_id: int,
    *,
    role: str = "annotator",
    uses: int = 1,
    days: int = 14,
) -> str:
    """A secret that lets `uses` people join; it is returned once. Raises UserError for a role that
    there is not."""
    if role not in ROLES:
        raise UserError(f"roles are {', '.join(ROLES)}.", field="role")
    secret = secrets.token_urlsafe(24)
    with database.write() as session:
        role_in(session, caller, project_id, least="owner")
        expires = now() + timedelta(days=days)
        session.add(
            Invitation(
                project_id=project_id,
                role=role,
                digest=digest(secret),
                uses=uses,
                expires_at=expires,
                created_by=caller.account_id,
            )
        )
        record(session, "invited", caller=caller, project_id=project_id, subject=role, uses=uses)
    return secret


def invitation(database: Database, secret: str) -> dict[str, Any]:
    """The project and role of an invitation that can still be used. Raises NotFoundError
    otherwise."""
    with database.read() as session:
        found = _invitation(session, secret)
        name = session.scalar(select(Project.name).where(Project.id == found.project_id))
        return {"project_id": found.project_id, "project": name, "role": found.role}


def _invitation(session: Session, secret: str, *, lock: bool = False) -> Invitation:
    query = select(Invitation).where(
        Invitation.digest == digest(secret), Invitation.uses > 0, Invitation.expires_at > now()
    )
    found = session.scalar(query.with_for_update() if lock else query)
    if found is None:
        raise NotFoundError("this invitation is used up, has run out, or never was.")
    return found


def invitations(database: Database, caller: Caller, project_id: int) -> list[dict[str, Any]]:
    """The invitations that can still be used, the latest first, without their secrets; for
    owners."""
    with database.read() as session:
        role_in(session, caller, project_id, least="owner")
        rows = session.execute(
            select(
                Invitation.id,
                Invitation.role,
                Invitation.uses,
                Invitation.expires_at,
                Annotator.name.label("by"),
            )
            .join(Account, Account.id == Invitation.created_by)
            .join(Annotator, Annotator.id == Account.annotator_id)
            .where(
                Invitation.project_id == project_id,
                Invitation.uses > 0,
                Invitation.expires_at > now(),
            )
            .order_by(Invitation.id.desc())
        )
        return [dict(row._mapping) for row in rows]


def revoke_invitation(
    database: Database, caller: Caller, project_id: int, invitation_id: int
) -> None:
    """Close an invitation: its link lets nobody in any more. Who came in by it stays."""
    with database.write() as session:
        role_in(session, caller, project_id, least="owner")
        found = session.get(Invitation, invitation_id, with_for_update=True)
        if found is None or found.project_id != project_id:
            raise NotFoundError("there is no such invitation.")
        left, found.uses = found.uses, 0
        record(
            session,
            "invitation revoked",
            caller=caller,
            project_id=project_id,
            subject=found.role,
            uses=left,
        )


def join(database: Database, secret: str, caller: Caller) -> int:
    """Make somebody who has an account a member; returns the project's id. A member joins again
    without using it up."""
    with database.write() as session:
        found = _invitation(session, secret, lock=True)
        _enter(session, found, caller.annotator_id)
        record(session, "joined", caller=caller, project_id=found.project_id, subject=found.role)
        return found.project_id


def sign_up(
    database: Database, secret: str, name: str, password: str, *, address: str
) -> tuple[int, str]:
    """A new account by an invitation; returns the project's id and the new session's cookie."""
    with database.write() as session:
        found = _invitation(session, secret, lock=True)
        account = add_account(session, name, password)
        _enter(session, found, account.annotator_id)
        record(
            session,
            "signed up",
            project_id=found.project_id,
            subject=clean_name(name),
            address=address,
        )
        return found.project_id, open_session(session, account, address=address)


def _enter(session: Session, found: Invitation, annotator_id: int) -> None:
    member = session.scalar(
        select(Member).where(
            Member.project_id == found.project_id, Member.annotator_id == annotator_id
        )
    )
    if member is None:
        found.uses -= 1
        add_member(session, found.project_id, annotator_id, role=found.role)


def add_member(session: Session, project_id: int, annotator_id: int, *, role: str) -> Member:
    """A new member. Owners and reviewers need no training; an annotator starts with it."""
    state = "training" if role == "annotator" else "active"
    member = Member(project_id=project_id, annotator_id=annotator_id, role=role, state=state)
    session.add(member)
    session.flush()
    return member


def enrol(database: Database, name: str, project: str, *, role: str) -> None:
    """Give an account a role in a project: what the operator does at the server itself, where a
    project came without an owner.

    Raises UserError for a role or a project that there is not, NotFoundError for an account.
    """
    if role not in ROLES:
        raise UserError(f"roles are {', '.join(ROLES)}.", field="role")
    with database.write() as session:
        account = account_of(session, name)
        found = session.scalar(select(Project).where(Project.name == project))
        if found is None:
            raise UserError(f'there is no project "{project}".', field="project")
        member = session.scalar(
            select(Member).where(
                Member.project_id == found.id, Member.annotator_id == account.annotator_id
            )
        )
        if member is None:
            add_member(session, found.id, account.annotator_id, role=role)
        else:
            member.role = role
        record(session, "enrolled", project_id=found.id, subject=name, role=role)


def members(database: Database, caller: Caller, project_id: int) -> list[dict[str, Any]]:
    """Who takes part, with role, state and counts; for owners."""
    with database.read() as session:
        role_in(session, caller, project_id, least="owner")
        read = guidelines_readers(session, project_id)
        rows = session.execute(
            select(
                Member.id,
                Annotator.id.label("annotator_id"),
                Annotator.name,
                Annotator.kind,
                Member.role,
                Member.state,
                Member.quota,
                Member.score,
                Member.answered,
                Member.joined_at,
                Account.password.is_not(None).label("logs_in"),
            )
            .join(Annotator, Annotator.id == Member.annotator_id)
            .outerjoin(Account, Account.annotator_id == Annotator.id)
            .where(Member.project_id == project_id)
            .order_by(Annotator.name)
        )
        return [{**row._mapping, "guidelines_read": read.get(row.name)} for row in rows]


def change_member(
    database: Database,
    caller: Caller,
    project_id: int,
    member_id: int,
    *,
    changes: Mapping[str, Any],
) -> None:
    """New `role`, `state` or `quota`. `state: "training"` lets a member start over: the old test
    answers go.

    Raises ConflictError where the project would be left without an owner.
    """
    with database.write() as session:
        role_in(session, caller, project_id, least="owner")
        member = session.scalar(
            select(Member)
            .where(Member.id == member_id, Member.project_id == project_id)
            .with_for_update()
        )
        if member is None:
            raise NotFoundError("there is no such member.")
        if changes.get("role", "owner") != "owner" and member.role == "owner":
            owners = select(func.count()).where(
                Member.project_id == project_id, Member.role == "owner"
            )
            if session.scalar(owners) == 1:
                raise ConflictError("a project needs an owner.")
        if changes.get("state") == "training":
            tests = select(Item.id).where(Item.project_id == project_id, Item.part != "work")
            for table in (Annotation, Lease):
                session.execute(
                    delete(table).where(
                        table.annotator_id == member.annotator_id, table.item_id.in_(tests)
                    ),
                    execution_options={"synchronize_session": False},
                )
            member.score = None
        for name, value in changes.items():
            setattr(member, name, value)
        name = (
            session.scalar(select(Annotator.name).where(Annotator.id == member.annotator_id)) or ""
        )
        record(
            session,
            "member changed",
            caller=caller,
            project_id=project_id,
            subject=name,
            changes=dict(changes),
        )
