"""Coefficients of agreement: Krippendorff's α, Cohen's κ (weighted too), Fleiss's κ. Values in,
numbers out.

A *unit* is one thing that several annotators gave a value to; an *item* is what is drawn in a
bootstrap, and may hold several units (the pairs of one prompt's answers), because they are not
independent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from burnish.statistics.estimate import UNKNOWN, Estimate

FEW_ITEMS = 30
"""Under this many items with two or more annotators, α says little: its interval is wide and its
bootstrap poor."""

Level = Literal["nominal", "ordinal", "interval"]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Judgement:
    """One annotator's value for one unit: a class, a grade of a scale, a flag. `unit` tells the
    units of one item apart."""

    item_id: str
    annotator: str
    value: float
    unit: str = ""


def units_of(judgements: Iterable[Judgement]) -> dict[str, list[list[float]]]:
    """By item, the values that each of its units got."""
    units: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in judgements:
        units[one.item_id][one.unit].append(one.value)
    return {item: list(by_unit.values()) for item, by_unit in units.items()}


def alpha(
    units: Mapping[str, Sequence[Sequence[float]]],
    *,
    level: Level = "nominal",
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[Estimate, str | None]:
    """Krippendorff's α of `units` (by item), its percentile bootstrap interval over items, and a
    warning or None.

    α = 1 − (n − 1) Σ_ck o_ck δ²_ck / Σ_ck n_c n_k δ²_ck, with the coincidences o_ck = Σ_units n_uc
    (n_uk − [c=k]) / (m_u − 1) of units with m_u ≥ 2 values, n_c = Σ_k o_ck, n = Σ_c n_c. δ² is
    [c≠k] (nominal), (c − k)² (interval), or (Σ_{g=c..k} n_g − (n_c + n_k)/2)² (ordinal). Missing
    values are simply absent. NaN where all values are the same. (Krippendorff, Content Analysis,
    4th ed., ch. 12.)
    """
    values = sorted({v for item in units.values() for unit in item if len(unit) > 1 for v in unit})
    place = {value: at for at, value in enumerate(values)}
    tables: list[Floats] = []
    for item in sorted(units):
        table = np.zeros((len(values), len(values)))
        for unit in units[item]:
            if len(unit) > 1:
                counts = np.bincount([place[v] for v in unit], minlength=len(values)).astype(float)
                table += (np.outer(counts, counts) - np.diag(counts)) / (len(unit) - 1)
        if table.any():
            tables.append(table)
    few = (
        f"only {len(tables)} items have two or more annotators; α needs {FEW_ITEMS}"
        if len(tables) < FEW_ITEMS
        else None
    )
    if not tables:
        return UNKNOWN, few
    scale = np.array(values)
    estimate = bootstrap(
        np.stack(tables), lambda table: _alpha(table, scale, level), resamples=resamples, seed=seed
    )
    return estimate, few


def bootstrap(
    tables: Floats, statistic: Callable[[Floats], float], *, resamples: int = 1000, seed: int = 0
) -> Estimate:
    """`statistic` of the sum of `tables` ([items, ...]) and its 95 % percentile interval over items
    drawn with replacement.

    Draws in which the statistic is NaN (all values the same) are left out; if they all are, the
    interval is NaN too.
    """
    rng = np.random.default_rng(seed)
    flat, count = tables.reshape(len(tables), -1), len(tables)
    draws = np.empty(resamples)
    for i in range(resamples):
        weights = np.bincount(rng.integers(count, size=count), minlength=count).astype(float)
        draws[i] = statistic((weights @ flat).reshape(tables.shape[1:]))
    known = draws[~np.isnan(draws)]
    low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (float("nan"), float("nan"))
    return Estimate(
        statistic(tables.sum(axis=0)), float(low), float(high), count, "bootstrap over items"
    )


def ratio(
    top: Mapping[str, float], bottom: Mapping[str, float], *, resamples: int = 2000, seed: int = 0
) -> Estimate:
    """Σ top / Σ bottom over items, with a percentile bootstrap over items; NaN where there are
    none."""
    items = sorted(bottom)
    if not items:
        return UNKNOWN
    above, below = (np.array([part[item] for item in items]) for part in (top, bottom))
    rows = np.random.default_rng(seed).integers(len(items), size=(resamples, len(items)))
    low, high = np.percentile(above[rows].sum(axis=1) / below[rows].sum(axis=1), [2.5, 97.5])
    return Estimate(
        float(above.sum() / below.sum()),
        float(low),
        float(high),
        len(items),
        "bootstrap over items",
    )


def cohen_kappa(
    first: Sequence[float],
    second: Sequence[float],
    *,
    weights: Literal["linear", "quadratic"] | None = None,
) -> float:
    """Cohen's κ of two annotators over the units both judged: 1 − Σ w o / Σ w e, e the product of
    their own margins.

    w is [c≠k] without `weights`, |c − k| of the values' places for "linear", its square for
    "quadratic" (Cohen 1960, 1968). NaN where both gave one and the same value throughout.
    """
    values = sorted({*first, *second})
    place = {value: at for at, value in enumerate(values)}
    observed = np.zeros((len(values), len(values)))
    for a, b in zip(first, second, strict=True):
        observed[place[a], place[b]] += 1.0
    steps = np.abs(np.subtract.outer(np.arange(len(values)), np.arange(len(values)))).astype(float)
    weight = {None: (steps > 0).astype(float), "linear": steps, "quadratic": steps**2}[weights]
    total = observed.sum()
    expected = np.outer(observed.sum(axis=1), observed.sum(axis=0)) / total if total else observed
    chance = (weight * expected).sum()
    return float(1.0 - (weight * observed).sum() / chance) if chance > 0 else float("nan")


@dataclass(frozen=True, slots=True)
class PairKappa:
    """Cohen's κ of two annotators over `shared` units."""

    first: str
    second: str
    kappa: float
    shared: int


def cohen_table(
    judgements: Iterable[Judgement],
    *,
    weights: Literal["linear", "quadratic"] | None = None,
    least: int = 2,
) -> list[PairKappa]:
    """Cohen's κ of every two annotators who judged at least `least` units in common, by name."""
    given: dict[str, dict[tuple[str, str], float]] = defaultdict(dict)
    for one in judgements:
        given[one.annotator][one.item_id, one.unit] = one.value
    found: list[PairKappa] = []
    for a, b in combinations(sorted(given), 2):
        shared = sorted(given[a].keys() & given[b].keys())
        if len(shared) >= least:
            kappa = cohen_kappa(
                [given[a][u] for u in shared], [given[b][u] for u in shared], weights=weights
            )
            found.append(PairKappa(a, b, kappa, len(shared)))
    return found


def mean_kappa(table: Sequence[PairKappa]) -> float:
    """The mean of pairwise κ's, each weighted by the units its two annotators share; undefined ones
    are left out."""
    known = [pair for pair in table if not np.isnan(pair.kappa)]
    shared = sum(pair.shared for pair in known)
    return sum(pair.kappa * pair.shared for pair in known) / shared if shared else float("nan")


def fleiss_kappa(
    units: Mapping[str, Sequence[Sequence[float]]], *, resamples: int = 1000, seed: int = 0
) -> Estimate:
    """Fleiss's κ (1971) of units with two or more values, by item, with a bootstrap interval over
    items.

    κ = (P̄ − P̄e) / (1 − P̄e): P̄ the mean over units of Σ_c n_uc (n_uc − 1) / (m_u (m_u − 1)), P̄e
    = Σ_c p_c², p_c the share of all values that are c. With equal m_u this is Fleiss's; units may
    differ in m_u, each then counting once in P̄.
    """
    values = sorted({v for item in units.values() for unit in item if len(unit) > 1 for v in unit})
    place = {value: at for at, value in enumerate(values)}
    rows: list[Floats] = []
    for item in sorted(units):
        row = np.zeros(len(values) + 2)  # counts of the values; Σ P_u; number of units
        for unit in units[item]:
            if len(unit) > 1:
                counts = np.bincount([place[v] for v in unit], minlength=len(values)).astype(float)
                row[:-2] += counts
                row[-2] += (counts * (counts - 1)).sum() / (len(unit) * (len(unit) - 1))
                row[-1] += 1
        if row[-1]:
            rows.append(row)
    return bootstrap(np.stack(rows), _fleiss, resamples=resamples, seed=seed) if rows else UNKNOWN


def _fleiss(row: Floats) -> float:
    share = row[:-2] / row[:-2].sum()
    chance = float((share**2).sum())
    return (
        float((row[-2] / row[-1] - chance) / (1.0 - chance))
        if chance < 1.0 - 1e-12
        else float("nan")
    )


def _alpha(coincidences: Floats, values: Floats, level: Level) -> float:
    totals = coincidences.sum(axis=0)
    distance = _distance(totals, values, level)
    expected = float(totals @ distance @ totals)
    return (
        float(1.0 - (totals.sum() - 1.0) * (coincidences * distance).sum() / expected)
        if expected > 0
        else np.nan
    )


def _distance(totals: Floats, values: Floats, level: Level) -> Floats:
    """δ² between the values, [V, V]."""
    if level == "nominal":
        return 1.0 - np.eye(len(values))
    if level == "interval":
        return np.subtract.outer(values, values) ** 2
    # Σ_{g=c..k} n_g − (n_c + n_k)/2 is the distance of the values' mid-ranks.
    middle = np.cumsum(totals) - totals / 2.0
    return np.subtract.outer(middle, middle) ** 2
