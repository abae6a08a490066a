"""A calculator as a tool: questions whose answer is a number, worked out by calling it."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from fractions import Fraction

from burnish.environments.base import ToolEnvironment

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_OPERATIONS: dict[type, Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_LONGEST, _LARGEST = 200, 10**30


class Calculator(ToolEnvironment):
    """Pays 1 if the last number of the last turn is the prompt's column `answer`, else 0."""

    def calculator(self, expression: str) -> str:
        """Work out an arithmetic expression such as 12*(3+4)."""
        return evaluate(expression)

    def score(self, text: str) -> float:
        """1 for the right number."""
        found = _NUMBER.findall(text)
        wanted = str(self.prompt.columns.get("answer", "")).replace(",", "").strip()
        if not found or not wanted:
            return 0.0
        try:
            return float(Fraction(found[-1].replace(",", "")) == Fraction(wanted))
        except (ValueError, ZeroDivisionError):
            return 0.0


def evaluate(expression: str) -> str:
    """The value of + − * / and brackets over numbers, exactly; what is wrong with anything else, in
    words."""
    if len(expression) > _LONGEST:
        return f"error: an expression has at most {_LONGEST} characters"
    try:
        value = _value(ast.parse(expression.strip(), mode="eval").body)
    except ZeroDivisionError:
        return "error: division by zero"
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "error: only numbers, + - * / and brackets"
    if value.denominator == 1:
        return str(value.numerator)
    return f"{float(value):.10g}"


def _value(node: ast.expr) -> Fraction:
    if (
        isinstance(node, ast.Constant)
        and isinstance(node.value, int | float)
        and not isinstance(node.value, bool)
    ):
        return _bounded(Fraction(str(node.value)))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd | ast.USub):
        value = _value(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        return _bounded(_OPERATIONS[type(node.op)](_value(node.left), _value(node.right)))
    raise ValueError("not arithmetic")


def _bounded(value: Fraction) -> Fraction:
    if abs(value.numerator) > _LARGEST or value.denominator > _LARGEST:
        raise ValueError("too large")
    return value
