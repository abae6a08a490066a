"""The REST API of the review desk, and of notes between annotators and owners."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from burnish.annotation.app.api import Body, Html, Id, LeaseId
from burnish.annotation.app.context import site_of
from burnish.annotation.service import notes, reviews, views
from burnish.annotation.service.submission import StorableText, Submission

router = APIRouter(prefix="/api/v1/projects/{project_id}", tags=["review"])
tasks = APIRouter(prefix="/api/v1/leases/{lease}")
Number = Annotated[int, Field(ge=1, le=2**31 - 1)]


class SentBack(Body):
    """Whose answers go back (by their ids at the desk), and why."""

    answers: list[Number] = Field(min_length=1, max_length=100)
    comment: StorableText = Field(min_length=1, max_length=notes.LONGEST_NOTE)


class NewNote(Body):
    """A note, of an item or not; `to` is the annotator (`annotator_id` among the members) whose
    thread an owner writes in."""

    text: StorableText = Field(min_length=1, max_length=notes.LONGEST_NOTE)
    item_id: Number | None = None
    to: Number | None = None


class Question(Body):
    """A note about the task in hand."""

    text: StorableText = Field(min_length=1, max_length=notes.LONGEST_NOTE)


@router.get("/disputes", summary="Items on which annotators differ")
def list_disputes(request: Request, project_id: Id) -> list[dict[str, Any]]:
    """For reviewers; answers by candidate position, annotators unnamed."""
    site = site_of(request)
    found = reviews.disputes(site.database, site.caller(request), project_id)
    return [
        one
        | {
            "answers": [
                {"ranks": a.ranks, "skipped": a.skipped, **a.payload()} for a in one["answers"]
            ]
        }
        for one in found
    ]


@router.get("/review", summary="The review desk")
def get_review(
    request: Request,
    project_id: Id,
    after: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
    item: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
    html: Html = False,
) -> dict[str, Any]:
    """The next item that waits for a reviewer behind the item `after`, or the one asked for, and
    how many wait; answers by candidate position, annotators unnamed."""
    site = site_of(request)
    found = reviews.waiting(
        site.database, site.caller(request), project_id, after=after, item_id=item
    )
    return views.desk_view(found, html=html)


@router.post("/items/{item_id}/accept", status_code=204, summary="Accept an item as it is")
def accept(request: Request, project_id: Id, item_id: Id) -> Response:
    """Where annotators differ, their votes are its label."""
    site = site_of(request)
    reviews.accept(site.database, site.caller(request), project_id, item_id)
    return Response(status_code=204)


@router.post("/items/{item_id}/send-back", status_code=204, summary="Send answers back")
def send_back(request: Request, project_id: Id, item_id: Id, body: SentBack) -> Response:
    """To who gave them, with a comment; they find their answer as it was."""
    site = site_of(request)
    reviews.send_back(
        site.database, site.caller(request), project_id, item_id, body.comment, body.answers
    )
    return Response(status_code=204)


@router.post("/items/{item_id}/decision", status_code=204, summary="Decide")
def add_decision(request: Request, project_id: Id, item_id: Id, body: Submission) -> Response:
    """A reviewer's decision; places are candidate positions. It takes the place of an earlier
    one."""
    site = site_of(request)
    reviews.decide(site.database, site.caller(request), project_id, item_id, body)
    return Response(status_code=204)


@router.delete("/items/{item_id}/decision", status_code=204, summary="Take a decision back")
def withdraw_decision(request: Request, project_id: Id, item_id: Id) -> Response:
    """The item is at the desk again."""
    site = site_of(request)
    reviews.withdraw(site.database, site.caller(request), project_id, item_id)
    return Response(status_code=204)


@tasks.post("/note", tags=["notes"], status_code=201, summary="Ask about a task")
def add_task_note(request: Request, lease: LeaseId, body: Question) -> dict[str, int]:
    """The project's owners read it, with the item that it is about."""
    site = site_of(request)
    return {"id": notes.about_task(site.database, site.caller(request), lease, body.text)}


@router.get("/notes", tags=["notes"], summary="Notes")
def list_notes(request: Request, project_id: Id) -> list[dict[str, Any]]:
    """The latest first: an owner's are all, others see their own thread."""
    site = site_of(request)
    return notes.listed(site.database, site.caller(request), project_id)


@router.post("/notes", tags=["notes"], status_code=201, summary="Write a note")
def add_note(request: Request, project_id: Id, body: NewNote) -> dict[str, int]:
    """To the owners, or from an owner to a member."""
    site = site_of(request)
    made = notes.write(
        site.database, site.caller(request), project_id, body.text, item_id=body.item_id, to=body.to
    )
    return {"id": made}
