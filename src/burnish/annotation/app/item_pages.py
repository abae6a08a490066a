"""Pages of a project's items: search, uploads, an item with all that was said of it, and what an
owner does to it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, UploadFile
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from burnish.annotation.app.account_pages import checked
from burnish.annotation.app.context import Site, site_of
from burnish.annotation.app.tabs import Id, LongText, Text, number, tab
from burnish.annotation.app.uploads import read_csv, read_lines
from burnish.annotation.service import accounts, browsing, curation, images, projects
from burnish.annotation.service.accounts import Caller
from burnish.annotation.service.submission import StorableText
from burnish.errors import UserError

router = APIRouter()
Asked = Annotated[StorableText, Query(max_length=300)]
_A_PAGE = 50
_IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".webp")


@router.get("/projects/{project_id}/items")
def items_page(
    request: Request,
    project_id: Id,
    after: int = 0,
    text: Asked = "",
    state: Asked = "",
    annotator: Asked = "",
    model: Asked = "",
    column: Asked = "",
    agreement: Asked = "",
) -> HTMLResponse:
    """Items, with search and filters, and a form to upload more."""
    site = site_of(request)
    caller = site.caller(request)
    typed = {
        "text": text, "state": state, "annotator": annotator, "model": model, "column": column,
        "agreement": agreement,
    }  # fmt: skip
    try:
        most = None if not agreement else number(agreement, "agreement", least=0, most=100) / 100
        wanted = browsing.Wanted(text, state, annotator, model, column, most)
        return _items(
            site,
            request,
            caller,
            project_id,
            wanted,
            after=max(0, min(after, 2**31 - 1)),
            typed=typed,
        )
    except UserError as error:
        if type(error) is not UserError:
            raise
        return _items(site, request, caller, project_id, status=422, error=error, typed=typed)


def _items(
    site: Site,
    request: Request,
    caller: Caller,
    project_id: int,
    wanted: browsing.Wanted | None = None,
    *,
    after: int = 0,
    status: int = 200,
    **values: Any,
) -> HTMLResponse:
    asked = wanted or browsing.Wanted()
    found = browsing.search(
        site.database, caller, project_id, asked, after=after, limit=_A_PAGE + 1
    )
    shown = {
        "items": found[:_A_PAGE],
        "following": found[_A_PAGE - 1]["id"] if len(found) > _A_PAGE else None,
        "states": browsing.STATES,
        "choices": browsing.choices(site.database, caller, project_id),
        "typed": dict.fromkeys(("text", "state", "annotator", "model", "column", "agreement"), ""),
        "filtered": wanted is not None and wanted != browsing.Wanted(),
        "done": None,
        "error": None,
        "image": None,
        "layouts": site.layouts,
        **values,
    }
    return tab(site, request, caller, project_id, "items.html", status=status, **shown)


@router.get("/projects/{project_id}/items/{item_id}")
def item_page(request: Request, project_id: Id, item_id: Id) -> HTMLResponse:
    """An item with its answers, its history, and what can be done to it."""
    site = site_of(request)
    return _item(site, request, site.caller(request), project_id, item_id)


def _item(
    site: Site,
    request: Request,
    caller: Caller,
    project_id: int,
    item_id: int,
    *,
    status: int = 200,
    error: UserError | str | None = None,
    typed: str | None = None,
) -> HTMLResponse:
    item = browsing.item_page(site.database, caller, project_id, item_id)
    told = curation.dependents(site.database, caller, project_id, item_id)
    row = typed or json.dumps(_row_of(item), ensure_ascii=False, indent=2)
    return tab(
        site,
        request,
        caller,
        project_id,
        "item.html",
        status=status,
        item=item,
        told=told,
        row=row,
        error=error,
    )


def _row_of(item: dict[str, Any]) -> dict[str, Any]:
    """An item as a row of an upload, which an owner corrects."""
    candidates = [
        {
            name: value
            for name, value in one.items()
            if value and not (name == "text" and "messages" in one)
        }
        or {"text": ""}
        for one in item["candidates"]
    ]
    row = {
        "kind": item["kind"],
        "part": item["part"],
        "messages": item["messages"],
        "candidates": candidates,
    }
    more = {
        name: item[name] for name in ("gold", "explanation", "priority", "columns") if item[name]
    }
    return row | more


@router.post("/projects/{project_id}/items/{item_id}/correct")
def correct(
    request: Request,
    project_id: Id,
    item_id: Id,
    row: LongText = "",
    ask_anew: Text = "",
    csrf: Text = "",
) -> Response:
    """Another row in the item's place."""
    site = site_of(request)
    caller = checked(site, request, csrf)
    try:
        (given,) = read_lines(f"[{row}]".encode())
        curation.correct(site.database, caller, project_id, item_id, given, ask_anew=bool(ask_anew))
    except UserError as error:
        return _item(site, request, caller, project_id, item_id, status=422, error=error, typed=row)
    except ValueError:
        problem = "give one row, as JSON."
        return _item(
            site, request, caller, project_id, item_id, status=422, error=problem, typed=row
        )
    return RedirectResponse(f"/projects/{project_id}/items/{item_id}", status_code=303)


@router.post("/projects/{project_id}/items/{item_id}/{deed}")
def do(
    request: Request,
    project_id: Id,
    item_id: Id,
    deed: Annotated[StorableText, Path(max_length=20)],
    more: Text = "1",
    answer: Text = "",
    confirmed: Text = "",
    csrf: Text = "",
) -> Response:
    """Retire, bring back, open again, delete an answer or the item."""
    site = site_of(request)
    caller = checked(site, request, csrf)
    here = (site.database, caller, project_id, item_id)
    try:
        if deed == "retire":
            curation.retire(*here)
        elif deed == "bring-back":
            curation.bring_back(*here)
        elif deed == "reopen":
            curation.reopen(*here, more=number(more, "more"))
        elif deed == "delete-answer":
            curation.remove_answer(*here, number(answer, "answer", most=2**31 - 1))
        elif deed == "delete":
            if not confirmed:
                raise UserError(
                    "say that you have read what goes with the item.", field="confirmed"
                )
            curation.remove(*here)
            return RedirectResponse(f"/projects/{project_id}/items", status_code=303)
        else:
            raise UserError("there is no such deed.", field="deed")
    except UserError as error:
        return _item(site, request, caller, project_id, item_id, status=422, error=error)
    return RedirectResponse(f"/projects/{project_id}/items/{item_id}", status_code=303)


@router.post("/projects/{project_id}/upload")
def upload(
    request: Request, project_id: Id, file: UploadFile, layout: Text = "", csrf: Text = ""
) -> HTMLResponse:
    """Read a file of items. Nothing is stored under the name that it came with."""
    site = site_of(request)
    caller = checked(site, request, csrf)
    try:
        if FilePath(file.filename or "").suffix.lower() in _IMAGES:
            made = images.add(
                site.database, caller, project_id, file.file.read(images.MOST_BYTES + 1)
            )
            return _items(site, request, caller, project_id, image=made.markdown)
        counted = _read_upload(site, caller, project_id, file, layout)
    except UserError as error:
        return _items(site, request, caller, project_id, status=422, error=error)
    return _items(site, request, caller, project_id, done=counted)


def _read_upload(
    site: Site, caller: Caller, project_id: int, file: UploadFile, layout: str
) -> dict[str, int]:
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
                session,
                "items added",
                caller=caller,
                project_id=project_id,
                counted=counted,
                layout=layout,
            )
        return counted
    read = read_csv if ending == ".csv" else read_lines
    return projects.add_items(site.database, caller, project_id, read(file.file.read()))
