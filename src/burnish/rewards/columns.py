"""The prompts' columns as rewards name them: by name, or by a path into objects
(`reward_model.ground_truth`). Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from burnish.errors import UserError
from burnish.records import Prompt


def value_at(columns: Mapping[str, Any], path: str) -> Any:
    """What one prompt has at a path; None where there is nothing. A column of that very name goes
    before the path.

    An object may also stand as JSON text, as some published sets write it.
    """
    if path in columns:
        return columns[path]
    name = next((n for n in _prefixes(path) if n in columns), None)
    inside = None if name is None else _object(columns[name])
    return None if name is None or inside is None else value_at(inside, path[len(name) + 1 :])


def values_at(columns: Mapping[str, Sequence[Any]], path: str, count: int) -> list[Any] | None:
    """The same for columns as rewards get them, one list each: `count` values, or None where no
    column has that name."""
    if path in columns:
        return list(columns[path])
    name = next((n for n in _prefixes(path) if n in columns), None)
    if name is None:
        return None
    rest = path[len(name) + 1 :]
    return [value_at({"_": value}, f"_.{rest}") for value in list(columns[name])[:count]]


def nearest_paths(prompts: Sequence[Prompt]) -> list[str]:
    """The names of the prompts' columns, and of what objects among them hold: for error
    messages."""
    names: dict[str, None] = {}
    for prompt in prompts[:100]:
        for name, value in prompt.columns.items():
            inside = _object(value)
            names.update(dict.fromkeys([f"{name}.{key}" for key in inside] if inside else [name]))
    return list(names)


def missing_column(kind: str, path: str, prompts: Sequence[Prompt] = ()) -> UserError:
    """The error of a reward whose column no prompt has."""
    known = ", ".join(nearest_paths(prompts)[:12])
    problem = f'the {kind} reward needs the column "{path}", which no prompt has' + (
        f"; they have {known}." if known else "."
    )
    return UserError(problem, hint="Name the column with the right answers: `rewards.N.column`.")


def _prefixes(path: str) -> list[str]:
    """The beginnings of a path at its dots, the longest first: a name may hold dots itself."""
    parts = path.split(".")
    return [".".join(parts[:n]) for n in range(len(parts) - 1, 0, -1)]


def _object(value: Any) -> Mapping[str, Any] | None:
    if isinstance(value, str) and value.lstrip().startswith("{") and len(value) < 10_000_000:
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, Mapping) else None
