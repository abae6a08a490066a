"""Reading YAML that somebody wrote by hand: what cannot be meant, or would never end, is one line
with its place."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# PyYAML's stubs leave what a loader and a dumper do untyped.
from __future__ import annotations

import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel

from burnish.config.hints import nearest
from burnish.errors import UserError

MOST_BYTES = 128 * 1024
"""Of a recipe. The longest that is shipped has 3 KB."""
MOST_DEEP = 50
"""Sections and lists inside one another."""
MOST_CHARACTERS = 1024 * 1024
"""What a text may stand for once its aliases are written out: those that name one another grow
without end."""

# YAML 1.2's numbers and switches, with an exponent needing no dot: 1.1 takes `no`, 1:30 and 010 for
# false, 90 and 8.
_RULES = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (
        r"[-+]?(?:0|[1-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F_]*[0-9a-fA-F]|0b[01_]*[01])",
        "-+0123456789",
    ),
    "float": (
        r"[-+]?(?:\.[0-9][0-9_]*|(?:0|[1-9][0-9_]*)\.[0-9_]*)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?(?:0|[1-9][0-9_]*)[eE][-+]?[0-9]+|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "merge": (r"<<", "<"),
}
_LONGEST_NUMBER = 400
# no file's name holds the first, no encoding the others
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")
_TOO_DEEP = f"sections and lists stand in one another more than {MOST_DEEP} deep"
_PLAIN = {
    f"tag:yaml.org,2002:{name}"
    for name in ("map", "seq", "str", "int", "float", "bool", "null", "merge")
}


class _Loader(yaml.SafeLoader):
    """Safe YAML in which 1e-4 is a number, a date is text, a key is text, and one that stands twice
    is an error."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (PyYAML copies it before it adds to it)
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        # here, since the scanner's work grows with the square of the depth
        self.depth += 1
        if self.depth > MOST_DEEP:
            raise yaml.MarkedYAMLError(None, None, _TOO_DEEP, self.peek_event().start_mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # here, not on construction: by then a merge (<<) may have put an overridden key beside its
        # override
        node = super().compose_mapping_node(anchor)
        assert isinstance(node, yaml.MappingNode)
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(
                    None, None, "a key is text, not a list or a section", key.start_mark
                )
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    None, None, f"the key {show_key(key.value)} stands twice", key.start_mark
                )
            seen.add(key.value)
            if not key.tag.endswith(":merge"):
                key.tag = "tag:yaml.org,2002:str"
        return node


class _Dumper(yaml.SafeDumper):
    """Safe YAML that puts text in quotes wherever `_Loader` would take it for a number or fold its
    line breaks."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        return self.represent_scalar(
            "tag:yaml.org,2002:str", data, style=None if data.isprintable() else '"'
        )


for _name, (_rule, _first) in _RULES.items():
    for _reader in (_Loader, _Dumper):
        _reader.add_implicit_resolver(
            f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_rule})$"), list(_first)
        )
_Dumper.add_representer(str, _Dumper.represent_str)


def show_key(key: str, *, longest: int = 60) -> str:
    """A key in quotes, on one line and not too long."""
    text = key[: longest + 1]
    text = text if text.isprintable() else text.encode("unicode_escape").decode()
    return f'"{text}"' if len(text) <= longest else f'"{text[: longest - 3]}..."'


def parse(text: str) -> tuple[Any, yaml.Node | None]:
    """What a YAML text says, and its nodes. Raises yaml.YAMLError, whose problem `problem_of` tells
    in one line."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, None
        _measure(node, {}, loader)
        return loader.construct_document(node), node
    finally:
        loader.dispose()


def problem_of(error: Exception) -> str:
    """What is wrong with a YAML text, in one line, with its place where there is one."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark, problem = (
            error.problem_mark or error.context_mark,
            error.problem or error.context or "",
        )
        if problem == "but found another document":
            problem = "a second document begins here; a recipe is one"
        problem = problem.replace("'\\x00'", "the end")
        return (
            f"line {mark.line + 1}, column {mark.column + 1}: {problem}." if mark else f"{problem}."
        )
    if isinstance(error, yaml.reader.ReaderError):
        return (
            f"the character U+{int(error.character):04X} cannot stand in YAML (position"
            f" {error.position + 1})."
        )
    return f"this is not YAML ({' '.join(str(error).split())})."


def dump_yaml(config: BaseModel) -> str:
    """YAML that loads to the same configuration, its keys in the order of the schema."""
    return yaml_of(config.model_dump(mode="json"))


def yaml_of(values: Mapping[str, Any]) -> str:
    """YAML text of a tree."""
    return yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class YamlFile(NamedTuple):
    """What a YAML file says, and where it says it."""

    path: Path | None
    values: dict[str, Any]
    node: yaml.Node | None

    @classmethod
    def read(cls, path: Path) -> YamlFile:
        """Raises UserError when there is no such file, or it is not YAML, or not a mapping."""
        try:
            values, node = parse(_text_of(path))
        except (yaml.YAMLError, ValueError) as error:
            raise UserError(problem_of(error), file=_shown(path)) from None
        if values is None:
            return cls(path, {}, None)
        if not isinstance(values, dict):
            raise UserError("a recipe is a mapping of keys to values.", file=_shown(path))
        return cls(path, values, node)

    @property
    def shown(self) -> str | None:
        """Its name, for an error."""
        return None if self.path is None else _shown(self.path)

    def line(self, place: Sequence[str]) -> int | None:
        """The line of the key at a place (or of the nearest section around it), from 1."""
        lines, _ = self._lines(place)
        return lines[-1] if lines else None

    def says(self, place: Sequence[str]) -> bool:
        """Whether the key at a place stands in the file."""
        return len(self._lines(place)[0]) == len(place) > 0

    def scalar(self, place: Sequence[str]) -> str | None:
        """The text, number or switch at a place as it is written; None where there is none."""
        lines, node = self._lines(place)
        return (
            node.value if len(lines) == len(place) and isinstance(node, yaml.ScalarNode) else None
        )

    def _lines(self, place: Sequence[str]) -> tuple[list[int], yaml.Node | None]:
        """The lines of the keys on the way to a place, as far as they stand in the file, and what
        stands there."""
        node, lines = self.node, list[int]()
        for part in place:
            if isinstance(node, yaml.MappingNode):
                pair = next(((key, value) for key, value in node.value if key.value == part), None)
            elif (
                isinstance(node, yaml.SequenceNode)
                and part.isdecimal()
                and int(part) < len(node.value)
            ):
                pair = (node.value[int(part)], node.value[int(part)])
            else:
                pair = None
            if pair is None:
                break
            lines.append(pair[0].start_mark.line + 1)
            node = pair[1]
        return lines, node


def _text_of(path: Path) -> str:
    """The text of a recipe's file. Raises UserError where it is none: nothing is waited for, and
    nothing large is read."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UserError("this is a folder; name a recipe (a YAML file).", file=_shown(path))
        if not stat.S_ISREG(mode):
            raise UserError("this is a pipe or a device; a recipe is a file.", file=_shown(path))
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise UserError(
            "there is no such file.", file=_shown(path), hint=_neighbour(path)
        ) from None
    except OSError as error:
        raise UserError(
            f"this file cannot be read ({error.strerror}).", file=_shown(path)
        ) from None
    except ValueError:
        raise UserError(
            "this name holds a character that no file's name can hold.", file=_shown(path)
        ) from None
    if len(data) > MOST_BYTES:
        raise UserError(
            f"this is no recipe: it is longer than {MOST_BYTES // 1024} KB.", file=_shown(path)
        )
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError("this is text in UTF-16: save it as UTF-8.", file=_shown(path))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError("this is not a text file in UTF-8.", file=_shown(path)) from None


def _neighbour(path: Path) -> str | None:
    names = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
    near = nearest(path.name, [name for name in names if name != path.name])
    return f"Did you mean {show_key(str(path.with_name(near)), longest=200)}?" if near else None


def _shown(path: Path) -> str:
    return show_key(str(path), longest=200)[1:-1]


class _Size(NamedTuple):
    """Of a node once aliases are written out: characters, and how deep things stand in one
    another."""

    characters: int
    depth: int


def _measure(node: yaml.Node, known: dict[int, _Size | None], loader: _Loader) -> _Size:
    """How large a node is with its aliases written out; also refuses what a recipe cannot hold.

    `known` has the sizes of the nodes seen before (None: those around this one), so that an alias
    costs nothing to measure.
    """
    if id(node) in known:
        size = known[id(node)]
        if size is None:
            raise yaml.MarkedYAMLError(
                None, None, "an alias refers to what it stands in", node.start_mark
            )
        return size
    known[id(node)] = None
    _check(node, loader)
    children: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        children = node.value
    elif isinstance(node, yaml.MappingNode):
        children = [part for pair in node.value for part in pair]
    own = 1 + (len(node.value) if isinstance(node, yaml.ScalarNode) else 0)
    sizes = [_measure(child, known, loader) for child in children]
    size = _Size(
        own + sum(s.characters for s in sizes), 1 + max((s.depth for s in sizes), default=0)
    )
    if size.characters > MOST_CHARACTERS:
        problem = f"with its aliases written out this is longer than {MOST_CHARACTERS // 1024} KB"
        raise yaml.MarkedYAMLError(None, None, problem, node.start_mark)
    if size.depth > MOST_DEEP:
        raise yaml.MarkedYAMLError(None, None, _TOO_DEEP, node.start_mark)
    known[id(node)] = size
    return size


def _check(node: yaml.Node, loader: _Loader) -> None:
    """Refuse `!!tags` that a recipe does not know or that do not fit their value, and values that
    no machine holds."""
    kind, text = (
        node.tag.rpartition(":")[2],
        node.value if isinstance(node, yaml.ScalarNode) else None,
    )
    plain = loader.resolve(type(node), text, (True, False))
    fits = (
        node.tag == plain
        or (kind == "str" and text is not None)
        or (kind == "float" and plain.endswith(":int"))
    )
    if node.tag not in _PLAIN or not fits:
        name = show_key(node.tag.replace("tag:yaml.org,2002:", "!!"))
        raise yaml.MarkedYAMLError(None, None, f"the tag {name} does not fit here", node.start_mark)
    if text is not None and kind in ("int", "float") and len(text) > _LONGEST_NUMBER:
        problem = f"a number of {len(text)} characters is more than a machine holds"
        raise yaml.MarkedYAMLError(None, None, problem, node.start_mark)
    strange = _NO_TEXT.search(text or "")
    if strange:
        problem = f"the character U+{ord(strange.group()):04X} cannot stand in a recipe"
        raise yaml.MarkedYAMLError(None, None, problem, node.start_mark)
