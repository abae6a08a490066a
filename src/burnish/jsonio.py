"""The package's JSON: what is written is JSON that every reader takes, and what is read is checked
before it is believed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from burnish.errors import UserError


def undefined_as_null(value: Any) -> Any:
    """The tree with every number that is not finite replaced by None: a figure that does not exist
    is written as null."""
    if isinstance(value, Mapping):
        return {key: undefined_as_null(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [undefined_as_null(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def dumps(
    value: Any,
    *,
    indent: int | None = None,
    sort_keys: bool = False,
    compact: bool = False,
    default: Callable[[Any], Any] | None = None,
) -> str:
    """JSON text that UTF-8 can hold. Raises ValueError for NaN and infinities, which JSON does not
    have.

    `compact`: nothing stands between values but commas and colons. `default`: makes of a value that
    JSON does not have one that it has.
    """
    separators = (",", ":") if compact else None
    write = partial(
        json.dumps,
        indent=indent,
        sort_keys=sort_keys,
        separators=separators,
        default=default,
        allow_nan=False,
    )
    text = write(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which a data file can hold as \\ud800
        return write(value)
    return text


def json_lines(rows: Iterable[Mapping[str, Any]]) -> str:
    """One JSON object a line, figures that do not exist as null."""
    return "".join(dumps(undefined_as_null(row)) + "\n" for row in rows)


def read_object(path: Path, *, hint: str) -> dict[str, Any]:
    """The JSON object in a file.

    Raises FileNotFoundError where there is no such file, and UserError (with `hint`, which says
    what to do) where the file cannot be read or holds anything but an object.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(
            f"this file cannot be read ({error.strerror or error}).", file=path, hint=hint
        ) from None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise UserError(
            f"this file is {'empty' if not text.strip() else 'damaged: it is not JSON'}.",
            file=path,
            hint=hint,
        ) from None
    if not isinstance(found, dict):
        raise UserError("this file is damaged: it holds no JSON object.", file=path, hint=hint)
    return found
