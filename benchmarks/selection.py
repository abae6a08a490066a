"""How many labels active selection saves on the simulated panel: strategies against random, with
intervals over seeds.

Answers have the properties of burnish.rewards.taste drawn at random; a panel's members vote on
pairs; a linear reward model is refitted after each batch; its accuracy is measured on pairs it
never saw, against the gold taste. The saving of a strategy is 1 − (labels it needs) / (labels
random needs) to reach the accuracy that random reaches with its last batch.

Run: python benchmarks/selection.py --seeds 20
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise

import numpy as np

from burnish.annotation.panel import default_panel, rank
from burnish.annotation.selection import choose, fit
from burnish.rewards.taste import PROPERTIES

STRATEGIES = ("random", "uncertainty", "disagreement", "d-optimal")


def curve(
    strategy: str, *, seed: int, pool: int, start: int, batch: int, rounds: int, annotators: int
) -> list[tuple[int, float]]:
    """(labels given, accuracy against the gold taste on unseen pairs) after each batch. The pool
    and the votes of a seed are the same for every strategy."""
    rng = np.random.default_rng(seed)
    weights = {name: float(rng.uniform(0.2, 2.0)) for name in PROPERTIES}
    gold_F = np.array([weights[name] for name in PROPERTIES])
    gold_F = gold_F / gold_F.sum()
    panel = default_panel(weights, size=10, seed=seed)
    answers_NKF = _answers(rng, pool)
    unseen_NKF = _answers(rng, 2000)
    votes_N = _votes(panel, answers_NKF, annotators, seed)
    difference_NF = answers_NKF[:, 0] - answers_NKF[:, 1]
    # measured in its spread, as a reward model's features would be
    scale_F = difference_NF.std(axis=0)
    x_NF, test_NF = difference_NF / scale_F, unseen_NKF[:, 0] - unseen_NKF[:, 1]
    truth_N = np.sign(test_NF @ gold_F)
    chooser = np.random.default_rng([seed, 1])
    taken = chooser.permutation(pool)[:start].tolist()
    points = []
    for _ in range(rounds + 1):
        posterior = fit(x_NF[taken], votes_N[taken])
        guess_N = np.sign(test_NF / scale_F @ posterior.mean_F)
        points.append((len(taken) * annotators, float((guess_N == truth_N).mean())))
        free = np.setdiff1d(np.arange(pool), taken)
        picked = choose(strategy, x_NF[free], posterior, batch, rng=chooser)  # type: ignore[arg-type]
        taken += free[picked].tolist()
    return points


def labels_to_reach(points: list[tuple[int, float]], target: float) -> float:
    """Labels at which a curve first reaches the target, between two points by a straight line; inf
    if it never does."""
    if points[0][1] >= target:
        return float(points[0][0])
    for (n0, a0), (n1, a1) in pairwise(points):
        if a1 >= target:
            return n0 + (n1 - n0) * (target - a0) / (a1 - a0)
    return float("inf")


def _saving(curves: dict, strategy: str, seeds: list[int], rounds: int) -> float:
    """1 − labels / random's labels to reach what random reaches after `rounds` batches, on the mean
    curves of some seeds."""

    def mean(name: str) -> list[tuple[int, float]]:
        return [
            (points[0][0], float(np.mean([accuracy for _, accuracy in points])))
            for points in zip(*(curves[name][seed] for seed in seeds), strict=True)
        ]

    random = mean("random")[: rounds + 1]
    return 1.0 - labels_to_reach(mean(strategy), random[-1][1]) / labels_to_reach(
        random, random[-1][1]
    )


def _shown(value: float) -> float | None:
    """None: not reached with twice the labels."""
    return round(float(value), 3) if np.isfinite(value) else None


def _answers(rng: np.random.Generator, count: int) -> np.ndarray:
    """[count, 2, F] in [0, 1]: most properties of most answers are alike, as a model's answers to
    one prompt are."""
    base = rng.beta(2.0, 2.0, size=(count, 1, len(PROPERTIES)))
    change = rng.random((count, 2, len(PROPERTIES))) < 0.4
    return np.where(change, rng.beta(0.7, 0.7, size=(count, 2, len(PROPERTIES))), base)


def _votes(panel, answers_NKF: np.ndarray, annotators: int, seed: int) -> np.ndarray:
    """The share of annotators who prefer the first; who votes goes round, and a tie is half."""
    shares = np.zeros(len(answers_NKF))
    for n, properties_KF in enumerate(answers_NKF):
        for turn in range(annotators):
            persona = panel[(n + turn) % len(panel)]
            rng = np.random.default_rng([seed, 2, n, turn])
            _, ranks = rank(properties_KF=properties_KF, names=PROPERTIES, persona=persona, rng=rng)
            shares[n] += (0.5 if ranks[0] == ranks[1] else float(ranks[0] < ranks[1])) / annotators
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--pool", type=int, default=2000)
    parser.add_argument("--start", type=int, default=20)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=14)
    parser.add_argument("--annotators", type=int, default=1)
    given = parser.parse_args()
    setting = {k: getattr(given, k) for k in ("pool", "start", "batch", "rounds", "annotators")}
    # The others go twice as far, so that one that is worse than random shows by how much.
    curves = {
        s: [
            curve(s, seed=seed, **setting | {"rounds": given.rounds * 2})
            for seed in range(given.seeds)
        ]
        for s in STRATEGIES
    }
    rng, result = np.random.default_rng(0), {}
    drawn_RS = rng.integers(given.seeds, size=(2000, given.seeds))
    for strategy in STRATEGIES:
        every = list(range(given.seeds))
        savings = [_saving(curves, strategy, seeds.tolist(), given.rounds) for seeds in drawn_RS]
        low, high = np.percentile(savings, [2.5, 97.5], method="inverted_cdf")
        ends = np.array([points[given.rounds][1] for points in curves[strategy]])
        lead = ends - np.array([points[given.rounds][1] for points in curves["random"]])
        result[strategy] = {
            "saving": _shown(_saving(curves, strategy, every, given.rounds)),
            "low": _shown(low),
            "high": _shown(high),
            "accuracy_middle": round(
                float(np.mean([points[given.rounds // 2][1] for points in curves[strategy]])), 4
            ),
            "accuracy_end": round(float(ends.mean()), 4),
            "lead_end": round(float(lead.mean()), 4),
            "lead_end_se": round(float(lead.std(ddof=1) / np.sqrt(given.seeds)), 4),
        }
    print(json.dumps({"setting": setting, "seeds": given.seeds, "strategies": result}, indent=2))


if __name__ == "__main__":
    main()
