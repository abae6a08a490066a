"""Passwords that were lost: links, made by an owner or on the command line, that set a new one
once."""

from __future__ import annotations

import secrets
from datetime import timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from burnish.annotation.service.accounts import (
    Caller,
    account_of,
    check_password,
    digest,
    hashed,
    open_session,
    record,
)
from burnish.annotation.service.database import Database
from burnish.annotation.service.projects import role_in
from burnish.annotation.service.refusals import ForbiddenError, NotFoundError
from burnish.annotation.tables import Account, Annotator, LoginSession, Member, ResetLink, now

LIFE = timedelta(days=3)


def for_member(database: Database, caller: Caller, project_id: int, member_id: int) -> str:
    """A link's secret for a member of a project, made by its owner; it is returned once.

    Raises ForbiddenError for somebody who may do more elsewhere than the caller: whoever creates
    projects, or has a part in a project that is not the caller's own. Their links come from the
    command line.
    """
    with database.write() as session:
        role_in(session, caller, project_id, least="owner")
        row = session.execute(
            select(Account, Annotator.name)
            .join(Annotator, Annotator.id == Account.annotator_id)
            .join(Member, Member.annotator_id == Annotator.id)
            .where(Member.id == member_id, Member.project_id == project_id)
        ).first()
        if row is None:
            raise NotFoundError("there is no such member, or none who logs in.")
        if is_beyond(session, caller, row.Account.annotator_id):
            raise ForbiddenError(
                f"{row.name} has rights beyond your projects: whoever runs the server makes the"
                " link (burnish annotate users reset NAME)."
            )
        record(session, "reset link made", caller=caller, project_id=project_id, subject=row.name)
        return _link(session, row.Account.id)


def is_beyond(session: Session, caller: Caller, annotator_id: int) -> bool:
    """Whether somebody may do more than the caller gives them: creates projects, or has a part in
    one that is not the caller's own."""
    mine = select(Member.project_id).where(
        Member.annotator_id == caller.annotator_id, Member.role == "owner"
    )
    theirs = select(Member.project_id).where(Member.annotator_id == annotator_id)
    creates = select(Account.creates_projects).where(Account.annotator_id == annotator_id)
    elsewhere = session.scalar(theirs.where(Member.project_id.not_in(mine)).limit(1))
    return bool(session.scalar(creates)) or elsewhere is not None


def for_name(database: Database, name: str) -> str:
    """A link's secret for an account: what the operator does at the server itself. Raises
    NotFoundError if there is none."""
    with database.write() as session:
        account = account_of(session, name)
        record(session, "reset link made", subject=name)
        return _link(session, account.id)


def name_of(database: Database, secret: str) -> str:
    """Whose password a link sets. Raises NotFoundError for one that is used up, has run out, or
    never was."""
    with database.read() as session:
        account_id = _good(session, secret).account_id
        name = select(Annotator.name).join(Account, Account.annotator_id == Annotator.id)
        return session.scalars(name.where(Account.id == account_id)).one()


def use(database: Database, secret: str, password: str, *, address: str) -> str:
    """Set a new password and log in; returns the cookie's value. Every other browser of the account
    is logged out, and all its links are used up."""
    check_password(password)
    with database.write() as session:
        link = _good(session, secret, lock=True)
        account = session.get_one(Account, link.account_id)
        if not account.active:
            raise ForbiddenError("this account is shut out.")
        account.password = hashed(password)
        session.execute(delete(LoginSession).where(LoginSession.account_id == account.id))
        session.execute(delete(ResetLink).where(ResetLink.account_id == account.id))
        name = (
            session.scalar(select(Annotator.name).where(Annotator.id == account.annotator_id)) or ""
        )
        record(session, "password reset", subject=name, address=address)
        return open_session(session, account, address=address)


def _link(session: Session, account_id: int) -> str:
    secret = secrets.token_urlsafe(24)
    session.execute(delete(ResetLink).where(ResetLink.expires_at < now()))
    session.add(ResetLink(account_id=account_id, digest=digest(secret), expires_at=now() + LIFE))
    return secret


def _good(session: Session, secret: str, *, lock: bool = False) -> ResetLink:
    query = select(ResetLink).where(
        ResetLink.digest == digest(secret), ResetLink.expires_at > now()
    )
    found = session.scalar(query.with_for_update() if lock else query)
    if found is None:
        raise NotFoundError("this link is used up, has run out, or never was.")
    return found
