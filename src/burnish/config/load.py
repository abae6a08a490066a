"""Recipes from YAML files and dotted overrides; a mistake is one line that says where it is and
what would be right."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from burnish.config.bounds import OUT_OF_BOUNDS
from burnish.config.describe import defaults, describe_fields, discriminators, show
from burnish.config.hints import ALIASES, suggest
from burnish.config.narrow import is_list, is_section
from burnish.config.yaml_file import MOST_DEEP, YamlFile, parse, problem_of, show_key
from burnish.errors import UserError

Config = TypeVar("Config", bound=BaseModel)

_MOST_PROBLEMS = 5
_LONGEST_OVERRIDE = 120


def load_config(
    model: type[Config],
    path: Path | None,
    overrides: Sequence[str] = (),
    *,
    aliases: Mapping[str, str] = ALIASES,
) -> Config:
    """The configuration in a YAML file, with `dotted.key=value` overrides on top; `0`, `1`, ... are
    the items of a list.

    Below the file (None: an empty one) lie the model's defaults, merged section by section: naming
    one key of a section leaves its others as they are. Types are strict: "3" is not a number, and 1
    is not a switch. Raises UserError naming the file and line (or the override), the key, what is
    wrong and what would be right; `aliases` says what keys of other tools are called here.
    """
    file = YamlFile.read(path) if path else YamlFile(None, {}, None)
    tags = discriminators(model)
    values = merge(defaults(model), file.values, tags)
    changes = [Override.read(text) for text in overrides]
    for change in changes:
        values = put(values, change.key, change.value, tags, override=change.shown)
    try:
        # through JSON, since only there strictness lets a list be a tuple
        return model.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        raise explain(error, model, values, Sources(file, changes), aliases) from None


class Override(NamedTuple):
    """One `dotted.key=value`."""

    key: tuple[str, ...]
    value: Any
    written: str
    shown: str

    @classmethod
    def read(cls, text: str) -> Override:
        """Raises UserError where it is of another form or its value is not YAML."""
        shown = show_key(text, longest=_LONGEST_OVERRIDE)
        key, equals, written = text.partition("=")
        parts = tuple(key.split("."))
        if not equals or not all(parts) or not key.isprintable():
            raise UserError(f"the override {shown} is not of the form key.subkey=value.")
        if len(parts) > MOST_DEEP:
            raise UserError(
                f"the override {shown} leads {len(parts)} sections down; no key is so deep."
            )
        try:
            value, _ = parse(written)
        except (yaml.YAMLError, ValueError) as error:
            problem = re.sub(r"^line \d+, column \d+: ", "", problem_of(error)).removesuffix(".")
            raise UserError(
                f"the value of the override {shown} cannot be read ({problem})."
            ) from None
        return cls(parts, value, written.strip(), shown)


class File(Protocol):
    """What a file says, by place."""

    @property
    def shown(self) -> str | None:
        """Its name, for an error."""
        ...

    def line(self, place: Sequence[str]) -> int | None:
        """The line of the key at a place (or of the nearest section around it), from 1."""
        ...

    def says(self, place: Sequence[str]) -> bool:
        """Whether the key at a place stands in the file."""
        ...

    def scalar(self, place: Sequence[str]) -> str | None:
        """The text, number or switch at a place as it is written."""
        ...


class Asked(Protocol):
    """Who gave what: the file and the overrides of a recipe."""

    @property
    def file(self) -> File:
        """What the file says."""
        ...

    def blame(self, place: tuple[str, ...], *, section: bool) -> Override | None:
        """See `Sources.blame`."""
        ...

    def written(self, place: tuple[str, ...]) -> str | None:
        """A value as it was written, where it is text, a number or a switch."""
        ...


class Sources(NamedTuple):
    """Where a value may have come from."""

    file: File
    overrides: Sequence[Override]

    def blame(self, place: tuple[str, ...], *, section: bool) -> Override | None:
        """The override that a mistake at `place` is due to; None: the file, or nothing that was
        given.

        That is the last one that names the place, or something around it and says what stands
        there; or else, where the file does not name it or what is wrong is how a `section`'s keys
        fit together, the last one that names something inside.
        """
        around = [one for one in self.overrides if place[: len(one.key)] == one.key]
        saying = [one for one in around if _holds(one.value, place[len(one.key) :])]
        inside = [
            one
            for one in self.overrides
            if place and one.key[: len(place)] == place and one not in around
        ]
        if not section and (saying or self.file.says(place)):
            inside = []
        blamed = [one for one in self.overrides if one in saying or one in inside]
        if not blamed and not self.file.says(place):
            blamed = around
        return blamed[-1] if blamed else None

    def written(self, place: tuple[str, ...]) -> str | None:
        """A value as it was written, where it is text, a number or a switch."""
        exact = [one.written for one in self.overrides if one.key == place]
        return exact[-1] if exact else self.file.scalar(place)


def _holds(value: Any, place: Sequence[str]) -> bool:
    """Whether a value has something at a place inside."""
    for part in place:
        if is_section(value) and part in value:
            value = value[part]
        elif is_list(value) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return False
    return True


def put(
    tree: Any, key: Sequence[str], value: Any, tags: frozenset[str], *, override: str, at: str = ""
) -> Any:
    """`tree` with `value` at `key`; sections that are not there yet (or None) are made on the
    way."""
    if not key:
        return merge(tree, value, tags, at) if is_section(tree) and is_section(value) else value
    head, rest = key[0], key[1:]
    if is_list(tree):
        if not head.isdecimal() or len(head) > 6 or int(head) >= len(tree):
            item = show_key(head)[1:-1]
            raise UserError(
                f"the override {override} wants item {item} of a list of {len(tree)} (the first"
                " is 0)."
            )
        index = int(head)
        item = put(tree[index], rest, value, tags, override=override, at=f"{at}*.")
        return [*tree[:index], item, *tree[index + 1 :]]
    if tree is not None and not is_section(tree):
        raise UserError(
            f"the override {override} looks for {show_key(head)} inside a value, not a section."
        )
    section: Mapping[str, Any] = tree or {}
    item = put(section.get(head), rest, value, tags, override=override, at=f"{at}{head}.")
    return {head: item} if _other_kind(section, {head: item}, tags, at) else {**section, head: item}


def merge(
    below: Mapping[str, Any], above: Mapping[str, Any], tags: frozenset[str], at: str = ""
) -> dict[str, Any]:
    """`above` over `below`, section by section; a section that becomes one of another kind starts
    afresh."""
    if _other_kind(below, above, tags, at):
        return dict(above)
    merged = {**below, **above}
    for key, value in above.items():
        if is_section(value) and is_section(under := below.get(key)):
            merged[key] = merge(under, value, tags, f"{at}{key}.")
    return merged


def _other_kind(
    below: Mapping[str, Any], above: Mapping[str, Any], tags: frozenset[str], at: str
) -> bool:
    return any(f"{at}{key}" in tags and key in below and below[key] != above[key] for key in above)


def explain(
    error: ValidationError,
    model: type[BaseModel],
    values: Mapping[str, Any],
    sources: Asked,
    aliases: Mapping[str, str],
    keys: Callable[[tuple[str, ...]], tuple[tuple[str, ...], Sequence[str]]] | None = None,
) -> UserError:
    """What pydantic found wrong, in plain words and with its place.

    `keys` gives, for the place of a key that does not exist, that place within its section and the
    keys that there are; by default the whole schema's.
    """

    def of_the_schema(place: tuple[str, ...]) -> tuple[tuple[str, ...], Sequence[str]]:
        return place, [option.key for option in describe_fields(model)]

    known = keys or of_the_schema
    found: list[UserError] = []
    problems = _without_members(error.errors(include_url=False), values)
    for problem in problems[:_MOST_PROBLEMS]:
        place = _place(problem["loc"], values, missing=problem["type"] == "missing")
        place += _discriminator(problem)
        override = sources.blame(place, section=problem["type"] == "value_error")
        unknown = problem["type"] == "extra_forbidden"
        hint = (
            suggest(*known(place), aliases) if unknown else _remedy(problem, sources.written(place))
        )
        found.append(
            UserError(
                "there is no such key." if unknown else f"{_reason(problem)}.",
                file=f"override {override.shown}" if override else sources.file.shown,
                row=None if override else sources.file.line(place),
                field=show_key(".".join(place), longest=_LONGEST_OVERRIDE)[1:-1] or None,
                hint=hint,
            )
        )
    if len(problems) == 1:
        return found[0]
    return UserError.several(found, more=len(problems) - len(found))


def _without_members(problems: Sequence[Any], values: Any) -> list[dict[str, Any]]:
    """pydantic's problems, those about one value told once: of a union it tells what each member
    would have taken. Where a member takes the value and finds fault with something inside, that
    alone is told."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    places = [
        _place(problem["loc"], values, missing=problem["type"] == "missing") for problem in problems
    ]
    for problem, place in zip(problems, places, strict=True):
        inside = any(len(other) > len(place) and other[: len(place)] == place for other in places)
        if inside and problem["type"] in _KINDS:
            continue
        before = found.get(place)
        if before is None or not {before["type"], problem["type"]} <= _KINDS:
            found[place if before is None else (*place, str(len(found)))] = {
                **problem,
                "kinds": [problem["type"]],
            }
        elif problem["type"] not in before["kinds"]:
            before["kinds"].append(problem["type"])
    return list(found.values())


def _place(location: Sequence[str | int], values: Any, *, missing: bool) -> tuple[str, ...]:
    """A location of pydantic's as keys of the values: without the names of a union's members that
    stand in it."""
    place: list[str] = []
    for part in location:
        if is_section(values) and part in values:
            values = values[str(part)]
        elif is_list(values) and isinstance(part, int) and part < len(values):
            values = values[part]
        else:
            continue
        place.append(str(part))
    return (*place, str(location[-1])) if missing else tuple(place)


def _discriminator(problem: Mapping[str, Any]) -> tuple[str, ...]:
    """The key that says of which kind a section is, where that is what is wrong."""
    return (
        (problem["ctx"]["discriminator"].strip("'"),)
        if problem["type"] == "union_tag_invalid"
        else ()
    )


def _reason(problem: Mapping[str, Any]) -> str:
    """What is wrong with a value, in plain words."""
    kind, context, given = problem["type"], problem.get("ctx", {}), show(problem["input"])
    if kind == "missing":
        return "this is required, and missing"
    if kind == "union_tag_not_found":
        return (
            f"{context['discriminator'].strip(chr(39))} is missing, which says what kind of section"
            " this is"
        )
    if kind == "union_tag_invalid":
        return f"expected {context['expected_tags']}, given {show(context['tag'])}"
    if kind == "value_error":
        return str(context["error"])
    if kind == OUT_OF_BOUNDS:
        return f"expected {context['range']}, given {given}"
    if len(problem.get("kinds", ())) > 1:
        *most, last = dict.fromkeys(_EXPECTED[one] for one in problem["kinds"])
        return f"expected {', '.join(most)}{' or ' if most else ''}{last}, given {given}"
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind].format(**context)}, given {given}"
    return f"{problem['msg'].replace('Input should', 'this should')}, given {given}"


_EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a section (keys and values)",
    "model_type": "a section (keys and values)",
    "none_required": "null",
    "literal_error": "{expected}",
    "finite_number": "a finite number",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    "less_than": "less than {lt:g}",
    "less_than_equal": "{le:g} or less",
    "too_long": "at most {max_length} items",
    "too_short": "{min_length} or more items",
    "string_too_long": "at most {max_length} characters",
    "string_too_short": "text that is not empty",
    "string_pattern_mismatch": "text like {pattern}",
}


_KINDS = {name for name, words in _EXPECTED.items() if name.endswith("_type") and "{" not in words}
"""Problems that say of what kind a value is not."""


def _remedy(problem: Mapping[str, Any], written: str | None) -> str | None:
    """What to do about it, where the reason does not say so already."""
    given = problem["input"]
    if problem["loc"][-1:] != () and "prompts" in problem["loc"] and isinstance(given, int):
        return "How many are taken is said by count."
    if problem["type"] == "string_type" and isinstance(given, int | float):
        return f"Put it in double quotes (on a command line: '\"{written or show(given)}\"')."
    if (
        problem["type"] in ("int_type", "float_type")
        and isinstance(given, str)
        and re.fullmatch(r"[-+.\deE]+", given)
    ):
        return (
            "Write it without leading zeros."
            if re.match(r"[-+]?0\d", given)
            else "Take the quotes off."
        )
    if (
        problem["type"] == "int_type"
        and isinstance(given, float)
        and given.is_integer()
        and abs(given) < 1e15
    ):
        return f"Write it as {int(given)}."
    if problem["type"] == "bool_type" and str(given).lower() in _SWITCHES:
        return f"Write {_SWITCHES[str(given).lower()]}."
    return None


_SWITCHES = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}
