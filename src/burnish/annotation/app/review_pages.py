"""The page on which reviewers decide where annotators differ."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from burnish.annotation.app.account_pages import checked
from burnish.annotation.app.context import site_of
from burnish.annotation.app.tabs import Id, in_thread, number, tab, texts_of
from burnish.annotation.service import reviews
from burnish.annotation.service.submission import LONGEST_TEXT, Submission, on_screen

router = APIRouter()


@router.get("/projects/{project_id}/disputes")
def disputes_page(request: Request, project_id: Id) -> HTMLResponse:
    """The next item on which annotators differ."""
    site = site_of(request)
    caller = site.caller(request)
    found = reviews.disputes(site.database, caller, project_id)
    for one in found:
        one["shown"] = [
            on_screen(answer) | {"critique": answer.critique} for answer in one["answers"]
        ]
    settings = site.settings(project_id)
    return tab(
        site, request, caller, project_id, "disputes.html", disputes=found, settings=settings
    )


@router.post("/projects/{project_id}/disputes/{item_id}")
async def decide(request: Request, project_id: Id, item_id: Id) -> Response:
    """A decision by candidate position."""
    return await in_thread(_decide, request, project_id, item_id, await texts_of(request))


def _decide(request: Request, project_id: int, item_id: int, form: dict[str, str]) -> Response:
    site = site_of(request)
    caller = checked(site, request, form.get("csrf", ""))
    given: dict[str, Any] = {"critique": form.get("critique", "")[:LONGEST_TEXT]}
    if form.get("strength"):
        both = form["strength"] == "both_bad"
        given |= {
            "both_bad": both,
            "strength": 0 if both else number(form["strength"], "strength", least=-4, most=4),
        }
    ranks = [form[key] for key in sorted(form) if key.startswith("rank-")]
    if ranks:
        given["ranks"] = [number(rank, "ranks", most=99) for rank in ranks]
    ratings: dict[str, list[int]] = {}
    for key in sorted(k for k in form if k.startswith("rating-")):
        ratings.setdefault(key.split("-", 2)[2], []).append(
            number(form[key], "ratings", least=0, most=10)
        )
    given |= {"ratings": ratings} if ratings else {}
    reviews.decide(site.database, caller, project_id, item_id, Submission(**given))
    return RedirectResponse(f"/projects/{project_id}/disputes", status_code=303)
