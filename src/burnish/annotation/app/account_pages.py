"""Pages about accounts: login and logout, invitations, one's password and tokens."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import Annotated

from fastapi import APIRouter, Form, Path, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from burnish.annotation.app.context import (
    COOKIE,
    LoginNeededError,
    Site,
    cookie_options,
    cookie_path,
    site_of,
)
from burnish.annotation.app.language import LANGUAGE_COOKIE
from burnish.annotation.languages import languages
from burnish.annotation.service import accounts, identities, people, resets
from burnish.annotation.service.refusals import ForbiddenError
from burnish.annotation.service.submission import StorableText
from burnish.errors import UserError

router = APIRouter()

_FORM_COOKIE = "burnish_form"
_HERE = re.compile(r"/(?!/)[\w/?&=%.+*~:,@!$;()-]*", re.ASCII)
"""An address on this server, as browsers write it."""
Text = Annotated[StorableText, Form(max_length=500)]
Address = Annotated[StorableText, Form(max_length=24_000)]
"""Of a page: a search has six fields of 300 characters, each up to twelve when it is quoted."""
Wanted = Annotated[StorableText, Query(max_length=24_000)]
Secret = Annotated[StorableText, Path(max_length=100)]


@router.get("/login")
def login_page(
    request: Request, next: Wanted = "", out: Annotated[str, Query(max_length=1)] = ""
) -> Response:
    """Name and password, or single sign-on; `next` is the page to go on to."""
    site = site_of(request)
    target = next if is_here(next) else ""
    if site.caller_or_none(request) is not None:
        return RedirectResponse(target or "/projects", status_code=303)
    return form_page(site, request, "login.html", target=target, out=bool(out))


@router.post("/login")
def login(
    request: Request, name: Text = "", password: Text = "", next: Address = "", csrf: Text = ""
) -> Response:
    """A new session, whatever cookie came along."""
    site = site_of(request)
    check_form(request, csrf)
    target = next if is_here(next) else ""
    try:
        secret = accounts.log_in(site.database, name, password, address=address_of(request))
    except ForbiddenError as error:
        return form_page(
            site, request, "login.html", status=403, error=error, name=name, target=target
        )
    return logged_in(site, request, secret, target or "/projects")


@router.post("/logout")
def logout(request: Request, csrf: Text = "") -> Response:
    """End this browser's session."""
    site = site_of(request)
    caller = site.caller_or_none(request)
    if caller is not None:
        site.check_csrf(caller, csrf)
        accounts.log_out(site.database, request.cookies[COOKIE])
    response = RedirectResponse("/login?out=1", status_code=303)
    response.delete_cookie(COOKIE, path=cookie_path(request))
    return response


@router.get("/join/{secret}")
def join_page(request: Request, secret: Secret) -> HTMLResponse:
    """What the invitation is for, and a form to take it up."""
    site = site_of(request)
    found = people.invitation(site.database, secret)
    caller = site.caller_or_none(request)
    return form_page(site, request, "join.html", caller=caller, invitation=found, secret=secret)


@router.post("/join/{secret}")
def join(
    request: Request,
    secret: Secret,
    name: Text = "",
    password: Text = "",
    known: Text = "",
    csrf: Text = "",
) -> Response:
    """With a new account, with one that is there already, or as who is logged in."""
    site = site_of(request)
    caller = site.caller_or_none(request)
    if caller is not None:
        site.check_csrf(caller, csrf)
        project_id = people.join(site.database, secret, caller)
        return RedirectResponse(f"/projects/{project_id}/label", status_code=303)
    check_form(request, csrf)
    address = address_of(request)
    try:
        if known:
            session = accounts.log_in(site.database, name, password, address=address)
            caller = accounts.caller_of_session(site.database, session, address=address)
            assert caller is not None
            project_id = people.join(site.database, secret, caller)
        else:
            project_id, session = people.sign_up(
                site.database, secret, name, password, address=address
            )
    except UserError as error:
        if type(error) not in (UserError, ForbiddenError):
            raise
        found = people.invitation(site.database, secret)
        values = {"caller": None, "invitation": found, "secret": secret, "name": name}
        return form_page(site, request, "join.html", status=422, error=error, **values)
    return logged_in(site, request, session, f"/projects/{project_id}/label")


@router.get("/reset/{secret}")
def reset_page(request: Request, secret: Secret) -> HTMLResponse:
    """A new password, by a link that an owner made."""
    site = site_of(request)
    return form_page(
        site, request, "reset.html", name=resets.name_of(site.database, secret), secret=secret
    )


@router.post("/reset/{secret}")
def reset(request: Request, secret: Secret, password: Text = "", csrf: Text = "") -> Response:
    """Set it, and log in."""
    site = site_of(request)
    check_form(request, csrf)
    try:
        session = resets.use(site.database, secret, password, address=address_of(request))
    except UserError as error:
        if type(error) is not UserError:
            raise
        name = resets.name_of(site.database, secret)
        return form_page(
            site, request, "reset.html", status=422, error=error, name=name, secret=secret
        )
    return logged_in(site, request, session, "/projects")


@router.get("/account")
def account(request: Request) -> HTMLResponse:
    """My password and tokens."""
    site = site_of(request)
    return account_page(site, request, site.caller(request))


def account_page(
    site: Site,
    request: Request,
    caller: accounts.Caller,
    *,
    status: int = 200,
    error: UserError | None = None,
    fresh: str | None = None,
    **values: object,
) -> HTMLResponse:
    """The page of somebody's account; `fresh` is a token that is shown this once."""
    return site.page(
        request,
        "account.html",
        status=status,
        caller=caller,
        tokens=accounts.tokens(site.database, caller),
        fresh=fresh,
        scopes=accounts.SCOPES,
        error=error,
        known_by=identities.of_caller(site.database, caller),
        connect=connect_token(caller),
        **values,
    )


def connect_token(caller: accounts.Caller) -> str:
    """What a link carries by which an account gets connected with single sign-on: no other site can
    make it, and whoever reads it in an address learns no token of forms."""
    return hashlib.sha256(f"connect {caller.csrf}".encode()).hexdigest()


@router.post("/account/keys")
def change_keys(request: Request, letter_keys: Text = "", csrf: Text = "") -> Response:
    """Whether single letters are keys on my pages."""
    site = site_of(request)
    accounts.prefer(site.database, checked(site, request, csrf), letter_keys=letter_keys == "on")
    return RedirectResponse("/account", status_code=303)


@router.post("/language")
def change_language(
    request: Request, language: Text = "", to: Address = "/", csrf: Text = ""
) -> Response:
    """The language of my pages: kept in this browser, and with my account where I have one."""
    site = site_of(request)
    caller = site.caller_or_none(request)
    if language not in languages():
        raise UserError(f"languages are {', '.join(languages())}.", field="language")
    if caller is not None:
        site.check_csrf(caller, csrf)
        accounts.prefer(site.database, caller, language=language)
    target = to if is_here(to) else "/"
    response = RedirectResponse(target, status_code=303)
    _keep_language(site, request, response, language)
    return response


def _keep_language(site: Site, request: Request, response: Response, language: str) -> None:
    response.set_cookie(
        LANGUAGE_COOKIE, language, max_age=365 * 86400, **cookie_options(site, request)
    )


@router.post("/account/password")
def change_password(request: Request, old: Text = "", new: Text = "", csrf: Text = "") -> Response:
    """The old one is asked for; other browsers are logged out."""
    site = site_of(request)
    caller = checked(site, request, csrf)
    try:
        accounts.log_in(site.database, caller.name, old, address=address_of(request))
        accounts.set_password(site.database, caller.name, new)
        session = accounts.log_in(site.database, caller.name, new, address=address_of(request))
    except UserError as error:
        return account_page(site, request, caller, status=422, error=error)
    return logged_in(site, request, session, "/account")


@router.post("/account/tokens")
def new_token(
    request: Request,
    name: Text = "",
    scopes: Annotated[list[str] | None, Form()] = None,
    csrf: Text = "",
) -> HTMLResponse:
    """The value is shown this once."""
    site = site_of(request)
    caller = checked(site, request, csrf)
    fresh, error = None, None
    try:
        fresh = accounts.create_token(
            site.database, account_name=caller.name, name=name, scopes=scopes or (), caller=caller
        )
    except UserError as refused:
        error = refused
    return account_page(site, request, caller, fresh=fresh, error=error)


@router.post("/account/tokens/{token_id}/revoke")
def revoke(
    request: Request, token_id: Annotated[int, Path(ge=1, le=2**31 - 1)], csrf: Text = ""
) -> Response:
    """For good."""
    site = site_of(request)
    accounts.revoke_token(site.database, checked(site, request, csrf), token_id)
    return RedirectResponse("/account", status_code=303)


def is_here(address: str) -> bool:
    """Whether an address is one of this server's pages, and leads nowhere else."""
    return _HERE.fullmatch(address) is not None


def checked(site: Site, request: Request, csrf: str) -> accounts.Caller:
    """Who sent a form, its CSRF token checked. Raises LoginNeededError without a session,
    ForbiddenError for a wrong token."""
    caller = site.caller_or_none(request)
    if caller is None or caller.scopes is not None:
        raise LoginNeededError
    site.check_csrf(caller, csrf)
    return caller


def form_page(
    site: Site, request: Request, template: str, *, status: int = 200, **values: object
) -> HTMLResponse:
    """A form for people who are not logged in: its token stands in the page and in a cookie, and
    both must come back."""
    token = request.cookies.get(_FORM_COOKIE) or secrets.token_urlsafe(24)
    defaults = {"error": None, "name": "", "caller": None, "target": "", "out": False}
    response = site.page(
        request, template, status=status, form_token=token, **{**defaults, **values}
    )
    response.set_cookie(_FORM_COOKIE, token, max_age=3600, **cookie_options(site, request))
    return response


def check_form(request: Request, token: str) -> None:
    """Raises ForbiddenError for a form that is not this browser's."""
    expected = request.cookies.get(_FORM_COOKIE, "")
    if not expected or not hmac.compare_digest(
        token.encode(errors="replace"), expected.encode(errors="replace")
    ):
        raise ForbiddenError("the form is too old, or came from elsewhere; load the page again.")


def logged_in(site: Site, request: Request, secret: str, target: str) -> Response:
    """The session\'s cookie, and on to a page."""
    response = RedirectResponse(target, status_code=303)
    life = int(accounts.SESSION_LIFE.total_seconds())
    response.set_cookie(COOKIE, secret, max_age=life, **cookie_options(site, request))
    caller = accounts.caller_of_session(site.database, secret)
    if caller is not None and "language" in caller.preferences:
        _keep_language(site, request, response, caller.preferences["language"])
    return response


def address_of(request: Request) -> str:
    """Where a request comes from."""
    return request.client.host if request.client else ""
