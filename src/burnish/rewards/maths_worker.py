"""Compares one mathematical answer with the right one: the worker process behind `maths`, and what it runs.

Started as a program; one JSON line in, one out. Here, on the main thread of a process of its own, a comparison that takes
too long can be stopped: an interval timer over the process's CPU time, set when the comparison starts, answers
"verifier-timeout" and ends the process, whatever the library was doing. math-verify's own time-outs stay off.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from typing import Any

_FUNCTIONS = re.compile(r"(?<![\\A-Za-z])(arcsin|arccos|arctan|sin|cos|tan|log|ln|exp|sqrt|pi|infty)(?![A-Za-z])")
_ROOT = re.compile(r"\\sqrt\s*\(([^()]*)\)")
_BASE = re.compile(r"^([0-9A-Fa-f]+)_\{?(\d+)\}?$")
_FEWEST_PLACES, _RELATIVE, _EXACT = 4, 1e-9, 1e-30


def compare(gold: str, answer: str) -> str:
    """ "correct", "wrong", "unparsed" (the answer is no mathematics) or "gold-unparsed"."""
    from math_verify import parse, verify

    bases = _BASE.match(gold.strip()), _BASE.match(answer.strip())
    if bases[0] and bases[1] and bases[0][2] != bases[1][2]:
        return "wrong"
    unlimited: Any = None  # the limit is outside: see `main`
    wanted, found = (
        parse(f"${_latex(text)}$", parsing_timeout=unlimited, raise_on_error=True) for text in (gold, answer)
    )
    if not wanted or isinstance(wanted[0], str):
        return "gold-unparsed"
    if not found or isinstance(found[0], str):
        return "unparsed"
    if _is_number(wanted[0]) and _is_number(found[0]):
        return "correct" if _same_number(wanted[0], found[0], gold, answer) else "wrong"
    if verify(wanted, found, timeout_seconds=None, raise_on_error=True):
        return "correct" if _stands(wanted[0], found[0]) else "wrong"
    return "correct" if _same_set(wanted[0], found[0]) else "wrong"


def _latex(text: str) -> str:
    r"""Bare names of functions as LaTeX's: sqrt(2) as \sqrt{2}."""
    text = _FUNCTIONS.sub(r"\\\1", text.replace("°", "^\\circ").replace("∞", "\\infty").replace("π", "\\pi"))
    return _ROOT.sub(r"\\sqrt{\1}", text).replace("**", "^").replace("%", "\\%")


def _stands(gold: Any, answer: Any) -> bool:
    """A second look at equations that math-verify calls equal: it has been seen to reduce different linear ones to the same 0.
    Theirs are equal if lhs − rhs of one is a constant other than 0 times that of the other."""
    import sympy

    if isinstance(gold, sympy.Eq) and isinstance(answer, sympy.Eq):
        sides: list[Any] = [gold.lhs, gold.rhs, answer.lhs, answer.rhs]
        first, second = sides[0] - sides[1], sides[2] - sides[3]
        if first == 0 or second == 0:
            return first == second
        ratio = sympy.simplify(first / second)
        return bool(ratio.is_constant()) and ratio != 0
    return True


def _is_number(value: Any) -> bool:
    import sympy

    return isinstance(value, sympy.Expr) and not value.free_symbols and bool(value.is_number)


def _same_number(gold: Any, answer: Any, gold_text: str, answer_text: str) -> bool:
    """Equal to 9 digits (30 where no decimal is involved), relative to their size (math-verify rounds absolutely: 1/2004! equals 1/2006! there); or one is a plain decimal of at least four places, the other is none, and it is that one rounded."""
    import sympy

    if gold == answer:
        return True
    if gold.is_infinite or answer.is_infinite:
        return False
    first, second = gold.doit(), answer.doit()
    if first.is_Rational and second.is_Rational and not (gold.has(sympy.Float) or answer.has(sympy.Float)):
        return bool(first == second) or _rounded(first - second, gold_text, answer_text)
    difference = sympy.N(gold - answer, 40)
    size = sympy.N(sympy.Max(sympy.Abs(gold), sympy.Abs(answer)), 40)
    if abs(difference) <= (_RELATIVE if gold.has(sympy.Float) or answer.has(sympy.Float) else _EXACT) * size:
        return True
    return _rounded(difference, gold_text, answer_text)


def _rounded(difference: Any, gold_text: str, answer_text: str) -> bool:
    """Whether just one is a plain decimal, of at least four places, and as near to the other as rounding brings it."""
    shown = re.compile(r"^\s*-?\d*\.(\d+)\s*$")
    places = [len(m[1]) if (m := shown.match(text.replace(",", ""))) else None for text in (gold_text, answer_text)]
    decimal = [p for p in places if p is not None]
    return len(decimal) == 1 and decimal[0] >= _FEWEST_PLACES and abs(difference) * 2 * 10 ** decimal[0] <= 1


def _same_set(gold: Any, answer: Any) -> bool:
    """An inequality in one variable and the interval that solves it: x < 3 and (-oo, 3)."""
    import sympy

    def as_set(value: Any) -> Any:
        if isinstance(value, sympy.Eq) and isinstance(value.rhs, sympy.Set):
            return value.rhs
        if isinstance(value, sympy.Set):
            return value
        is_relation = isinstance(value, sympy.core.relational.Relational | sympy.And | sympy.Or)
        if is_relation and not isinstance(value, sympy.Eq) and len(value.free_symbols) == 1:
            symbol = next(iter(value.free_symbols))
            solved: Any = value.subs(symbol, sympy.Symbol("x", real=True))
            return solved.as_set()
        return None

    try:
        first, second = as_set(gold), as_set(answer)
    except NotImplementedError:
        return False
    return first is not None and second is not None and first == second


def main() -> None:
    """Answer requests until the input ends."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no reply
    import math_verify  # noqa: F401  # paid for before the first request

    compare("1", "2")
    current: list[int] = [0]

    def too_long(*_: object) -> None:
        replies.write(json.dumps({"id": current[0], "verdict": "verifier-timeout"}) + "\n")
        replies.flush()
        os._exit(0)

    signal.signal(signal.SIGPROF, too_long)
    replies.write(json.dumps({"ready": True}) + "\n")
    replies.flush()
    for line in sys.stdin:
        request = json.loads(line)
        current[0] = request["id"]
        signal.setitimer(signal.ITIMER_PROF, request["seconds"])
        try:
            reply = {"verdict": compare(request["gold"], request["answer"])}
        except Exception as error:
            reply = {"verdict": "verifier-error", "why": f"{type(error).__name__}: {error}"[:200]}
        signal.setitimer(signal.ITIMER_PROF, 0)
        replies.write(json.dumps({"id": request["id"], **reply}) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
