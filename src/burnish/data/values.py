"""Values of columns as JSON has them: what a reward, a store and a report can be handed.

Columns are kept as they are where JSON can hold them. Otherwise: times and dates become ISO 8601
text, durations seconds, decimals and UUIDs text, bytes text where they are UTF-8, NumPy's numbers
and arrays Python's, and numbers that are not finite become null.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from burnish.errors import UserError

DEEPEST = 100  # how far lists and objects may stand inside one another

_SURROGATE = re.compile("[\ud800-\udfff]")


class NotJson(UserError):
    """A value that JSON cannot hold, at a `field`."""


def json_value(value: Any, *, field: str, depth: int = 0) -> Any:
    """`value` as JSON has it. Raises NotJson where there is no way to say it."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return _text(value, field)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if depth == DEEPEST:
        raise NotJson(f"is nested more than {DEEPEST} deep. Make it flatter.", field=field)
    if isinstance(value, Mapping):
        return {
            _key(key, field): json_value(inner, field=f"{field}.{key}", depth=depth + 1)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [
            json_value(inner, field=f"{field}[{i}]", depth=depth + 1)
            for i, inner in enumerate(value)
        ]
    if isinstance(value, bytes | bytearray):
        return _decoded(bytes(value), field)
    return _plain(value, field=field, depth=depth)


def _plain(value: Any, *, field: str, depth: int) -> Any:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal | UUID):
        return str(value)
    if hasattr(value, "tolist"):  # NumPy's scalars and arrays
        return json_value(value.tolist(), field=field, depth=depth + 1)
    problem = (
        f"is a {type(value).__name__}, which no JSON can hold. Convert the column to text, or"
        " remove it."
    )
    raise NotJson(problem, field=field)


def _key(key: Any, field: str) -> str:
    if not isinstance(key, str):
        raise NotJson(f"has the key {key!r}, which is no text.", field=field)
    return _text(key, field)


def _text(value: str, field: str) -> str:
    if holds_surrogate(value):
        raise NotJson(
            "holds half of a surrogate pair, which is not text. Mend it, or remove the row.",
            field=field,
        )
    return str(value)


def holds_surrogate(text: str) -> bool:
    """Whether half of a surrogate pair stands in `text`, which no file and no tokenizer can
    hold."""
    return not text.isascii() and _SURROGATE.search(text) is not None


def _decoded(value: bytes, field: str) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        problem = "holds bytes that are no UTF-8 text. Remove the column, or write it as text."
        raise NotJson(problem, field=field) from None


def not_finite(value: Any) -> bool:
    """Whether a number in `value` is NaN or infinite, which `json_value` turns to null."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, Mapping):
        return any(map(not_finite, value.values()))
    return isinstance(value, list | tuple) and any(map(not_finite, value))
