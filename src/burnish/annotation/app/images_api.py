"""The REST API of images, and the address that pages show them from."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, File, Path, Request, Response, UploadFile

from burnish.annotation.app.answers import ImageRow
from burnish.annotation.app.api import Id
from burnish.annotation.app.context import site_of
from burnish.annotation.app.tabs import in_thread
from burnish.annotation.service import images
from burnish.annotation.tables import IMAGE_NAME

router = APIRouter(prefix="/api/v1/projects/{project_id}/images", tags=["items"])
shown = APIRouter()
Name = Annotated[str, Path(pattern=f"^{IMAGE_NAME}$")]
_HEADERS = {
    "cache-control": "private, max-age=604800, immutable",
    "content-security-policy": "default-src 'none'; sandbox",
}


@router.get(
    "",
    summary="Images",
    response_model=list[ImageRow],
    response_model_exclude_unset=True,
)
def list_images(request: Request, project_id: Id) -> list[dict[str, Any]]:
    """Names, sizes; `/images/NAME` has the bytes."""
    site = site_of(request)
    return images.listed(site.database, site.caller(request), project_id)


@router.post("", status_code=201, summary="Add an image")
async def add_image(
    request: Request, project_id: Id, file: Annotated[UploadFile, File()]
) -> dict[str, Any]:
    """PNG, JPEG, GIF or WebP of at most 5 MiB; `markdown` shows it in a text."""
    content = await file.read(images.MOST_BYTES + 1)
    site = site_of(request)

    def keep() -> dict[str, Any]:
        made = images.add(site.database, site.caller(request), project_id, content)
        return {
            "name": made.name,
            "markdown": made.markdown,
            "width": made.width,
            "height": made.height,
        }

    return await in_thread(keep)


@shown.get("/images/{name}")
def show(request: Request, name: Name) -> Response:
    """To members of a project that has it."""
    site = site_of(request)
    content, kind = images.served(site.database, site.caller(request), name)
    return Response(content, media_type=kind, headers=_HEADERS)
