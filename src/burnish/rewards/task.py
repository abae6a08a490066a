"""Judges the procedural tasks by their columns: `task`, `answer`, and for countdown `numbers` and
`target`. Pure."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from burnish.errors import UserError
from burnish.records import Prompt
from burnish.rewards.base import Judgement, after_reasoning
from burnish.rewards.cleaning import clean
from burnish.rewards.columns import missing_column
from burnish.rewards.extract import boxed, extract, tagged
from burnish.rewards.maths import gold_answer
from burnish.rewards.numbers import equal, read_number

_OPERATIONS = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
}
_KINDS = ("arithmetic", "countdown", "sorting", "edits")


class TaskReward:
    """1 for a solved task, else 0; `partial` gives lists and texts the share of places that are
    right."""

    name = "task"

    def __init__(self, *, partial: bool = False) -> None:
        self._partial = partial

    def __call__(self, completions: Sequence[str], **columns: Any) -> list[float | None]:
        """The values; None for a prompt that is no procedural task."""
        return [j.value for j in self.judge(completions, **columns)]

    def judge(self, completions: Sequence[str], **columns: Any) -> list[Judgement]:
        """Values with the verdicts correct, wrong and unparsed."""
        kinds = columns.get("task")
        if kinds is None:
            hint = (
                "Use prompts `task:arithmetic`, or the reward maths for an answer of another"
                " source."
            )
            raise UserError(
                'the task reward needs the column "task", which no prompt has.', hint=hint
            )
        rows = [
            {name: values[i] for name, values in columns.items() if isinstance(values, list)}
            for i in range(len(kinds))
        ]
        return [self._one(text, row) for text, row in zip(completions, rows, strict=True)]

    def applies_to(self, prompt: Prompt) -> bool:
        """Whether the prompt is a procedural task."""
        return prompt.columns.get("task") is not None

    def why_not(self, prompts: Sequence[Prompt]) -> str:
        """Why it applies to none of these."""
        return str(missing_column(self.name, "task", prompts))

    def _one(self, text: str, row: dict[str, Any]) -> Judgement:
        kind = row["task"]
        if kind is None:
            return Judgement(None)
        if kind not in _KINDS:
            raise UserError(
                f'the task reward does not know the task "{kind}"; it knows {", ".join(_KINDS)}.',
                field="task",
            )
        text = after_reasoning(text)
        if kind == "arithmetic":
            found = extract(text)
            return _told(
                None if found is None else _number_value(found.text, gold_answer(row["answer"]))
            )
        given = given_text(text)
        if not given:
            return _told(None)
        if kind == "countdown":
            return _told(countdown_value(given, numbers=row["numbers"], target=row["target"]))
        return _told(
            text_value(given, str(row["answer"]), listed=kind == "sorting", partial=self._partial)
        )


def given_text(text: str) -> str:
    r"""The answer of a task whose answer is no number: \boxed{}, <answer>, behind the last
    "Answer:", else the last line."""
    found = boxed(text)
    if found is not None:
        return clean(found)
    inside = tagged(text)
    if inside is not None:
        return inside.strip()
    lines = [line for line in text.strip().splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    return re.split(r"answer\s*+(?:is\s*+)?:", last, flags=re.IGNORECASE)[-1].strip().strip("`")


def countdown_value(text: str, *, numbers: Sequence[int], target: int) -> float | None:
    """1 if the expression uses each of the numbers exactly once, with + − × ÷ and brackets, and has
    the value; else 0.

    None where it is no such expression. An "= target" behind it is read over. Division is exact.
    """
    left = (
        text.replace("×", "*")
        .replace("÷", "/")
        .replace("−", "-")
        .replace("\\times", "*")
        .replace("\\div", "/")
    )
    left = left.split("=")[0].strip()
    if (
        len(left) > 200
        or not re.fullmatch(r"[\d\s+\-*/().]+", left)
        or "**" in left
        or "//" in left
    ):
        return None
    try:
        tree = ast.parse(left, mode="eval").body
        used: list[int] = []
        value = _evaluate(tree, used)
    except (SyntaxError, ValueError, RecursionError):
        return None
    except ZeroDivisionError:
        return 0.0
    return float(Counter(used) == Counter(numbers) and value == target)


def text_value(given: str, answer: str, *, listed: bool, partial: bool) -> float:
    """1 if it is the answer (items of a list apart from brackets and spaces; text apart from
    quotes), else 0 or, `partial`, the share of the places of the longer of the two at which they
    agree."""
    if listed:
        found, wanted = (
            tuple(re.split(r"[\s,;]+", t.strip("[]() \t").strip())) for t in (given, answer)
        )
    else:
        found, wanted = tuple(given.strip("\"'“”` ")), tuple(answer)
    if found == wanted or not partial:
        return float(found == wanted)
    return sum(a == b for a, b in zip(found, wanted, strict=False)) / max(len(found), len(wanted))


def _number_value(given: str, answer: str) -> float | None:
    found, wanted = read_number(clean(given)), read_number(clean(answer))
    return None if found is None or wanted is None else float(equal(wanted, found))


def _evaluate(node: ast.expr, used: list[int]) -> Fraction:
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        return _OPERATIONS[type(node.op)](_evaluate(node.left, used), _evaluate(node.right, used))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_evaluate(node.operand, used)
    if isinstance(node, ast.Constant) and type(node.value) is int:
        used.append(node.value)
        return Fraction(node.value)
    raise ValueError("no expression of the game")


def _told(value: float | None) -> Judgement:
    if value is None:
        return Judgement(0.0, "unparsed")
    return Judgement(value, "correct" if value == 1.0 else "wrong")
