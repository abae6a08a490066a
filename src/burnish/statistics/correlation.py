"""Pearson's and Spearman's correlation; None where it is not defined, one side being constant."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def pearson(x: ArrayLike, y: ArrayLike) -> float | None:
    """Of two equally long vectors."""
    x_N, y_N = centred(x), centred(y)
    scale = float(np.sqrt((x_N @ x_N) * (y_N @ y_N)))
    return float(np.clip(x_N @ y_N / scale, -1.0, 1.0)) if scale > 0.0 else None


def spearman(x: ArrayLike, y: ArrayLike) -> float | None:
    """Pearson's of the ranks, ties sharing their mean."""
    from scipy.stats import rankdata

    return pearson(rankdata(np.asarray(x)), rankdata(np.asarray(y)))


def centred(x: ArrayLike) -> NDArray[np.float64]:
    """The values less their mean."""
    # From the first value: a constant then becomes exactly 0, where x − mean can leave rounding
    # noise to correlate with.
    x_N = np.asarray(x, dtype=np.float64)
    shifted_N = x_N - x_N[0]
    return shifted_N - shifted_N.mean()
