"""The crowd's door and what goes with it: consent, the completion code, the pay sheet."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from burnish.annotation.app.account_pages import address_of, check_form, form_page, logged_in
from burnish.annotation.app.context import site_of
from burnish.annotation.app.tabs import Id, Text
from burnish.annotation.service import crowd
from burnish.annotation.service.submission import StorableText
from burnish.errors import UserError

router = APIRouter()
Given = Annotated[StorableText, Query(max_length=100)]


@router.get("/start")
def start_page(
    request: Request, PROLIFIC_PID: Given = "", STUDY_ID: Given = "", SESSION_ID: Given = ""
) -> HTMLResponse:
    """What the study is, and what is agreed to before it begins."""
    site = site_of(request)
    ids = {"PROLIFIC_PID": PROLIFIC_PID, "STUDY_ID": STUDY_ID, "SESSION_ID": SESSION_ID}
    missing = next((name for name, value in ids.items() if not value), None)
    if missing is not None:
        raise UserError("is missing in the address: come here from your platform.", field=missing)
    about = crowd.study(site.database, STUDY_ID)
    return form_page(site, request, "start.html", about=about, ids=ids)


@router.post("/start")
def start(
    request: Request,
    PROLIFIC_PID: Text = "",
    STUDY_ID: Text = "",
    SESSION_ID: Text = "",
    agreed: Text = "",
    csrf: Text = "",
) -> Response:
    """Begin, or go on."""
    site = site_of(request)
    check_form(request, csrf)
    if not agreed:
        raise UserError("nothing begins without it.", field="agreed")
    project_id, secret = crowd.enter(
        site.database, STUDY_ID, PROLIFIC_PID, SESSION_ID, address=address_of(request)
    )
    return logged_in(site, request, secret, f"/projects/{project_id}/label")


@router.get("/projects/{project_id}/done")
def done(request: Request, project_id: Id) -> Response:
    """The completion code, for who is done."""
    site = site_of(request)
    caller = site.caller(request)
    found = crowd.completion(site.database, caller, project_id)
    if not found["done"] and found["left"] != 0 and found["answered"]:
        return RedirectResponse(f"/projects/{project_id}/label", status_code=303)
    return site.page(request, "done.html", caller=caller, project_id=project_id, found=found)


@router.get("/projects/{project_id}/pay.csv")
def pay_sheet(request: Request, project_id: Id) -> Response:
    """Who did how much and is owed what."""
    site = site_of(request)
    rows = crowd.pay_sheet(site.database, site.caller(request), project_id)
    headers = {"Content-Disposition": f'attachment; filename="project-{project_id}-pay.csv"'}
    return Response(crowd.as_csv(rows), media_type="text/csv; charset=utf-8", headers=headers)
