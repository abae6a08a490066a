"""Accounts: passwords (argon2id), browser sessions, API tokens, and the audit log. Secrets are
stored as hashes only."""

from __future__ import annotations

import hashlib
import secrets
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from burnish.annotation.languages import languages
from burnish.annotation.service.database import Database
from burnish.annotation.service.refusals import ForbiddenError, NotFoundError, TooManyError
from burnish.annotation.tables import Account, Annotator, ApiToken, Audit, LoginSession, now
from burnish.errors import UserError

SCOPES = ("label", "read", "manage", "export")
"""label: take and answer items; read: projects and figures; manage: everything an owner does;
export: data out."""

SESSION_LIFE = timedelta(days=14)
SHORTEST_PASSWORD = 10
_WINDOW = timedelta(minutes=15)
_MOST_FAILURES = ((8, True, True), (40, False, True), (100, True, False))
"""(failures in the window, counted by name, counted by address). Only the first holds for somebody
at an address that they have
logged in from lately: neither a colleague's slips behind one address nor a guesser elsewhere shuts
them out."""
_FAMILIAR = timedelta(days=90)
# OWASP's first choice for argon2id
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_NOBODY = _HASHER.hash(secrets.token_hex(16))


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `scopes` is None for a browser session, which may do whatever the person may."""

    account_id: int
    annotator_id: int
    name: str
    creates_projects: bool
    scopes: frozenset[str] | None = None
    csrf: str = ""
    address: str = ""
    preferences: Mapping[str, Any] = field(default_factory=dict)

    @property
    def letter_keys(self) -> bool:
        """Whether single letters and digits are keys on this person's pages."""
        return bool(self.preferences.get("letter_keys", True))

    def needs(self, scope: str) -> None:
        """Raises ForbiddenError if the token does not open `scope`."""
        if self.scopes is not None and scope not in self.scopes:
            raise ForbiddenError(f'this token does not have the scope "{scope}".')


def digest(secret: str) -> str:
    """What is stored of a secret that is random and long: its SHA-256."""
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()


def clean_name(name: str) -> str:
    """A name as it is stored. Raises UserError for one that is empty, too long or has control
    characters."""
    name = unicodedata.normalize("NFC", name).strip()
    if not 1 <= len(name) <= 60 or any(unicodedata.category(c)[0] == "C" for c in name):
        raise UserError("a name has 1 to 60 characters and no control characters.", field="name")
    return name


def check_password(password: str) -> None:
    """Raises UserError for a password that is too short or absurdly long."""
    if not SHORTEST_PASSWORD <= len(password) <= 200:
        raise UserError(f"a password has {SHORTEST_PASSWORD} to 200 characters.", field="password")


def hashed(password: str) -> str:
    """What is stored of a password."""
    return _HASHER.hash(password)


def record(
    session: Session,
    action: str,
    *,
    caller: Caller | None = None,
    project_id: int | None = None,
    subject: str = "",
    address: str = "",
    **detail: Any,
) -> None:
    """Add a line to the audit log, in the transaction that does what it tells of."""
    session.add(
        Audit(
            account_id=caller.account_id if caller else None,
            project_id=project_id,
            action=action,
            subject=subject[:200],
            address=(address or (caller.address if caller else ""))[:100],
            detail=detail,
        )
    )


def find_annotator(session: Session, name: str) -> Annotator | None:
    """By name; upper and lower case are the same."""
    return session.scalar(select(Annotator).where(func.lower(Annotator.name) == name.lower()))


def add_account(
    session: Session,
    name: str,
    password: str | None,
    *,
    creates_projects: bool = False,
    kind: str = "person",
) -> Account:
    """A new account. Raises UserError if the name is taken."""
    name = clean_name(name)
    if password is not None:
        check_password(password)
    if find_annotator(session, name) is not None:
        raise UserError(f'the name "{name}" is taken.', field="name")
    annotator = Annotator(name=name, kind=kind)
    session.add(annotator)
    session.flush()
    account = Account(
        annotator_id=annotator.id,
        password=None if password is None else hashed(password),
        creates_projects=creates_projects,
    )
    session.add(account)
    session.flush()
    return account


def create_user(
    database: Database,
    name: str,
    password: str | None,
    *,
    creates_projects: bool = False,
    kind: str = "person",
) -> None:
    """`add_account` in a transaction of its own."""
    with database.write() as session:
        add_account(session, name, password, creates_projects=creates_projects, kind=kind)
        record(session, "user added", subject=clean_name(name), creates_projects=creates_projects)


def set_password(database: Database, name: str, password: str) -> None:
    """A new password; every browser of the account is logged out."""
    check_password(password)
    with database.write() as session:
        account = account_of(session, name)
        account.password = hashed(password)
        session.execute(delete(LoginSession).where(LoginSession.account_id == account.id))
        record(session, "password set", subject=name)


def set_active(database: Database, name: str, *, active: bool) -> None:
    """Shut an account out, or let it in again."""
    with database.write() as session:
        account = account_of(session, name)
        account.active = active
        if not active:
            session.execute(delete(LoginSession).where(LoginSession.account_id == account.id))
        record(session, "user activated" if active else "user deactivated", subject=name)


def users(database: Database) -> list[dict[str, Any]]:
    """All accounts, by name."""
    with database.read() as session:
        rows = session.execute(
            select(
                Annotator.name,
                Annotator.kind,
                Account.active,
                Account.creates_projects,
                Account.created_at,
            )
            .join(Account, Account.annotator_id == Annotator.id)
            .order_by(Annotator.name)
        )
        return [dict(row._mapping) for row in rows]


def log_in(database: Database, name: str, password: str, *, address: str) -> str:
    """Check a password and open a session; returns the cookie's value, which is new each time.

    Raises ForbiddenError for a wrong name or password (the same words for both, after the same
    work), TooManyError after 8 failures for a name from an address within 15 minutes; and, for who
    has not logged in from this address in the last 90 days, after 40 from the address or 100 for
    the name.
    """
    name = unicodedata.normalize("NFC", name).strip()[:200]
    with database.read() as session:
        annotator = find_annotator(session, name)
        account = annotator and session.scalar(
            select(Account).where(Account.annotator_id == annotator.id)
        )
        _refuse_guessing(
            session,
            name,
            address,
            familiar=account is not None and _was_here(session, account, address),
        )
    right = verify(account.password if account and account.password else None, password)
    if account is None or not right or not account.active:
        with database.write() as session:
            record(session, "login failed", subject=name.lower(), address=address)
        raise ForbiddenError("this name and password do not fit.")
    with database.write() as session:
        return open_session(session, account, address=address)


def verify(hashed: str | None, password: str) -> bool:
    """Whether a password fits; takes as long for an account that is not there."""
    try:
        return _HASHER.verify(hashed or _NOBODY, password[:1000]) and hashed is not None
    except VerificationError:
        return False


def open_session(
    session: Session, account: Account, *, address: str, life: timedelta = SESSION_LIFE
) -> str:
    """A new browser session, which ends after `life`; returns the cookie's value."""
    secret = secrets.token_urlsafe(32)
    moment = now()
    session.execute(delete(LoginSession).where(LoginSession.expires_at < moment))
    session.add(
        LoginSession(
            id=digest(secret),
            account_id=account.id,
            csrf=secrets.token_urlsafe(24),
            created_at=moment,
            expires_at=moment + life,
        )
    )
    session.add(
        Audit(account_id=account.id, action="login", subject="", address=address[:100], detail={})
    )
    return secret


def log_out(database: Database, secret: str) -> None:
    """End the session of this cookie."""
    with database.write() as session:
        session.execute(delete(LoginSession).where(LoginSession.id == digest(secret)))


_WHO = (
    select(
        Account.id,
        Account.annotator_id,
        Annotator.name,
        Account.creates_projects,
        Account.preferences,
    )
    .join(Annotator, Annotator.id == Account.annotator_id)
    .where(Account.active)
)
_BY_SESSION = _WHO.add_columns(LoginSession.csrf, LoginSession.expires_at).join(
    LoginSession, LoginSession.account_id == Account.id
)
_BY_TOKEN = (
    _WHO.add_columns(ApiToken.scopes, ApiToken.expires_at)
    .join(ApiToken, ApiToken.account_id == Account.id)
    .where(ApiToken.revoked.is_(False))
)


def caller_of_session(database: Database, secret: str, *, address: str = "") -> Caller | None:
    """Whose cookie this is; None for a session that is unknown or has ended."""
    with database.read() as session:
        row = session.execute(_BY_SESSION.where(LoginSession.id == digest(secret))).first()
    if row is None or row.expires_at < now():
        return None
    return Caller(
        row.id, row.annotator_id, row.name, row.creates_projects, csrf=row.csrf, address=address,
        preferences=row.preferences,
    )  # fmt: skip


def caller_of_token(database: Database, secret: str, *, address: str = "") -> Caller | None:
    """Whose token this is; None for one that is unknown, revoked or has run out."""
    with database.read() as session:
        row = session.execute(_BY_TOKEN.where(ApiToken.digest == digest(secret))).first()
    if row is None or (row.expires_at is not None and row.expires_at < now()):
        return None
    return Caller(
        row.id,
        row.annotator_id,
        row.name,
        row.creates_projects,
        scopes=frozenset(row.scopes),
        address=address,
        preferences=row.preferences,
    )


def prefer(database: Database, caller: Caller, **chosen: Any) -> dict[str, Any]:
    """Keep what somebody chose for themselves (`language`, `letter_keys`); what is None stays as it
    is. Returns all that is chosen now. Raises UserError for a language that there is not."""
    if chosen.get("language") not in (None, *languages()):
        raise UserError(f"languages are {', '.join(languages())}.", field="language")
    with database.write() as session:
        account = session.get_one(Account, caller.account_id)
        kept = {name: value for name, value in chosen.items() if value is not None}
        account.preferences = {**account.preferences, **kept}
        return account.preferences


def create_token(
    database: Database,
    *,
    account_name: str,
    name: str,
    scopes: Iterable[str],
    days: int | None = None,
    caller: Caller | None = None,
) -> str:
    """A new token for an account; its value is returned once and stored nowhere. Raises UserError
    for an unknown scope."""
    wanted = sorted(set(scopes))
    if not wanted or not set(wanted) <= set(SCOPES):
        raise UserError(f"scopes are {', '.join(SCOPES)}.", field="scopes")
    secret = f"burnish_{secrets.token_urlsafe(32)}"
    with database.write() as session:
        account = account_of(session, account_name)
        expires = None if days is None else now() + timedelta(days=days)
        session.add(
            ApiToken(
                account_id=account.id,
                name=clean_name(name),
                digest=digest(secret),
                scopes=wanted,
                expires_at=expires,
            )
        )
        record(session, "token added", caller=caller, subject=name, scopes=wanted)
    return secret


def tokens(database: Database, caller: Caller) -> list[dict[str, Any]]:
    """The caller's own tokens, without their values."""
    with database.read() as session:
        rows = session.scalars(
            select(ApiToken).where(ApiToken.account_id == caller.account_id).order_by(ApiToken.id)
        )
        return [
            {
                "id": row.id,
                "name": row.name,
                "scopes": row.scopes,
                "created_at": row.created_at,
                "expires_at": row.expires_at,
                "revoked": row.revoked,
            }
            for row in rows
        ]


def revoke_token(database: Database, caller: Caller, token_id: int) -> None:
    """Shut one of the caller's own tokens for good."""
    with database.write() as session:
        token = session.scalar(
            select(ApiToken).where(
                ApiToken.id == token_id, ApiToken.account_id == caller.account_id
            )
        )
        if token is None:
            raise NotFoundError("there is no such token.")
        token.revoked = True
        record(session, "token revoked", caller=caller, subject=token.name)


def account_of(session: Session, name: str) -> Account:
    """By name. Raises NotFoundError if there is none."""
    annotator = find_annotator(session, name)
    account = annotator and session.scalar(
        select(Account).where(Account.annotator_id == annotator.id)
    )
    if account is None:
        raise NotFoundError(
            f'there is no user "{name}".', hint="See `burnish annotate users list`."
        )
    return account


def _was_here(session: Session, account: Account, address: str) -> bool:
    """Whether an account has logged in from an address lately."""
    logins = select(Audit.id).where(Audit.action == "login", Audit.account_id == account.id)
    here = logins.where(Audit.address == address[:100], Audit.at > now() - _FAMILIAR).limit(1)
    return session.scalar(here) is not None


def _refuse_guessing(session: Session, name: str, address: str, *, familiar: bool) -> None:
    since = now() - _WINDOW
    for most, by_name, by_address in _MOST_FAILURES[:1] if familiar else _MOST_FAILURES:
        query = select(Audit.at).where(Audit.action == "login failed", Audit.at > since)
        if by_name:
            query = query.where(Audit.subject == name.lower()[:200])
        if by_address:
            query = query.where(Audit.address == address[:100])
        times: list[datetime] = list(session.scalars(query.order_by(Audit.at.desc()).limit(most)))
        if len(times) >= most:
            wait = int((times[-1] + _WINDOW - now()).total_seconds()) + 1
            raise TooManyError(
                "too many failed logins; wait a quarter of an hour.", seconds=max(1, wait)
            )
