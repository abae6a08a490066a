"""How far annotators agree: pairwise agreement, Krippendorff's α, position bias. Votes are what
rankings say of pairs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations

from burnish.annotation.store import Ranking
from burnish.labels.votes import Vote, votes_of
from burnish.records import Opinion
from burnish.statistics.coefficients import FEW_ITEMS, alpha, ratio
from burnish.statistics.estimate import Estimate

__all__ = [
    "FEW_ITEMS",
    "Estimate",
    "Vote",
    "first_shown_share",
    "krippendorff_alpha",
    "pairwise_agreement",
    "votes",
]


def votes(rankings: Iterable[Ranking]) -> list[Vote]:
    """The K(K−1)/2 votes of each ranking of K candidates."""
    return [
        vote
        for one in rankings
        for vote in votes_of(
            one.item_id, Opinion("ranking", one.annotator, one.ranks, presented=one.presented)
        )
    ]


def pairwise_agreement(found: Sequence[Vote], *, resamples: int = 2000, seed: int = 0) -> Estimate:
    """Of two annotators who both preferred one of a pair, how often they preferred the same;
    interval by a bootstrap over items.

    Ties are left out, as InstructGPT's 73 % leaves them out. NaN where no pair has two such
    annotators.
    """
    agreed, counted = defaultdict(float), defaultdict(float)
    for (item, _, _), group in _by_pair(found).items():
        values = [vote.value for vote in group if vote.value != 0.5]
        for a, b in combinations(values, 2):
            agreed[item] += a == b
            counted[item] += 1
    return ratio(agreed, counted, resamples=resamples, seed=seed)


def krippendorff_alpha(
    found: Sequence[Vote], *, resamples: int = 500, seed: int = 0
) -> tuple[Estimate, str | None]:
    """Krippendorff's α (nominal) of the pairwise choices, its interval by a bootstrap over items,
    and a warning or None.

    Units are pairs of candidates of one item, values "first", "second" and "tie". Rankings are
    compared by their pairs because ranks of one item and of another are not on a common scale.
    (Krippendorff, Content Analysis, 4th ed., ch. 12.) Which of a pair stands first is arbitrary, so
    every unit is counted both ways round: chance agreement is then that of annotators without any
    leaning to a side, whatever the order the candidates were stored in.
    """
    units: dict[str, list[list[float]]] = defaultdict(list)
    for (item, _, _), group in _by_pair(found).items():
        values = [vote.value for vote in group]
        units[item] += [values, [1.0 - value for value in values]]
    return alpha(units, level="nominal", resamples=resamples, seed=seed)


def first_shown_share(found: Sequence[Vote]) -> tuple[float, float]:
    """(share of decided pairs won by the candidate that was shown earlier, two-sided binomial
    p-value against ½)."""
    from scipy.stats import binomtest

    decided = [
        (vote.value == 1.0) == vote.first_shown_earlier for vote in found if vote.value != 0.5
    ]
    if not decided:
        return float("nan"), float("nan")
    return sum(decided) / len(decided), float(binomtest(sum(decided), len(decided)).pvalue)


def _by_pair(found: Sequence[Vote]) -> dict[tuple[str, int, int], list[Vote]]:
    groups: dict[tuple[str, int, int], list[Vote]] = defaultdict(list)
    for vote in found:
        groups[vote.item_id, vote.first, vote.second].append(vote)
    return groups
