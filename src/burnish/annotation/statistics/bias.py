"""What sways annotators besides the answer: the side it was shown on (sign test) and its length
(logistic regression)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from burnish.annotation.agreement import Vote
from burnish.statistics import uncertainty
from burnish.statistics.coefficients import Floats

_LEAST = 10
"""Decided votes under which no regression is made."""


@dataclass(frozen=True, slots=True)
class PositionBias:
    """How often the answer shown first won, of `n` items with a decision; `p_value` of the
    two-sided sign test against ½."""

    share: float
    low: float
    high: float
    n: int
    p_value: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "share": self.share,
            "low": self.low,
            "high": self.high,
            "n": self.n,
            "p_value": self.p_value,
        }


@dataclass(frozen=True, slots=True)
class LengthBias:
    """Of a logistic regression of the choice: `odds_ratio` of preferring an answer twice as long,
    its interval and p-value.

    `position_odds_ratio` is the first-shown answer's, in the same regression. `n` counts decided
    votes.
    """

    odds_ratio: float
    low: float
    high: float
    p_value: float
    position_odds_ratio: float
    n: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "odds_ratio": self.odds_ratio, "low": self.low, "high": self.high,
            "p_value": self.p_value,
            "position_odds_ratio": self.position_odds_ratio, "n": self.n,
        }  # fmt: skip


def position_bias(votes: Iterable[Vote]) -> PositionBias:
    """The sign test with one sign for each annotator and item, since the pairs of one ranking are
    not independent.

    The sign is that of (pairs won by the one shown earlier − pairs lost by it); items where they
    balance are left out. Sides are shuffled for each annotator, so without bias either sign is as
    likely whatever the answers are worth.
    """
    from scipy.stats import binomtest

    lead: dict[tuple[str, str], float] = defaultdict(float)
    for vote in votes:
        lead[vote.annotator, vote.item_id] += (2.0 * vote.value - 1.0) * (
            1.0 if vote.first_shown_earlier else -1.0
        )
    signs = [value > 0 for value in lead.values() if value != 0]
    if not signs:
        return PositionBias(math.nan, math.nan, math.nan, 0, math.nan)
    test = binomtest(sum(signs), len(signs))
    low, high = wilson(sum(signs), len(signs))
    return PositionBias(sum(signs) / len(signs), low, high, len(signs), float(test.pvalue))


def length_bias(votes: Sequence[Vote], words: Mapping[tuple[str, int], int]) -> LengthBias | None:
    """P(first preferred) = σ(β_len · log₂((w_first + 1) / (w_second + 1)) + β_pos · (±1 as first
    was shown earlier or later)).

    `words[item, candidate]` counts an answer's words. Intervals and the Wald test come from a
    sandwich covariance clustered by item. exp β_len is the odds ratio of an answer twice as long,
    exp 2β_pos that of the first-shown. Longer answers may be
    better: this measures a leaning, not by itself a fault. None under 10 decided votes, without
    variation in length, or where a covariate separates the choices wholly.
    """
    decided = [vote for vote in votes if vote.value != 0.5]
    if len(decided) < _LEAST:
        return None
    ratio = [
        math.log2((words[v.item_id, v.first] + 1) / (words[v.item_id, v.second] + 1))
        for v in decided
    ]
    side = [1.0 if v.first_shown_earlier else -1.0 for v in decided]
    x, y = np.column_stack([ratio, side]), np.array([v.value for v in decided])
    fit = logistic(x, y, clusters=[v.item_id for v in decided])
    if fit is None:
        return None
    beta, covariance = fit
    error = math.sqrt(covariance[0, 0])
    z = float(beta[0]) / error if error > 0 else math.inf
    return LengthBias(
        math.exp(beta[0]),
        math.exp(beta[0] - 1.959964 * error),
        math.exp(beta[0] + 1.959964 * error),
        2.0 * (1.0 - NormalDist().cdf(abs(z))),
        math.exp(2.0 * beta[1]),
        len(decided),
    )


def logistic(
    x: Floats, y: Floats, *, clusters: Sequence[str] | None = None
) -> tuple[Floats, Floats] | None:
    """(β, covariance) of P(y=1) = σ(x β) by Newton's method; the covariance is clustered where
    `clusters` are given.

    H⁻¹ (Σ_clusters s sᵀ) H⁻¹ with s the sum of a cluster's scores x (y − p), times G/(G−1); without
    clusters H⁻¹. None where the maximum is not finite (separation) or x has not full rank.
    """
    if np.linalg.matrix_rank(x) < x.shape[1]:
        return None
    beta = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1.0 / (1.0 + np.exp(-x @ beta))
        hessian = (x * (p * (1.0 - p))[:, None]).T @ x
        if np.linalg.cond(hessian) > 1e12:
            return None
        step = np.linalg.solve(hessian, x.T @ (y - p))
        beta = beta + step
        if np.abs(beta).max() > 30.0:
            return None
        if np.abs(step).max() < 1e-10:
            break
    p = 1.0 / (1.0 + np.exp(-x @ beta))
    inverse = np.linalg.inv((x * (p * (1.0 - p))[:, None]).T @ x)
    if clusters is None:
        return beta, np.asarray(inverse, dtype=np.float64)
    scores: dict[str, Floats] = defaultdict(lambda: np.zeros(x.shape[1]))
    for name, score in zip(clusters, x * (y - p)[:, None], strict=True):
        scores[name] += score
    if len(scores) < 2:
        return None
    meat = sum(np.outer(s, s) for s in scores.values()) * len(scores) / (len(scores) - 1)
    return beta, np.asarray(inverse @ meat @ inverse, dtype=np.float64)


def holm(pvalues: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down correction (1979) for as many tests as there are p-values; NaNs stay and do
    not count."""
    known = [name for name, value in pvalues.items() if not math.isnan(value)]
    return dict(pvalues) | dict(
        zip(known, uncertainty.holm([pvalues[name] for name in known]), strict=True)
    )


def wilson(successes: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share (1927)."""
    if n < 1:
        return math.nan, math.nan
    interval = uncertainty.wilson(successes, n)
    return interval.low, interval.high
