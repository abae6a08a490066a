"""What a value of a recipe is, said so that a type checker knows what stands in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard


def is_section(value: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether a value is a section: keys, which are text wherever a recipe is read, and values."""
    return isinstance(value, Mapping)


def is_list(value: Any) -> TypeGuard[list[Any]]:
    """Whether a value is a list."""
    return isinstance(value, list)


def is_tuple(value: Any) -> TypeGuard[tuple[Any, ...]]:
    """Whether a value is a tuple, as which a section holds its lists."""
    return isinstance(value, tuple)
