"""The REST API under /api/v1. Programs send `Authorization: Bearer TOKEN`; pages send their cookie
and `X-CSRF-Token`."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Literal

import anyio.to_thread
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from sqlalchemy import select

from burnish.annotation.app.answers import (
    Acknowledged,
    Guidelines,
    Me,
    MyProject,
    ProjectView,
    Task,
    TokenRow,
)
from burnish.annotation.app.context import site_of
from burnish.annotation.service import (
    accounts,
    changes,
    chats,
    exports,
    projects,
    views,
    webhooks,
    work,
)
from burnish.annotation.service.rendering import markdown
from burnish.annotation.service.submission import LONGEST_TEXT, StorableText, Submission
from burnish.annotation.settings import is_storable
from burnish.annotation.tables import Delivery, Webhook
from burnish.errors import UserError

router = APIRouter(prefix="/api/v1")

Id = Annotated[int, Path(ge=1, le=2**31 - 1)]
LeaseId = Annotated[StorableText, Path(min_length=1, max_length=64)]
Html = Annotated[bool, Query(description="Texts come rendered as HTML too.")]
_DRAFT_LIMIT = 400_000
_BYTES = {"schema": {"type": "string", "format": "binary"}}
_FILES = {kind: _BYTES for kind in exports.TYPES.values()} | {"application/json": {}}


def _bounded(content: dict[str, Any]) -> dict[str, Any]:
    if not is_storable(content) or len(json.dumps(content)) > _DRAFT_LIMIT:
        raise ValueError("a draft is at most 400,000 characters of storable text")
    return content


class Body(BaseModel):
    """A request's: what it does not know is refused."""

    model_config = ConfigDict(extra="forbid")


class Draft(Body):
    """What is written so far, as the page keeps it."""

    content: Annotated[dict[str, Any], AfterValidator(_bounded)]


class Say(Body):
    """A person's turn in a chat; empty where the conversation waits for the model from the
    start."""

    text: StorableText = Field(default="", max_length=20_000)


class Choice(Body):
    """Between the last two candidates, by place: strength above 0 favours place 0."""

    strength: int = Field(ge=-4, le=4)
    both_bad: bool = False
    go_on_with: int | None = Field(default=None, ge=0, le=9)


class NewProject(Body):
    """A project to be."""

    name: StorableText
    guidelines: StorableText = Field(default="", max_length=LONGEST_TEXT)
    settings: dict[str, Any] = Field(default_factory=dict)


class ProjectChange(Body):
    """What is to change; the rest stays. Answers keep the version under which they were given.

    `renames` says which flags and attributes go on under another name; `open_tasks: "renew"` asks
    tasks in people's hands anew, their drafts mapped, where `"finish"` lets them end as they were
    begun.
    """

    guidelines: StorableText | None = Field(default=None, max_length=LONGEST_TEXT)
    settings: dict[str, Any] | None = None
    renames: dict[
        Literal["flags", "attributes", "dimensions"], dict[StorableText, StorableText]
    ] = Field(default_factory=dict)
    open_tasks: Literal["finish", "renew"] = "finish"


class GuidelinesRead(Body):
    """Which version of the guidelines was read."""

    version: int = Field(ge=1, le=2**31 - 1)


class NewWebhook(Body):
    """Where milestones are told."""

    url: StorableText = Field(max_length=1000)


class Preferences(Body):
    """What a person chooses for their own pages."""

    language: StorableText | None = Field(default=None, max_length=20)
    letter_keys: bool | None = Field(
        default=None, description="Whether single letters and digits are keys."
    )


class NewToken(Body):
    """A token for programs."""

    name: StorableText
    scopes: list[Literal["label", "read", "manage", "export"]] = Field(min_length=1, max_length=4)
    days: int | None = Field(default=None, ge=1, le=3650)


@router.get(
    "/me",
    tags=["account"],
    summary="Who am I?",
    response_model=Me,
    response_model_exclude_unset=True,
)
def me(request: Request) -> dict[str, Any]:
    """Name and rights."""
    caller = site_of(request).caller(request)
    return {
        "name": caller.name,
        "creates_projects": caller.creates_projects,
        "scopes": None if caller.scopes is None else sorted(caller.scopes),
        "preferences": dict(caller.preferences),
    }


@router.put("/me/preferences", tags=["account"], summary="Choose for myself")
def put_preferences(request: Request, body: Preferences) -> dict[str, Any]:
    """Language, keys; what is left out stays."""
    site = site_of(request)
    caller = site.caller(request)
    caller.needs("manage")
    return accounts.prefer(site.database, caller, **body.model_dump())


@router.get(
    "/tokens",
    tags=["account"],
    summary="My tokens",
    response_model=list[TokenRow],
    response_model_exclude_unset=True,
)
def list_tokens(request: Request) -> list[dict[str, Any]]:
    """Without their values."""
    site = site_of(request)
    caller = site.caller(request)
    caller.needs("manage")
    return accounts.tokens(site.database, caller)


@router.post("/tokens", tags=["account"], status_code=201, summary="Make a token")
def add_token(request: Request, body: NewToken) -> dict[str, str]:
    """Its value is shown this once."""
    site = site_of(request)
    caller = site.caller(request)
    caller.needs("manage")
    if caller.scopes is not None and not set(body.scopes) <= caller.scopes:
        raise UserError("a token cannot make one that may do more than itself.", field="scopes")
    secret = accounts.create_token(
        site.database,
        account_name=caller.name,
        name=body.name,
        scopes=body.scopes,
        days=body.days,
        caller=caller,
    )
    return {"token": secret}


@router.delete("/tokens/{token_id}", tags=["account"], status_code=204, summary="Revoke a token")
def remove_token(request: Request, token_id: Id) -> Response:
    """For good."""
    site = site_of(request)
    caller = site.caller(request)
    caller.needs("manage")
    accounts.revoke_token(site.database, caller, token_id)
    return Response(status_code=204)


@router.get(
    "/projects",
    tags=["projects"],
    summary="My projects",
    response_model=list[MyProject],
    response_model_exclude_unset=True,
)
def list_projects(request: Request) -> list[dict[str, Any]]:
    """Those that I am a member of."""
    site = site_of(request)
    return projects.mine(site.database, site.caller(request))


@router.post("/projects", tags=["projects"], status_code=201, summary="Create a project")
def add_project(request: Request, body: NewProject) -> dict[str, int]:
    """With me as its owner."""
    site = site_of(request)
    caller = site.caller(request)
    made = projects.create(
        site.database, caller, body.name, guidelines=body.guidelines, settings=body.settings
    )
    return {"id": made}


@router.get(
    "/projects/{project_id}",
    tags=["projects"],
    summary="A project",
    response_model=ProjectView,
    response_model_exclude_unset=True,
)
def get_project(request: Request, project_id: Id) -> dict[str, Any]:
    """Name, guidelines, settings."""
    site = site_of(request)
    return projects.describe(site.database, site.caller(request), project_id)


@router.patch(
    "/projects/{project_id}", tags=["projects"], status_code=204, summary="Change a project"
)
def change_project(request: Request, project_id: Id, body: ProjectChange) -> Response:
    """Guidelines, settings."""
    site = site_of(request)
    renames = {str(kind): names for kind, names in body.renames.items()}
    projects.change(
        site.database,
        site.caller(request),
        project_id,
        guidelines=body.guidelines,
        settings=body.settings,
        renames=renames,
        open_tasks=body.open_tasks,
    )
    return Response(status_code=204)


@router.post(
    "/projects/{project_id}/consequences", tags=["projects"], summary="What a change would do"
)
def get_consequences(request: Request, project_id: Id, body: ProjectChange) -> dict[str, Any]:
    """To answers and drafts that are there; nothing is changed."""
    site = site_of(request)
    caller = site.caller(request)
    now_at = projects.describe(site.database, caller, project_id)["guidelines"]
    text = now_at if body.guidelines is None else body.guidelines
    return changes.consequences(site.database, caller, project_id, body.settings or {}, text)


@router.get(
    "/projects/{project_id}/guidelines",
    tags=["labelling"],
    summary="The guidelines",
    response_model=Guidelines,
    response_model_exclude_unset=True,
)
def get_guidelines(request: Request, project_id: Id, html: Html = False) -> dict[str, Any]:
    """With their version, and whether I have read them."""
    site = site_of(request)
    found = changes.guidelines(site.database, site.caller(request), project_id)
    return found | ({"html": markdown(found["text"])} if html else {})


@router.post(
    "/projects/{project_id}/guidelines/read",
    tags=["labelling"],
    status_code=204,
    summary="I have read them",
)
def read_guidelines(request: Request, project_id: Id, body: GuidelinesRead) -> Response:
    """Recorded once for each version."""
    site = site_of(request)
    changes.has_read(site.database, site.caller(request), project_id, body.version)
    return Response(status_code=204)


@router.get("/projects/{project_id}/progress", tags=["projects"], summary="How far it is")
def get_progress(request: Request, project_id: Id) -> dict[str, Any]:
    """For owners and reviewers."""
    site = site_of(request)
    return projects.progress(site.database, site.caller(request), project_id)


@router.get("/projects/{project_id}/stats", tags=["projects"], summary="The dashboard's figures")
def get_stats(request: Request, project_id: Id) -> dict[str, Any]:
    """Cost, agreement, reliability, biases, models; for owners."""
    site = site_of(request)
    return exports.figures(site.database, site.caller(request), project_id)


@router.get(
    "/projects/{project_id}/export",
    tags=["projects"],
    summary="Labels as a file",
    response_class=Response,
    responses={200: {"description": "The rows.", "content": _FILES}},
)
def get_export(
    request: Request,
    project_id: Id,
    layout: Annotated[StorableText, Query(max_length=40)] = "paired",
    file: Literal["jsonl", "json", "parquet", "manifest"] = "jsonl",
    human_share: Annotated[float | None, Query(ge=0, le=1, allow_inf_nan=False)] = None,
    dimension: Annotated[StorableText | None, Query(max_length=60)] = None,
) -> Response:
    """In a layout such as paired, hh or ranking; `manifest` has the version and hashes."""
    site = site_of(request)
    made = exports.make_export(
        site.database,
        site.caller(request),
        project_id,
        layout,
        human_share=human_share,
        dimension=dimension,
    )
    if file == "manifest":
        return Response(exports.manifest_of(made), media_type="application/json")
    content, kind = exports.file_of(made, f".{file}")
    return Response(content, media_type=kind)


@router.get("/projects/{project_id}/audit", tags=["projects"], summary="Audit log")
def list_audit(request: Request, project_id: Id) -> list[dict[str, Any]]:
    """The latest first."""
    site = site_of(request)
    return projects.audit(site.database, site.caller(request), project_id)


@router.get("/projects/{project_id}/webhooks", tags=["webhooks"], summary="Webhooks")
def list_webhooks(request: Request, project_id: Id) -> list[dict[str, Any]]:
    """With what became of the latest messages."""
    site = site_of(request)
    caller = site.caller(request)
    with site.database.read() as session:
        projects.role_in(session, caller, project_id, least="owner")
        rows = session.scalars(
            select(Webhook).where(Webhook.project_id == project_id).order_by(Webhook.id)
        ).all()
        return [
            {
                "id": row.id,
                "url": row.url,
                "deliveries": [
                    {"key": d.key, "attempts": d.attempts, "status": d.status}
                    for d in session.scalars(
                        select(Delivery)
                        .where(Delivery.webhook_id == row.id)
                        .order_by(Delivery.id.desc())
                        .limit(20)
                    )
                ],
            }
            for row in rows
        ]


@router.post(
    "/projects/{project_id}/webhooks", tags=["webhooks"], status_code=201, summary="Add a webhook"
)
def add_webhook(request: Request, project_id: Id, body: NewWebhook) -> dict[str, Any]:
    """The secret signs each message: `X-Burnish-Signature: sha256=HMAC(secret, body)`."""
    site = site_of(request)
    caller = site.caller(request)
    with site.database.write() as session:
        projects.role_in(session, caller, project_id, least="owner")
        made = webhooks.add(session, project_id, body.url)
        accounts.record(
            session, "webhook added", caller=caller, project_id=project_id, subject=body.url
        )
        return {"id": made.id, "secret": made.secret}


@router.delete(
    "/projects/{project_id}/webhooks/{webhook_id}",
    tags=["webhooks"],
    status_code=204,
    summary="Remove a webhook",
)
def remove_webhook(request: Request, project_id: Id, webhook_id: Id) -> Response:
    """With its messages."""
    site = site_of(request)
    caller = site.caller(request)
    with site.database.write() as session:
        projects.role_in(session, caller, project_id, least="owner")
        webhooks.remove(session, project_id, webhook_id)
        accounts.record(
            session,
            "webhook removed",
            caller=caller,
            project_id=project_id,
            subject=str(webhook_id),
        )
    return Response(status_code=204)


@router.post(
    "/projects/{project_id}/next",
    tags=["labelling"],
    summary="Take the next task",
    response_model=Task,
    response_model_exclude_unset=True,
    responses={204: {"description": "There is none."}},
)
def next_task(request: Request, project_id: Id, html: Html = False) -> dict[str, Any] | Response:
    """The task in hand, or a new one; 204 if there is none."""
    site = site_of(request)
    held = work.take(site.database, site.caller(request), project_id)
    return (
        Response(status_code=204)
        if held is None
        else views.task_view(held, held.settings, html=html)
    )


@router.post(
    "/projects/{project_id}/undo",
    tags=["labelling"],
    summary="Take the last answer back",
    response_model=Task,
    response_model_exclude_unset=True,
)
def undo(request: Request, project_id: Id, html: Html = False) -> dict[str, Any]:
    """The task comes back with the answer as its draft."""
    site = site_of(request)
    held = work.undo(site.database, site.caller(request), project_id)
    return views.task_view(held, held.settings, html=html)


@router.post(
    "/leases/{lease}/answer",
    tags=["labelling"],
    summary="Answer or skip a task",
    response_model=Acknowledged,
    response_model_exclude_unset=True,
)
def add_answer(
    request: Request, lease: LeaseId, body: Submission, html: Html = False
) -> dict[str, Any]:
    """Sent again with the same content it is acknowledged again, and counts once."""
    site = site_of(request)
    verdict = work.answer(site.database, site.caller(request), lease, body)
    return views.verdict_view(verdict, html=html)


@router.put("/leases/{lease}/draft", tags=["labelling"], summary="Keep a draft")
def keep_draft(request: Request, lease: LeaseId, body: Draft) -> dict[str, datetime]:
    """It also renews the lease."""
    site = site_of(request)
    return {"expires_at": work.draft(site.database, site.caller(request), lease, body.content)}


@router.delete("/leases/{lease}", tags=["labelling"], status_code=204, summary="Give a task back")
def release(request: Request, lease: LeaseId) -> Response:
    """Unanswered."""
    site = site_of(request)
    work.release(site.database, site.caller(request), lease)
    return Response(status_code=204)


@router.post(
    "/leases/{lease}/chat",
    tags=["labelling"],
    summary="Say something to the model",
    response_model=Task,
    response_model_exclude_unset=True,
)
async def chat_say(
    request: Request, lease: LeaseId, body: Say, html: Html = False
) -> dict[str, Any]:
    """Two candidates come back."""
    site = site_of(request)

    def wait_for_the_model() -> dict[str, Any]:
        held = chats.say(site.database, site.caller(request), lease, body.text, site.generate)
        return views.task_view(held, held.settings, html=html)

    # In threads of their own: whoever waits for a model must not keep the others from their tasks.
    return await anyio.to_thread.run_sync(wait_for_the_model, limiter=site.chat_threads)


@router.post(
    "/leases/{lease}/choice",
    tags=["labelling"],
    summary="Choose between the last two candidates",
    response_model=Task,
    response_model_exclude_unset=True,
)
def chat_choose(
    request: Request, lease: LeaseId, body: Choice, html: Html = False
) -> dict[str, Any]:
    """The conversation goes on with the favoured one, or with `go_on_with`."""
    site = site_of(request)
    held = chats.choose(
        site.database, site.caller(request), lease, strength=body.strength, both_bad=body.both_bad,
        go_on_with=body.go_on_with,
    )  # fmt: skip
    return views.task_view(held, held.settings, html=html)
