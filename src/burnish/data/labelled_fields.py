"""What stands inside a labelled row, of the shape that is read or refused with its place."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from burnish.data.columns import _fail, _filled, _shown
from burnish.data.sources import Row, kind
from burnish.data.values import holds_surrogate
from burnish.records import Opinion

_HALF = "holds half of a surrogate pair, which is not text. Mend it, or remove the row."


def _ranks(strength: int) -> tuple[int, int]:
    return (1, 2) if strength > 0 else (2, 1) if strength < 0 else (1, 1)


def _texts(row: Row, column: str, *, least: int) -> tuple[str, ...]:
    """A list of texts; a response given as messages is its last turn."""
    value = row.values[column]
    if not isinstance(value, list) or len(value) < least:
        _fail(row, column, f"must be a list of at least {least} texts, not {_shown(value)}.")
    return tuple(_text(row, f"{column}[{i}]", one) for i, one in enumerate(value))


def _text(row: Row, field: str, value: Any) -> str:
    if isinstance(value, list) and value:
        return _filled(
            row, f"{field}[-1].content", _object(row, f"{field}[-1]", value[-1]).get("content")
        )
    return _filled(row, field, value)


def _objects(row: Row, column: str, *, least: int = 1) -> list[Mapping[str, Any]]:
    value = row.values[column]
    if not isinstance(value, list) or len(value) < least:
        _fail(row, column, f"must be a list of at least {least} objects, not {kind(value)}.")
    return _objects_in(row, column, value)


def _objects_in(row: Row, field: str, value: Any) -> list[Mapping[str, Any]]:
    """A list of objects; none where there is null."""
    if not isinstance(value, list | None):
        _fail(row, field, f"must be a list of objects, not {kind(value)}.")
    for i, one in enumerate(value or ()):
        if not isinstance(one, Mapping):
            _fail(row, f"{field}[{i}]", f"must be an object, not {kind(one)}.")
    return value or []


def _object(row: Row, field: str, value: Any) -> Mapping[str, Any]:
    """An object; an empty one where there is null."""
    if not isinstance(value, Mapping | None):
        _fail(row, field, f"must be an object, not {kind(value)}.")
    return value or {}


def _numbers(row: Row, field: str, value: Any, count: int, *, least: int = 1) -> tuple[int, ...]:
    if (
        not isinstance(value, list)
        or len(value) != count
        or any(type(n) is not int or n < least for n in value)
    ):
        _fail(
            row,
            field,
            f"must be a list of {count} whole numbers from {least}, one for each response.",
        )
    return tuple(value)


def _remark(row: Row, field: str, value: Any) -> str:
    """What was said beside a label, or a name; "" where there is nothing."""
    if value in (None, ""):
        return ""
    if isinstance(value, bool | int | float):
        return str(value)
    if not isinstance(value, str):
        _fail(row, field, f"must be text, not {kind(value)}.")
    if holds_surrogate(value):
        _fail(row, field, _HALF)
    return value


def _seconds(row: Row, field: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        _fail(row, field, f"must be a number of seconds, not {_shown(value)}.")
    return value


def _whole(row: Row, field: str, value: Any) -> int:
    """A whole number, also as text ("4") or as a float that is whole (4.0)."""
    try:
        number = float(value) if not isinstance(value, bool) and value is not None else math.nan
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or number != int(number):
        _fail(row, field, f"must be a whole number, not {_shown(value)}.")
    return int(number)


def _name(row: Row, field: str, value: Any) -> str:
    if (
        isinstance(value, bool)
        or not isinstance(value, str | int)
        or value == ""
        or len(str(value)) > 200
    ):
        _fail(row, field, f"must be a name of at most 200 characters, not {_shown(value)}.")
    if isinstance(value, str) and holds_surrogate(value):
        _fail(row, field, _HALF)
    return str(value)


def _moment(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(str(value).replace("Z", "+00:00")) if value else None
    except ValueError:
        return None


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=repr)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _three_steps(row: Row, field: str, value: object, name: str, critique: str) -> Opinion:
    """A preference from −3 (the first much better) to 3 (the second); ours has the other sign."""
    strength = -_whole(row, field, value)
    if abs(strength) > 3:
        _fail(row, field, f"must lie between -3 and 3, not {_shown(value)}.")
    payload = {"strength": strength, **({"critique": critique} if critique else {})}
    return Opinion("pairwise", name, _ranks(strength), payload, scale=3)
