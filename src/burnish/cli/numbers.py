"""Numbers of commands lie in the range that recipes give their like: `typer`'s own bounds let NaN
and infinities in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import typer


def within(name: str) -> Callable[[Any], Any]:
    """A callback that refuses an option outside the range of a type in `burnish.config.bounds`, and
    names the range."""

    def check(value: Any) -> Any:
        from burnish.config import bounds

        if value is None:
            return None
        kind, limits = get_args(getattr(bounds, name))[:2]
        if value not in limits:
            raise typer.BadParameter(
                f"expected {limits.words('a whole number' if kind is int else 'a number')}."
            )
        return value

    return check
