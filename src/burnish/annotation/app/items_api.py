"""The REST API about items: adding, searching, looking at one, and what owners do to them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from burnish.annotation.app.answers import ItemPage, ItemRow
from burnish.annotation.app.api import Body, Id
from burnish.annotation.app.context import site_of
from burnish.annotation.service import browsing, curation, projects
from burnish.annotation.service.submission import StorableText

router = APIRouter(prefix="/api/v1/projects/{project_id}/items", tags=["items"])
Asked = Annotated[StorableText, Query(max_length=300)]


class NewItems(Body):
    """Rows: `id`, `prompt` or `messages`, `candidates`, and what else an item may have."""

    items: list[dict[str, Any]] = Field(max_length=10_000)


class Correction(Body):
    """A row for an item that is there; `ask_anew`: answers to what it was are deleted where what
    people see changes."""

    row: dict[str, Any]
    ask_anew: bool = False


class More(Body):
    """How many more people are asked."""

    more: int = Field(default=1, ge=1, le=100)


@router.get(
    "",
    summary="Items, a page at a time",
    response_model=list[ItemRow],
    response_model_exclude_unset=True,
)
def list_items(
    request: Request,
    project_id: Id,
    after: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    text: Asked = "",
    state: Asked = "",
    annotator: Asked = "",
    model: Asked = "",
    column: Asked = "",
    agreement: Annotated[float | None, Query(ge=0, le=1, allow_inf_nan=False)] = None,
) -> list[dict[str, Any]]:
    """In the order they came, those with an id above `after` that fit what is asked: `text`,
    `state`, `annotator`, `model`, `column` (name, or name=value), `agreement` at most."""
    site = site_of(request)
    wanted = browsing.Wanted(text, state, annotator, model, column, agreement)
    return browsing.search(
        site.database, site.caller(request), project_id, wanted, after=after, limit=limit
    )


@router.post("", status_code=201, summary="Add items")
def add_items(request: Request, project_id: Id, body: NewItems) -> dict[str, int]:
    """Those whose id is there already stay as they are."""
    site = site_of(request)
    return projects.add_items(site.database, site.caller(request), project_id, body.items)


@router.get(
    "/{item_id}",
    summary="An item",
    response_model=ItemPage,
    response_model_exclude_unset=True,
)
def get_item(request: Request, project_id: Id, item_id: Id) -> dict[str, Any]:
    """With all its answers, names, times, versions and history."""
    site = site_of(request)
    return browsing.item_page(site.database, site.caller(request), project_id, item_id)


@router.put("/{item_id}", status_code=204, summary="Correct an item")
def correct_item(request: Request, project_id: Id, item_id: Id, body: Correction) -> Response:
    """A row, as of an upload, in its place."""
    site = site_of(request)
    curation.correct(
        site.database, site.caller(request), project_id, item_id, body.row, ask_anew=body.ask_anew
    )
    return Response(status_code=204)


@router.get("/{item_id}/dependents", summary="What depends on an item")
def get_dependents(request: Request, project_id: Id, item_id: Id) -> dict[str, Any]:
    """Answers, decisions, open tasks, drafts, hours of work."""
    site = site_of(request)
    return curation.dependents(site.database, site.caller(request), project_id, item_id)


@router.post("/{item_id}/retire", status_code=204, summary="Retire an item")
def retire_item(request: Request, project_id: Id, item_id: Id) -> Response:
    """Nobody is asked about it any more; its answers stay and are no data."""
    site = site_of(request)
    curation.retire(site.database, site.caller(request), project_id, item_id)
    return Response(status_code=204)


@router.post("/{item_id}/bring-back", status_code=204, summary="Bring a retired item back")
def bring_back_item(request: Request, project_id: Id, item_id: Id) -> Response:
    """As what it was."""
    site = site_of(request)
    curation.bring_back(site.database, site.caller(request), project_id, item_id)
    return Response(status_code=204)


@router.post("/{item_id}/reopen", status_code=204, summary="Ask more people")
def reopen_item(request: Request, project_id: Id, item_id: Id, body: More) -> Response:
    """A reviewer's decision is forgotten."""
    site = site_of(request)
    curation.reopen(site.database, site.caller(request), project_id, item_id, more=body.more)
    return Response(status_code=204)


@router.delete("/{item_id}", summary="Delete an item")
def delete_item(request: Request, project_id: Id, item_id: Id) -> dict[str, Any]:
    """With what depends on it, which is returned."""
    site = site_of(request)
    return curation.remove(site.database, site.caller(request), project_id, item_id)


@router.delete("/{item_id}/answers/{answer_id}", status_code=204, summary="Delete an answer")
def delete_answer(request: Request, project_id: Id, item_id: Id, answer_id: Id) -> Response:
    """Its place is open again."""
    site = site_of(request)
    curation.remove_answer(site.database, site.caller(request), project_id, item_id, answer_id)
    return Response(status_code=204)
