r"""The outer shape of an answer: tuples, intervals, sets, lists, matrices, unions, ±. Pure; what is
inside stays text.

An algebra system forgets shapes: it reads (2, 1) as an empty interval, as it does (5, 3). Here the
brackets are read, and the parts inside are compared one by one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Shape = Literal["tuple", "interval", "set", "list", "matrix", "union"]

_OPEN, _CLOSE = "([{<", ")]}>"
_TOKEN = re.compile(
    r"\\(?:langle|rangle|lfloor|rfloor|lceil|rceil|begin|end|[{}])|\\[A-Za-z]+|\\.|[()\[\]{}]|[^\\()\[\]{}]",
    re.DOTALL,
)
_MATRIX = re.compile(
    r"\\begin\{(?P<kind>[pbB]?matrix|smallmatrix|array)\}(?:\{[^{}]*\})?(?P<body>.*)\\end\{(?P=kind)\}",
    re.DOTALL,
)
_MEMBER = re.compile(r"^\\?[A-Za-z](?:_\w)?\s*(?:\\in|=|\\ni)\s*(?=\S)")
_EITHER = re.compile(r"\s(?:or|OR)\s|\\(?:vee|lor)(?![A-Za-z])")
_RELATION = re.compile(r"\\(?:leqslant|geqslant|leq|geq|le|ge|lt|gt)(?![A-Za-z])|[<>≤≥]")
_VARIABLE = re.compile(r"[A-Za-z]")
_JOINED = re.compile(r"\s(?:or|and|OR|AND)\s|\\(?:vee|lor)(?![A-Za-z])")
_REALS = re.compile(
    r"(?:\\(?:mathbb|mathbf|Bbb)\s?\{?R\}?|\\R|all real numbers|all reals|all real values|R)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Structure:
    """A shape and its parts as texts; a matrix's parts are its cells row by row, `marks` its size,
    an interval's its brackets."""

    shape: Shape
    parts: tuple[str, ...]
    marks: str = ""


def read_structure(text: str) -> Structure | None:
    """The outer shape of a cleaned text; None for a single expression."""
    text = text.strip()
    bare = _MEMBER.sub("", text)
    if _REALS.fullmatch(bare):
        return Structure("interval", ("-\\infty", "\\infty"), "()")
    union = split_top(bare, ("\\cup",))
    if len(union) > 1:
        return Structure("union", tuple(union))
    found = _matrix(bare) or _bracketed(bare)
    if found is not None:
        return found
    parts = [part for piece in _JOINED.split(text) for part in split_top(piece, (",", ";"))]
    parts = [part for part in parts if part]
    if len(parts) > 1:
        return Structure("list", tuple(parts))
    if text.count("\\pm") == 1 and "\\mp" not in text:
        left, _, right = text.partition("\\pm")
        sign = "+" if left.strip() and not left.rstrip().endswith("=") else ""
        return Structure("list", (f"{left}{sign}{right}".strip(), f"{left}-{right}".strip()))
    return None


def inequalities(text: str) -> Structure | None:
    """The union that inequalities in one variable, joined by "or", are together: x < 2 or x > 3.
    None for anything else."""
    pieces = [_between(piece) for piece in _EITHER.split(text)]
    found = [piece for piece in pieces if piece is not None]
    if len(found) < 2 or len(found) < len(pieces) or len({name for name, _ in found}) > 1:
        return None
    return Structure("union", tuple(interval for _, interval in found))


def _between(text: str) -> tuple[str, str] | None:
    """The variable of x < 2, 2 > x or 1 < x < 2, and the interval it says, as text."""
    signs = [_facing(match.group()) for match in _RELATION.finditer(text)]
    sides = [side.strip() for side in _RELATION.split(text)]
    if len(sides) == 2 and not _VARIABLE.fullmatch(sides[0]):
        sides, signs = sides[::-1], [(not up, closed) for up, closed in signs]
    if len(sides) == 2:
        end = (sides[1], signs[0][1])
        name, low, high = (
            sides[0],
            *((("-\\infty", False), end) if signs[0][0] else (end, ("\\infty", False))),
        )
    elif len(sides) == 3 and signs[0][0] == signs[1][0]:
        first, last = (sides[0], signs[0][1]), (sides[2], signs[1][1])
        name, low, high = sides[1], *((first, last) if signs[0][0] else (last, first))
    else:
        return None
    if not _VARIABLE.fullmatch(name) or not low[0] or not high[0]:
        return None
    return name, f"{'[' if low[1] else '('}{low[0]},{high[0]}{']' if high[1] else ')'}"


def _facing(sign: str) -> tuple[bool, bool]:
    """Whether a sign says that its left side is the smaller one, and whether they may be equal."""
    return sign in ("<", "≤") or sign.startswith("\\l"), sign in ("≤", "≥") or "e" in sign


def split_top(text: str, separators: tuple[str, ...]) -> list[str]:
    """The text cut at separators that no bracket holds. A bracket that is not closed holds the
    rest."""
    parts, depth, start = [], 0, 0
    for match in _TOKEN.finditer(text):
        token = match.group()
        if token in ("(", "[", "{", "\\{", "\\langle", "\\lfloor", "\\lceil", "\\begin"):
            depth += 1
        elif token in (")", "]", "}", "\\}", "\\rangle", "\\rfloor", "\\rceil", "\\end"):
            depth -= 1
        elif depth == 0 and token in separators:
            parts.append(text[start : match.start()].strip())
            start = match.end()
    return [*parts, text[start:].strip()]


def balanced(text: str) -> bool:
    r"""Whether braces close in order, and round and square brackets do in number; \{ and [1, 2)
    count as they are used."""
    depth = rounds = 0
    for match in _TOKEN.finditer(text):
        token = match.group()
        depth += (token == "{") - (token == "}")
        rounds += (token in ("(", "[", "\\langle", "\\{")) - (
            token in (")", "]", "\\rangle", "\\}")
        )
        if depth < 0:
            return False
    return depth == 0 and rounds == 0


def _bracketed(text: str) -> Structure | None:
    """A pair of brackets around the whole, with at least two parts; or a set with any number."""
    for opening, closing in (
        ("\\{", "\\}"),
        ("\\langle", "\\rangle"),
        ("(", ")"),
        ("[", "]"),
        ("(", "]"),
        ("[", ")"),
        ("]", "["),
        ("[", "["),
        ("]", "]"),
    ):
        if not (text.startswith(opening) and text.endswith(closing)) or len(text) < len(
            opening
        ) + len(closing):
            continue
        inside = text[len(opening) : -len(closing)].strip()
        if not _whole(inside):
            continue
        parts = tuple(split_top(inside, (",", ";")))
        if opening == "\\{":
            if re.search(r"\\mid|\\vert|\||:", inside):
                return None  # {x | ...}
            return Structure("set", tuple(part for part in parts if part))
        if len(parts) < 2 or not all(parts):
            return None
        rows = [_bracketed(part) for part in parts]
        if (
            opening == "["
            and closing == "]"
            and all(r is not None and r.marks == "[]" for r in rows)
        ):
            cells = [r.parts for r in rows if r is not None]
            if len({len(row) for row in cells}) == 1:
                return Structure(
                    "matrix",
                    tuple(c for row in cells for c in row),
                    f"{len(cells)}x{len(cells[0])}",
                )
        # a bracket that is turned away holds its end out: ]0, 1[
        begin = {"\\langle": "(", "]": "("}.get(opening, opening)
        marks = begin + {"\\rangle": ")", "[": ")"}.get(closing, closing)
        return Structure("interval" if len(parts) == 2 else "tuple", parts, marks)
    return None


def _whole(inside: str) -> bool:
    """Whether the brackets around this text belong together: (1, 2) and not (1)(2)."""
    depth = 0
    for match in _TOKEN.finditer(inside):
        token = match.group()
        if token in ("(", "[", "{", "\\{", "\\langle"):
            depth += 1
        elif token in (")", "]", "}", "\\}", "\\rangle"):
            depth -= 1
            if depth < 0:
                return False
    return depth == 0


def _matrix(text: str) -> Structure | None:
    match = _MATRIX.fullmatch(text.strip())
    if match is None or "\\begin" in match["body"]:
        return None
    rows = [
        row.strip()
        for row in re.split(r"\\\\(?:\[[^\]]*\])?|\\cr(?![A-Za-z])", match["body"])
        if row.strip()
    ]
    cells = [[cell.strip() for cell in row.replace("\\hline", "").split("&")] for row in rows]
    if not cells or len({len(row) for row in cells}) > 1:
        return None
    return Structure(
        "matrix", tuple(c for row in cells for c in row), f"{len(cells)}x{len(cells[0])}"
    )
