"""From votes to soft labels: the share of annotators, each weighted by how reliable they seem to be."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from burnish.annotation.agreement import Vote
from burnish.annotation.store import Task
from burnish.records import Comparison, PreferenceGroup

_PRIOR = (8.0, 4.0)
"""Beta prior of an annotator's accuracy: as if 8 of 12 earlier votes had been right. It keeps few votes from saying much."""

Pair = tuple[str, int, int]


def reliabilities(found: Sequence[Vote], *, iterations: int = 50) -> dict[str, float]:
    """Each annotator's accuracy on pairs, by expectation-maximisation of the one-coin model of Dawid & Skene (1979).

    Every pair has an unknown right answer, first or second, equally likely at the outset; annotator a gives it with
    probability θ_a. E-step: P(first) from the votes under the present θ. M-step: θ_a = (8 + Σ P(a's vote is right)) /
    (12 + votes of a). Ties count as half a vote for either side, which says nothing, so they are left out.
    """
    names = list(dict.fromkeys(vote.annotator for vote in found))
    place = {name: i for i, name in enumerate(names)}
    decided = [vote for vote in found if vote.value != 0.5]
    pairs: dict[Pair, int] = {}
    pair_V = np.array([pairs.setdefault((v.item_id, v.first, v.second), len(pairs)) for v in decided], dtype=np.intp)
    who_V = np.array([place[vote.annotator] for vote in decided], dtype=np.intp)
    side_V = np.array([1.0 if vote.value == 1.0 else -1.0 for vote in decided])
    count_A = np.bincount(who_V, minlength=len(names))
    accuracy_A = np.full(len(names), _PRIOR[0] / sum(_PRIOR))
    for _ in range(iterations):
        log_odds_A = np.log(accuracy_A / (1.0 - accuracy_A))
        evidence_P = np.bincount(pair_V, weights=side_V * log_odds_A[who_V], minlength=len(pairs))
        first_P = 1.0 / (1.0 + np.exp(-np.clip(evidence_P, -500.0, 500.0)))
        right_V = np.where(side_V > 0, first_P[pair_V], 1.0 - first_P[pair_V])
        accuracy_A = (_PRIOR[0] + np.bincount(who_V, weights=right_V, minlength=len(names))) / (sum(_PRIOR) + count_A)
    return dict(zip(names, accuracy_A.tolist(), strict=True))


def soft_labels(found: Sequence[Vote], *, reliability: Mapping[str, float] | None) -> dict[Pair, float]:
    """Of each pair, the probability that the first is better: Σ w_a v_a / Σ w_a over its votes v in {0, ½, 1}.

    w_a is `vote_weight` of the annotator's reliability; `reliability=None` weighs all the same (the plain share of annotators).
    """
    top: dict[Pair, float] = defaultdict(float)
    bottom: dict[Pair, float] = defaultdict(float)
    for vote in found:
        weight = 1.0 if reliability is None else vote_weight(reliability[vote.annotator])
        pair = (vote.item_id, vote.first, vote.second)
        top[pair] += weight * vote.value
        bottom[pair] += weight
    return {pair: top[pair] / bottom[pair] for pair in top}


def vote_weight(reliability: float) -> float:
    """max(log θ/(1−θ), 0.05): the weight of the one-coin model, floored so that no one is wholly unheard."""
    return max(_log_odds(reliability), 0.05)


def preference_groups(tasks: Sequence[Task], labels: Mapping[Pair, float]) -> list[PreferenceGroup]:
    """The labelled items as groups for a reward model, in the order of `tasks`; items without a label are left out."""
    by_item: dict[str, list[Comparison]] = defaultdict(list)
    for (item, first, second), probability in labels.items():
        by_item[item].append(Comparison(first, second, probability))
    return [
        PreferenceGroup(task.prompt, task.candidates, tuple(by_item[task.item_id]))
        for task in tasks
        if task.item_id in by_item
    ]


def _log_odds(p: float) -> float:
    return math.log(p / (1.0 - p))
