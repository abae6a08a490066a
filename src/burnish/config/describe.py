"""What there is to configure: a schema's options by dotted key, with type, default and meaning in
words."""

from __future__ import annotations

import json
import math
import types
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, cast, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from burnish.config.bounds import Bounds, number
from burnish.config.narrow import is_section

_BOUNDS = (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))
_WORDS: dict[Any, str] = {
    int: "whole number",
    float: "number",
    bool: "true or false",
    str: "text",
    Path: "path",
    date: "date",
    Any: "anything",
    type(None): "null",
}


class Option(NamedTuple):
    """One option, in words. `default` is written as in YAML; it is "required" where there is none,
    and empty for a section.

    `variants` says of which kind the sections around it are, where they are of several: (("loss",
    "simpo"),). `section` is the section that has it.
    """

    key: str
    type: str
    default: str
    description: str
    variants: tuple[tuple[str, str], ...] = ()
    section: type[BaseModel] = BaseModel


@lru_cache(maxsize=16)
def describe_fields(model: type[BaseModel]) -> tuple[Option, ...]:
    """Every option by dotted key, sections included, with the defaults that hold at that very
    place.

    The items of a list or mapping of sections have `*` for their place: `suites.*.name`.
    """
    return tuple(_describe(model, "", defaults(model), ()))


def describe_values(section: BaseModel) -> tuple[Option, ...]:
    """The same with the values of a section as defaults: those of a row, say."""
    return tuple(_describe(type(section), "", section.model_dump(mode="json"), ()))


@lru_cache(maxsize=256)
def defaults(model: type[BaseModel]) -> Mapping[str, Any]:
    """The default of every option that has one, section by section, as JSON would hold it."""
    return model.model_construct().model_dump(mode="json")


@lru_cache(maxsize=256)
def discriminators(model: type[BaseModel], at: str = "") -> frozenset[str]:
    """The dotted keys that say of which kind a section is (pydantic's discriminated unions)."""
    found: set[str] = set()
    for name, field in model.model_fields.items():
        for place, notes, section in _sections(field.annotation, (field,)):
            inside = f"{at}{name}{place}."
            found |= {
                inside + note.discriminator for note in notes if isinstance(note.discriminator, str)
            }
            found |= discriminators(section, inside)
    return frozenset(found)


def show(value: Any) -> str:
    """A value as YAML would have it, on one line and not too long."""
    if is_section(value):
        return "a section"
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    text = json.dumps(value, ensure_ascii=False)
    text = text if text.isprintable() else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _sections(
    annotation: Any, notes: tuple[FieldInfo, ...] = ()
) -> Iterator[tuple[str, tuple[FieldInfo, ...], type[BaseModel]]]:
    """The models inside an annotation, with ".*" for each list or mapping around them, and
    pydantic's notes on the union they are in."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield "", notes, annotation
    elif origin is Annotated:
        yield from _sections(
            arguments[0], (*notes, *(note for note in arguments[1:] if isinstance(note, FieldInfo)))
        )
    elif origin in (Union, types.UnionType):
        for argument in arguments:
            yield from _sections(argument, notes)
    elif origin in (list, tuple, dict):
        for argument in arguments:
            yield from (
                (f".*{place}", inner, section) for place, inner, section in _sections(argument)
            )


def _describe(
    model: type[BaseModel],
    at: str,
    known: Mapping[str, Any],
    variants: tuple[tuple[str, str], ...],
) -> Iterator[Option]:
    for name, field in model.model_fields.items():
        default = known.get(name)
        shown = "required" if field.is_required() else "" if is_section(default) else show(default)
        yield Option(
            at + name,
            _type_in_words(field.annotation, field.metadata),
            shown,
            field.description or "",
            variants,
            model,
        )
        for place, notes, section in _sections(field.annotation, (field,)):
            own = defaults(section)
            kinds = [note.discriminator for note in notes if isinstance(note.discriminator, str)]
            if is_section(default) and not place and default.keys() == own.keys():
                own = default if all(default[kind] == own[kind] for kind in kinds) else own
            which = tuple((f"{at}{name}{place}", variant(section, kind)) for kind in kinds)
            yield from _describe(section, f"{at}{name}{place}.", own, (*variants, *which))


def variant(section: type[BaseModel], discriminator: str) -> str:
    """Which of several kinds a section is: the one value that its discriminator takes."""
    return str(get_args(section.model_fields[discriminator].annotation)[0])


def _type_in_words(annotation: Any, rules: Sequence[Any] = ()) -> str:
    """A type with its bounds: "whole number ≥ 1 or null"."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = [
            rule
            for note in arguments[1:]
            for rule in (note.metadata if isinstance(note, FieldInfo) else [note])
        ]
        return _type_in_words(arguments[0], [*inner, *rules])
    if origin in (Union, types.UnionType):
        words = [
            _type_in_words(argument, () if argument is type(None) else rules)
            for argument in arguments
        ]
        return " or ".join(dict.fromkeys(words))
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin is tuple and Ellipsis not in arguments:
        return f"[{', '.join(map(_type_in_words, arguments))}]"
    if origin in (list, tuple):
        return f"list of {_type_in_words(arguments[0])}"
    if origin is dict:
        return f"mapping of {_type_in_words(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    ends = [(sign, getattr(rule, name, None)) for rule in rules for name, sign in _BOUNDS]
    bounds = [f"{sign} {number(end)}" for sign, end in ends if end is not None]
    apart = [
        f" or {number(rule.also)}"
        for rule in rules
        if isinstance(rule, Bounds) and rule.also is not None
    ]
    kind = cast(Any, annotation)
    words = _WORDS.get(kind, str(kind))
    return f"{words} {' and '.join(bounds)}".strip() + "".join(apart)
