"""The REST API about who takes part: members, invitations, links for lost passwords."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field

from burnish.annotation.app.answers import MemberRow
from burnish.annotation.app.api import Body, Id
from burnish.annotation.app.context import site_of
from burnish.annotation.service import crowd, erasure, people, resets
from burnish.errors import UserError

router = APIRouter(prefix="/api/v1")


class NewInvitation(Body):
    """For `uses` people, good for `days`."""

    role: Literal["annotator", "reviewer", "owner"] = "annotator"
    uses: int = Field(default=1, ge=1, le=1000)
    days: int = Field(default=14, ge=1, le=365)


class MemberChange(Body):
    """What is to change; `state: "training"` lets a member start over."""

    role: Literal["annotator", "reviewer", "owner"] | None = None
    state: Literal["training", "active", "paused"] | None = None
    quota: int | None = Field(default=None, ge=0, le=1_000_000)


@router.get(
    "/projects/{project_id}/members",
    tags=["people"],
    summary="Members",
    response_model=list[MemberRow],
    response_model_exclude_unset=True,
)
def list_members(request: Request, project_id: Id) -> list[dict[str, Any]]:
    """Roles, states, counts."""
    site = site_of(request)
    return people.members(site.database, site.caller(request), project_id)


@router.patch(
    "/projects/{project_id}/members/{member_id}",
    tags=["people"],
    status_code=204,
    summary="Change a member",
)
def change_member(request: Request, project_id: Id, member_id: Id, body: MemberChange) -> Response:
    """Role, state, quota."""
    site = site_of(request)
    changes = body.model_dump(exclude_unset=True)
    if any(changes.get(name, "") is None for name in ("role", "state")):
        raise UserError("a role or state cannot be empty.", field="role")
    people.change_member(
        site.database, site.caller(request), project_id, member_id, changes=changes
    )
    return Response(status_code=204)


@router.post(
    "/projects/{project_id}/invitations", tags=["people"], status_code=201, summary="Invite"
)
def add_invitation(request: Request, project_id: Id, body: NewInvitation) -> dict[str, str]:
    """The link is shown this once."""
    site = site_of(request)
    caller = site.caller(request)
    secret = people.invite(
        site.database, caller, project_id, role=body.role, uses=body.uses, days=body.days
    )
    return {"link": f"{str(request.base_url).rstrip('/')}/join/{secret}"}


@router.get("/projects/{project_id}/invitations", tags=["people"], summary="Open invitations")
def list_invitations(request: Request, project_id: Id) -> list[dict[str, Any]]:
    """Without their links."""
    site = site_of(request)
    return people.invitations(site.database, site.caller(request), project_id)


@router.delete(
    "/projects/{project_id}/invitations/{invitation_id}",
    tags=["people"],
    status_code=204,
    summary="Revoke an invitation",
)
def revoke_invitation(request: Request, project_id: Id, invitation_id: Id) -> Response:
    """Its link lets nobody in any more."""
    site = site_of(request)
    people.revoke_invitation(site.database, site.caller(request), project_id, invitation_id)
    return Response(status_code=204)


@router.post(
    "/projects/{project_id}/members/{member_id}/reset",
    tags=["people"],
    status_code=201,
    summary="Make a reset link",
)
def add_reset_link(request: Request, project_id: Id, member_id: Id) -> dict[str, str]:
    """It sets a member's lost password anew, once, and is shown this once."""
    site = site_of(request)
    secret = resets.for_member(site.database, site.caller(request), project_id, member_id)
    return {"link": f"{str(request.base_url).rstrip('/')}/reset/{secret}"}


@router.delete(
    "/projects/{project_id}/people/{annotator_id}", tags=["people"], summary="Erase a person"
)
def erase(
    request: Request, project_id: Id, annotator_id: Id, keep_answers: bool = True
) -> dict[str, int]:
    """Login, name, notes and drafts go for good; answers stay without a name, or go too."""
    site = site_of(request)
    return erasure.of_member(
        site.database, site.caller(request), project_id, annotator_id, keep_answers=keep_answers
    )


@router.get("/projects/{project_id}/pay", tags=["people"], summary="Pay sheet")
def get_pay(request: Request, project_id: Id) -> list[dict[str, Any]]:
    """Who did how much and is owed what."""
    site = site_of(request)
    return crowd.pay_sheet(site.database, site.caller(request), project_id)
