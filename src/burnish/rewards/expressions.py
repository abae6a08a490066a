r"""One mathematical expression, equation or inequality against another, by sympy. Runs in the
worker of `maths` only.

latex2sympy reads the whole of a text or nothing: there is no search for something readable inside.
Two expressions are equal where their difference is 0 at fixed points, to 25 digits; simplification
decides where they have no value at enough of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from burnish.rewards.structures import balanced

LONGEST_EXPRESSION = 1000
_FUNCTIONS = (
    r"arcsin|arccos|arctan|arcsinh|arccosh|arctanh|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt|pi|infty|infinity|gcd|lcm|min|max|"
    r"theta|alpha|beta|gamma|lambda|omega|sigma|phi"
)
_BARE_FUNCTION = re.compile(rf"(?<![\\A-Za-z])({_FUNCTIONS})(?![A-Za-z])")
_ROOT = re.compile(r"\\sqrt\s*\(([^()]*)\)")
_WORD = re.compile(
    r"(?<![\\A-Za-z{])[A-Za-z]{4,}|(?<![\\A-Za-z])(?:or|and|if|is|the|not|for|all|no|any|yes)(?![A-Za-z])"
)
_STRANGE = re.compile(r"[?@#~\"`:;–—]|\\ldots|\\equiv|mod|\\boxed|\\begin")
_SIGN_RUN = re.compile(r"[-+]\s*[-+]\s*[-+]")
_POINTS = ("0.7182", "1.3391", "2.2360", "0.3127", "3.6055", "1.9017", "2.7411", "0.5773")
_NEGATIVE = ("-1.2247", "0.8409", "-0.4142", "-2.6457", "1.1547", "-3.3166", "0.2247", "-1.7783")
_WHOLE = ("3", "4", "2", "5", "7", "6", "9", "8")
_DIGITS, _RELATIVE, _EXACT, _FEWEST_PLACES = 40, 1e-9, 1e-25, 4
_MOST_DIGITS = 3000
_DECIMAL = re.compile(r"^\s*-?\d*\.(\d+)\s*$")


class Unreadable(Exception):
    """The text is no mathematics that can be compared."""


def parse(text: str) -> Any:
    """The sympy object that the whole text writes. Raises Unreadable."""
    if len(text) > LONGEST_EXPRESSION or not balanced(text):
        raise Unreadable("too long, or its brackets do not close")
    text = _ROOT.sub(r"\\sqrt{\1}", _BARE_FUNCTION.sub(r"\\\1", text.replace("**", "^"))).replace(
        "°", "^\\circ "
    )
    text = re.sub(r"\\infinity(?![A-Za-z])", r"\\infty", text).replace("%", "\\%")
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    if _STRANGE.search(text) or _WORD.search(text) or _SIGN_RUN.search(text) or not text.strip():
        raise Unreadable("not an expression")
    value = _by_grammar(text)
    if value is None or isinstance(value, (str, bool)):
        raise Unreadable("not an expression")
    if _has_no_value(value):
        raise Unreadable("it has no value")
    if _magnitude(value) > _MOST_DIGITS:
        raise Unreadable("too large to be compared")
    return value


def same(gold: Any, answer: Any, gold_text: str, answer_text: str) -> bool:
    """Whether two parsed objects are equal. The texts say how many decimals were written."""
    import sympy

    gold, answer = _without_name(gold, answer), _without_name(answer, gold)
    if gold == answer:
        return True
    if isinstance(gold, sympy.Expr) and isinstance(answer, sympy.Expr):
        if not gold.free_symbols and not answer.free_symbols:
            return _same_number(gold, answer, gold_text, answer_text)
        return _same_function(gold, answer)
    if _is_relation(gold) and _is_relation(answer):
        return _same_relation(gold, answer) or _same_set(gold, answer)
    return _same_set(gold, answer)


def exercise(gold: Any) -> None:
    """The work of a comparison on a right answer alone, to see whether it ends."""
    import sympy

    if isinstance(gold, sympy.Expr):
        same(gold, gold + 1, "", "")


def same_interval_union(
    gold: Sequence[tuple[Any, Any, str]], answer: Sequence[tuple[Any, Any, str]]
) -> bool:
    """Whether two unions of intervals (end, end, brackets) hold the same numbers. Unlike `sympy`,
    empty ones are refused."""
    import sympy

    unions = []
    for pieces in (gold, answer):
        made = []
        for low, high, marks in pieces:
            if not (low.is_extended_real and high.is_extended_real) or bool(low >= high):
                return False
            made.append(sympy.Interval(low, high, marks[0] == "(", marks[1] == ")"))
        unions.append(sympy.Union(*made))
    return bool(unions[0] == unions[1])


def _by_grammar(text: str) -> Any:
    import sympy
    from latex2sympy2_extended import latex2sympy
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig
    from latex2sympy2_extended.math_normalization import NormalizationConfig

    normalization = NormalizationConfig(basic_latex=True, malformed_operators=True, boxed="none")
    try:
        value: Any = latex2sympy(
            text,
            is_real=True,
            normalization_config=normalization,
            conversion_config=ConversionConfig(lowercase_symbols=False),
        )
    except MemoryError:
        raise
    except Exception as error:  # whatever the grammar stumbles over
        raise Unreadable(type(error).__name__) from error
    if isinstance(value, sympy.Basic):
        imaginary: Any = {symbol: sympy.I for symbol in value.free_symbols if str(symbol) == "i"}
        return value.subs(imaginary) if imaginary else value
    return value


def _has_no_value(value: Any) -> bool:
    import sympy

    return isinstance(value, sympy.Basic) and value.has(sympy.zoo, sympy.nan)


def _magnitude(value: Any) -> float:
    """About how many digits the largest number inside has; infinite for towers of powers."""
    import math

    import sympy

    def digits(node: Any) -> float:
        if isinstance(node, sympy.Number):
            return float(len(str(abs(node.p)))) if isinstance(node, sympy.Rational) else 1.0
        inside = [digits(arg) for arg in node.args] if isinstance(node, sympy.Basic) else []
        if isinstance(node, sympy.Pow) and len(inside) == 2:
            base, exponent = inside
            if not node.exp.is_number:
                return base + exponent
            size = (
                10.0 ** min(exponent, 300.0)
                if not isinstance(node.exp, sympy.Integer)
                else float(min(abs(node.exp.p), 10**300))
            )
            return max(1.0, base * size) if node.base.is_number or size > 1000 else base + exponent
        if isinstance(node, sympy.factorial) and inside:
            number = (
                10.0 ** min(inside[0], 300.0)
                if not isinstance(node.args[0], sympy.Integer)
                else float(min(node.args[0].p, 10**300))
            )
            return number * max(1.0, math.log10(max(number, 1.0)))
        if isinstance(node, (sympy.binomial, sympy.gamma)) and inside:
            return 10.0 ** min(max(inside), 300.0)
        if isinstance(node, sympy.Mul):
            return sum(inside)
        return max(inside, default=1.0)

    try:
        return digits(value)
    except (OverflowError, RecursionError):
        return math.inf


def _without_name(value: Any, other: Any) -> Any:
    """y = 2x + 1 as 2x + 1, where the other one is no equation."""
    import sympy

    if isinstance(value, sympy.Eq) and isinstance(other, sympy.Expr):
        left: Any = value.lhs
        named = isinstance(left, sympy.Symbol | sympy.core.function.AppliedUndef)
        if named and isinstance(value.rhs, sympy.Expr) and left not in value.rhs.free_symbols:
            return value.rhs
    return value


def _same_number(gold: Any, answer: Any, gold_text: str, answer_text: str) -> bool:
    """Equal to 9 digits (25 where no decimal is involved), relative to their size; or one is a
    plain decimal of at least four places, the other is none, and it is that one rounded."""
    import sympy

    gold, answer = _as_written(gold, gold_text), _as_written(answer, answer_text)
    first, second = gold.doit(), answer.doit()
    if first.is_infinite or second.is_infinite:
        return bool(first == second)
    floats = gold.has(sympy.Float) or answer.has(sympy.Float)
    if first.is_Rational and second.is_Rational and not floats:
        return bool(first == second) or _rounded(first - second, gold_text, answer_text)
    difference = sympy.N(first - second, _DIGITS)
    # not as a float, which may overflow
    size = max(sympy.Abs(sympy.N(value, 20)) for value in (first, second))
    if not difference.is_number or difference.has(sympy.nan, sympy.zoo) or not size.is_finite:
        return False
    if size == 0 or abs(difference) <= (_RELATIVE if floats else _EXACT) * size:
        return True
    return _rounded(difference, gold_text, answer_text)


def _as_written(value: Any, text: str) -> Any:
    """A plain decimal by all the digits that were written, others as they are."""
    import sympy

    return sympy.Rational(text.strip()) if _DECIMAL.match(text) else value


def _rounded(difference: Any, gold_text: str, answer_text: str) -> bool:
    """Whether just one is a plain decimal, of at least four places, and as near to the other as
    rounding brings it."""
    places = [
        len(m[1]) if (m := _DECIMAL.match(text.replace(",", ""))) else None
        for text in (gold_text, answer_text)
    ]
    decimal = [p for p in places if p is not None]
    return (
        len(decimal) == 1
        and decimal[0] >= _FEWEST_PLACES
        and abs(difference) * 2 * 10 ** decimal[0] <= 1
    )


def _same_function(gold: Any, answer: Any) -> bool:
    """Whether two expressions with letters agree at every point at which both have a real value."""
    import sympy

    first, second = _done(gold), _done(answer)
    if first == second:
        return True
    if first.atoms(sympy.core.function.AppliedUndef) or second.atoms(
        sympy.core.function.AppliedUndef
    ):
        return bool(sympy.simplify(first - second) == 0)
    compared = 0
    for left, right in _values(first, second):
        if abs(left - right) > 1e-12 * max(1e-30, abs(left), abs(right)):
            return False
        compared += 1
    return compared >= 3 or bool(sympy.simplify(first - second) == 0)


def _done(value: Any) -> Any:
    """Sums, integrals, derivatives and limits carried out, where sympy can."""
    import sympy

    if value.has(sympy.Sum, sympy.Product, sympy.Integral, sympy.Derivative, sympy.Limit):
        return value.doit()
    return value


def _values(*expressions: Any) -> Iterable[tuple[Any, ...]]:
    """The values of expressions at fixed points of their letters, where all are real (or, of
    complex ones, finite)."""
    import sympy

    symbols = sorted({s for e in expressions for s in e.free_symbols}, key=str)
    is_complex = any(e.has(sympy.I) for e in expressions)
    for table in (_POINTS, _NEGATIVE, _WHOLE):
        for shift in range(4):
            point = {
                symbol: (
                    sympy.Float(table[(n + 3 * shift) % len(table)], _DIGITS) + (n // len(table))
                )
                for n, symbol in enumerate(symbols)
            }
            if table is _WHOLE:
                point = {symbol: sympy.Integer(int(value)) for symbol, value in point.items()}
            try:
                found = tuple(sympy.N(e.subs(point), 25) for e in expressions)
            except (TypeError, ValueError, ZeroDivisionError, ArithmeticError):
                continue
            if all(_finite(value, is_complex) for value in found):
                yield found


def _finite(value: Any, is_complex: bool) -> bool:
    import sympy

    if (
        not isinstance(value, sympy.Expr)
        or not value.is_number
        or value.has(sympy.nan, sympy.zoo, sympy.oo)
    ):
        return False
    try:
        number = complex(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return abs(number) < 1e30 and (is_complex or abs(number.imag) <= 1e-20 * max(1.0, abs(number)))


def _is_relation(value: Any) -> bool:
    import sympy

    return isinstance(value, sympy.core.relational.Relational | sympy.And | sympy.Or)


def _same_relation(gold: Any, answer: Any) -> bool:
    """Equations and inequalities: left minus right of one is a constant other than 0 times that of
    the other, and the sign of the constant fits the direction. Chains are compared link by link."""
    import sympy

    if isinstance(gold, sympy.And) and isinstance(answer, sympy.And):
        left, right = list(gold.args), list(answer.args)
        if len(left) != len(right) or not all(_is_relation(part) for part in (*left, *right)):
            return False
        for part in left:
            match = next((other for other in right if _same_relation(part, other)), None)
            if match is None:
                return False
            right.remove(match)
        return True
    if not all(isinstance(value, sympy.core.relational.Relational) for value in (gold, answer)):
        return False
    (first, kind), (second, other) = _one_sided(gold), _one_sided(answer)
    if first is None or second is None or kind != other:
        return False
    if first == 0 or second == 0:
        return bool(first == second)
    ratios = []
    for a, b in _values(first, second):
        if abs(b) < 1e-20 or abs(a) < 1e-20:
            if abs(a) > 1e-15 or abs(b) > 1e-15:
                return False
            continue
        ratios.append(a / b)
    if len(ratios) < 2:
        ratio = sympy.simplify(first / second)
        return bool(ratio.is_constant()) and ratio != 0 and (kind in ("=", "≠") or bool(ratio > 0))
    if any(abs(r - ratios[0]) > 1e-12 * abs(ratios[0]) for r in ratios):
        return False
    return kind in ("=", "≠") or (ratios[0].is_real and bool(ratios[0] > 0))


def _one_sided(relation: Any) -> tuple[Any, str]:
    """(left − right, kind), inequalities turned so that the kind is ">" or "≥"; (None, "") where
    the sides are no expressions."""
    import sympy

    left, right = relation.lhs, relation.rhs
    if not isinstance(left, sympy.Expr) or not isinstance(right, sympy.Expr):
        return None, ""
    kinds = {
        sympy.Eq: "=", sympy.Ne: "≠", sympy.StrictGreaterThan: ">", sympy.GreaterThan: "≥",
        sympy.StrictLessThan: "<", sympy.LessThan: "≤",
    }  # fmt: skip
    kind = kinds.get(type(relation), "")
    if kind in ("<", "≤"):
        return right - left, {"<": ">", "≤": "≥"}[kind]
    return (left - right, kind) if kind else (None, "")


def worked_out(value: Any) -> Any:
    """What the grammar left standing (7/3 over 1/3, 1.50) as one exact number: sets are compared by
    their ends."""
    import sympy

    done = value.doit()
    return sympy.nsimplify(done, rational=True) if done.has(sympy.Float) else done


def _same_set(gold: Any, answer: Any) -> bool:
    """An inequality in one variable and the interval that solves it: x < 3 and (-oo, 3)."""
    import sympy

    def as_set(value: Any) -> Any:
        if isinstance(value, sympy.Eq) and isinstance(value.rhs, sympy.Set):
            return value.rhs
        if isinstance(value, sympy.Set):
            return value
        if _is_relation(value) and not isinstance(value, sympy.Eq) and len(value.free_symbols) == 1:
            symbol = next(iter(value.free_symbols))
            real = sympy.Symbol("x", real=True)
            if isinstance(value, sympy.And):
                links: Any = [part.subs(symbol, real) for part in value.args]
                return sympy.And(*links).as_set()
            return value.subs(symbol, real).as_set()
        return None

    try:
        first, second = as_set(worked_out(gold)), as_set(worked_out(answer))
    except (NotImplementedError, AttributeError, TypeError, ValueError):
        return False
    if first is None or second is None:
        return False
    return bool(first == second) and (first != sympy.EmptySet or _plainly_empty(gold, answer))


def _plainly_empty(gold: Any, answer: Any) -> bool:
    import sympy

    return gold == sympy.EmptySet and answer == sympy.EmptySet
