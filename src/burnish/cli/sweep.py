"""What `burnish sweep` is told, read: keys with their values, combinations, seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from burnish.config.load import Override
from burnish.config.yaml_file import parse, problem_of
from burnish.errors import UserError


def read_over(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Each `dotted.key=[a, b]`."""
    found: dict[str, list[Any]] = {}
    for text in texts:
        override = Override.read(text)
        if not isinstance(override.value, list) or not override.value:
            raise UserError(
                f"{override.shown} gives no list of values.",
                field="--over",
                hint="Write key=[a, b].",
            )
        found[".".join(override.key)] = override.value
    return found


def read_variants(texts: Sequence[str]) -> list[dict[str, Any]] | None:
    """Each `{dotted.key: a, other.key: b}`; None: there are none."""
    found = []
    for text in texts:
        try:
            value, _ = parse(text)
        except (yaml.YAMLError, ValueError) as error:
            raise UserError(f"cannot be read ({problem_of(error)})", field="--variant") from None
        if not isinstance(value, dict):
            raise UserError(
                f"{text!r:.60} is no mapping.", field="--variant", hint="Write {dotted.key: value}."
            )
        found.append(value)
    return found or None


def read_seeds(text: str | None) -> list[int] | None:
    """`0,1,2`; None: none are given."""
    if text is None:
        return None
    try:
        return [int(one) for one in text.split(",")]
    except ValueError:
        raise UserError(
            f'"{text}" is no list of seeds.', field="--seeds", hint="For instance 0,1,2."
        ) from None
