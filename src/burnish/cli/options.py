"""`burnish options`: what can be set in a recipe, and what each option means."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from burnish.cli.shared import Traceback
from burnish.errors import UserError
from burnish.jsonio import dumps

if TYPE_CHECKING:
    from burnish.config.describe import Option
    from burnish.config.options import Found

Key = Annotated[
    str | None,
    typer.Argument(
        help="A dotted key, a stage's kind, an algorithm, a loss, or the last word of a key.",
        show_default=False,
    ),
]
_WIDTH = 96


def options(
    key: Key = None,
    json_schema: Annotated[
        bool,
        typer.Option("--json-schema", help="Print a JSON Schema of recipes, for editors."),
    ] = False,
    traceback: Traceback = False,
) -> None:
    """Say what an option of a recipe means: its type, bounds, default and paper; or list them.

    Example: `burnish options grpo.algorithm.beta`
    """
    if json_schema:
        if key is not None:
            raise UserError("--json-schema is of the whole recipe.", hint="Leave the key out.")
        from burnish.config.editor_schema import editor_schema

        typer.echo(dumps(editor_schema(), indent=2))
        return
    for line in _contents() if key is None else _answer(key):
        typer.echo(line)


def _contents() -> Iterator[str]:
    """The sections and kinds of stages, a line each."""
    from burnish.config.families import FAMILIES
    from burnish.config.kinds import KINDS
    from burnish.config.options import in_yaml, options_of_recipe

    yield "Of the recipe:"
    top = [option for option in options_of_recipe() if "." not in option.key]
    yield from _table([(option.key, in_yaml(option.description)) for option in top])
    yield "\nOf a stage, by its kind:"
    yield from _table([(kind, in_yaml(KINDS[kind].section.__doc__ or "")) for kind in KINDS])
    for family in dict.fromkeys(kind for kind, _ in FAMILIES.values()):
        rows = ", ".join(row for row, (kind, _) in FAMILIES.items() if kind == family)
        yield from textwrap.wrap(f"Names of {family}: {rows}.", _WIDTH)
    yield "\nNext: burnish options model, burnish options grpo, burnish options grpo.algorithm.beta"


def _answer(key: str) -> Iterator[str]:
    """What a key means, or where the keys of this name stand."""
    from burnish.config.options import called, find, find_one_of, in_yaml

    places = called(key) if "." not in key else ()
    try:
        found = find(key)
    except UserError:
        if not places:
            raise
        meanings = [(place, in_yaml(find_one_of(place).description)) for place in places]
        yield from _table(meanings)
        return
    yield from _shown(found)


def _shown(found: Found) -> Iterator[str]:
    from burnish.config.options import in_yaml

    if not found.exact:
        yield found.key
        yield from _indented(in_yaml(found.about))
    for option in found.exact:
        yield from _one(option, found.key, leaf=not found.below)
    if found.below:
        yield ""
        yield from _table([_row(option) for option in found.below if _is_near(option, found)])


def _is_near(option: Option, found: Found) -> bool:
    """Whether an option stands right below: what is in sections further down is theirs to say."""
    from burnish.config.options import bare

    return "." not in bare(option.key).removeprefix(f"{found.key}.")


def _row(option: Option) -> tuple[str, str]:
    from burnish.config.options import bare, in_yaml

    default = f" [{option.default}]" if option.default else ""
    return bare(option.key), f"{in_yaml(option.description)}{_of_kinds(option)}{default}"


def _of_kinds(option: Option) -> str:
    """Of which of several kinds an option is, where its key does not begin with that."""
    word = option.key.partition(".")[0]
    return "".join(f" (of {name})" for _, name in option.variants if name != word)


def _one(option: Option, key: str, *, leaf: bool) -> Iterator[str]:
    """An option with all that there is to say of it."""
    from burnish.config.options import in_yaml, papers

    yield f"{key}{_of_kinds(option)}"
    yield from _indented(in_yaml(option.description))
    facts = {"type": option.type}
    if leaf:
        facts |= {"default": option.default}
        as_row = _as_the_row(key, option)
        if as_row:
            facts["default"] = f"{option.default}, which is {as_row[0]}"
        named = papers(option) or as_row[1:]
        facts |= {"paper": ", ".join(named)} if named else {}
    for name, text in facts.items():
        yield f"  {name:8} {text}"


def _as_the_row(key: str, option: Option) -> tuple[str, ...]:
    """("0.04, as grpo has it", paper) of a part of an algorithm that is left to its row."""
    word, *rest = key.split(".")
    if option.default != "null" or rest[:1] != ["algorithm"] or len(rest) != 2:
        return ()
    from burnish.algorithms.recipes import ROWS  # brings torch

    parts = ROWS["grpo" if word == "online" else word].parts()
    return f"{json.dumps(parts[rest[1]])}, as {parts['name']} has it", str(parts["paper"])


def _table(rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Names with their meanings, wrapped beside them, or below a name that is long."""
    width = min(34, max(len(name) for name, _ in rows))
    for name, text in rows:
        lines = textwrap.wrap(text, _WIDTH - width - 4) or [""]
        if len(name) > width:
            yield f"  {name}"
        else:
            yield f"  {name:{width}}  {lines.pop(0)}".rstrip()
        yield from (f"  {'':{width}}  {line}" for line in lines)


def _indented(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="  ", subsequent_indent="  ")
