"""Gao's curves fitted: gold reward as a function of d = √KL (Gao et al., arXiv:2210.10760).

Best-of-n: R(d) = d (α − β d), eq. 1; reinforcement learning: R(d) = d (α − β log d), eq. 2. Both
are linear in α and β, so that least squares gives them at once.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from burnish.lab.chains import Floats
from burnish.lab.results import Fit
from burnish.statistics.estimate import Estimate

Form = Literal["best_of_n", "rl"]


def fit(d_P: Floats, gold_P: Floats, form: Form) -> tuple[float, float]:
    """(α, β) by least squares over points with d > 0."""
    if len(d_P) < 2 or (d_P <= 0.0).any():
        raise ValueError("a fit needs at least two points with d > 0")
    bend_P = d_P**2 if form == "best_of_n" else d_P * np.log(d_P)
    (alpha, beta), *_ = np.linalg.lstsq(np.stack([d_P, -bend_P], axis=1), gold_P, rcond=None)
    return float(alpha), float(beta)


def value(d_P: Floats, alpha: float, beta: float, form: Form) -> Floats:
    """R(d)."""
    bend_P = d_P if form == "best_of_n" else np.log(d_P)
    return d_P * (alpha - beta * bend_P)


def peak(alpha: float, beta: float, form: Form) -> float:
    """The d at which R is highest: α / 2β or exp(α/β − 1); infinite where R never falls."""
    if beta <= 0.0:
        return math.inf
    if form == "best_of_n":
        return max(alpha, 0.0) / (2.0 * beta)
    return math.exp(min(alpha / beta - 1.0, 700.0))


def fitted(
    d_P: Floats, gold_KP: Floats, form: Form, *, resamples: int = 2000, seed: int = 0
) -> Fit:
    """The fit to the mean of K seeds' curves, with 95 % percentile intervals by a bootstrap over
    seeds, each with its whole curve."""
    alpha, beta = fit(d_P, gold_KP.mean(axis=0), form)
    rest_P = gold_KP.mean(axis=0) - value(d_P, alpha, beta, form)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(gold_KP), size=(resamples, len(gold_KP)))
    pairs = [fit(d_P, gold_KP[rows].mean(axis=0), form) for rows in drawn]
    figures = {
        "alpha": (alpha, [one for one, _ in pairs]),
        "beta": (beta, [two for _, two in pairs]),
        "peak": (peak(alpha, beta, form), [peak(*pair, form) for pair in pairs]),
    }
    bounds = {
        name: Estimate(whole, *_interval(draws), n=len(gold_KP), method="bootstrap over seeds")
        for name, (whole, draws) in figures.items()
    }
    return Fit(form, rms=float(np.sqrt(np.mean(rest_P**2))), **bounds)


def _interval(draws: list[float]) -> tuple[float, float]:
    low, high = np.quantile(draws, [0.025, 0.975], method="inverted_cdf")
    return float(low), float(high)
