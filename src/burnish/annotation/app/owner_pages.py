"""Pages of owners and reviewers: creating a project, its progress, items, members, disagreements,
settings, exports."""

from __future__ import annotations

import re
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy import select

from burnish.annotation.app.account_pages import checked
from burnish.annotation.app.context import Site, site_of
from burnish.annotation.app.settings_form import LABELS, as_typed, form_of, read_form, read_renames
from burnish.annotation.app.tabs import (
    Id,
    LongText,
    Text,
    in_thread,
    number,
    role_of,
    tab,
    texts_of,
)
from burnish.annotation.dashboard_page import cached_fragment
from burnish.annotation.records import KINDS
from burnish.annotation.service import accounts, changes, exports, projects, webhooks
from burnish.annotation.service.accounts import Caller
from burnish.annotation.tables import Delivery, Webhook
from burnish.errors import UserError

router = APIRouter()


@router.get("/projects/new")
def new_page(request: Request) -> HTMLResponse:
    """A form."""
    site = site_of(request)
    caller = site.caller(request)
    return _new(site, request, caller)


@router.post("/projects/new")
def new(
    request: Request,
    name: Text = "",
    kind: Text = "pairwise",
    overlap: Text = "3",
    guidelines: LongText = "",
    csrf: Text = "",
) -> Response:
    """Create it, and go to its items."""
    site = site_of(request)
    caller = checked(site, request, csrf)
    try:
        made = projects.create(
            site.database,
            caller,
            name,
            guidelines=guidelines,
            settings={"kind": kind, "overlap": number(overlap, "overlap")},
        )
    except UserError as error:
        return _new(
            site, request, caller, status=422, error=error, name=name, guidelines=guidelines
        )
    return RedirectResponse(f"/projects/{made}/items", status_code=303)


def _new(
    site: Site, request: Request, caller: Caller, *, status: int = 200, **values: Any
) -> HTMLResponse:
    defaults: dict[str, Any] = {"error": None, "name": "", "guidelines": ""}
    return site.page(
        request, "new.html", status=status, caller=caller, kinds=KINDS, **{**defaults, **values}
    )


@router.get("/projects/{project_id}")
def overview(request: Request, project_id: Id) -> Response:
    """Progress and figures; who only labels is led to the tasks."""
    site = site_of(request)
    caller = site.caller(request)
    role = role_of(site, caller, project_id)
    if role == "annotator":
        return RedirectResponse(f"/projects/{project_id}/label", status_code=303)
    about = projects.describe(site.database, caller, project_id)
    found = projects.progress(site.database, caller, project_id)
    shown, fresh = (
        cached_fragment(site.database, about["name"]) if role == "owner" else (None, True)
    )
    return tab(
        site,
        request,
        caller,
        project_id,
        "overview.html",
        about=about,
        progress=found,
        dashboard=shown,
        fresh=fresh,
    )


@router.get("/projects/{project_id}/settings")
def settings_page(request: Request, project_id: Id) -> HTMLResponse:
    """Guidelines, settings, webhooks, the audit log."""
    site = site_of(request)
    return _settings(site, request, site.caller(request), project_id)


def _settings(
    site: Site,
    request: Request,
    caller: Caller,
    project_id: int,
    *,
    status: int = 200,
    **values: Any,
) -> HTMLResponse:
    log = projects.audit(site.database, caller, project_id)
    about = projects.describe(site.database, caller, project_id)
    with site.database.read() as session:
        hooks = session.scalars(select(Webhook).where(Webhook.project_id == project_id)).all()
        told = [
            (
                hook,
                session.scalar(
                    select(Delivery)
                    .where(Delivery.webhook_id == hook.id)
                    .order_by(Delivery.id.desc())
                ),
            )
            for hook in hooks
        ]
    shown = {
        "about": about, "log": log, "hooks": told, "error": None, "fresh_hook": None,
        "groups": form_of(about["settings"]), "guidelines": about["guidelines"], **values,
    }  # fmt: skip
    return tab(site, request, caller, project_id, "settings.html", status=status, **shown)


@router.post("/projects/{project_id}/settings")
async def save_settings(
    request: Request, project_id: Id, guidelines: LongText = "", csrf: Text = ""
) -> Response:
    """Guidelines as Markdown, and the fields of the settings."""
    return await in_thread(
        _save_settings, request, project_id, guidelines, csrf, await texts_of(request)
    )


def _save_settings(
    request: Request, project_id: int, guidelines: str, csrf: str, form: dict[str, str]
) -> Response:
    site = site_of(request)
    caller = checked(site, request, csrf)
    try:
        settings = read_form(form)
        told = changes.consequences(site.database, caller, project_id, settings, guidelines)
        weighty = (told["changes"] and (told["answers"] or told["open"])) or told["unpassable"]
        if weighty and "confirmed" not in form:
            return tab(
                site,
                request,
                caller,
                project_id,
                "change.html",
                told=told,
                guidelines=guidelines,
                typed=form,
                labels=LABELS,
                error=None,
            )
        projects.change(
            site.database,
            caller,
            project_id,
            guidelines=guidelines,
            settings=settings,
            renames=read_renames(form),
            open_tasks="renew" if form.get("open_tasks") == "renew" else "finish",
        )
    except UserError as error:
        if type(error) is not UserError:
            raise
        typed = {"groups": as_typed(form), "guidelines": guidelines}
        return _settings(site, request, caller, project_id, status=422, error=error, **typed)
    return RedirectResponse(f"/projects/{project_id}/settings", status_code=303)


@router.post("/projects/{project_id}/webhooks")
def add_webhook(request: Request, project_id: Id, url: Text = "", csrf: Text = "") -> HTMLResponse:
    """The secret is shown this once."""
    site = site_of(request)
    caller = checked(site, request, csrf)
    try:
        with site.database.write() as session:
            projects.role_in(session, caller, project_id, least="owner")
            made = webhooks.add(session, project_id, url)
            accounts.record(
                session, "webhook added", caller=caller, project_id=project_id, subject=url
            )
            secret = made.secret
    except UserError as error:
        if type(error) is not UserError:
            raise
        return _settings(site, request, caller, project_id, status=422, error=error)
    return _settings(site, request, caller, project_id, fresh_hook=secret)


@router.get("/projects/{project_id}/export")
def export_page(request: Request, project_id: Id) -> HTMLResponse:
    """A form."""
    site = site_of(request)
    caller = site.caller(request)
    return _export(site, request, caller, project_id)


def _export(
    site: Site,
    request: Request,
    caller: Caller,
    project_id: int,
    *,
    status: int = 200,
    error: UserError | None = None,
) -> HTMLResponse:
    with site.database.read() as session:
        projects.role_in(session, caller, project_id, least="owner")
    asked = [one.name for one in site.settings(project_id).dimensions]
    open_ones = projects.progress(site.database, caller, project_id)["disputed"]
    shown = {
        "layouts": exports.EXPORT_LAYOUTS,
        "error": error,
        "disputed": open_ones,
        "dimensions": asked,
    }
    return tab(site, request, caller, project_id, "export.html", status=status, **shown)


@router.get("/projects/{project_id}/export/download")
def download(
    request: Request,
    project_id: Id,
    layout: str = "paired",
    file: str = ".jsonl",
    human_share: str = "",
    dimension: str = "",
) -> Response:
    """The file; `file=manifest` gives what goes beside it."""
    site = site_of(request)
    caller = site.caller(request)
    try:
        share = (
            None if not human_share else number(human_share, "human_share", least=0, most=100) / 100
        )
        made = exports.make_export(
            site.database,
            caller,
            project_id,
            layout,
            human_share=share,
            dimension=dimension or None,
        )
        manifest = file == "manifest"
        content, kind = (
            (exports.manifest_of(made), "application/json")
            if manifest
            else exports.file_of(made, file)
        )
    except UserError as error:
        if type(error) is not UserError:
            raise
        return _export(site, request, caller, project_id, status=422, error=error)
    of_it = f"-{re.sub(r'[^A-Za-z0-9]+', '-', dimension)}" if dimension else ""
    name = f"project-{project_id}-{layout}{of_it}{'.manifest.json' if manifest else file}"
    return Response(
        content, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )
