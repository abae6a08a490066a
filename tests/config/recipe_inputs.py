"""Inputs for recipes, made from the schema itself: every key, with values that it takes and values
that it cannot take."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import yaml
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import burnish
from burnish.config.kinds import KINDS
from burnish.config.recipe import Recipe

RECIPES = Path(__file__).parents[2] / "recipes"
REQUIRED: dict[str, Any] = {
    "function": "package.module:function", "url": "http://localhost:1/", "name": "calculator",
    "every": 2, "model": "base",
    "models": ["base", "base"], "judge": {"kind": "taste"}, "endpoint": "http://localhost:1/v1",
    "rewards": [{"name": "maths"}],
}  # fmt: skip
BY_TYPE: dict[Any, Any] = {str: "x", int: 1, float: 0.5, bool: True}
BEFORE: dict[str, dict[str, Any]] = {
    "compare": {"sample": {}},
    "select": {"sample": {}},
    "ppo": {"reward": {}},
}
"""The stages without which one of a kind has nothing to read."""
NEEDED = {"revise": {"constitution": "c.txt"}, "merge": {"models": ["base", "base"]}}
"""Settings without which a stage of a kind is none."""
_IN_ORDER = ("sft", "sample", "compare", "reward")
"""The kinds whose artifacts others read."""
EVERY_KIND = f"stages={json.dumps({kind: NEEDED.get(kind, {}) for kind in dict.fromkeys((*_IN_ORDER, *KINDS))})}"  # noqa: E501


class Leaf(NamedTuple):
    """One key: the sections around it with what they need to exist, and the kinds of value that it
    takes."""

    path: tuple[tuple[str, dict[str, Any]], ...]
    takes: frozenset[Any]

    @property
    def key(self) -> str:
        return ".".join(name for name, _ in self.path)

    @property
    def place(self) -> str:
        """The stage, or the key of the recipe, that a refusal must name."""
        names = [name for name, _ in self.path]
        return ".".join(names[: 2 if names[0] == "stages" else 1])

    def values(self, value: Any) -> dict[str, Any]:
        """The smallest recipe that gives this key this value."""
        inner: Any = value
        for name, beside in reversed(self.path):
            inner = [inner] if name == "*" else {**beside, name: inner}
        return inner


def leaves(
    model: type[BaseModel] = Recipe, around: tuple[tuple[str, dict[str, Any]], ...] = ()
) -> Iterator[Leaf]:
    beside = {
        name: (
            REQUIRED.get(name)
            or next(BY_TYPE[part] for part in _members(field.annotation) if part in BY_TYPE)
        )
        for name, field in model.model_fields.items()
        if field.is_required() and get_origin(field.annotation) is not Literal
    }
    beside |= {
        name: get_args(field.annotation)[0]
        for name, field in model.model_fields.items()
        if get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1
    }
    beside |= {"stages": {"report": {}}} if model is Recipe else {}
    for name, field in model.model_fields.items():
        yield from _leaves(field.annotation, (*around, (name, beside)))


def _of_stages() -> Iterator[Leaf]:
    """The keys of every kind of stage, whose name is the kind's."""
    yield Leaf((("stages", {}),), frozenset((dict, list)))
    for kind, row in KINDS.items():
        path = (("stages", {}), (kind, BEFORE.get(kind, {})))
        yield Leaf(path, frozenset((dict, type(None))))
        yield from (leaf for leaf in _leaves(row.section, path) if leaf.path != path)


def _leaves(annotation: Any, path: tuple[tuple[str, dict[str, Any]], ...]) -> Iterator[Leaf]:
    takes: set[Any] = set()
    for part in _members(annotation):
        origin, arguments = get_origin(part), get_args(part)
        if isinstance(part, type) and issubclass(part, BaseModel):
            takes.add(dict)
            yield from leaves(part, path)
        elif origin in (list, tuple):
            takes.add(list)
            for item in dict.fromkeys(a for a in arguments if a is not Ellipsis):
                yield from (
                    leaf
                    for leaf in _leaves(item, (*path, ("*", {})))
                    if len(leaf.path) > len(path) + 1
                )
        else:
            takes.add(origin if origin in (Literal, dict) else part)
    yield Leaf(path, frozenset(takes))


def _members(annotation: Any) -> Iterator[Any]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _members(arguments[0])
    elif origin in (Union, types.UnionType):
        for argument in arguments:
            yield from _members(argument)
    elif not isinstance(annotation, FieldInfo):
        yield annotation


_FOUND = [*(leaf for leaf in leaves() if leaf.key != "stages"), *_of_stages()]
KEYS = list({(leaf.key, repr(leaf.path)): leaf for leaf in _FOUND}.values())
PLAIN = [leaf for leaf in KEYS if "*" not in leaf.key]
NUMBERS = [leaf for leaf in KEYS if leaf.takes & {int, float}]

EXTREMES: list[Any] = [
    float("inf"), float("-inf"), float("nan"), 1e308, -1e308, 1e30, 10**30, -(10**30), 2**64,
    "many", [1], {"a": 1}, True,
]  # fmt: skip
"""What no number of a recipe takes."""


def cannot_be(leaf: Leaf, value: Any) -> bool:
    """Whether a key cannot mean a value: it is of a kind that it does not take, or a number that no
    computer trains with."""
    if value is None:
        return type(None) not in leaf.takes
    if isinstance(value, bool):
        return bool not in leaf.takes
    if isinstance(value, int | float):
        whole = isinstance(value, int)
        sane = (whole and abs(value) < 2**63) or (not whole and abs(value) < 1e18)
        return not sane or not ({float, int} if whole else {float}) & leaf.takes
    if isinstance(value, str):
        return not {str, Literal} & leaf.takes or "\0" in value
    return (list if isinstance(value, list) else dict) not in leaf.takes


numbers = (
    st.sampled_from(
        [
            0,
            -1,
            1,
            0.0,
            0.5,
            -0.5,
            1.0,
            2.5,
            1e-300,
            1e-9,
            1e6,
            10**6,
            2**31,
            2**44,
            2**63 - 1,
            2**63,
        ]
    )
    | st.sampled_from(EXTREMES[:9])
    | st.floats()
    | st.integers()
    | st.integers(min_value=10**20, max_value=10**300)
)
words = st.text(max_size=20) | st.sampled_from(
    [
        "",
        " ",
        "null",
        "true",
        "1",
        ".inf",
        "../x",
        "/proc/self/mem",
        "a" * 5000,
        "é",
        "a\nb",
        "a\tb",
        "\0",
        "*",
        "&a",
        "!!x",
    ]
)
values = st.recursive(
    st.none() | st.booleans() | numbers | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)


def flow(value: Any) -> str:
    """A value as YAML on one line."""
    text = yaml.safe_dump(
        value, default_flow_style=True, width=10**9, allow_unicode=True, sort_keys=False
    )
    return text.removesuffix("\n").removesuffix("\n...")


SHIPPED = {path.name: path.read_text(encoding="utf-8") for path in sorted(RECIPES.glob("*.yaml"))}
PIECES = [
    "\t", ":", ": ", "- ", "[", "]", "{", "}", "&a ", "*a", "<<: *a", "!!int ", "!x ", "? ", "| ",
    "> ", "#", "'", '"', "%", "@", "---\n",
    "...\n", "\n", "  ", "null", "~", "yes", ".nan", ".inf", "1e400", "0x", "010", "1:2", "\x00",
    "\x85", "\u2028", "\ufeff",
    "é", "\U0001f600", "2024-01-01", "[" * 60, "{a: " * 60, "9" * 500,
]  # fmt: skip


@st.composite
def mutated_recipes(draw: st.DrawFn) -> str:
    """A shipped recipe with a few places changed, as a slip of the hand or a bad merge would."""
    text = draw(st.sampled_from(sorted(SHIPPED.values())))
    for _ in range(draw(st.integers(1, 4))):
        at, size = draw(st.integers(0, len(text))), draw(st.integers(1, 30))
        lines = text.splitlines(keepends=True) or [""]
        row = draw(st.integers(0, len(lines) - 1))
        match draw(
            st.sampled_from(
                ["put", "cut", "over", "repeat", "indent", "drop", "value", "swap", "case"]
            )
        ):
            case "put":
                text = text[:at] + draw(st.sampled_from(PIECES)) + text[at:]
            case "cut":
                text = text[:at] + text[at + size :]
            case "over":
                text = text[:at] + draw(st.text(max_size=5)) + text[at + size :]
            case "repeat":
                text = "".join([*lines[: row + 1], lines[row], *lines[row + 1 :]])
            case "indent":
                text = "".join([*lines[:row], " " + lines[row], *lines[row + 1 :]])
            case "drop":
                text = "".join([*lines[:row], *lines[row + 1 :]])
            case "value":
                key, colon, _ = lines[row].partition(":")
                text = "".join(
                    [*lines[:row], f"{key}{colon} {flow(draw(values))}\n", *lines[row + 1 :]]
                )
            case "swap":
                other = draw(st.integers(0, len(lines) - 1))
                lines[row], lines[other] = lines[other], lines[row]
                text = "".join(lines)
            case _:
                text = text[:at] + text[at : at + size].swapcase() + text[at + size :]
    return text


texts = (
    mutated_recipes()
    | st.text(max_size=60)
    | st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
)
encoded = texts.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=40)
"""The bytes of a file that is to be a recipe."""


def _defaults(values: dict[str, Any], at: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _defaults(value, f"{at}{key}.")
        else:
            yield f"{at}{key}={flow(value)}"


RIGHT = [
    line.removeprefix("stages.")
    for line in _defaults(burnish.load(None, EVERY_KIND).model_dump(mode="json"))
]
"""Every key with its default."""


@st.composite
def overrides(draw: st.DrawFn) -> str:
    """What somebody types behind a recipe: mostly a key that exists and a value that may fit, with
    slips."""
    if draw(st.integers(0, 3)) == 0:
        return draw(st.sampled_from(RIGHT))
    leaf = draw(st.sampled_from(KEYS if draw(st.integers(0, 3)) == 0 else PLAIN))
    key = leaf.key.replace("*", draw(st.sampled_from(["0", "1", "x"])))
    key = key.removeprefix("stages.") if draw(st.integers(0, 3)) else key
    match draw(st.sampled_from(["plain", "plain", "plain", "typo", "section", "form", "deep"])):
        case "typo":
            at = draw(st.integers(0, len(key)))
            key = key[:at] + draw(st.sampled_from(["x", ".", "_", " ", "É", "\n"])) + key[at + 1 :]
        case "section":
            key = f"{key.rpartition('.')[0]}.{draw(st.sampled_from(['lr', 'name', 'optimizer', 'batch', '0']))}"  # noqa: E501
        case "form":
            key = draw(st.sampled_from(["", ".", "=", "--seed", "a b", "a" * 3000, key + "."]))
        case "deep":
            key += "." + ".".join(["a"] * draw(st.integers(1, 80)))
        case _:
            pass
    usual = st.sampled_from(["1", "2", "0.5", "0.1", "true", "false", "null", "auto", "[]", "{}"])
    value = (
        draw(usual)
        if draw(st.booleans())
        else draw(values.map(flow) | words | st.sampled_from(PIECES))
    )
    return f"{key}{draw(st.sampled_from(['=', '=', '=', '==', '', ' = ']))}{value}"
