"""How fast, at what price, and whether still as carefully as on the first day: speeders, gold
items, drift, progress."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from statistics import NormalDist, median
from typing import Any

import numpy as np

from burnish.annotation.statistics.bias import wilson

SPEEDING = 0.3
"""A speeder's median answer takes less than this share of the time the project's annotators need
for as many words."""
_LEAST = 5
"""Timed answers under which nobody is called a speeder."""


@dataclass(frozen=True, slots=True)
class Timed:
    """An answer with the time it took: `seconds` over `words` shown, on `day`."""

    annotator: str
    seconds: float
    words: int
    day: date


@dataclass(frozen=True, slots=True)
class Speed:
    """An annotator's pace: median seconds, and median ratio to what the project's median pace gives
    for the words shown."""

    median_seconds: float
    ratio: float
    answers: int
    speeder: bool


def speeds(answers: Sequence[Timed]) -> dict[str, Speed]:
    """Each annotator's pace against the project's: ratio = median over answers of seconds / (words
    · project's s per word).

    The project's seconds per word are the median of the annotators' medians, so that neither one
    very busy annotator nor the speeders themselves (while they are fewer than half) set it. Below
    `SPEEDING`, with 5 answers or more: a speeder.
    """
    by_name: dict[str, list[Timed]] = defaultdict(list)
    for one in answers:
        by_name[one.annotator].append(one)
    own = {
        name: median(a.seconds / max(a.words, 1) for a in group) for name, group in by_name.items()
    }
    if not own:
        return {}
    usual = median(own.values())
    found = {}
    for name, group in by_name.items():
        ratio = own[name] / usual if usual > 0 else math.nan
        fast = len(group) >= _LEAST and len(own) > 1 and ratio < SPEEDING
        found[name] = Speed(median(a.seconds for a in group), ratio, len(group), fast)
    return found


@dataclass(frozen=True, slots=True)
class Share:
    """`right` of `n` with Wilson's 95 % interval."""

    right: int
    n: int
    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def share(right: int, n: int) -> Share:
    """A share with Wilson's interval; NaN of nothing."""
    low, high = wilson(right, n)
    return Share(right, n, right / n if n else math.nan, low, high)


@dataclass(frozen=True, slots=True)
class Drift:
    """Right answers by day, and whether the share has a trend: `change` per day (least squares),
    Cochran–Armitage's p."""

    days: tuple[tuple[date, int, int], ...]
    change: float
    p_value: float


def drift(outcomes: Sequence[tuple[date, bool]]) -> Drift:
    """The trend of a yes/no outcome over days: z = Σ n_d (t_d − t̄)(p_d − p̄) / √(p̄ (1−p̄) Σ n_d
    (t_d − t̄)²), two-sided.

    t counts calendar days, t̄ is the mean over outcomes (Cochran 1954, Armitage 1955). p is 1 where
    there is one day only or every outcome is the same.
    """
    by_day: dict[date, list[bool]] = defaultdict(list)
    for day, right in outcomes:
        by_day[day].append(right)
    days = tuple((day, sum(by_day[day]), len(by_day[day])) for day in sorted(by_day))
    if len(days) < 2:
        return Drift(days, 0.0, 1.0)
    t = np.array([(day - days[0][0]).days for day, _, _ in days], dtype=float)
    right, n = (np.array([row[i] for row in days], dtype=float) for i in (1, 2))
    overall = right.sum() / n.sum()
    centred = t - (t * n).sum() / n.sum()
    spread, moved = float((n * centred**2).sum()), float((centred * (right - n * overall)).sum())
    variance = overall * (1.0 - overall) * spread
    p_value = (
        2.0 * (1.0 - NormalDist().cdf(abs(moved) / math.sqrt(variance))) if variance > 0 else 1.0
    )
    return Drift(days, moved / spread, p_value)


@dataclass(frozen=True, slots=True)
class Price:
    """What people are paid: for each task, or by the hour, or both (0: nothing)."""

    per_task: float = 0.0
    per_hour: float = 0.0

    def of(self, answers: float, seconds: float) -> float:
        """The cost of so many answers that took so long."""
        return answers * self.per_task + seconds / 3600.0 * self.per_hour


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a project is. `needed` answers are items × overlap; `days_left` None where no pace is
    known yet.

    Costs are in the currency of the price. `untimed` answers are charged the mean time of the
    others.
    """

    answered: int
    needed: int
    items_done: int
    items: int
    cost: float
    cost_to_end: float
    median_seconds: float
    untimed: int
    per_day: float
    days_left: float | None


def progress(
    answers_by_item: Mapping[str, int],
    *,
    overlap: int,
    timed: Sequence[Timed],
    untimed: int,
    price: Price,
) -> Progress:
    """Progress of items with so many answers each (0 for none), `overlap` being asked for; answers
    beyond it are surplus.

    The pace is the mean of the last seven days with answers; the cost to the end is that of the
    missing answers at the price per task and the mean time so far.
    """
    counted = sum(min(n, overlap) for n in answers_by_item.values())
    needed = len(answers_by_item) * overlap
    seconds = [one.seconds for one in timed]
    mean = sum(seconds) / len(seconds) if seconds else 0.0
    made = len(timed) + untimed
    by_day: dict[date, int] = defaultdict(int)
    for one in timed:
        by_day[one.day] += 1
    latest = [by_day[day] for day in sorted(by_day)[-7:]]
    per_day = sum(latest) / len(latest) if latest else 0.0
    missing = needed - counted
    return Progress(
        answered=counted,
        needed=needed,
        items_done=sum(n >= overlap for n in answers_by_item.values()),
        items=len(answers_by_item),
        cost=price.of(made, sum(seconds) + untimed * mean),
        cost_to_end=price.of(missing, missing * mean),
        median_seconds=median(seconds) if seconds else math.nan,
        untimed=untimed,
        per_day=per_day,
        days_left=0.0 if missing == 0 else missing / per_day if per_day else None,
    )
