"""What single sign-on is told: the provider, and who comes in as what."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from burnish.errors import UserError
from burnish.listening import is_loopback

SECRET_VARIABLE = "BURNISH_OIDC_SECRET"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a provider says somebody is. `issuer` and `subject` together are the identity; all else
    may change, and may be the same for two people. `email` is there if the provider has verified
    it."""

    issuer: str
    subject: str
    name: str = ""
    email: str = ""
    groups: frozenset[str] = field(default_factory=frozenset)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Who(_Section):
    """Some people: whoever is named by one of the lists."""

    emails: tuple[str, ...] = ()
    """Addresses that the provider has verified; case does not matter."""
    domains: tuple[str, ...] = ()
    """Of such addresses: what stands behind the @, whole."""
    groups: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    """The provider's own names of people (`sub`)."""

    def has(self, identity: Identity) -> bool:
        """Whether somebody is one of them."""
        email = identity.email.lower()
        domain = email.rpartition("@")[2]
        return (
            (bool(email) and email in {one.lower() for one in self.emails})
            or (bool(domain) and domain in {one.lower().lstrip("@") for one in self.domains})
            or not identity.groups.isdisjoint(self.groups)
            or identity.subject in self.subjects
        )

    @property
    def asks_email(self) -> bool:
        """Whether addresses are looked at."""
        return bool(self.emails or self.domains)


class Allowed(Who):
    """Who may come in."""

    anybody: bool = False
    """Whoever the provider knows."""

    def has(self, identity: Identity) -> bool:
        """Whether somebody may come in."""
        return self.anybody or super().has(identity)


class Place(Who):
    """Who gets a role in a project when they come in."""

    project: str
    role: Literal["annotator", "reviewer", "owner"] = "annotator"


class SignOn(_Section):
    """The file of `burnish annotate serve --oidc`."""

    issuer: str = Field(max_length=250)
    """As the provider writes it itself, such as https://login.example.com/realms/labels."""
    client_id: str = Field(min_length=1, max_length=500)
    client_secret_file: Path | None = None
    """Where the client's secret is; without it the environment variable BURNISH_OIDC_SECRET holds
    it. Where neither is, the client is a public one, which PKCE alone protects."""
    name: str = Field(default="single sign-on", min_length=1, max_length=60)
    """What the button calls it."""
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    groups_claim: str = "groups"
    """Where the provider puts the names of somebody's groups."""
    session_hours: float = Field(default=12.0, gt=0, le=336)
    """After so long people log in anew, and are asked for what they may anew."""
    allow: Allowed
    owners: Who | None = None
    """Who may create projects, decided at every login; None: the provider decides nothing."""
    projects: tuple[Place, ...] = ()

    @field_validator("issuer")
    @classmethod
    def _is_safe(cls, value: str) -> str:
        if not is_safe_address(value) or urlsplit(value).query:
            raise ValueError("must be an https:// address (http:// on this machine alone)")
        return value

    @field_validator("scopes")
    @classmethod
    def _has_openid(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "openid" not in value or any(not one or not one.isprintable() for one in value):
            raise ValueError('must be words, "openid" among them')
        return value

    @field_validator("allow")
    @classmethod
    def _lets_somebody_in(cls, value: Allowed) -> Allowed:
        if not (value.anybody or value.asks_email or value.groups or value.subjects):
            raise ValueError(
                "lets nobody in: give emails, domains, groups or subjects, or anybody: true"
            )
        return value

    @property
    def asks_email(self) -> bool:
        """Whether any rule looks at addresses."""
        return any(one.asks_email for one in self._rules)

    @property
    def asks_groups(self) -> bool:
        """Whether any rule looks at groups."""
        return any(one.groups for one in self._rules)

    @property
    def _rules(self) -> tuple[Who, ...]:
        return (self.allow, *((self.owners,) if self.owners else ()), *self.projects)


def is_safe_address(address: str) -> bool:
    """Whether what is sent to an address is read by nobody on the way."""
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
    except ValueError:
        return False
    return bool(host) and (
        parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
    )


def read_sign_on(given: Mapping[str, Any], *, file: str = "") -> SignOn:
    """The settings in a file. Raises UserError naming the field that is wrong, and the nearest
    right one for a key that there is not."""
    try:
        return SignOn.model_validate(given)
    except ValidationError as error:
        unknown = [one for one in error.errors() if one["type"] == "extra_forbidden"]
        first = (unknown or error.errors())[0]
        place = [str(part) for part in first["loc"]]
        if first["type"] != "extra_forbidden":
            problem = f"{first['msg'].removeprefix('Value error, ')}."
            raise UserError(problem, file=file or None, field=".".join(place)) from error
        section = {"allow": Allowed, "owners": Who, "projects": Place}.get(place[0], SignOn)
        near = get_close_matches(place[-1], section.model_fields, n=1, cutoff=0.6)
        raise UserError(
            "there is no such key.", file=file or None, field=".".join(place),
            hint=f'Did you mean "{near[0]}"?' if near else None,
        ) from error  # fmt: skip


def client_secret(settings: SignOn) -> str | None:
    """The client's secret; None for a public client. Raises UserError for a file that cannot be
    read."""
    if settings.client_secret_file is None:
        return os.environ.get(SECRET_VARIABLE) or None
    try:
        secret = settings.client_secret_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{settings.client_secret_file} cannot be read.", field="client_secret_file"
        ) from error
    if not secret:
        raise UserError(f"{settings.client_secret_file} is empty.", field="client_secret_file")
    return secret
