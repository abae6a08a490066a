"""Pages about who takes part: members, invitations, links for lost passwords."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from burnish.annotation.app.account_pages import checked
from burnish.annotation.app.context import Site, site_of
from burnish.annotation.app.tabs import Id, Text, number, tab
from burnish.annotation.service import changes, erasure, people, resets
from burnish.annotation.service.accounts import Caller
from burnish.annotation.service.refusals import ConflictError, ForbiddenError
from burnish.errors import UserError

router = APIRouter()


@router.get("/projects/{project_id}/members")
def members_page(request: Request, project_id: Id) -> HTMLResponse:
    """Members, and a form to invite."""
    site = site_of(request)
    return _members(site, request, site.caller(request), project_id)


def _members(
    site: Site,
    request: Request,
    caller: Caller,
    project_id: int,
    *,
    status: int = 200,
    link: str | None = None,
    error: UserError | None = None,
    reset: tuple[str, str] | None = None,
) -> HTMLResponse:
    found = people.members(site.database, caller, project_id)
    open_ones = people.invitations(site.database, caller, project_id)
    text = changes.guidelines(site.database, caller, project_id)
    return tab(
        site,
        request,
        caller,
        project_id,
        "members.html",
        status=status,
        members=found,
        link=link,
        error=error,
        guidelines_version=text["version"],
        invitations=open_ones,
        reset=reset,
    )


@router.post("/projects/{project_id}/invite")
def invite(
    request: Request, project_id: Id, role: Text = "annotator", uses: Text = "1", csrf: Text = ""
) -> HTMLResponse:
    """The link is shown this once."""
    site = site_of(request)
    caller = checked(site, request, csrf)
    try:
        secret = people.invite(
            site.database, caller, project_id, role=role, uses=number(uses, "uses", most=1000)
        )
    except UserError as error:
        if type(error) is not UserError:
            raise
        return _members(site, request, caller, project_id, status=422, error=error)
    return _members(
        site, request, caller, project_id, link=f"{str(request.base_url).rstrip('/')}/join/{secret}"
    )


@router.post("/projects/{project_id}/invitations/{invitation_id}/revoke")
def revoke_invitation(
    request: Request, project_id: Id, invitation_id: Id, csrf: Text = ""
) -> Response:
    """The link lets nobody in any more."""
    site = site_of(request)
    people.revoke_invitation(site.database, checked(site, request, csrf), project_id, invitation_id)
    return RedirectResponse(f"/projects/{project_id}/members", status_code=303)


@router.post("/projects/{project_id}/members/{member_id}/reset")
def reset_link(request: Request, project_id: Id, member_id: Id, csrf: Text = "") -> HTMLResponse:
    """A link that sets a member's lost password anew; it is shown this once."""
    site = site_of(request)
    caller = checked(site, request, csrf)
    try:
        secret = resets.for_member(site.database, caller, project_id, member_id)
    except ForbiddenError as error:
        return _members(site, request, caller, project_id, status=403, error=error)
    link = f"{str(request.base_url).rstrip('/')}/reset/{secret}"
    return _members(
        site, request, caller, project_id, reset=(resets.name_of(site.database, secret), link)
    )


@router.post("/projects/{project_id}/members/{annotator_id}/erase")
def erase(
    request: Request,
    project_id: Id,
    annotator_id: Id,
    answers: Text = "",
    confirmed: Text = "",
    csrf: Text = "",
) -> HTMLResponse:
    """Forget a person."""
    site = site_of(request)
    caller = checked(site, request, csrf)
    try:
        if not confirmed:
            raise ConflictError("say that the person is to be forgotten.")
        erasure.of_member(
            site.database, caller, project_id, annotator_id, keep_answers=answers != "delete"
        )
    except (ForbiddenError, ConflictError) as error:
        return _members(site, request, caller, project_id, status=409, error=error)
    return _members(site, request, caller, project_id)


@router.post("/projects/{project_id}/members/{member_id}")
def member(
    request: Request,
    project_id: Id,
    member_id: Id,
    state: Text = "",
    role: Text = "",
    quota: Text = "",
    csrf: Text = "",
) -> Response:
    """Change state, role or quota."""
    site = site_of(request)
    caller = checked(site, request, csrf)
    changes: dict[str, Any] = {}
    if state in ("training", "active", "paused"):
        changes["state"] = state
    if role in ("annotator", "reviewer", "owner"):
        changes["role"] = role
    if quota:
        changes["quota"] = number(quota, "quota", most=1_000_000)
    people.change_member(site.database, caller, project_id, member_id, changes=changes)
    return RedirectResponse(f"/projects/{project_id}/members", status_code=303)
