"""The reviewer's page (its items come through the API), and the notes."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from burnish.annotation.app.account_pages import checked
from burnish.annotation.app.context import Site, site_of
from burnish.annotation.app.tabs import Id, LongText, Text, number, role_of, tab
from burnish.annotation.service import notes, people
from burnish.annotation.service.accounts import Caller
from burnish.annotation.service.projects import role_in
from burnish.errors import UserError

router = APIRouter()


@router.get("/projects/{project_id}/review")
def review_page(request: Request, project_id: Id) -> HTMLResponse:
    """One item at a time; `?item=` names the one to begin with."""
    site = site_of(request)
    caller = site.caller(request)
    with site.database.read() as session:
        role_in(session, caller, project_id, least="reviewer")
    return tab(site, request, caller, project_id, "review.html")


@router.get("/projects/{project_id}/disputes")
def old_address(project_id: Id) -> Response:
    """Where disagreements were once."""
    return RedirectResponse(f"/projects/{project_id}/review", status_code=303)


@router.get("/projects/{project_id}/notes")
def notes_page(request: Request, project_id: Id) -> HTMLResponse:
    """All notes for owners, one's own thread for others."""
    site = site_of(request)
    return _notes(site, request, site.caller(request), project_id)


@router.post("/projects/{project_id}/notes")
def add_note(
    request: Request,
    project_id: Id,
    text: LongText = "",
    to: Text = "",
    csrf: Text = "",
) -> Response:
    """To the owners, or from an owner to a member."""
    site = site_of(request)
    caller = checked(site, request, csrf)
    try:
        notes.write(
            site.database, caller, project_id, text,
            to=number(to, "to", most=2**31 - 1) if to else None,
        )  # fmt: skip
    except UserError as error:
        if type(error) is not UserError:
            raise
        return _notes(site, request, caller, project_id, status=422, error=error.problem)
    return RedirectResponse(f"/projects/{project_id}/notes", status_code=303)


def _notes(
    site: Site,
    request: Request,
    caller: Caller,
    project_id: int,
    *,
    status: int = 200,
    error: str | None = None,
) -> HTMLResponse:
    found = notes.listed(site.database, caller, project_id)
    owns = role_of(site, caller, project_id) == "owner"
    members = people.members(site.database, caller, project_id) if owns else []
    return tab(
        site, request, caller, project_id, "notes.html", status=status, notes=found, error=error,
        members=[one for one in members if one["annotator_id"] != caller.annotator_id],
    )  # fmt: skip
