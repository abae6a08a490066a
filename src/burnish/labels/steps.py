"""The steps of an answer, and what verdicts on each of them come to: labels for process reward
models (Let's Verify Step by Step, arXiv:2305.20050; Math-Shepherd, arXiv:2312.08935)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from burnish.labels.soft import UNHEARD, vote_weight
from burnish.labels.traces import turn_text
from burnish.records import Message, Opinion

MOST_STEPS = 500
"""Of an answer; the last of so many holds the rest."""
RIGHT, NEUTRAL, WRONG = 1, 0, -1
"""The verdicts, numbered as PRM800K's ratings are."""

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_DISPLAYED = (("$$", "$$"), (r"\[", r"\]"))


def steps_of(text: str, turns: Sequence[Message] | None = None) -> tuple[str, ...]:
    """The steps of an answer: its paragraphs, or, where there is one alone, its lines; code in
    fences and displayed formulas stay whole.

    Of an answer that calls tools (`turns`), each of the assistant's turns is a step, together with
    what the tools returned. None are empty, and there are at most `MOST_STEPS`.
    """
    found = _turns(turns) if turns else (_cut(text, by_line=False) or [])
    if not turns and len(found) == 1:
        found = _cut(text, by_line=True)
    if len(found) > MOST_STEPS:
        found = [*found[: MOST_STEPS - 1], "\n\n".join(found[MOST_STEPS - 1 :])]
    return tuple(found)


def turns_of(turns: Sequence[Message]) -> list[list[Message]]:
    """The turns of an answer by step: each of the assistant's with those of tools that follow."""
    found: list[list[Message]] = []
    for turn in turns:
        if turn["role"] == "assistant" or not found:
            found.append([])
        found[-1].append(turn)
    if len(found) > MOST_STEPS:
        rest = [turn for step in found[MOST_STEPS - 1 :] for turn in step]
        found = [*found[: MOST_STEPS - 1], rest]
    return found


class Rating(NamedTuple):
    """What the verdicts on a step come to: their `mean` (1 right, 0 neutral, −1 wrong), and whether
    they are `decided`: somebody marked the step, and right and wrong do not weigh the same."""

    mean: float
    decided: bool


def ratings_in(
    opinions: Sequence[Opinion], candidate: int, reliability: Mapping[str, float] | None = None
) -> tuple[Rating, ...] | None:
    """The rating of each step of a candidate, over annotators, each weighted as their votes are
    (`soft.vote_weight`); None where nobody marked any.

    A reviewer's decision that has verdicts counts alone.
    """
    given = [(said, _row(said, candidate)) for said in opinions]
    marked = [(said, row) for said, row in given if any(v is not None for v in row)]
    counting = [one for one in marked if one[0].source == "adjudication"] or marked
    count = max((len(row) for _, row in counting), default=0)
    if not count or any(len(row) != count for _, row in counting):
        return None
    weights = [
        1.0 if reliability is None else vote_weight(reliability.get(said.annotator, UNHEARD))
        for said, _ in counting
    ]
    rows = [row for _, row in counting]
    return tuple(_rating([row[at] for row in rows], weights) for at in range(count))


def _rating(verdicts: Sequence[int | None], weights: Sequence[float]) -> Rating:
    known = [(w, v) for w, v in zip(weights, verdicts, strict=True) if v is not None]
    if not known:
        return Rating(0.0, decided=False)
    right, wrong = (math.fsum(w for w, v in known if v == side) for side in (RIGHT, WRONG))
    mean = (right - wrong) / math.fsum(w for w, _ in known)
    return Rating(mean, decided=right != wrong or not right)


def _row(said: Opinion, candidate: int) -> Sequence[int | None]:
    rows = said.payload.get("step_verdicts") or ()
    return rows[candidate] if candidate < len(rows) else ()


def _turns(turns: Sequence[Message]) -> list[str]:
    texts = ("\n\n".join(filter(None, map(turn_text, step))) for step in turns_of(turns))
    return [text for text in texts if text.strip()] if turns else []


def _cut(text: str, *, by_line: bool) -> list[str]:
    found: list[list[str]] = [[]]
    closing = ""
    for line in text.splitlines():
        if closing:
            found[-1].append(line)
            if _closes(line, closing):
                closing = ""
                if by_line:
                    found.append([])
            continue
        if not line.strip():
            found.append([])
            continue
        closing = _opens(line)
        found[-1].append(line)
        if by_line and not closing:
            found.append([])
    return [step for lines in found if (step := "\n".join(lines)).strip()]


def _opens(line: str) -> str:
    """What closes the code or the formula that begins on a line; "" where none does, or it ends
    there."""
    fence = _FENCE.match(line)
    if fence is not None:
        return fence[1]
    start = line.strip()
    for opening, closing in _DISPLAYED:
        if start.startswith(opening) and closing not in start[2:]:
            return closing
    return ""


def _closes(line: str, closing: str) -> bool:
    if closing[0] in "`~":
        return line.strip().startswith(closing) and not line.strip().strip(closing[0])
    return closing in line
