"""Numbers as the report says them, and parts of its data that may be missing. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SPACE = "\u00a0"
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Interval:
    """A value; `low` and `high` are None where no interval is known. `n` counts prompts."""

    value: float
    low: float | None
    high: float | None
    n: int | None


@dataclass(frozen=True, slots=True)
class Remark:
    """A label, a value or headline, and a line of explanation."""

    title: str
    text: str
    note: str = ""


def estimate(found: Any) -> Interval | None:
    """An interval as the pipeline writes it; None if it is missing or has no finite value. A bound
    that is not finite is None."""
    value = number(found.get("value")) if isinstance(found, Mapping) else None
    if value is None:
        return None
    low, high, n = (number(found.get(name)) for name in ("low", "high", "n"))
    bounded = low is not None and high is not None
    return Interval(
        value, low if bounded else None, high if bounded else None, None if n is None else int(n)
    )


def number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def part(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A part of the data; empty if it is missing or not a mapping."""
    found = data.get(name)
    return found if isinstance(found, Mapping) else {}


def rows_of(data: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """A list of mappings in the data; empty if it is missing or not a list."""
    found = data.get(name)
    return (
        [row for row in found if isinstance(row, Mapping)]
        if isinstance(found, list | tuple)
        else []
    )


def percent(value: float | None, digits: int = 0) -> str:
    """A share as "71 %"."""
    return UNKNOWN if value is None else f"{100 * value:.{digits}f}{SPACE}%"


def plain(value: float | None, digits: int = 2) -> str:
    """A number with a true minus sign."""
    return UNKNOWN if value is None else f"{value:,.{digits}f}".replace("-", "−")


def count(value: float | None) -> str:
    """A whole number with thousands separated."""
    return UNKNOWN if value is None else f"{value:,.0f}"


def with_interval(found: Interval | None, digits: int = 2) -> str:
    """A value with its interval: "0.71 (0.68 to 0.74)"."""
    if found is None:
        return UNKNOWN
    bounds = (
        f" ({plain(found.low, digits)} to {plain(found.high, digits)})"
        if found.low is not None
        else ""
    )
    return plain(found.value, digits) + bounds


def share_with_interval(found: Interval | None) -> str:
    """A share with its interval: "71 % (63 to 79 %)"."""
    if found is None:
        return UNKNOWN
    return percent(found.value) + (
        f" ({100 * found.low:.0f} to {percent(found.high)})" if found.low is not None else ""
    )


def duration(seconds: float | None) -> str:
    """Seconds as "48 s", "12 min" or "3 h 05 min"."""
    if seconds is None:
        return UNKNOWN
    if seconds < 99.5:
        return f"{seconds:.0f}{SPACE}s" if seconds >= 9.95 else f"{seconds:.1f}{SPACE}s"
    minutes = round(seconds / 60)
    return (
        f"{minutes}{SPACE}min"
        if minutes < 100
        else f"{minutes // 60}{SPACE}h {minutes % 60:02d}{SPACE}min"
    )


def gigabytes(value: float | None) -> str:
    """10⁹ bytes as "3.9 GB"."""
    return UNKNOWN if value is None else f"{value:.1f}{SPACE}GB"


def several(value: float | None, noun: str) -> str:
    """A number of things: "1 pair", "1,320 pairs"."""
    return f"{count(value)} {noun}{'' if value == 1 else 's'}"


def joined_by_and(names: Any) -> str:
    """Names as in "a, b and c"; without any: the policy."""
    *most, last = [str(name) for name in names or ["the policy"]]
    return f"{', '.join(most)} and {last}" if most else last
