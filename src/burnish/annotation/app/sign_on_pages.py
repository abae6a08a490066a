"""Logging in by single sign-on: to the provider, back from it, and one's account connected with
it."""

from __future__ import annotations

import base64
import binascii
import hmac
from functools import partial
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from burnish.annotation.app.account_pages import (
    Text,
    account_page,
    address_of,
    checked,
    connect_token,
    form_page,
    is_here,
    logged_in,
)
from burnish.annotation.app.context import Site, cookie_options, cookie_path, site_of
from burnish.annotation.app.tabs import Id
from burnish.annotation.service import identities
from burnish.annotation.service.refusals import ConflictError, ForbiddenError, NotFoundError
from burnish.annotation.service.submission import StorableText
from burnish.annotation.sign_on.provider import Begun, Provider, SignOnError, UnreachableError
from burnish.errors import UserError

router = APIRouter()
Given = Annotated[StorableText, Query(max_length=4000)]

_COOKIE = "burnish_sign_in"
_LIFE = 900
LONGEST_TARGET = 1000
"""Of the page to go on to: browsers keep no cookie of more than 4,096 bytes."""


@router.get("/login/oidc")
async def begin(request: Request, next: Given = "", connect: Given = "") -> Response:
    """To the provider. `connect` is `connect_token` of who connects their account."""
    site = site_of(request)
    return await _apart(site, partial(_begin, site, request, next, connect))


def _begin(site: Site, request: Request, target: str, connect: str) -> Response:
    provider, account = _provider(site), 0
    if connect:
        caller = site.caller_or_none(request)
        if caller is None or not hmac.compare_digest(
            connect.encode(errors="replace"), connect_token(caller).encode()
        ):
            raise ForbiddenError(
                "the page is too old, or the request came from elsewhere; load the page again."
            )
        account, target = caller.account_id, "/account"
    kept = target if is_here(target) and len(target) <= LONGEST_TARGET else "/projects"
    try:
        address, begun = provider.begin(_back(site, request), target=kept, account=account)
    except UnreachableError as error:
        return _failed(site, request, provider, error)
    response = RedirectResponse(address, status_code=303)
    text = base64.urlsafe_b64encode(begun.written().encode()).decode()
    response.set_cookie(_COOKIE, text, max_age=_LIFE, **cookie_options(site, request))
    return response


@router.get("/login/oidc/callback")
async def finish(
    request: Request, state: Given = "", code: Given = "", error: Given = "", iss: Given = ""
) -> Response:
    """Back from the provider."""
    site = site_of(request)
    answer = {"state": state, "code": code, "error": error, "iss": iss}
    return await _apart(site, partial(_finish, site, request, answer))


def _finish(site: Site, request: Request, answer: dict[str, str]) -> Response:
    provider = _provider(site)
    try:
        begun = _begun(request)
        if begun is None:
            raise ForbiddenError(
                "the sign-in was begun too long ago, or in another browser; begin again."
            )
        identity = provider.finish(begun, answer, _back(site, request))
        target = begun.target if is_here(begun.target) else "/projects"
        if begun.account:
            caller = site.caller_or_none(request)
            if caller is None or caller.account_id != begun.account:
                raise ForbiddenError(
                    "the sign-in was begun too long ago, or in another browser; begin again."
                )
            identities.connect(site.database, caller, identity)
            response: Response = RedirectResponse(target, status_code=303)
        else:
            secret = identities.enter(
                site.database, identity, provider.settings, address=address_of(request)
            )
            response = logged_in(site, request, secret, target)
    except (ForbiddenError, ConflictError, SignOnError, UnreachableError) as error:
        response = _failed(site, request, provider, error)
    # whatever came of it: what was begun is good for one answer
    response.delete_cookie(_COOKIE, path=cookie_path(request))
    return response


def _failed(site: Site, request: Request, provider: Provider, error: Exception) -> Response:
    """What people read of a failure. Why, the operator is told: it may name addresses."""
    refused = error if isinstance(error, UserError) else None
    if isinstance(error, SignOnError):
        provider.say(f"single sign-on: a login failed, {error}")
        refused = ForbiddenError("the sign-in did not succeed; begin again.")
    elif isinstance(error, UnreachableError):
        provider.say(f"single sign-on: {error}")
        refused = ForbiddenError("the sign-in service does not answer as it should; try later.")
    status = 502 if isinstance(error, UnreachableError) else 403
    caller = site.caller_or_none(request)
    if caller is not None:
        return account_page(site, request, caller, status=status, error=refused, here="/account")
    return form_page(site, request, "login.html", status=status, error=refused, here="/login")


@router.get("/login/oidc/out")
def leave(request: Request) -> Response:
    """Out of the provider too."""
    site = site_of(request)
    return RedirectResponse(
        _provider(site).goodbye(_here(site, request, "/login")) or "/login", status_code=303
    )


@router.post("/account/identities/{identity_id}/disconnect")
def disconnect(request: Request, identity_id: Id, csrf: Text = "") -> Response:
    """It opens my account no more."""
    site = site_of(request)
    caller = checked(site, request, csrf)
    try:
        identities.disconnect(site.database, caller, identity_id)
    except ConflictError as error:
        return account_page(site, request, caller, status=409, error=error)
    return RedirectResponse("/account", status_code=303)


async def _apart(site: Site, work: partial[Response]) -> Response:
    """In a thread that waits for the provider, so that annotators do not."""
    return await anyio.to_thread.run_sync(work, limiter=site.chat_threads)


def _provider(site: Site) -> Provider:
    if site.sign_on is None:
        raise NotFoundError("there is no single sign-on here.")
    return site.sign_on


def _begun(request: Request) -> Begun | None:
    try:
        text = base64.urlsafe_b64decode(request.cookies.get(_COOKIE, "").encode())
        return Begun.read(text.decode())
    except (binascii.Error, ValueError):
        return None


def _back(site: Site, request: Request) -> str:
    return _here(site, request, "/login/oidc/callback")


def _here(site: Site, request: Request, path: str) -> str:
    """The whole address of a page, as the browser knows it."""
    scheme = "https" if site.secure_cookies else request.url.scheme
    root = request.scope.get("root_path", "")
    return f"{scheme}://{request.url.netloc}{root}{path}"
