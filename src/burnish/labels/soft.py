"""From votes to soft labels: the share of annotators, each weighted by how reliable they seem to
be."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from burnish.labels.votes import Vote
from burnish.records import Comparison

Strength = Literal["ignore", "probability", "margin"]
"""What a stated strength of preference becomes: nothing, a probability nearer to ½, or a margin
inside the loss."""

_PRIOR = (8.0, 4.0)
"""Beta prior of an annotator's accuracy: as if 8 of 12 earlier votes had been right. It keeps few
votes from saying much."""
UNHEARD = _PRIOR[0] / sum(_PRIOR)
"""The accuracy of an annotator without votes: the prior's mean."""

Pair = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class LabelOptions:
    """How votes become labels.

    Args:
        strength: see `Strength`.
        weighted: weight votes by their annotators' estimated reliability.
        human_share: thin the labels until people gave this share of them (of a store; see
            `annotation.labels.data_answers`).
        margin: the margin of a unanimous preference of full strength (`strength="margin"`).
        dimension: what was said of one dimension ("harmless", ...); None: the overall preference.
    """

    strength: Strength = "probability"
    weighted: bool = True
    human_share: float | None = None
    margin: float = 1.0
    dimension: str | None = None


def comparisons(
    votes: Sequence[Vote], reliability: Mapping[str, float] | None, options: LabelOptions
) -> dict[Pair, Comparison]:
    """The soft label of each pair that was voted on.

    With w_a the weight of annotator a (1, or max(log θ_a/(1−θ_a), 0.05) of the reliability θ_a),
    v_a in {0, ½, 1} the vote and g_a = |strength| / k its grade (1 for rankings):
    "ignore": p = Σ w v / Σ w; "probability": p = Σ w (½ + (v − ½) g) / Σ w; "margin": p as with
    "ignore" and margin = `options.margin` · |Σ w (2v − 1) g| / Σ w, where g is 0 for a correction.
    """
    by_pair: dict[Pair, list[Vote]] = defaultdict(list)
    for vote in votes:
        by_pair[vote.item_id, vote.first, vote.second].append(vote)
    return {
        pair: Comparison(pair[1], pair[2], *_label(group, reliability, options))
        for pair, group in by_pair.items()
    }


def _label(
    votes: Sequence[Vote], reliability: Mapping[str, float] | None, options: LabelOptions
) -> tuple[float, float]:
    """(probability, margin) of one pair."""
    weights = [
        1.0 if reliability is None else vote_weight(reliability[vote.annotator]) for vote in votes
    ]
    # The exact sum: in which order the votes lie in a store or a file changes nothing.
    total = math.fsum(weights)
    plain = (
        math.fsum(w * (vote.value - 0.5) for w, vote in zip(weights, votes, strict=True)) / total
    )
    graded = (
        math.fsum(
            w * (vote.value - 0.5) * vote.grade for w, vote in zip(weights, votes, strict=True)
        )
        / total
    )
    side = graded if options.strength == "probability" else plain
    margin = 0.0
    if options.strength == "margin":
        stated = [
            w * (v.value - 0.5) * v.grade
            for w, v in zip(weights, votes, strict=True)
            if not v.rewritten
        ]
        margin = options.margin * abs(2.0 * math.fsum(stated) / total)
    return min(1.0, max(0.0, 0.5 + side)), margin


def reliabilities(found: Sequence[Vote], *, iterations: int = 50) -> dict[str, float]:
    """Each annotator's accuracy on pairs, by expectation-maximisation of the one-coin model of
    Dawid & Skene (1979).

    Every pair has an unknown right answer, first or second, equally likely at the outset; annotator
    a gives it with probability θ_a. E-step: P(first) from the votes under the present θ. M-step:
    θ_a = (8 + Σ P(a's vote is right)) / (12 + votes of a). Ties count as half a vote for either
    side, which says nothing, so they are left out.
    """
    names = list(dict.fromkeys(vote.annotator for vote in found))
    place = {name: i for i, name in enumerate(names)}
    decided = [vote for vote in found if vote.value != 0.5]
    pairs: dict[Hashable, int] = {}
    pair_V = np.array(
        [pairs.setdefault((v.item_id, v.first, v.second), len(pairs)) for v in decided],
        dtype=np.intp,
    )
    who_V = np.array([place[vote.annotator] for vote in decided], dtype=np.intp)
    side_V = np.array([1.0 if vote.value == 1.0 else -1.0 for vote in decided])
    count_A = np.bincount(who_V, minlength=len(names))
    accuracy_A = np.full(len(names), UNHEARD)
    for _ in range(iterations):
        log_odds_A = np.log(accuracy_A / (1.0 - accuracy_A))
        evidence_P = np.bincount(pair_V, weights=side_V * log_odds_A[who_V], minlength=len(pairs))
        first_P = 1.0 / (1.0 + np.exp(-np.clip(evidence_P, -500.0, 500.0)))
        right_V = np.where(side_V > 0, first_P[pair_V], 1.0 - first_P[pair_V])
        accuracy_A = (_PRIOR[0] + np.bincount(who_V, weights=right_V, minlength=len(names))) / (
            sum(_PRIOR) + count_A
        )
    return dict(zip(names, accuracy_A.tolist(), strict=True))


def vote_weight(reliability: float) -> float:
    """max(log θ/(1−θ), 0.05): the weight of the one-coin model, floored so that no one is wholly
    unheard."""
    return max(math.log(reliability / (1.0 - reliability)), 0.05)
