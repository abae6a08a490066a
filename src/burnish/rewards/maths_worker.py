"""Compares one mathematical answer with the right one: the worker process behind `maths`, and what
it runs.

Started as a program; one JSON line in, one or more out. Here, on the main thread of a process of
its own, a comparison that takes too long is stopped by the kernel: an interval timer over the
process's CPU time, set when the comparison starts, ends the process with SIGPROF, whatever the
library was doing. math-verify's own time-outs are not used.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import sys
from typing import Any

from burnish.rewards.expressions import (
    Unreadable,
    exercise,
    parse,
    same,
    same_interval_union,
    worked_out,
)
from burnish.rewards.forms import read_form, same_form
from burnish.rewards.numbers import equal, plainly, read_number
from burnish.rewards.structures import Structure, inequalities, read_structure

_BASE = re.compile(r"^([0-9A-Fa-f]+)\s*_\{?(?:\\?text\s?\{)?(\d+)\}?$")
_ASSIGNED = re.compile(r"^(\\?[A-Za-z](?:_\w)?)\s*=\s*(?=[^=<>]*$)")
_MEMORY = 4 << 30  # bytes of address space: a number that fills the machine is no answer
_DEEPEST = 4
_MOST_PARTS = 60


def compare(gold: str, answer: str) -> str:
    """ "correct", "wrong", "unparsed" (the answer is no mathematics) or "gold-unparsed"."""
    try:
        return "correct" if _same(gold, answer, 0) else "wrong"
    except _GoldUnreadable:
        return "gold-unparsed"
    except Unreadable:
        return "unparsed"


def readable(gold: str) -> bool:
    """Whether a right answer can be compared with anything."""
    try:
        _same(gold, gold, 0, shortcut=False)
    except (_GoldUnreadable, Unreadable):
        return False
    return True


class _GoldUnreadable(Exception):
    """The right answer is no mathematics."""


def _same(gold: str, answer: str, depth: int, *, shortcut: bool = True) -> bool:
    """Whether two texts are equal, by their outer shapes first."""
    if shortcut and _bare(gold) == _bare(answer):
        return True
    if depth > _DEEPEST:
        raise Unreadable("nested too deeply")
    numbers = read_number(gold), read_number(answer)
    if numbers[0] is not None and numbers[1] is not None:
        return equal(numbers[0], numbers[1])
    gold, answer = (
        plainly(text, number) for text, number in zip((gold, answer), numbers, strict=True)
    )
    forms = read_form(gold), read_form(answer)
    if forms[0] is not None or forms[1] is not None:
        return forms[0] is not None and forms[1] is not None and same_form(forms[0], forms[1])
    bases = _BASE.match(gold.strip()), _BASE.match(answer.strip())
    if bases[0] or bases[1]:
        return _same_based(bases[0], bases[1])
    first, second = read_structure(gold), read_structure(answer)
    if first is not None or second is not None:
        return _same_structure(first, second, gold, answer, depth)
    if not shortcut:
        exercise(_gold(gold))
        return True
    return same(_gold(gold), parse(answer), gold, answer)


def _gold(text: str) -> Any:
    try:
        return parse(text)
    except Unreadable as error:
        raise _GoldUnreadable(str(error)) from error


def _bare(text: str) -> str:
    return re.sub(r"\s+", "", text)


def _same_based(gold: re.Match[str] | None, answer: re.Match[str] | None) -> bool:
    """Numerals of a stated base, such as 101_2: same base, same digits."""
    if gold is None or answer is None:
        return False
    return (
        gold[2] == answer[2] and gold[1].lstrip("0").casefold() == answer[1].lstrip("0").casefold()
    )


def _same_structure(
    a: Structure | None, b: Structure | None, gold: str, answer: str, depth: int
) -> bool:
    """Shapes part by part, by these rules:

    - tuples, intervals and matrices: brackets and order count; a column or row of a matrix is also
      a tuple;
    - sets and lists: neither order nor repetition counts, and braces may be missing;
    - a tuple of at least three without its brackets, or as "x = 1, y = 2" in the order of the
      letters, is the same tuple;
    - unions of intervals are compared as sets of numbers, and with inequalities in one variable,
      also with those that "or" joins.
    """
    shapes = {a.shape if a else None, b.shape if b else None}
    if max(len(s.parts) for s in (a, b) if s is not None) > _MOST_PARTS:
        raise Unreadable("too many parts")
    if a is not None and b is not None:
        if shapes <= {"set", "list"}:
            return _same_members(a.parts, b.parts, depth)
        if "list" in shapes and shapes & {"interval", "union"}:
            a, b = (inequalities(text) or one for one, text in ((a, gold), (b, answer)))
            shapes = {a.shape, b.shape}
        if shapes <= {"interval", "union"} and "union" in shapes:
            return same_interval_union(_pieces(a, gold=True), _pieces(b, gold=False))
        if shapes == {"matrix", "tuple"} or shapes == {"matrix", "interval"}:
            flat = a if a.shape == "matrix" else b
            other = b if flat is a else a
            return (
                other.marks == "()"
                and "1" in flat.marks.split("x")
                and _all_same(a.parts, b.parts, depth)
            )
        if "list" in shapes and shapes & {"tuple", "interval"}:
            return _tuple_as_list(a, b, depth)
        return a.shape == b.shape and a.marks == b.marks and _all_same(a.parts, b.parts, depth)
    structure, text, other_is_gold = (a, answer, False) if a is not None else (b, gold, True)
    assert structure is not None
    if (
        structure.shape in ("set", "list")
        and len(set(structure.parts)) == 1
        and structure.parts[0] != "\\emptyset"
    ):
        pair = (gold, structure.parts[0]) if other_is_gold else (structure.parts[0], answer)
        return _same(*pair, depth + 1)
    if structure.shape in ("interval", "union"):
        return _interval_and_relation(structure, text, other_is_gold)
    if structure.shape == "set" and not structure.parts:
        return text.strip().rstrip("}").lstrip("{") in (
            "\\emptyset",
            "no solution",
            "no solutions",
            "none",
        )
    _readable_parts(a, gold=True)
    _readable_parts(b, gold=False)
    return False


def _readable_parts(structure: Structure | None, *, gold: bool) -> None:
    for part in structure.parts if structure is not None else ():
        if read_number(part) is None and read_structure(part) is None and read_form(part) is None:
            (_gold if gold else parse)(part)


def _all_same(a: tuple[str, ...], b: tuple[str, ...], depth: int) -> bool:
    return len(a) == len(b) and all(_same(x, y, depth + 1) for x, y in zip(a, b, strict=True))


def _same_members(a: tuple[str, ...], b: tuple[str, ...], depth: int) -> bool:
    """As sets: every part of one has its like in the other."""
    a, b = _without_common_name(a), _without_common_name(b)
    if not a or not b:
        return not a and not b
    alike = [[_same_or_unreadable(x, y, depth) for y in b] for x in a]
    return all(any(row) for row in alike) and all(
        any(row[n] for row in alike) for n in range(len(b))
    )


def _same_or_unreadable(gold: str, answer: str, depth: int) -> bool:
    try:
        return _same(gold, answer, depth + 1)
    except Unreadable:
        return False


def _without_common_name(parts: tuple[str, ...]) -> tuple[str, ...]:
    """x = 1, x = 2 as 1, 2; and x = 1, 2 as well. Different letters stay: x = 1, y = 2."""
    names = [m[1] if (m := _ASSIGNED.match(part)) else None for part in parts]
    known = {name for name in names if name is not None}
    if len(known) == 1 and (all(names) or (names[0] is not None and not any(names[1:]))):
        return tuple(_ASSIGNED.sub("", part) for part in parts)
    return parts


def _tuple_as_list(a: Structure, b: Structure, depth: int) -> bool:
    listed, ordered = (a, b) if a.shape == "list" else (b, a)
    if ordered.marks != "()":
        return False
    names = [m[1] if (m := _ASSIGNED.match(part)) else None for part in listed.parts]
    if all(names) and len(set(names)) == len(names):
        if names != sorted(names, key=str):
            return False
        bare = tuple(_ASSIGNED.sub("", part) for part in listed.parts)
        return _all_same(bare, b.parts, depth) if listed is a else _all_same(a.parts, bare, depth)
    return len(listed.parts) > 2 and not any(names) and _all_same(a.parts, b.parts, depth)


def _pieces(structure: Structure, *, gold: bool) -> list[tuple[Any, Any, str]]:
    """The intervals of a union as (end, end, brackets); a set inside is not known here."""
    read = _gold if gold else parse
    pieces: list[tuple[Any, Any, str]] = []
    for part in structure.parts if structure.shape == "union" else (None,):
        one = structure if part is None else read_structure(part)
        if one is None or one.shape != "interval":
            raise _GoldUnreadable("no interval") if gold else Unreadable("no interval")
        low, high = (worked_out(read(end)) for end in one.parts)
        pieces.append((low, high, one.marks))
    return pieces


def _interval_and_relation(structure: Structure, text: str, other_is_gold: bool) -> bool:
    """An interval or union beside a text of another shape: the same set only where that is an
    inequality."""
    import sympy

    pieces = _pieces(structure, gold=not other_is_gold)
    relation = (_gold if other_is_gold else parse)(text)
    proper = all(
        low.is_extended_real and high.is_extended_real and bool(low < high)
        for low, high, _ in pieces
    )
    if not proper:
        return False
    whole = sympy.Union(
        *(sympy.Interval(low, high, m[0] == "(", m[1] == ")") for low, high, m in pieces)
    )
    return (
        same(whole, relation, "", "") if other_is_gold is False else same(relation, whole, "", "")
    )


def main() -> None:
    """Answer requests until the input ends."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no reply
    import latex2sympy2_extended  # noqa: F401  # paid for before the first request

    compare("\\frac{x}{2}+1", "1+x/2")
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    replies.write(json.dumps({"ready": True}) + "\n")
    replies.flush()
    for line in sys.stdin:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, request["seconds"])
        try:
            if request["answer"] is None:
                reply = {"verdict": "correct" if readable(request["gold"]) else "gold-unparsed"}
            else:
                reply = {"verdict": compare(request["gold"], request["answer"])}
        except Exception as error:
            reply = {"verdict": "verifier-error", "why": f"{type(error).__name__}: {error}"[:200]}
        signal.setitimer(signal.ITIMER_PROF, 0)
        replies.write(json.dumps({"id": request["id"], **reply}) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
