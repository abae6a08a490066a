"""What to report of a reward model on held-out comparisons. Pure.

A pair has a score difference d = s(first) − s(second), and a label p in [0, 1]: the probability, or
the share of annotators, that the first is better. The model's own probability is σ(d): give scores
on the scale they were trained on, for a gain applied afterwards makes the model look more or less
sure than it is. `groups` names the prompt of each pair. To measure against a known gold taste, give
its labels as `labels`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from burnish.statistics.correlation import centred, pearson, spearman
from burnish.statistics.estimate import Estimate
from burnish.statistics.uncertainty import bootstrap_share


@dataclass(frozen=True, slots=True)
class PairAccuracy(Estimate):
    """Accuracy over decided pairs; `pairs` were counted, `left_out` had p = ½ and prefer neither.
    `n` counts prompts."""

    pairs: int
    left_out: int


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Pairs of similar confidence: mean confidence, the share in which the chosen response was
    preferred, and how many."""

    predicted: float
    observed: float
    count: int

    def to_dict(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)


def pairwise_accuracy(
    difference: ArrayLike,
    labels: ArrayLike,
    *,
    groups: Sequence[Hashable] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> PairAccuracy:
    """Share of pairs in which the response with the higher score is the preferred one; d = 0 counts
    half.

    The interval is a bootstrap over prompts. Raises ValueError when no pair has a preferred
    response.
    """
    d, p = _pairs(difference, labels)
    decided = p != 0.5
    if not decided.any():
        raise ValueError("no pair has a preferred response: every label is 1/2")
    outcomes = np.where(d == 0.0, 0.5, (d > 0) == (p > 0.5))[decided]
    if groups is not None and len(groups) != len(d):
        raise ValueError(f"{len(d)} pairs need as many group names, not {len(groups)}")
    kept = (
        None
        if groups is None
        else [group for group, keep in zip(groups, decided, strict=True) if keep]
    )
    interval = bootstrap_share(outcomes, groups=kept, resamples=resamples, seed=seed, level=level)
    return PairAccuracy(
        **asdict(interval), pairs=int(decided.sum()), left_out=int((~decided).sum())
    )


def brier(difference: ArrayLike, labels: ArrayLike) -> float:
    """Mean of (σ(d) − p)² (Brier 1950). 0.25 is what a coin gets on certain labels; 0 is
    perfect."""
    d, p = _pairs(difference, labels)
    return float(np.mean((_sigmoid(d) - p) ** 2))


def expected_calibration_error(
    difference: ArrayLike, labels: ArrayLike, *, bins: int = 10
) -> float:
    """Σ over bins of (count / N) · |predicted − observed|, bins of equal mass (arXiv:1909.10155:
    less biased than equal width)."""
    found = calibration_curve(difference, labels, bins=bins)
    return sum(b.count * abs(b.predicted - b.observed) for b in found) / sum(b.count for b in found)


def calibration_curve(
    difference: ArrayLike, labels: ArrayLike, *, bins: int = 10
) -> list[CalibrationBin]:
    """Confidence against outcome, in `bins` of equal mass; equal confidences stay together, so
    there may be fewer.

    Each pair is turned so that the model's choice comes first: its confidence σ(|d|) lies in [½,
    1], the outcome is p for d > 0, 1 − p for d < 0, ½ for d = 0. So it does not matter which
    response a pair names first; data that names the preferred one first would otherwise show an
    outcome of 1 in every bin.
    """
    if bins < 1:
        raise ValueError("bins must be at least 1")
    d, p = _pairs(difference, labels)
    predicted = _sigmoid(np.abs(d))
    p = np.where(d == 0.0, 0.5, np.where(d > 0.0, p, 1.0 - p))
    order = np.argsort(predicted, kind="stable")
    predicted, observed = predicted[order], p[order]
    _, first, inverse = np.unique(predicted, return_index=True, return_inverse=True)
    bin_of = first[inverse] * bins // len(predicted)
    return [
        CalibrationBin(
            float(predicted[bin_of == b].mean()),
            float(observed[bin_of == b].mean()),
            int((bin_of == b).sum()),
        )
        for b in np.unique(bin_of)
    ]


def length_correlation(
    scores: ArrayLike, lengths: ArrayLike, *, groups: Sequence[Hashable] | None = None
) -> dict[str, float | None]:
    """How far the score follows the length of the response.

    `pearson` and `spearman` are over all responses, across prompts. With `groups`, `pearson_within`
    and `spearman_within` are over deviations from the prompt's mean (of values, and of ranks inside
    the prompt): whether among answers to the same question the longer one scores higher. None where
    it is not defined, one side being constant.
    """
    from scipy.stats import rankdata

    s, words = np.asarray(scores, dtype=np.float64), np.asarray(lengths, dtype=np.float64)
    if s.shape != words.shape or s.ndim != 1 or not len(s):
        raise ValueError(
            f"scores and lengths must be two equally long lists, not of shapes {s.shape} and"
            f" {words.shape}"
        )
    found = {
        "pearson": pearson(s, words),
        "spearman": spearman(s, words),
    }
    if groups is None:
        return found
    rows: dict[Hashable, list[int]] = {}
    for row, group in zip(range(len(s)), groups, strict=True):
        rows.setdefault(group, []).append(row)
    values = [(centred(s[r]), centred(words[r])) for r in rows.values()]
    ranked = [(centred(rankdata(s[r])), centred(rankdata(words[r]))) for r in rows.values()]
    within = [
        pearson(np.concatenate(a), np.concatenate(b))
        for a, b in (zip(*values, strict=True), zip(*ranked, strict=True))
    ]
    return {**found, "pearson_within": within[0], "spearman_within": within[1]}


def _pairs(
    difference: ArrayLike, labels: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    d, p = np.asarray(difference, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if d.shape != p.shape or d.ndim != 1 or not len(d):
        raise ValueError(
            f"differences and labels must be two equally long lists, not of shapes {d.shape} and"
            f" {p.shape}"
        )
    if not np.isfinite(d).all():
        raise ValueError("a score difference is not finite")
    if not ((p >= 0.0) & (p <= 1.0)).all():
        raise ValueError("labels are probabilities between 0 and 1")
    return d, p


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    # By tanh, since exp(−x) overflows for very negative x.
    return 0.5 * (1.0 + np.tanh(0.5 * x))
