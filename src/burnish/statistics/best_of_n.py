"""The best of n answers by a score: what it is worth by another, and how far it is from one answer.

From the whole distribution where its outcomes can be listed, and from N scored answers where they
are drawn. Pure.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def kl_bound(n: int) -> float:
    """log n − (n − 1)/n: the KL of best-of-n where no two outcomes tie, and an upper bound where
    some do (Beirami et al., arXiv:2401.01879)."""
    if n < 1:
        raise ValueError(f"best-of-n needs n >= 1, not {n}")
    return math.log(n) - (n - 1) / n


def distribution(chances: ArrayLike, scores: ArrayLike, n: int) -> Floats:
    """[K] the chance of each of K outcomes to be the best of n, which are drawn with `chances`.

    P_n(y) = (F(y)ⁿ − F⁻(y)ⁿ) · p(y) / Σ p of those that tie with y, F being the chance of a score
    of at most y's, F⁻ of a lower one: the best is taken, and ties are broken evenly over draws.
    """
    chances_K, scores_K = _pair(chances, scores)
    if n < 1 or (chances_K < 0.0).any() or abs(chances_K.sum() - 1.0) > 1e-9:
        raise ValueError("best-of-n needs n >= 1 and chances that add up to 1")
    levels, level_K = np.unique(scores_K, return_inverse=True)
    share_L = np.bincount(level_K, weights=chances_K, minlength=len(levels))
    at_most_L = np.minimum(np.cumsum(share_L), 1.0)
    at_most_L[-1] = 1.0
    below_L = np.append(0.0, at_most_L[:-1])
    best_L = at_most_L**n - below_L**n
    within_K = np.divide(
        chances_K, share_L[level_K], out=np.zeros_like(chances_K), where=share_L[level_K] > 0.0
    )
    return best_L[level_K] * within_K


def kl(after: ArrayLike, before: ArrayLike) -> float:
    """KL(after ‖ before) of two distributions over the same outcomes, in nats."""
    after_K, before_K = _pair(after, before)
    some = after_K > 0.0
    return float((after_K[some] * np.log(after_K[some] / before_K[some])).sum())


def estimate(scores: ArrayLike, values: ArrayLike, n: int) -> float:
    """The mean value of the best of n by score, without bias from N scored answers: over every
    choice of n of them.

    Σ_i C(i − 1, n − 1) / C(N, n) v₍ᵢ₎, the i-th by score from below; answers that tie in score
    share their weight. Raises ValueError for n > N.
    """
    scores_N, values_N = _pair(scores, values)
    count = len(scores_N)
    if not 1 <= n <= count:
        raise ValueError(f"best-of-{n} needs 1 <= n <= {count}, the number of answers")
    order = np.argsort(scores_N, kind="stable")
    weights_N = _weights(count, n)
    _, level_N = np.unique(scores_N[order], return_inverse=True)
    shared = np.bincount(level_N, weights=weights_N) / np.bincount(level_N)
    return float(shared[level_N] @ values_N[order])


def _weights(count: int, n: int) -> Floats:
    """C(i − 1, n − 1) / C(N, n) for i = 1 ... N, from the largest down: w_N = n / N and
    w_{i−1} = w_i (i − n) / (i − 1)."""
    ranks = np.arange(count, 1, -1, dtype=np.float64)
    falls = np.maximum(ranks - n, 0.0) / (ranks - 1.0)
    return (n / count * np.append(1.0, np.cumprod(falls)))[::-1]


def _pair(first: ArrayLike, second: ArrayLike) -> tuple[Floats, Floats]:
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.ndim != 1 or one.shape != other.shape or not len(one):
        raise ValueError(f"two lists of one length are needed, not {one.shape} and {other.shape}")
    return one, other
