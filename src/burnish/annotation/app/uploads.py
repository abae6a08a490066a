"""Files of items that somebody uploads: JSON lines, a JSON array, or a table with a row for each
item."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any

from burnish.errors import UserError

_CANDIDATE = re.compile(r"(answer|response|candidate|completion|option)[ _-]?(\w+)", re.IGNORECASE)


def read_csv(content: bytes) -> list[dict[str, Any]]:
    """Rows of a table with a line of names: `prompt`, candidates in columns such as `answer_a` or
    `response 1`, and what else an item may have. Empty cells are left out. Raises UserError naming
    the row that has more cells than there are names."""
    reader = csv.DictReader(io.StringIO(_text(content), newline=""))
    names = reader.fieldnames or []
    twice = next((name for at, name in enumerate(names) if name in names[:at]), None)
    if twice is not None:
        raise UserError(f'two columns are called "{twice}".', row=1, field="file")
    rows = []
    try:
        for row in reader:
            if None in row:
                raise UserError(
                    "has more cells than the first line has names.", row=reader.line_num
                )
            cells = {name: value for name, value in row.items() if value}
            texts = [value for name, value in cells.items() if _CANDIDATE.fullmatch(name)]
            others = {
                name: value for name, value in cells.items() if not _CANDIDATE.fullmatch(name)
            }
            rows.append({**others, "candidates": texts} if texts else others)
    except csv.Error as error:
        raise UserError(f"this is no table ({error}).", row=reader.line_num) from error
    if not rows:
        raise UserError("there are no rows in it.", field="file")
    return rows


def read_lines(content: bytes) -> list[dict[str, Any]]:
    """Rows of JSON lines, or of one JSON array. Raises UserError naming the row that is none."""
    text = _text(content)
    if text.lstrip().startswith("["):
        rows = _json(text, None)
    else:
        # Lines end with "\n" alone: the other ends that str.splitlines knows (U+2028, U+0085 ...)
        # are text inside JSON.
        rows = [
            _json(line, number) for number, line in enumerate(text.split("\n"), 1) if line.strip()
        ]
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise UserError("a row is an object with the item's fields.", row=number)
    if not rows:
        raise UserError("there are no rows in it.", field="file")
    return rows


def _json(text: str, number: int | None) -> Any:
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise UserError(f"this is no JSON ({error}).", row=number) from error


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number that JSON has")


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError("this is no text in UTF-8.", field="file") from error
