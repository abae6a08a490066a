"""Pages of owners and reviewers: creating a project, its progress, items, members, disagreements, settings, exports."""

from __future__ import annotations

import tempfile
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, Form, Path, Request, UploadFile
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy import select

from burnish.annotation.app.account_pages import checked
from burnish.annotation.app.context import Site, site_of
from burnish.annotation.app.settings_form import LABELS, as_typed, form_of, read_form, read_renames
from burnish.annotation.app.uploads import read_csv, read_lines
from burnish.annotation.dashboard_page import cached_fragment
from burnish.annotation.records import KINDS
from burnish.annotation.service import accounts, changes, exports, projects, webhooks
from burnish.annotation.service.accounts import Caller
from burnish.annotation.service.submission import LONGEST_TEXT, StorableText, Submission, on_screen
from burnish.annotation.tables import Delivery, Webhook
from burnish.errors import UserError

router = APIRouter()
Id = Annotated[int, Path(ge=1, le=2**31 - 1)]
Text = Annotated[StorableText, Form(max_length=500)]
LongText = Annotated[StorableText, Form(max_length=LONGEST_TEXT)]


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
            settings={"kind": kind, "overlap": _number(overlap, "overlap")},
        )
    except UserError as error:
        return _new(site, request, caller, status=422, error=str(error), name=name, guidelines=guidelines)
    return RedirectResponse(f"/projects/{made}/items", status_code=303)


def _new(site: Site, request: Request, caller: Caller, *, status: int = 200, **values: Any) -> HTMLResponse:
    defaults: dict[str, Any] = {"error": None, "name": "", "guidelines": ""}
    return site.page(request, "new.html", status=status, caller=caller, kinds=KINDS, **{**defaults, **values})


@router.get("/projects/{project_id}")
def overview(request: Request, project_id: Id) -> Response:
    """Progress and figures; who only labels is led to the tasks."""
    site = site_of(request)
    caller = site.caller(request)
    role = _role(site, caller, project_id)
    if role == "annotator":
        return RedirectResponse(f"/projects/{project_id}/label", status_code=303)
    about = projects.describe(site.database, caller, project_id)
    found = projects.progress(site.database, caller, project_id)
    shown, fresh = cached_fragment(site.database, about["name"]) if role == "owner" else (None, True)
    return _tab(
        site, request, caller, project_id, "overview.html", about=about, progress=found, dashboard=shown, fresh=fresh
    )


@router.get("/projects/{project_id}/items")
def items_page(request: Request, project_id: Id, after: int = 0) -> HTMLResponse:
    """Items and a form to upload more."""
    site = site_of(request)
    return _items(site, request, site.caller(request), project_id, after=max(0, min(after, 2**31 - 1)))


def _items(
    site: Site, request: Request, caller: Caller, project_id: int, *, after: int = 0, status: int = 200, **values: Any
) -> HTMLResponse:
    found = projects.items(site.database, caller, project_id, after=after, limit=51)
    following = found[49]["id"] if len(found) > 50 else None
    shown = {
        "items": found[:50],
        "following": following,
        "done": None,
        "error": None,
        "layouts": site.layouts,
        **values,
    }
    return _tab(site, request, caller, project_id, "items.html", status=status, **shown)


@router.post("/projects/{project_id}/upload")
def upload(request: Request, project_id: Id, file: UploadFile, layout: Text = "", csrf: Text = "") -> HTMLResponse:
    """Read a file of items. Nothing is stored under the name that it came with."""
    site = site_of(request)
    caller = checked(site, request, csrf)
    try:
        counted = _read_upload(site, caller, project_id, file, layout)
    except UserError as error:
        return _items(site, request, caller, project_id, status=422, error=str(error))
    return _items(site, request, caller, project_id, done=counted)


def _read_upload(site: Site, caller: Caller, project_id: int, file: UploadFile, layout: str) -> dict[str, int]:
    ending = FilePath(file.filename or "").suffix.lower()
    if layout and site.import_file is not None:
        with site.database.read() as session:
            projects.role_in(session, caller, project_id, least="owner")
            name = projects.name_of(session, project_id)
        if ending not in (".jsonl", ".json", ".parquet"):
            raise UserError("files end with .jsonl, .json or .parquet.", field="file")
        with tempfile.TemporaryDirectory() as folder:
            path = FilePath(folder) / f"upload{ending}"
            with path.open("wb") as target:
                while part := file.file.read(1 << 20):
                    target.write(part)
            counted = site.import_file(path, layout, name)
        with site.database.write() as session:
            accounts.record(
                session, "items added", caller=caller, project_id=project_id, counted=counted, layout=layout
            )
        return counted
    read = read_csv if ending == ".csv" else read_lines
    return projects.add_items(site.database, caller, project_id, read(file.file.read()))


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
    error: str | None = None,
) -> HTMLResponse:
    found = projects.members(site.database, caller, project_id)
    text = changes.guidelines(site.database, caller, project_id)
    return _tab(
        site, request, caller, project_id, "members.html", status=status, members=found, link=link, error=error,
        guidelines_version=text["version"],
    )  # fmt: skip


@router.post("/projects/{project_id}/invite")
def invite(
    request: Request, project_id: Id, role: Text = "annotator", uses: Text = "1", csrf: Text = ""
) -> HTMLResponse:
    """The link is shown this once."""
    site = site_of(request)
    caller = checked(site, request, csrf)
    try:
        secret = projects.invite(site.database, caller, project_id, role=role, uses=_number(uses, "uses", most=1000))
    except UserError as error:
        if type(error) is not UserError:
            raise
        return _members(site, request, caller, project_id, status=422, error=str(error))
    return _members(site, request, caller, project_id, link=f"{str(request.base_url).rstrip('/')}/join/{secret}")


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
        changes["quota"] = _number(quota, "quota", most=1_000_000)
    projects.change_member(site.database, caller, project_id, member_id, changes=changes)
    return RedirectResponse(f"/projects/{project_id}/members", status_code=303)


@router.get("/projects/{project_id}/disputes")
def disputes_page(request: Request, project_id: Id) -> HTMLResponse:
    """The next item on which annotators differ."""
    site = site_of(request)
    caller = site.caller(request)
    found = projects.disputes(site.database, caller, project_id)
    for one in found:
        one["shown"] = [on_screen(answer) | {"critique": answer.critique} for answer in one["answers"]]
    settings = site.settings(project_id)
    return _tab(site, request, caller, project_id, "disputes.html", disputes=found, settings=settings)


@router.post("/projects/{project_id}/disputes/{item_id}")
async def decide(request: Request, project_id: Id, item_id: Id) -> Response:
    """A decision by candidate position."""
    return await _in_thread(_decide, request, project_id, item_id, await _texts(request))


async def _texts(request: Request) -> dict[str, str]:
    """The fields of a form whose names are not known beforehand; files are left out."""
    return {name: value for name, value in (await request.form()).items() if isinstance(value, str)}


async def _in_thread(function: Any, *arguments: Any) -> Any:
    from starlette.concurrency import run_in_threadpool

    return await run_in_threadpool(function, *arguments)


def _decide(request: Request, project_id: int, item_id: int, form: dict[str, str]) -> Response:
    site = site_of(request)
    caller = checked(site, request, form.get("csrf", ""))
    given: dict[str, Any] = {"critique": form.get("critique", "")[:LONGEST_TEXT]}
    if form.get("strength"):
        both = form["strength"] == "both_bad"
        given |= {"both_bad": both, "strength": 0 if both else _number(form["strength"], "strength", least=-4, most=4)}
    ranks = [form[key] for key in sorted(form) if key.startswith("rank-")]
    if ranks:
        given["ranks"] = [_number(rank, "ranks", most=99) for rank in ranks]
    ratings: dict[str, list[int]] = {}
    for key in sorted(k for k in form if k.startswith("rating-")):
        ratings.setdefault(key.split("-", 2)[2], []).append(_number(form[key], "ratings", least=0, most=10))
    given |= {"ratings": ratings} if ratings else {}
    projects.decide(site.database, caller, project_id, item_id, Submission(**given))
    return RedirectResponse(f"/projects/{project_id}/disputes", status_code=303)


@router.get("/projects/{project_id}/settings")
def settings_page(request: Request, project_id: Id) -> HTMLResponse:
    """Guidelines, settings, webhooks, the audit log."""
    site = site_of(request)
    return _settings(site, request, site.caller(request), project_id)


def _settings(
    site: Site, request: Request, caller: Caller, project_id: int, *, status: int = 200, **values: Any
) -> HTMLResponse:
    log = projects.audit(site.database, caller, project_id)
    about = projects.describe(site.database, caller, project_id)
    with site.database.read() as session:
        hooks = session.scalars(select(Webhook).where(Webhook.project_id == project_id)).all()
        told = [
            (hook, session.scalar(select(Delivery).where(Delivery.webhook_id == hook.id).order_by(Delivery.id.desc())))
            for hook in hooks
        ]
    shown = {
        "about": about, "log": log, "hooks": told, "error": None, "fresh_hook": None,
        "groups": form_of(about["settings"]), "guidelines": about["guidelines"], **values,
    }  # fmt: skip
    return _tab(site, request, caller, project_id, "settings.html", status=status, **shown)


@router.post("/projects/{project_id}/settings")
async def save_settings(request: Request, project_id: Id, guidelines: LongText = "", csrf: Text = "") -> Response:
    """Guidelines as Markdown, and the fields of the settings."""
    return await _in_thread(_save_settings, request, project_id, guidelines, csrf, await _texts(request))


def _save_settings(request: Request, project_id: int, guidelines: str, csrf: str, form: dict[str, str]) -> Response:
    site = site_of(request)
    caller = checked(site, request, csrf)
    try:
        settings = read_form(form)
        told = changes.consequences(site.database, caller, project_id, settings, guidelines)
        weighty = (told["changes"] and (told["answers"] or told["open"])) or told["unpassable"]
        if weighty and "confirmed" not in form:
            return _tab(
                site, request, caller, project_id, "change.html", told=told, guidelines=guidelines, typed=form,
                labels=LABELS, error=None,
            )  # fmt: skip
        projects.change(
            site.database, caller, project_id, guidelines=guidelines, settings=settings, renames=read_renames(form),
            open_tasks="renew" if form.get("open_tasks") == "renew" else "finish",
        )  # fmt: skip
    except UserError as error:
        if type(error) is not UserError:
            raise
        typed = {"groups": as_typed(form), "guidelines": guidelines}
        return _settings(site, request, caller, project_id, status=422, error=str(error), **typed)
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
            accounts.record(session, "webhook added", caller=caller, project_id=project_id, subject=url)
            secret = made.secret
    except UserError as error:
        if type(error) is not UserError:
            raise
        return _settings(site, request, caller, project_id, status=422, error=str(error))
    return _settings(site, request, caller, project_id, fresh_hook=secret)


def _role(site: Site, caller: Caller, project_id: int) -> str:
    with site.database.read() as session:
        return projects.member_role(session, caller, project_id)


def _tab(
    site: Site, request: Request, caller: Caller, project_id: int, template: str, *, status: int = 200, **values: Any
) -> HTMLResponse:
    with site.database.read() as session:
        name, role = projects.name_of(session, project_id), projects.member_role(session, caller, project_id)
    return site.page(
        request, template, status=status, caller=caller, project_id=project_id, name=name, role=role, **values
    )


def _number(text: str, field: str, *, least: int = 1, most: int = 100) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise UserError(f"a whole number from {least} to {most}.", field=field)
    return value


@router.get("/projects/{project_id}/export")
def export_page(request: Request, project_id: Id) -> HTMLResponse:
    """A form."""
    site = site_of(request)
    caller = site.caller(request)
    return _export(site, request, caller, project_id)


def _export(
    site: Site, request: Request, caller: Caller, project_id: int, *, status: int = 200, error: str | None = None
) -> HTMLResponse:
    with site.database.read() as session:
        projects.role_in(session, caller, project_id, least="owner")
    open_ones = projects.progress(site.database, caller, project_id)["disputed"]
    shown = {"layouts": exports.EXPORT_LAYOUTS, "error": error, "disputed": open_ones}
    return _tab(site, request, caller, project_id, "export.html", status=status, **shown)


@router.get("/projects/{project_id}/export/download")
def download(
    request: Request, project_id: Id, layout: str = "paired", file: str = ".jsonl", human_share: str = ""
) -> Response:
    """The file; `file=manifest` gives what goes beside it."""
    site = site_of(request)
    caller = site.caller(request)
    try:
        share = None if not human_share else _number(human_share, "human_share", least=0, most=100) / 100
        made = exports.make_export(site.database, caller, project_id, layout, human_share=share)
        manifest = file == "manifest"
        content, kind = (exports.manifest_of(made), "application/json") if manifest else exports.file_of(made, file)
    except UserError as error:
        if type(error) is not UserError:
            raise
        return _export(site, request, caller, project_id, status=422, error=str(error))
    name = f"project-{project_id}-{layout}{'.manifest.json' if manifest else file}"
    return Response(content, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'})
