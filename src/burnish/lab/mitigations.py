"""What is done against over-optimization, and what it brings: the gold of the best of n.

An ensemble's members are fitted to labels of their own and brought to mean 0 and standard
deviation 1 over the policy's answers. The best of n is taken by their mean, their least (Coste et
al., arXiv:2310.02743) or mean − sd; by one member whose slope on length is taken off; or by one
reward model with the labels of all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from burnish.lab.chains import Answers, Floats, scores_of, standardized
from burnish.lab.results import Findings, Row, over_seeds
from burnish.lab.reward_models import train, without_length
from burnish.lab.settings import Lab, Labels
from burnish.lab.worlds import Drawn, draw
from burnish.statistics import best_of_n

SINGLE = "one model"


def cases(lab: Lab) -> dict[str, Labels]:
    """Few labels; few and noisy; few, by annotators who like length."""
    few = lab.labels.model_copy(update={"pairs": lab.mitigations.pairs})
    return {
        "few labels": few,
        "noisy labels": few.model_copy(update={"flipped": lab.mitigations.flipped}),
        "annotators like length": few.model_copy(
            update={"length_bias": lab.mitigations.length_bias}
        ),
    }


def measure(lab: Lab, seed: int) -> dict[str, Any]:
    """One world: for each case the gold of the best of n by each way to score."""
    world, rng = draw(lab.world, seed), np.random.default_rng([seed, 4])
    answers = world.answers(lab.mitigations.answers, rng)
    gold_N, found = world.gold(answers), {}
    for name, labels in cases(lab).items():
        scores = combined(world, answers, labels, lab.mitigations.members, rng)
        found[name] = {
            way: best_of_n.estimate(scores_N, gold_N, lab.mitigations.n)
            for way, scores_N in scores.items()
        }
    return found


def combined(
    world: Drawn, answers: Answers, labels: Labels, members: int, rng: np.random.Generator
) -> dict[str, Floats]:
    """[N] scores of the answers by each way."""
    trained = [train(world, labels, rng) for _ in range(members)]
    more = labels.model_copy(update={"pairs": members * labels.pairs})
    scores_MN = _scored(world, answers, trained)
    shorn_MN = _scored(world, answers, [without_length(world, one) for one in trained])
    mean_N = scores_MN.mean(axis=0)
    return {
        SINGLE: scores_MN[0],
        f"mean of {members}": mean_N,
        f"min of {members}": scores_MN.min(axis=0),
        "mean − sd": mean_N - scores_MN.std(axis=0, ddof=1),
        "length taken off": shorn_MN[0],
        f"length taken off, min of {members}": shorn_MN.min(axis=0),
        f"{members} times the labels": _scored(world, answers, [train(world, more, rng)])[0],
    }


def _scored(world: Drawn, answers: Answers, scores: Sequence[Floats]) -> Floats:
    """[M, N]."""
    return np.stack([scores_of(answers, standardized(world.policy_TSS, one)) for one in scores])


def summarize(lab: Lab, runs: Sequence[dict[str, Any]]) -> Findings:
    """A row for each case and way: gold, and what it is above one model's in the same world."""
    rows = []
    for case, ways in runs[0].items():
        single = np.array([run[case][SINGLE] for run in runs])
        for way in ways:
            gold = np.array([run[case][way] for run in runs])
            gain = None if way == SINGLE else over_seeds(gold - single)
            rows.append(Row(f"{case}: {way}", {"gold": over_seeds(gold), "gain": gain}))
    return Findings(rows=rows)
