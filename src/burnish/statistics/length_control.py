"""How often one model would be preferred to another if their answers were of equal length. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from burnish.statistics.estimate import Estimate

Floats = NDArray[np.float64]

_PRECISION = np.array([1.0 / 9.0, 1.0])
"""Of the priors β ~ N(0, 3²) and θ ~ N(0, 1): they decide where every verdict is the same."""
_STEPS = 30


def length_controlled(
    wins: ArrayLike,
    gaps: ArrayLike,
    *,
    groups: Sequence[Hashable],
    resamples: int = 1_000,
    seed: int = 0,
) -> Estimate:
    """σ(β) of logit P(win) = β + θ tanh(gap / s), fitted to all verdicts; s is the gaps' standard
    deviation.

    The length term of AlpacaEval 2 (arXiv:2404.04475, eq. 2), without its term for a prompt's
    difficulty, which needs the
    answers of many models, and with θ estimated from these verdicts and drawn to 0, not taken from
    another judge's. The
    interval refits both in every resample of prompts, so that it has the noise of θ in it.

    Args:
        wins: [N] in [0, 1]; ½ is a tie.
        gaps: [N] length of the one answer less the other's, in any unit.
        groups: N prompt names.
    """
    wins_N, gaps_N = np.asarray(wins, dtype=float), np.asarray(gaps, dtype=float)
    if (
        wins_N.shape != gaps_N.shape
        or wins_N.ndim != 1
        or len(groups) != len(wins_N)
        or not len(wins_N)
    ):
        raise ValueError("verdicts, gaps and prompts must be equally many, and some")
    spread = gaps_N.std()
    terms_N2 = np.stack(
        [np.ones_like(gaps_N), np.tanh(gaps_N / spread) if spread else gaps_N * 0.0], axis=1
    )
    numbers: dict[Hashable, int] = {}
    index_N = np.array([numbers.setdefault(group, len(numbers)) for group in groups])
    count = len(numbers)
    value = float(_fit(terms_N2, wins_N, np.ones((1, len(wins_N))))[0])
    if count == 1:
        return Estimate(value, -np.inf, np.inf, count, "one unit")
    rng = np.random.default_rng(seed)
    drawn_RG = rng.multinomial(count, np.full(count, 1.0 / count), size=resamples).astype(float)
    low, high = np.quantile(_fit(terms_N2, wins_N, drawn_RG[:, index_N]), [0.025, 0.975])
    return Estimate(value, float(low), float(high), count, "refitted in resamples of prompts")


def _fit(terms_N2: Floats, wins_N: Floats, weights_RN: Floats) -> Floats:
    """[R]: σ(β) at the mode of the posterior for each row of weights."""
    mode_R2: Floats = np.zeros((len(weights_RN), 2))
    for _ in range(_STEPS):
        mode_R2 = _stepped(mode_R2, terms_N2, wins_N, weights_RN)
    return 1.0 / (1.0 + np.exp(-mode_R2[:, 0]))


def _stepped(at_R2: Floats, terms_N2: Floats, wins_N: Floats, weights_RN: Floats) -> Floats:
    """A step of Newton's from `at_R2`, shortened where it is long."""
    p_RN = 1.0 / (1.0 + np.exp(-at_R2 @ terms_N2.T))
    slope_R2 = (weights_RN * (wins_N - p_RN)) @ terms_N2 - _PRECISION * at_R2
    inner_RN = weights_RN * p_RN * (1.0 - p_RN)
    curve_R22 = np.einsum("rn,ni,nj->rij", inner_RN, terms_N2, terms_N2) + np.diag(_PRECISION)
    step_R2 = cast(Floats, np.linalg.solve(curve_R22, slope_R2[..., None]))[..., 0]
    return at_R2 + step_R2 / np.maximum(1.0, np.abs(step_R2).max(axis=1, keepdims=True))


def length_slope(scores: ArrayLike, lengths: ArrayLike, *, groups: Sequence[Hashable]) -> float:
    """What a unit of length adds to the score among answers to one prompt: Σ (s − s̄_g)(l − l̄_g) /
    Σ (l − l̄_g)², means over the prompt's answers; 0 where no lengths differ.

    Args:
        scores: [N].
        lengths: [N].
        groups: N prompt names.
    """
    s, length = np.asarray(scores, dtype=np.float64), np.asarray(lengths, dtype=np.float64)
    rows: dict[Hashable, list[int]] = {}
    for row, group in zip(range(len(s)), groups, strict=True):
        rows.setdefault(group, []).append(row)
    products = squares = 0.0
    for row in rows.values():
        off = length[row] - length[row].mean()
        products += float(off @ (s[row] - s[row].mean()))
        squares += float(off @ off)
    return products / squares if squares > 0.0 else 0.0
