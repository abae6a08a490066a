"""Who labels what, as pure functions: order of items, gold, quotas, leases, disagreement, marks. No
database, no clock, no chance."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from burnish.annotation.records import Answer, answer_from, ranks_of_strength


@dataclass(frozen=True, slots=True)
class Open:
    """An item that this annotator may take: `slots` is how many more annotators it can have, of
    `overlap`."""

    id: int
    priority: int
    score: float
    slots: int
    overlap: int

    @property
    def begun(self) -> bool:
        """Somebody has answered it or holds it."""
        return self.slots < self.overlap


def drawn(*parts: object) -> float:
    """A number in [0, 1) that depends on nothing but `parts`."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def in_order(items: Sequence[Open], *, annotator: int) -> list[Open]:
    """The open items, the one to offer first in front.

    By priority, then by the score of active selection, then those that are begun (so that items are
    finished before others are started), then in an order of the annotator's own, which keeps two
    who ask at once from the same item.
    """
    return sorted(
        items,
        key=lambda item: (-item.priority, -item.score, not item.begun, drawn(annotator, item.id)),
    )


def gold_due(*, met: int, rate: float, annotator: int) -> bool:
    """Whether the item number `met` (from 0) that an annotator meets is one with a known answer.

    Of every 1/rate items in a row exactly one is gold, at a place drawn for this annotator and row:
    the rate is kept exactly, and nobody can count ahead.
    """
    if rate <= 0:
        return False
    row = math.floor(met * rate)
    return any(
        met == math.floor((r + drawn("gold", annotator, r)) / rate)
        for r in (row - 1, row, row + 1)
        if r >= 0
    )


def quota_left(*, answered: int, project: int | None, own: int | None) -> int | None:
    """How many more items an annotator may answer; None: no bound. A member's own quota goes before
    the project's."""
    quota = own if own is not None else project
    return None if quota is None else max(0, quota - answered)


def shuffled(count: int, *parts: object) -> tuple[int, ...]:
    """An order of `count` candidates, uniform over all orders and fixed by `parts`."""
    return tuple(sorted(range(count), key=lambda position: drawn(*parts, position)))


def slots_left(*, overlap: int, answers: int, leases: int) -> int:
    """How many more annotators may take an item: skips are no answers."""
    return max(0, overlap - answers - leases)


def agreement(answers: Sequence[Answer]) -> float | None:
    """How far the annotators of one item agree: the mean over pairs of annotators; None where
    nothing can be compared.

    Two rankings agree on the share of candidate pairs that they order alike (a tie is an order of
    its own). Two sets of ratings agree on the share of ratings that lie at most one step apart, two
    sets of verdicts on the share that are the same, two of a best and a worst on none, one or both.
    """
    shares = [share for a, b in combinations(answers, 2) if (share := _alike(a, b)) is not None]
    return sum(shares) / len(shares) if shares else None


def is_disputed(answers: Sequence[Answer], *, below: float) -> bool:
    """Whether an item that has all its answers needs a reviewer's decision."""
    share = agreement([answer for answer in answers if answer.skipped is None])
    return share is not None and share < below


def grade(gold: Mapping[str, Any], answer: Answer) -> float:
    """How right an answer is against a known one, in [0, 1]: the mean over the parts that the known
    answer has.

    Order: the share of the candidate pairs that the known answer orders strictly which are ordered
    so. Ratings: the share that lies at most one step off. Verdicts: the share that are the same.
    Flags: the share of the named flags set on exactly the right candidates. A known tie asks for a
    tie. Skipping is not right.
    """
    if answer.skipped is not None:
        return 0.0
    known = answer_from(
        answer.kind,
        {k: v for k, v in gold.items() if k not in ("ranks", "kind")},
        ranks=_ranks(gold),
    )
    marks = []
    if known.ranks is not None:
        marks.append(_order_mark(known.ranks, answer.ranks))
    for part in ("best", "worst"):
        if gold.get(part) is not None:
            marks.append(float(gold[part] == getattr(answer, part)))
    if known.verdicts:
        marks.append(_verdict_share(known, answer) or 0.0)
    if known.ratings:
        marks.append(_rating_share(known, answer) or 0.0)
    if known.flags:
        right = [
            set(answer.flags.get(name, ())) == set(where) for name, where in known.flags.items()
        ]
        marks.append(sum(right) / len(right))
    return sum(marks) / len(marks) if marks else 1.0


def _ranks(gold: Mapping[str, Any]) -> tuple[int, ...] | None:
    if gold.get("ranks") is not None:
        return tuple(gold["ranks"])
    return None if gold.get("strength") is None else ranks_of_strength(gold["strength"])


def _order_mark(known: Sequence[int], given: Sequence[int] | None) -> float:
    if given is None or len(given) != len(known):
        return 0.0
    pairs = list(combinations(range(len(known)), 2))
    strict = [(i, j) for i, j in pairs if known[i] != known[j]]
    asked = strict or pairs
    return sum(_sign(known[i] - known[j]) == _sign(given[i] - given[j]) for i, j in asked) / len(
        asked
    )


def _alike(a: Answer, b: Answer) -> float | None:
    if a.best is not None and b.best is not None:
        return ((a.best == b.best) + (a.worst == b.worst)) / 2
    if a.verdicts and b.verdicts:
        return _verdict_share(a, b)
    if a.ranks is not None and b.ranks is not None and len(a.ranks) == len(b.ranks):
        pairs = list(combinations(range(len(a.ranks)), 2))
        same = [_sign(a.ranks[i] - a.ranks[j]) == _sign(b.ranks[i] - b.ranks[j]) for i, j in pairs]
        return sum(same) / len(same) if same else None
    return _rating_share(a, b)


def _verdict_share(a: Answer, b: Answer) -> float | None:
    """Of the verdicts that `a` gives, the share that `b` gives too."""
    mine = [verdict for row in a.verdicts for verdict in row]
    theirs = [verdict for row in b.verdicts for verdict in row]
    if not mine or len(mine) != len(theirs):
        return None
    return sum(x == y for x, y in zip(mine, theirs, strict=True)) / len(mine)


def _rating_share(a: Answer, b: Answer) -> float | None:
    """Of the ratings that `a` gives, the share to which `b` gives the same or a neighbouring
    one."""
    asked = [
        (name, at)
        for name, values in a.ratings.items()
        for at, value in enumerate(values)
        if value is not None
    ]
    if not asked or not b.ratings:
        return None
    near = 0
    for name, at in asked:
        other = b.ratings.get(name, ())
        value, mine = (other[at] if at < len(other) else None), a.ratings[name][at]
        near += value is not None and mine is not None and abs(value - mine) <= 1
    return near / len(asked)


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)
