"""What the pages of a project share: the frame with its tabs, and the fields of forms."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Form, Path, Request
from fastapi.responses import HTMLResponse

from burnish.annotation.app.context import Site
from burnish.annotation.service import notes, projects
from burnish.annotation.service.accounts import Caller
from burnish.annotation.service.submission import LONGEST_TEXT, StorableText
from burnish.errors import UserError

Id = Annotated[int, Path(ge=1, le=2**31 - 1)]
Text = Annotated[StorableText, Form(max_length=500)]
LongText = Annotated[StorableText, Form(max_length=LONGEST_TEXT)]


def role_of(site: Site, caller: Caller, project_id: int) -> str:
    """The caller's role in a project. Raises NotFoundError for who has none."""
    with site.database.read() as session:
        return projects.member_role(session, caller, project_id)


def tab(
    site: Site,
    request: Request,
    caller: Caller,
    project_id: int,
    template: str,
    *,
    status: int = 200,
    **values: Any,
) -> HTMLResponse:
    """A page of a project, under its tabs."""
    with site.database.read() as session:
        name, role = (
            projects.name_of(session, project_id),
            projects.member_role(session, caller, project_id),
        )
        unread = notes.unread(session, caller, project_id, role)
    return site.page(
        request,
        template,
        status=status,
        caller=caller,
        project_id=project_id,
        name=name,
        role=role,
        unread=unread,
        **values,
    )


def number(text: str, field: str, *, least: int = 1, most: int = 100) -> int:
    """A whole number from a form. Raises UserError naming the field."""
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise UserError(f"a whole number from {least} to {most}.", field=field)
    return value


async def texts_of(request: Request) -> dict[str, str]:
    """The fields of a form whose names are not known beforehand; files are left out."""
    return {name: value for name, value in (await request.form()).items() if isinstance(value, str)}


async def in_thread(function: Any, *arguments: Any) -> Any:
    """The same in a thread, for what waits for the database."""
    from starlette.concurrency import run_in_threadpool

    return await run_in_threadpool(function, *arguments)
