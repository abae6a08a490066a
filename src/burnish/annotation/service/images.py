"""Images in prompts and answers: kept in the database under their content's hash, shown where a
text says `![what it shows](image:NAME)`, and served to members of the project alone.

PNG, JPEG, GIF and WebP of a bounded size; what an image is, its own first bytes say. The bytes are
handed on as they came and never decoded here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from burnish.annotation.service.accounts import Caller
from burnish.annotation.service.database import Database
from burnish.annotation.service.projects import role_in
from burnish.annotation.service.refusals import NotFoundError
from burnish.annotation.tables import IMAGE_NAME, Image, Member
from burnish.errors import UserError

MOST_BYTES = 5 * 1024 * 1024
MOST_PIXELS = 40_000_000
LONGEST_SIDE = 16_384
MOST_BYTES_A_PROJECT = 4 * 1024**3
TYPES = {"png": "image/png", "jpg": "image/jpeg", "gif": "image/gif", "webp": "image/webp"}

_DATA = re.compile(r"data:image/[a-z+.-]{1,20};base64,([A-Za-z0-9+/=\s]*)\Z")
_NAME = re.compile(rf"image:({IMAGE_NAME})\Z")


@dataclass(frozen=True, slots=True)
class Picture:
    """An image that may be kept: `name` is the SHA-256 of its bytes and its ending."""

    name: str
    width: int
    height: int
    content: bytes

    @property
    def markdown(self) -> str:
        """What shows it in a text."""
        return f"![](image:{self.name})"


def picture(content: bytes) -> Picture:
    """An image's bytes, looked at. Raises UserError for what is no image of a known type, and for
    one that is too large in bytes or pixels."""
    if len(content) > MOST_BYTES:
        raise UserError(
            f"has {len(content):,} bytes; an image has at most {MOST_BYTES:,}.", field="image"
        )
    known = _size(content)
    if known is None:
        raise UserError("is no PNG, JPEG, GIF or WebP image.", field="image")
    ending, width, height = known
    if not (0 < width <= LONGEST_SIDE and 0 < height <= LONGEST_SIDE) or (
        width * height > MOST_PIXELS
    ):
        raise UserError(
            f"has {width} × {height} pixels; at most {MOST_PIXELS:,}, {LONGEST_SIDE:,} a side.",
            field="image",
        )
    return Picture(f"{hashlib.sha256(content).hexdigest()}.{ending}", width, height, content)


def _size(content: bytes) -> tuple[str, int, int] | None:
    """(ending, width, height) as an image's header says; None for what is none."""
    try:
        if content.startswith(b"\x89PNG\r\n\x1a\n") and content[12:16] == b"IHDR":
            width, height = struct.unpack(">II", content[16:24])
            return "png", width, height
        if content[:6] in (b"GIF87a", b"GIF89a"):
            width, height = struct.unpack("<HH", content[6:10])
            return "gif", width, height
        if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
            return _webp_size(content)
        if content.startswith(b"\xff\xd8\xff"):
            return _jpeg_size(content)
    except struct.error:
        return None
    return None


def _webp_size(content: bytes) -> tuple[str, int, int] | None:
    form = content[12:16]
    if form == b"VP8X":
        width = int.from_bytes(content[24:27], "little") + 1
        return "webp", width, int.from_bytes(content[27:30], "little") + 1
    if form == b"VP8L":
        bits = int.from_bytes(content[21:25], "little")
        return "webp", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if form == b"VP8 ":
        width, height = struct.unpack("<HH", content[26:30])
        return "webp", width & 0x3FFF, height & 0x3FFF
    return None


def _jpeg_size(content: bytes) -> tuple[str, int, int] | None:
    """From the first frame header; the segments before it are stepped over."""
    at = 2
    while at + 9 < len(content):
        if content[at] != 0xFF:
            return None
        marker = content[at + 1]
        if marker == 0xFF:
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", content[at + 5 : at + 9])
            return "jpg", width, height
        else:
            length = int.from_bytes(content[at + 2 : at + 4], "big")
            if length < 2:
                return None
            at += 2 + length
    return None


def lifted(row: Mapping[str, Any], number: int) -> tuple[dict[str, Any], list[Picture]]:
    """A row of an upload whose parts of content (`[{"type": "text", ...}, {"type": "image_url",
    ...}]`, images as data URLs or `image:NAME`) are texts that show the images; and those images.

    Raises UserError naming row and field.
    """
    pictures: list[Picture] = []
    found = dict(row)

    def flat(value: Any, field: str) -> Any:
        if not isinstance(value, list) or not all(isinstance(part, Mapping) for part in value):
            return value
        texts = [_part(part, f"{field}.{at}", number, pictures) for at, part in enumerate(value)]
        return "\n\n".join(text for text in texts if text)

    def turns(given: Any, field: str) -> Any:
        if not isinstance(given, list):
            return given
        return [
            (
                {**turn, "content": flat(turn["content"], f"{field}.{at}.content")}
                if isinstance(turn, Mapping) and "content" in turn
                else turn
            )
            for at, turn in enumerate(given)
        ]

    found["messages"] = turns(row.get("messages"), "messages")
    if isinstance(row.get("prompt"), list):
        found["prompt"] = flat(row["prompt"], "prompt")
    if isinstance(row.get("candidates"), list):
        found["candidates"] = [
            (
                {**one, "text": flat(one["text"], f"candidates.{at}.text")}
                if isinstance(one, Mapping) and isinstance(one.get("text"), list)
                else (
                    {**one, "messages": turns(one["messages"], f"candidates.{at}.messages")}
                    if isinstance(one, Mapping) and "messages" in one
                    else turns(one, f"candidates.{at}")
                )
            )
            for at, one in enumerate(row["candidates"])
        ]
    return {name: value for name, value in found.items() if name in row}, pictures


def _part(part: Mapping[str, Any], field: str, number: int, pictures: list[Picture]) -> str:
    kind = part.get("type")
    if kind == "text" and isinstance(part.get("text"), str):
        return part["text"]
    given = part.get("image_url", part.get("image"))
    url = given.get("url") if isinstance(given, Mapping) else given
    if kind not in ("image_url", "image") or not isinstance(url, str):
        raise UserError(
            "a part of a content is a text or an image (image_url).", row=number, field=field
        )
    named = _NAME.match(url)
    if named:
        return f"![](image:{named[1]})"
    data = _DATA.match(url) if len(url) < 2 * MOST_BYTES else None
    if data is None:
        raise UserError(
            f"an image comes as a data URL of at most {MOST_BYTES:,} bytes, or as image:NAME;"
            " nothing is fetched.",
            row=number,
            field=field,
        )
    try:
        made = picture(base64.b64decode(data[1], validate=False))
    except (binascii.Error, UserError) as error:
        why = error.problem if isinstance(error, UserError) else "is no base64."
        raise UserError(why, row=number, field=field) from error
    pictures.append(made)
    return made.markdown


def keep(session: Session, project_id: int, pictures: Sequence[Picture]) -> None:
    """Keep images in a project, within a transaction. Raises UserError where the project would hold
    too much."""
    if not pictures:
        return
    new = {one.name: one for one in pictures}
    there = select(Image.name).where(Image.project_id == project_id, Image.name.in_([*new]))
    for name in session.scalars(there):
        del new[name]
    if not new:
        return
    held = select(func.coalesce(func.sum(Image.size), 0)).where(Image.project_id == project_id)
    size = sum(len(one.content) for one in new.values())
    if (session.scalar(held) or 0) + size > MOST_BYTES_A_PROJECT:
        raise UserError(
            f"a project's images have at most {MOST_BYTES_A_PROJECT:,} bytes together.",
            field="image",
        )
    for one in new.values():
        session.add(
            Image(
                project_id=project_id, name=one.name, width=one.width, height=one.height,
                size=len(one.content), content=one.content,
            )
        )  # fmt: skip
    session.flush()


def add(database: Database, caller: Caller, project_id: int, content: bytes) -> Picture:
    """Keep an image in the caller's project. Raises UserError for one that does not do."""
    made = picture(content)
    with database.write() as session:
        role_in(session, caller, project_id, least="owner")
        keep(session, project_id, [made])
    return made


def listed(database: Database, caller: Caller, project_id: int) -> list[dict[str, Any]]:
    """A project's images, without their bytes."""
    with database.read() as session:
        role_in(session, caller, project_id, least="owner", scope="read")
        query = select(Image.name, Image.width, Image.height, Image.size)
        rows = session.execute(query.where(Image.project_id == project_id).order_by(Image.id))
        return [dict(row._mapping) for row in rows]


def served(database: Database, caller: Caller, name: str) -> tuple[bytes, str]:
    """(bytes, media type) of an image of a project that the caller is a member of. Raises
    NotFoundError for any other."""
    with database.read() as session:
        mine = exists().where(
            Member.project_id == Image.project_id, Member.annotator_id == caller.annotator_id
        )
        content = session.scalar(select(Image.content).where(Image.name == name, mine).limit(1))
    if content is None:
        raise NotFoundError("there is no such image.")
    return content, TYPES[name.rsplit(".", 1)[-1]]
