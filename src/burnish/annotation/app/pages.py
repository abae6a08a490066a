"""Pages of those who label: their projects, the task page, the guidelines, the API's
description."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from burnish.annotation.app.context import site_of
from burnish.annotation.service import changes, projects
from burnish.annotation.service.choosing import desk
from burnish.annotation.service.crowd import came_by_the_door
from burnish.annotation.tables import Project

router = APIRouter()
Id = Annotated[int, Path(ge=1, le=2**31 - 1)]


@router.get("/")
def root(request: Request) -> Response:
    """To one's projects."""
    return RedirectResponse("/projects", status_code=303)


@router.get("/healthz")
def health(request: Request) -> dict[str, str]:
    """For whoever watches over the server: it answers, and so does the database."""
    with site_of(request).database.read() as session:
        session.connection()
    return {"status": "ok"}


@router.get("/projects")
def home(request: Request) -> HTMLResponse:
    """My projects."""
    site = site_of(request)
    caller = site.caller(request)
    return site.page(
        request, "home.html", caller=caller, projects=projects.mine(site.database, caller)
    )


@router.get("/projects/{project_id}/label")
def label(request: Request, project_id: Id) -> HTMLResponse:
    """The task page; its tasks come through the API."""
    site = site_of(request)
    caller = site.caller(request)
    with site.database.read() as session:
        at = desk(session, caller, project_id)
        about = session.get_one(Project, project_id)
        text = changes.guidelines(site.database, caller, project_id)
        share = site.share_done(project_id, at.settings)
        return site.page(
            request,
            "task.html",
            caller=caller,
            project_id=project_id,
            name=about.name,
            guidelines=text["text"],
            guidelines_version=text["version"],
            guidelines_read=text["read"],
            share=share,
            crowd=came_by_the_door(session, project_id, caller.annotator_id),
        )


@router.get("/api")
def api_page(request: Request) -> HTMLResponse:
    """The REST API, described from its OpenAPI document."""
    site = site_of(request)
    caller = site.caller_or_none(request)
    document = request.app.openapi()
    return site.page(request, "api.html", caller=caller, document=document)
