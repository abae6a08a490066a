"""The mean of differences over independent units, by Student's t. Pure."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from burnish.statistics.estimate import Estimate
from burnish.statistics.uncertainty import mcnemar_exact


@dataclass(frozen=True, slots=True)
class ClusteredMean:
    """A mean over units with its interval, the two-sided p of its being 0, and the spread of one
    unit."""

    estimate: Estimate
    p: float
    spread: float


def clustered_mean(
    values: ArrayLike, *, groups: Sequence[Hashable], level: float = 0.95
) -> ClusteredMean:
    """The mean d̄ of the units' own means d_g, each unit once, with d̄ ± t_{G−1} SE, SE² = Σ_g (d_g
    − d̄)² / (G (G − 1)).

    Args:
        values: [N] finite numbers: of a comparison, the paired differences.
        groups: the unit of each value: items of one are not independent.
        level: confidence.

    One unit has no interval (its bounds are infinite, p = 1); units that all agree have one of no
    width, and p = 0 unless they are 0. Raises ValueError for empty or non-finite values.
    """
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or not len(vector) or len(groups) != len(vector):
        raise ValueError(f"{vector.shape} values need as many groups, not {len(groups)}")
    if not np.isfinite(vector).all():
        raise ValueError(f"{int((~np.isfinite(vector)).sum())} values are not finite")
    places: dict[Hashable, int] = {}
    index = np.array([places.setdefault(group, len(places)) for group in groups])
    means_G = np.bincount(index, weights=vector) / np.bincount(index)
    count, mean = len(means_G), float(means_G.mean())
    if count == 1:
        return ClusteredMean(Estimate(mean, -math.inf, math.inf, 1, "one unit"), 1.0, 0.0)
    spread = float(means_G.std(ddof=1))
    error = spread / math.sqrt(count)
    if error <= 1e-15 * max(1.0, abs(mean)):
        p = 1.0 if abs(mean) <= 1e-15 else 0.0
        return ClusteredMean(Estimate(mean, mean, mean, count, "no spread"), p, 0.0)
    half = float(stats.t.ppf(0.5 + level / 2, count - 1)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, count - 1))
    return ClusteredMean(Estimate(mean, mean - half, mean + half, count, "t over units"), p, spread)


def paired_shares(differences: ArrayLike, *, level: float = 0.95) -> ClusteredMean:
    """The mean of paired differences of outcomes, each −1, 0 or 1, and McNemar's exact p.

    With b pairs of +1 and c of −1 among n the value is (b − c)/n. The interval is that of Agresti &
    Min (2005), half a pair added to each of the four cells: b̃ = b + ½, c̃ = c + ½, ñ = n + 2, d̃ =
    (b̃ − c̃)/ñ ± z √(b̃ + c̃ − (b̃ − c̃)²/ñ)/ñ. So it has a width where no pair differs: forty
    items on which two models agree do not show that they always would. Raises ValueError for other
    values.
    """
    vector = np.asarray(differences, dtype=np.float64)
    if vector.ndim != 1 or not len(vector) or not np.isin(vector, (-1.0, 0.0, 1.0)).all():
        raise ValueError("differences of outcomes are -1, 0 or 1, and there is at least one")
    n, up, down = len(vector), int((vector > 0).sum()), int((vector < 0).sum())
    more, fewer, pairs = up + 0.5, down + 0.5, n + 2
    centre = (more - fewer) / pairs
    error = math.sqrt(more + fewer - (more - fewer) ** 2 / pairs) / pairs
    half = float(stats.norm.ppf(0.5 + level / 2)) * error
    value = (up - down) / n
    low, high = min(value, max(-1.0, centre - half)), max(value, min(1.0, centre + half))
    estimate = Estimate(value, low, high, n, "Agresti-Min")
    return ClusteredMean(estimate, mcnemar_exact(up, down), error * pairs / math.sqrt(n))
