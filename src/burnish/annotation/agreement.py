"""How far annotators agree: pairwise agreement, Krippendorff's α, position bias. Votes are what rankings say of pairs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations

import numpy as np

from burnish.annotation.store import Ranking

FEW_ITEMS = 30
"""Under this many items with two or more annotators, α says little: its interval is wide and its bootstrap poor."""


@dataclass(frozen=True, slots=True)
class Vote:
    """One annotator on one pair of candidates: `value` is 1 if `first` ranks better, 0 if worse, ½ for a tie."""

    item_id: str
    first: int
    second: int
    annotator: str
    value: float
    first_shown_earlier: bool


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval, from `n` items."""

    value: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)


def votes(rankings: Iterable[Ranking]) -> list[Vote]:
    """The K(K−1)/2 votes of each ranking of K candidates."""
    found = []
    for ranking in rankings:
        place = {candidate: at for at, candidate in enumerate(ranking.presented)}
        for i, j in combinations(range(len(ranking.ranks)), 2):
            value = 0.5 if ranking.ranks[i] == ranking.ranks[j] else float(ranking.ranks[i] < ranking.ranks[j])
            found.append(Vote(ranking.item_id, i, j, ranking.annotator, value, place[i] < place[j]))
    return found


def pairwise_agreement(found: Sequence[Vote], *, resamples: int = 2000, seed: int = 0) -> Estimate:
    """Of two annotators who both preferred one of a pair, how often they preferred the same; interval by a bootstrap over items.

    Ties are left out, as InstructGPT's 73 % leaves them out. NaN where no pair has two such annotators.
    """
    agreed, counted = defaultdict(float), defaultdict(float)
    for (item, _, _), group in _by_pair(found).items():
        values = [vote.value for vote in group if vote.value != 0.5]
        for a, b in combinations(values, 2):
            agreed[item] += a == b
            counted[item] += 1
    return _ratio(agreed, counted, resamples=resamples, seed=seed)


def krippendorff_alpha(found: Sequence[Vote], *, resamples: int = 500, seed: int = 0) -> tuple[Estimate, str | None]:
    """Krippendorff's α (nominal) of the pairwise choices, its interval by a bootstrap over items, and a warning or None.

    Units are pairs of candidates of one item, values "first", "second" and "tie". Rankings are compared by their pairs
    because ranks of one item and of another are not on a common scale. (Krippendorff, Content Analysis, 4th ed., ch. 12.)
    Which of a pair stands first is arbitrary, so every unit is counted both ways round: chance agreement is then that of
    annotators without any leaning to a side, whatever the order the candidates were stored in.
    """
    coincidences = _coincidences(found)
    items = sorted(coincidences)
    few = (
        f"only {len(items)} items have two or more annotators; α needs {FEW_ITEMS}" if len(items) < FEW_ITEMS else None
    )
    if not items:
        return Estimate(float("nan"), float("nan"), float("nan"), 0), few
    table = np.stack([coincidences[item] for item in items])
    rng = np.random.default_rng(seed)
    draws = [_alpha(table[rng.integers(len(items), size=len(items))].sum(axis=0)) for _ in range(resamples)]
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return Estimate(_alpha(table.sum(axis=0)), float(low), float(high), len(items)), few


def first_shown_share(found: Sequence[Vote]) -> tuple[float, float]:
    """(share of decided pairs won by the candidate that was shown earlier, two-sided binomial p-value against ½)."""
    from scipy.stats import binomtest

    decided = [(vote.value == 1.0) == vote.first_shown_earlier for vote in found if vote.value != 0.5]
    if not decided:
        return float("nan"), float("nan")
    return sum(decided) / len(decided), float(binomtest(sum(decided), len(decided)).pvalue)


def _by_pair(found: Sequence[Vote]) -> dict[tuple[str, int, int], list[Vote]]:
    groups: dict[tuple[str, int, int], list[Vote]] = defaultdict(list)
    for vote in found:
        groups[vote.item_id, vote.first, vote.second].append(vote)
    return groups


def _coincidences(found: Sequence[Vote]) -> dict[str, np.ndarray]:
    """By item, the 3×3 coincidence matrix of first, tie, second over its pairs, each pair both ways round."""
    tables: dict[str, np.ndarray] = {}
    for (item, _, _), group in _by_pair(found).items():
        if len(group) < 2:
            continue
        counts = np.bincount([round(2 * vote.value) for vote in group], minlength=3).astype(float)
        table = (np.outer(counts, counts) - np.diag(counts)) / (len(group) - 1)
        tables[item] = tables.get(item, np.zeros((3, 3))) + table + table[::-1, ::-1]
    return tables


def _alpha(coincidences: np.ndarray) -> float:
    """1 − observed / expected disagreement of a coincidence matrix; NaN where all values are the same."""
    totals = coincidences.sum(axis=0)
    n = totals.sum()
    expected = n**2 - (totals**2).sum()
    return float(1.0 - (n - 1) * (n - np.trace(coincidences)) / expected) if expected > 0 else float("nan")


def _ratio(numerator: dict[str, float], denominator: dict[str, float], *, resamples: int, seed: int) -> Estimate:
    items = sorted(denominator)
    if not items:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    top, bottom = (np.array([part[item] for item in items]) for part in (numerator, denominator))
    rows = np.random.default_rng(seed).integers(len(items), size=(resamples, len(items)))
    low, high = np.percentile(top[rows].sum(axis=1) / bottom[rows].sum(axis=1), [2.5, 97.5])
    return Estimate(float(top.sum() / bottom.sum()), float(low), float(high), len(items))
