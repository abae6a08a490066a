"""What the routes share: the database, who is asking, the templates, what the command line handed
in."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from anyio import CapacityLimiter
from fastapi import Request
from fastapi.responses import HTMLResponse
from starlette.routing import Match

from burnish.annotation.app.language import environment, reader_language
from burnish.annotation.app.proxies import local_path
from burnish.annotation.service import accounts, webhooks
from burnish.annotation.service.accounts import Caller
from burnish.annotation.service.chats import Generate
from burnish.annotation.service.database import Database
from burnish.annotation.service.refusals import ForbiddenError
from burnish.annotation.settings import Settings, settings_of
from burnish.annotation.sign_on.provider import Provider
from burnish.annotation.tables import Project

COOKIE = "burnish_session"
_SAFE = ("GET", "HEAD", "OPTIONS")

ImportFile = Callable[[Path, str, str], dict[str, int]]
"""(uploaded file, layout, project) -> counts. The layouts of other tools are read outside this
room."""


class LoginNeededError(Exception):
    """Nobody is logged in: pages lead to the login, the API answers 401."""


@dataclass
class Site:
    """One server's state.

    Args:
        database: where everything is.
        generate: the model to chat with; None: none is served.
        import_file: reads uploads in the layouts of other tools; None: only the server's own rows.
        layouts: the names of those layouts.
        secure_cookies: the server stands behind HTTPS.
        chat_threads: those that wait for the model, or for the provider of single sign-on; made
            when the server starts.
        sign_on: the provider of single sign-on; None: people have names and passwords.
    """

    database: Database
    generate: Generate | None = None
    import_file: ImportFile | None = None
    layouts: tuple[str, ...] = ()
    secure_cookies: bool = False
    chat_threads: CapacityLimiter | None = None
    sign_on: Provider | None = None
    _shares: dict[int, tuple[float, float]] = field(default_factory=dict)

    def caller(self, request: Request) -> Caller:
        """Who asks, by token or cookie. A cookie alone does not change anything: unsafe requests
        carry the CSRF token too.

        Raises LoginNeededError, or ForbiddenError for a missing or wrong CSRF token.
        """
        found = self.caller_or_none(request)
        if found is None:
            raise LoginNeededError
        if found.scopes is None and request.method not in _SAFE:
            self.check_csrf(found, request.headers.get("x-csrf-token", ""))
        return found

    def caller_or_none(self, request: Request) -> Caller | None:
        """Who asks, without a check of the CSRF token: for pages whose forms carry it."""
        address = request.client.host if request.client else ""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return accounts.caller_of_token(self.database, token.strip(), address=address)
        cookie = request.cookies.get(COOKIE)
        return (
            accounts.caller_of_session(self.database, cookie, address=address) if cookie else None
        )

    def check_csrf(self, caller: Caller, token: object) -> None:
        """Raises ForbiddenError if `token` is not the session's."""
        given = token if isinstance(token, str) else ""
        if not hmac.compare_digest(given.encode(errors="replace"), caller.csrf.encode()):
            raise ForbiddenError(
                "the page is too old, or the request came from elsewhere; load the page again."
            )

    def page(
        self, request: Request, template: str, *, status: int = 200, **values: Any
    ) -> HTMLResponse:
        """A rendered template, in the language of who asked."""
        caller = values.pop("caller", None)
        common = {
            "caller": caller,
            "path": local_path(request.scope),
            "root": request.scope.get("root_path", ""),
            "here": page_address(request),
            "sign_on": self.sign_on,
        }
        templates = environment(reader_language(request, caller).code)
        return HTMLResponse(
            templates.get_template(template).render(**{**common, **values}), status_code=status
        )

    def settings(self, project_id: int) -> Settings:
        """A project's settings; the caller has been let in already."""
        with self.database.read() as session:
            row = session.get(Project, project_id)
            return settings_of(row.settings if row else None)

    def share_done(self, project_id: int, settings: Settings) -> float:
        """How far a project is, at most ten seconds old: it stands on every annotator's screen."""
        at, share = self._shares.get(project_id, (0.0, 0.0))
        if time.monotonic() - at > 10 or not at:
            with self.database.read() as session:
                share = webhooks.share_done(session, project_id, settings)
            self._shares[project_id] = (time.monotonic(), share)
        return share


def site_of(request: Request) -> Site:
    """The site that a request came to."""
    return cast(Site, request.app.state.site)


def page_address(request: Request) -> str:
    """Where the page that is shown can be asked for again. What answers a form has no address: the
    page above it has."""
    path, query = local_path(request.scope), request.url.query
    if request.method in _SAFE:
        return f"{path}?{query}" if query else path
    while path != "/" and not _is_page(request, path):
        path = path.rpartition("/")[0] or "/"
    return path


def _is_page(request: Request, path: str) -> bool:
    scope = {**request.scope, "method": "GET", "path": request.scope.get("root_path", "") + path}
    return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)


def cookie_options(site: Site, request: Request) -> Mapping[str, Any]:
    """Of the session's cookie: no script reads it, other sites do not send it along with what
    changes something, and it goes to no other path than this server's."""
    secure = site.secure_cookies or request.url.scheme == "https"
    return {"httponly": True, "samesite": "lax", "secure": secure, "path": cookie_path(request)}


def cookie_path(request: Request) -> str:
    """Where this server's cookies go."""
    return request.scope.get("root_path", "") or "/"
