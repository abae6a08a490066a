"""Intervals, paired tests and what a sample of this size can show. Pure: arrays in, numbers out.

The unit of every comparison is the prompt: values of one prompt (several completions, several
pairs) are not independent, so they are resampled together. `groups` names the prompt of each value;
without it every value is a prompt of its own.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from burnish.statistics.estimate import Estimate

_DRAWS_AT_ONCE = 4_000_000  # indices drawn in one go: 32 MB


def bootstrap_mean(
    values: ArrayLike,
    *,
    groups: Sequence[Hashable] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Estimate:
    """Mean of all values, with a percentile bootstrap over prompts (Efron 1979; clusters: Davison &
    Hinkley 1997, §3.8).

    Prompts are drawn with replacement, each with all its values; the statistic is Σ values / Σ
    counts of the draw. Percentile intervals run narrow for fewer than about 20 prompts. With one
    prompt the bounds are infinite (method "one unit"); with prompts that all agree they equal the
    value (method "no spread"), which says that the sample shows no variation, not that there is
    none.

    Args:
        values: [N] finite numbers.
        groups: N prompt names.
        resamples: how many draws.
        seed: of the draws.
        level: confidence.

    Raises ValueError for empty, non-finite or ill-shaped input.
    """
    sums_G, counts_G = _per_group(_vector(values, "values"), groups)
    value, n = float(sums_G.sum() / counts_G.sum()), len(sums_G)
    tail = _tail(level)
    if n == 1:
        return Estimate(value, -math.inf, math.inf, n, "one unit")
    if np.ptp(sums_G / counts_G) == 0.0:
        return Estimate(value, value, value, n, "no spread")
    rng = np.random.default_rng(seed)
    at_once = max(1, _DRAWS_AT_ONCE // n)
    means = np.empty(resamples)
    for start in range(0, resamples, at_once):
        drawn = rng.integers(n, size=(min(at_once, resamples - start), n))
        means[start : start + at_once] = sums_G[drawn].sum(axis=1) / counts_G[drawn].sum(axis=1)
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Estimate(value, float(low), float(high), n, "bootstrap over prompts")


def bootstrap_share(
    values: ArrayLike,
    *,
    groups: Sequence[Hashable] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Estimate:
    """`bootstrap_mean` of outcomes in [0, 1]; where the prompts show no spread, Wilson's interval
    over prompts instead.

    Ten wins out of ten do not prove that the eleventh is certain: the bootstrap would say [1, 1],
    Wilson says [0.72, 1].
    """
    outcomes = _vector(values, "values")
    if outcomes.min() < 0.0 or outcomes.max() > 1.0:
        raise ValueError("a share needs values between 0 and 1")
    interval = bootstrap_mean(outcomes, groups=groups, resamples=resamples, seed=seed, level=level)
    if interval.method == "bootstrap over prompts":
        return interval
    return wilson(interval.value * interval.n, interval.n, level=level)


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    *,
    groups: Sequence[Hashable] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Estimate:
    """Mean of a − b over the same prompts, with `bootstrap_mean`'s interval. `a[i]` and `b[i]`
    belong to one prompt."""
    return bootstrap_mean(
        _difference(a, b), groups=groups, resamples=resamples, seed=seed, level=level
    )


def win_rate(
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    *,
    groups: Sequence[Hashable] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Estimate:
    """Share of pairs in which a scores higher than b; a tie counts half. Paired, over prompts."""
    difference = _difference(scores_a, scores_b)
    outcomes = np.where(difference == 0.0, 0.5, (difference > 0).astype(float))
    return bootstrap_share(outcomes, groups=groups, resamples=resamples, seed=seed, level=level)


def wilson(successes: float, n: int, *, level: float = 0.95) -> Estimate:
    """Wilson's score interval for a proportion (Wilson 1927): (p + z²/2n ± z √(p(1−p)/n + z²/4n²))
    / (1 + z²/n).

    `successes` may be fractional, where ties count half. Raises ValueError unless n ≥ 1 and 0 ≤
    successes ≤ n.
    """
    if n < 1 or not 0.0 <= successes <= n:
        raise ValueError(
            f"a proportion needs n >= 1 and 0 <= successes <= n, not {successes} of {n}"
        )
    z = NormalDist().inv_cdf(1.0 - _tail(level))
    p = successes / n
    centre, scale = p + z * z / (2 * n), 1.0 + z * z / n
    half = z * math.sqrt(p * (1.0 - p) / n + z * z / (4 * n * n))
    # At p = 0 and p = 1 one bound equals p; rounding must not put it on the wrong side.
    return Estimate(
        p,
        min(p, max(0.0, (centre - half) / scale)),
        max(p, min(1.0, (centre + half) / scale)),
        n,
        "wilson",
    )


def mcnemar_exact(b: int, c: int) -> float:
    """Two-sided exact McNemar test: p-value of b against c discordant pairs under Binomial(b + c,
    ½); 1 if there are none."""
    if b < 0 or c < 0:
        raise ValueError("counts of discordant pairs must not be negative")
    n = b + c
    tail = sum(math.comb(n, i) for i in range(min(b, c) + 1))
    return min(1.0, 2 * tail / 2**n)


def holm(pvalues: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979): p-values adjusted for their number, in the order given.

    With p₍₁₎ ≤ … ≤ p₍ₘ₎ the adjusted i-th is max over j ≤ i of min(1, (m − j + 1) p₍ⱼ₎).
    """
    if any(not 0.0 <= p <= 1.0 for p in pvalues):
        raise ValueError("p-values lie between 0 and 1")
    adjusted, running = [0.0] * len(pvalues), 0.0
    for place, index in enumerate(sorted(range(len(pvalues)), key=pvalues.__getitem__)):
        running = max(running, min(1.0, (len(pvalues) - place) * pvalues[index]))
        adjusted[index] = running
    return adjusted


def smallest_detectable_effect(
    std: float, n: int, power: float = 0.8, level: float = 0.95
) -> float:
    """The true mean difference that a two-sided test over n prompts finds with this power: (z₁₋α⁄₂
    + z_power) · std / √n.

    `std` is that of one prompt's paired difference (for a win rate: of one prompt's outcome), in
    its units.
    """
    if n < 1 or not math.isfinite(std) or std < 0.0 or not 0.0 < power < 1.0:
        raise ValueError("needs n >= 1, a finite std >= 0 and a power between 0 and 1")
    normal = NormalDist()
    return (normal.inv_cdf(1.0 - _tail(level)) + normal.inv_cdf(power)) * std / math.sqrt(n)


def pass_at_k(n: int, c: int, k: int) -> float:
    """Chance that at least one of k completions is right, without bias from n drawn, c of them
    right (arXiv:2107.03374, eq. 1).

    1 − C(n−c, k) / C(n, k). Raises ValueError for n < k, where it is not defined, and for counts
    that make no sense.
    """
    if not 1 <= k <= n or not 0 <= c <= n:
        raise ValueError(f"pass@k needs 1 <= k <= n and 0 <= c <= n, not n={n}, c={c}, k={k}")
    every = math.comb(n, k)
    return (every - math.comb(n - c, k)) / every


def _vector(values: ArrayLike, name: str) -> NDArray[np.float64]:
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or not len(vector):
        raise ValueError(f"{name} must be a non-empty list of numbers, not of shape {vector.shape}")
    if not np.isfinite(vector).all():
        raise ValueError(
            f"{name} hold {int((~np.isfinite(vector)).sum())} numbers that are not finite"
        )
    return vector


def _difference(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    left, right = _vector(a, "a"), _vector(b, "b")
    if len(left) != len(right):
        raise ValueError(
            f"paired values must be as many on both sides, not {len(left)} and {len(right)}"
        )
    return left - right


def _per_group(
    values: NDArray[np.float64], groups: Sequence[Hashable] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(sum, count) of the values of each group, groups in order of appearance."""
    if groups is None:
        return values, np.ones_like(values)
    if len(groups) != len(values):
        raise ValueError(f"{len(values)} values need as many group names, not {len(groups)}")
    numbers: dict[Hashable, int] = {}
    index = np.array([numbers.setdefault(group, len(numbers)) for group in groups])
    return np.bincount(index, weights=values).astype(np.float64), np.bincount(index).astype(
        np.float64
    )


def _tail(level: float) -> float:
    if not 0.0 < level < 1.0:
        raise ValueError("level must lie between 0 and 1")
    return (1.0 - level) / 2.0
