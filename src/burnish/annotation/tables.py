"""The tables of the annotation store. Their history is in migrations/."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    """All tables."""


class Moment(TypeDecorator[datetime]):
    """A point in time, always in UTC: SQLite forgets time zones, so they are put back on
    reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """On the way in."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """On the way out."""
        return (
            value
            if value is None
            else value.replace(tzinfo=UTC)
            if value.tzinfo is None
            else value.astimezone(UTC)
        )


def now() -> datetime:
    """The present time, in UTC."""
    return datetime.now(UTC)


def _reference(column: str, **options: Any) -> Any:
    return mapped_column(ForeignKey(column, ondelete="CASCADE"), **options)


class Project(Base):
    """A body of items that are labelled by the same guidelines. `settings` is a `settings.Settings`
    as JSON.

    `pseudonym_key` (hex) turns annotators' names into pseudonyms in exports; it is made when it is
    first needed. `version_id` is the `Version` that settings and guidelines are at.
    """

    __tablename__ = "projects"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    guidelines: Mapped[str] = mapped_column(Text, default="")
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)
    settings: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict, server_default="{}")
    pseudonym_key: Mapped[str | None] = mapped_column(String(64))
    version_id: Mapped[int | None]


class Version(Base):
    """What a project asked at some time: `schema` (the settings that say what an answer means) and
    the guidelines.

    `renames` says which flags and attributes of the version before are called otherwise here;
    `guidelines_number` is the version in which this text came in. Some versions hold imported
    answers alone, whose scale no version of the project had.
    """

    __tablename__ = "versions"
    __table_args__ = (UniqueConstraint("project_id", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = _reference("projects.id", index=True)
    number: Mapped[int]
    schema: Mapped[dict[str, Any]] = mapped_column(JSON)
    renames: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    guidelines: Mapped[str] = mapped_column(Text, default="")
    guidelines_number: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)


class Reading(Base):
    """An annotator has read the guidelines that came in with version `guidelines_number`."""

    __tablename__ = "readings"
    __table_args__ = (UniqueConstraint("project_id", "annotator_id", "guidelines_number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = _reference("projects.id", index=True)
    annotator_id: Mapped[int] = _reference("annotators.id")
    guidelines_number: Mapped[int]
    at: Mapped[datetime] = mapped_column(Moment, default=now)


class Item(Base):
    """A prompt with its candidates. `external_id` is the prompt's id where it came from.

    `kind` is a task kind; what the project's kind becomes later does not change it. `part` is
    "work", "training", "qualification" or "retired" (`retired_from` is then what it was). `gold`,
    where given, is the right answer as `Answer` keeps it (`ranks`, `strength`, `ratings`, ...);
    `explanation` is shown after a training item. `slots` is how many more annotators may take it:
    overlap − answers − leases that live. Of the open items those of the higher `priority` go first,
    then those of the higher `score` (what active selection thinks of it). A reviewer looks at those
    that are `disputed`, and at those `sampled` from the agreed ones.
    """

    __tablename__ = "items"
    __table_args__ = (
        UniqueConstraint("project_id", "external_id"),
        Index(
            "ix_items_open",
            "project_id",
            text("priority DESC"),
            text("score DESC"),
            "id",
            sqlite_where=text("slots > 0"),
            postgresql_where=text("slots > 0"),
        ),
        Index("ix_items_part", "project_id", "part"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = _reference("projects.id", index=True)
    external_id: Mapped[str] = mapped_column(String(500))
    messages: Mapped[list[Any]] = mapped_column(JSON)
    columns: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    kind: Mapped[str] = mapped_column(String(20), default="", server_default="")
    part: Mapped[str] = mapped_column(String(20), default="work", server_default="work")
    gold: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    explanation: Mapped[str] = mapped_column(Text, default="", server_default="")
    priority: Mapped[int] = mapped_column(default=0, server_default="0")
    score: Mapped[float] = mapped_column(Double, default=0.0, server_default="0")
    slots: Mapped[int] = mapped_column(default=0, server_default="0")
    disputed: Mapped[bool] = mapped_column(Boolean, default=False, server_default=text("false"))
    sampled: Mapped[bool] = mapped_column(Boolean, default=False, server_default=text("false"))
    retired_from: Mapped[str | None] = mapped_column(String(20))
    candidates: Mapped[list[Candidate]] = relationship(
        order_by="Candidate.position", lazy="selectin"
    )


class Candidate(Base):
    """One response to an item. Who wrote it (`source`) is never shown to annotators.

    `messages` are the turns of a response that calls tools; its `text` is then
    `burnish.labels.traces.trace_text` of them.
    """

    __tablename__ = "candidates"
    __table_args__ = (UniqueConstraint("item_id", "position"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int] = _reference("items.id", index=True)
    position: Mapped[int]
    text: Mapped[str] = mapped_column(Text)
    source: Mapped[str] = mapped_column(String(200), default="")
    messages: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))


class Annotator(Base):
    """A person, a simulated person or a model that answers. `kind` ("person", "simulated", "ai")
    says which."""

    __tablename__ = "annotators"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    kind: Mapped[str] = mapped_column(String(20))


class Annotation(Base):
    """One annotator's answer to one item: ranks by candidate position, 1 the best, equal ranks
    ties.

    `presented` is the order in which the candidates were shown. An item that was skipped has a
    reason and no ranks. What the kind of task has beyond ranks is in `payload`
    (`records.Answer.payload`). `source` is "label" or "adjudication". `lease` is the lease that it
    was given under: the same one never counts twice. `version_id` is the `Version` that it was
    given under.
    """

    __tablename__ = "annotations"
    __table_args__ = (
        UniqueConstraint("item_id", "annotator_id"),
        Index("ix_annotations_lease", "lease", unique=True),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int] = _reference("items.id", index=True)
    annotator_id: Mapped[int] = mapped_column(ForeignKey("annotators.id"), index=True)
    presented: Mapped[list[int]] = mapped_column(JSON)
    ranks: Mapped[list[int] | None] = mapped_column(JSON(none_as_null=True))
    skipped: Mapped[str | None] = mapped_column(Text)
    seconds: Mapped[float | None] = mapped_column(Double)
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)
    kind: Mapped[str] = mapped_column(String(20), default="ranking", server_default="ranking")
    payload: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict, server_default="{}")
    source: Mapped[str] = mapped_column(String(20), default="label", server_default="label")
    lease: Mapped[str | None] = mapped_column(String(64))
    version_id: Mapped[int | None]


class Lease(Base):
    """An item in an annotator's hands until `expires_at`, with the order of showing and what is
    written so far.

    `chat` holds the turns of a conversation. What is asked is what `version_id` asks. `worked` is
    how many seconds the person has been at it, by the signs of life until `seen_at`.
    """

    __tablename__ = "leases"
    __table_args__ = (UniqueConstraint("item_id", "annotator_id"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    item_id: Mapped[int] = _reference("items.id", index=True)
    annotator_id: Mapped[int] = _reference("annotators.id", index=True)
    presented: Mapped[list[int]] = mapped_column(JSON)
    taken_at: Mapped[datetime] = mapped_column(Moment, default=now)
    expires_at: Mapped[datetime] = mapped_column(Moment, index=True)
    draft: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    chat: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))
    version_id: Mapped[int | None]
    seen_at: Mapped[datetime | None] = mapped_column(Moment)
    worked: Mapped[float] = mapped_column(Double, default=0.0, server_default="0")


class Draft(Base):
    """What somebody had in hand when the lease ended: it comes back with the item, and a late
    answer finds its place by it."""

    __tablename__ = "drafts"
    __table_args__ = (UniqueConstraint("item_id", "annotator_id"),)

    lease: Mapped[str] = mapped_column(String(64), primary_key=True)
    item_id: Mapped[int] = _reference("items.id", index=True)
    annotator_id: Mapped[int] = _reference("annotators.id", index=True)
    presented: Mapped[list[int]] = mapped_column(JSON)
    content: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    chat: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))
    version_id: Mapped[int | None]
    worked: Mapped[float] = mapped_column(Double, default=0.0)
    ended_at: Mapped[datetime] = mapped_column(Moment, default=now)


class Event(Base):
    """The log of labelling, append only: taken, answered, skipped, undone, expired, adjudicated."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(Moment, default=now)
    what: Mapped[str] = mapped_column(String(20))
    item_id: Mapped[int] = _reference("items.id", index=True)
    annotator_id: Mapped[int] = _reference("annotators.id", index=True)
    lease: Mapped[str | None] = mapped_column(String(64))


class Note(Base):
    """A note between an annotator (`annotator_id`, whose thread it is) and the project's owners, of
    an item or of nothing in particular. `seen`: the other side has had it on the screen."""

    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = _reference("projects.id", index=True)
    item_id: Mapped[int | None] = _reference("items.id", index=True)
    annotator_id: Mapped[int] = _reference("annotators.id", index=True)
    author_id: Mapped[int] = _reference("annotators.id", index=True)
    seen: Mapped[bool] = mapped_column(Boolean, default=False, server_default=text("false"))
    at: Mapped[datetime] = mapped_column(Moment, default=now)
    text: Mapped[str] = mapped_column(Text)


IMAGE_NAME = r"[0-9a-f]{64}\.(?:png|jpg|gif|webp)"
"""The pattern of an image's name: the SHA-256 of its bytes, and its ending."""


class Image(Base):
    """An image of a project's prompts and answers, under its name (`IMAGE_NAME`)."""

    __tablename__ = "images"
    __table_args__ = (UniqueConstraint("project_id", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = _reference("projects.id", index=True)
    name: Mapped[str] = mapped_column(String(80), index=True)
    width: Mapped[int]
    height: Mapped[int]
    size: Mapped[int]
    content: Mapped[bytes] = mapped_column(LargeBinary)


class Account(Base):
    """An annotator who can log in. Passwords are argon2id hashes; an account without one can only
    use tokens. `preferences` holds `language` and `letter_keys`, where they were chosen."""

    __tablename__ = "accounts"

    id: Mapped[int] = mapped_column(primary_key=True)
    annotator_id: Mapped[int] = _reference("annotators.id", unique=True)
    password: Mapped[str | None] = mapped_column(String(200))
    creates_projects: Mapped[bool] = mapped_column(Boolean, default=False)
    active: Mapped[bool] = mapped_column(Boolean, default=True)
    preferences: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict, server_default="{}")
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)


class Member(Base):
    """What an annotator is in a project: `role`, and how far: `state` is training, qualification,
    active, failed, paused or stopped (by the project's rules).

    `met` counts the items of the work that were answered or skipped, `answered` those that were
    answered.
    """

    __tablename__ = "members"
    __table_args__ = (UniqueConstraint("project_id", "annotator_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = _reference("projects.id", index=True)
    annotator_id: Mapped[int] = _reference("annotators.id", index=True)
    role: Mapped[str] = mapped_column(String(20))
    state: Mapped[str] = mapped_column(String(20), default="training")
    quota: Mapped[int | None]
    score: Mapped[float | None] = mapped_column(Double)
    met: Mapped[int] = mapped_column(default=0)
    answered: Mapped[int] = mapped_column(default=0)
    joined_at: Mapped[datetime] = mapped_column(Moment, default=now)


class SignOnIdentity(Base):
    """Somebody whom a provider of single sign-on knows: its name and theirs there open the
    account."""

    __tablename__ = "sign_on_identities"
    __table_args__ = (UniqueConstraint("issuer", "subject"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = _reference("accounts.id", index=True)
    issuer: Mapped[str] = mapped_column(String(255))
    subject: Mapped[str] = mapped_column(String(255))
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)


class LoginSession(Base):
    """A browser that is logged in. `id` is the SHA-256 of the cookie's value: the table alone opens
    nothing."""

    __tablename__ = "login_sessions"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    account_id: Mapped[int] = _reference("accounts.id", index=True)
    csrf: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)
    expires_at: Mapped[datetime] = mapped_column(Moment)


class ApiToken(Base):
    """A token for programs: SHA-256 of its value, and the scopes it opens."""

    __tablename__ = "api_tokens"

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = _reference("accounts.id", index=True)
    name: Mapped[str] = mapped_column(String(200))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[str]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)
    expires_at: Mapped[datetime | None] = mapped_column(Moment)
    revoked: Mapped[bool] = mapped_column(Boolean, default=False)


class Invitation(Base):
    """A link that lets `uses` more people join a project in a role; `digest` is the SHA-256 of its
    secret."""

    __tablename__ = "invitations"

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = _reference("projects.id", index=True)
    role: Mapped[str] = mapped_column(String(20))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    uses: Mapped[int]
    expires_at: Mapped[datetime] = mapped_column(Moment)
    created_by: Mapped[int] = _reference("accounts.id")


class ResetLink(Base):
    """A link by which an account gets a new password, once; `digest` is the SHA-256 of its
    secret."""

    __tablename__ = "reset_links"

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = _reference("accounts.id", index=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    expires_at: Mapped[datetime] = mapped_column(Moment)


class CrowdEntry(Base):
    """Somebody who came in by the crowd's door: who they are on the platform, when they agreed,
    when they saw the code."""

    __tablename__ = "crowd_entries"
    __table_args__ = (
        UniqueConstraint("project_id", "person"),
        UniqueConstraint("project_id", "annotator_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = _reference("projects.id", index=True)
    annotator_id: Mapped[int] = _reference("annotators.id", index=True)
    person: Mapped[str] = mapped_column(String(60))
    session: Mapped[str] = mapped_column(String(60), default="")
    agreed_at: Mapped[datetime] = mapped_column(Moment, default=now)
    code_shown_at: Mapped[datetime | None] = mapped_column(Moment)


class Audit(Base):
    """Who did what, append only: logins (also those that failed), roles, settings, imports,
    exports, decisions."""

    __tablename__ = "audit"
    __table_args__ = (
        Index("ix_audit_action", "action", "subject", "at"),
        Index("ix_audit_address", "action", "address", "at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(Moment, default=now)
    account_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id", ondelete="SET NULL"))
    project_id: Mapped[int | None] = mapped_column(
        ForeignKey("projects.id", ondelete="SET NULL"), index=True
    )
    action: Mapped[str] = mapped_column(String(50))
    subject: Mapped[str] = mapped_column(String(200), default="")
    address: Mapped[str] = mapped_column(String(100), default="")
    detail: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)


class Webhook(Base):
    """An address that is told of milestones. Bodies are signed with `secret` (HMAC-SHA256)."""

    __tablename__ = "webhooks"

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = _reference("projects.id", index=True)
    url: Mapped[str] = mapped_column(String(1000))
    secret: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)


class Delivery(Base):
    """A message to a webhook, written in the transaction that caused it and sent afterwards; `key`
    keeps it from doubling."""

    __tablename__ = "deliveries"
    __table_args__ = (UniqueConstraint("webhook_id", "key"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    webhook_id: Mapped[int] = _reference("webhooks.id", index=True)
    key: Mapped[str] = mapped_column(String(200))
    body: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)
    attempts: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime | None] = mapped_column(Moment, index=True)
    status: Mapped[str] = mapped_column(String(200), default="")
