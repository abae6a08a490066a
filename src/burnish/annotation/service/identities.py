"""Accounts that a provider of single sign-on knows: by issuer and subject, and by nothing else. A
name or an address that is the same as somebody's opens no account of theirs."""

from __future__ import annotations

import unicodedata
from datetime import timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from burnish.annotation.service.accounts import (
    Caller,
    add_account,
    find_annotator,
    open_session,
    record,
)
from burnish.annotation.service.database import Database
from burnish.annotation.service.people import add_member
from burnish.annotation.service.refusals import ConflictError, ForbiddenError
from burnish.annotation.sign_on.rules import Identity, SignOn
from burnish.annotation.tables import Account, Annotator, Member, Project, SignOnIdentity

_LONGEST_NAME = 50


def enter(database: Database, identity: Identity, rules: SignOn, *, address: str) -> str:
    """Let somebody in, with a new account where there is none, and give them what the rules say;
    returns the cookie's value of a new session.

    Raises ForbiddenError for who is not let in, or is shut out.
    """
    if not rules.allow.has(identity):
        with database.write() as session:
            record(session, "sign-in refused", subject=identity.subject, address=address)
        raise ForbiddenError(
            "you are not among those who are let in here; ask whoever runs the server."
        )
    try:
        return _enter(database, identity, rules, address)
    except IntegrityError:  # two first logins at once: the other one made the account
        return _enter(database, identity, rules, address)


def _enter(database: Database, identity: Identity, rules: SignOn, address: str) -> str:
    with database.write() as session:
        account = _known(session, identity)
        if account is None:
            name = _free_name(session, identity)
            account = add_account(session, name, None)
            _connect(session, account, identity)
            record(session, "signed up", subject=name, address=address, by=identity.issuer)
        if not account.active:
            raise ForbiddenError("this account is shut out.")
        if rules.owners is not None:
            account.creates_projects = rules.owners.has(identity)
        _give_places(session, account, identity, rules)
        life = timedelta(hours=rules.session_hours)
        return open_session(session, account, address=address, life=life)


def connect(database: Database, caller: Caller, identity: Identity) -> None:
    """Let somebody who is logged in come in by single sign-on from now on. Raises ConflictError
    where the identity opens another account."""
    with database.write() as session:
        account = _known(session, identity)
        if account is None:
            _connect(session, session.get_one(Account, caller.account_id), identity)
            record(session, "sign-in connected", caller=caller, by=identity.issuer)
        elif account.id != caller.account_id:
            raise ConflictError("this sign-in opens another account here.")


def disconnect(database: Database, caller: Caller, identity_id: int) -> None:
    """Let an identity open the caller's account no more. Raises ConflictError where nothing else
    would."""
    with database.write() as session:
        account = session.get_one(Account, caller.account_id, with_for_update=True)
        mine = session.scalars(
            select(SignOnIdentity).where(SignOnIdentity.account_id == account.id)
        ).all()
        found = next((one for one in mine if one.id == identity_id), None)
        if found is None:
            return
        if account.password is None and len(mine) == 1:
            raise ConflictError("without it you could not log in any more.")
        session.delete(found)
        record(session, "sign-in disconnected", caller=caller, by=found.issuer)


def of_caller(database: Database, caller: Caller) -> dict[str, Any]:
    """By what the caller logs in: `password` (whether there is one), and `identities` with `id` and
    `issuer`."""
    with database.read() as session:
        rows = session.execute(
            select(SignOnIdentity.id, SignOnIdentity.issuer)
            .where(SignOnIdentity.account_id == caller.account_id)
            .order_by(SignOnIdentity.id)
        )
        hashed = select(Account.password).where(Account.id == caller.account_id)
        return {
            "password": session.scalar(hashed) is not None,
            "identities": [dict(row._mapping) for row in rows],
        }


def missing_projects(database: Database, rules: SignOn) -> list[str]:
    """The projects of the rules that there are not (yet)."""
    named = dict.fromkeys(one.project for one in rules.projects)
    with database.read() as session:
        there = set(session.scalars(select(Project.name).where(Project.name.in_(named))))
    return [name for name in named if name not in there]


def _known(session: Session, identity: Identity) -> Account | None:
    return session.scalar(
        select(Account)
        .join(SignOnIdentity, SignOnIdentity.account_id == Account.id)
        .where(SignOnIdentity.issuer == identity.issuer, SignOnIdentity.subject == identity.subject)
    )


def _connect(session: Session, account: Account, identity: Identity) -> None:
    session.add(
        SignOnIdentity(account_id=account.id, issuer=identity.issuer, subject=identity.subject)
    )
    session.flush()


def _give_places(session: Session, account: Account, identity: Identity, rules: SignOn) -> None:
    """Roles in projects, where somebody has none yet: what owners changed there stays."""
    for place in rules.projects:
        if not place.has(identity):
            continue
        project = session.scalar(select(Project.id).where(Project.name == place.project))
        if project is None:
            continue
        there = select(Member.id).where(
            Member.project_id == project, Member.annotator_id == account.annotator_id
        )
        if session.scalar(there) is None:
            add_member(session, project, account.annotator_id, role=place.role)
            record(session, "enrolled", project_id=project, role=place.role, by=identity.issuer,
                subject=session.get_one(Annotator, account.annotator_id).name)  # fmt: skip


def _free_name(session: Session, identity: Identity) -> str:
    """A name for a new account that nobody has."""
    wanted = identity.name or identity.email.partition("@")[0] or "person"
    kept = "".join(c for c in wanted if unicodedata.category(c)[0] != "C").strip()
    name = kept[:_LONGEST_NAME].strip() or "person"
    free, number = name, 1
    while find_annotator(session, free) is not None:
        number += 1
        free = f"{name} {number}"
    return free
