"""Proxy and gold along √KL: Gao's curves, and how they change with data, size, noise and bias."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from burnish.lab.chains import Floats, expectations, inverse_at_kl, scores_of, standardized, tilted
from burnish.lab.fits import fitted
from burnish.lab.results import Curve, Findings, Row, along, over_seeds
from burnish.lab.reward_models import accuracy, covariance, train
from burnish.lab.settings import Lab, Labels
from burnish.lab.worlds import Drawn, draw
from burnish.statistics import best_of_n
from burnish.statistics.correlation import spearman

_FAR = 40.0  # nats: how far a peak is looked for
_PLACES = 41  # policies among which it is


def way(world: Drawn, proxy_TSS: Floats, kl_B: Floats) -> dict[str, list[float]]:
    """Proxy, gold, length and KL of the optimal policies at these KLs, exactly. Where no policy is
    so far from the first, the KL that is written is that of the farthest."""
    inverse_B = inverse_at_kl(world.policy_TSS, proxy_TSS, kl_B)
    policies, log_z_B = tilted(world.policy_TSS, proxy_TSS, inverse_B)
    proxy_B, gold_B, length_B = expectations(
        policies, [proxy_TSS, world.gold_TSS, world.length_TSS]
    )
    return {
        "kl": (inverse_B * proxy_B - log_z_B).tolist(),  # E_π[proxy] / β − log Z
        "proxy": proxy_B.tolist(),
        "gold": gold_B.tolist(),
        "length": length_B.tolist(),
    }


def distances(points: int, max_kl: float) -> Floats:
    """KLs evenly along d = √KL, without 0."""
    return np.linspace(0.0, np.sqrt(max_kl), points + 1)[1:] ** 2


def measure_curves(lab: Lab, seed: int) -> dict[str, Any]:
    """One world: the way of reinforcement learning, and best-of-n from scored answers."""
    world, rng = draw(lab.world, seed), np.random.default_rng([seed, 2])
    proxy_TSS = standardized(world.policy_TSS, train(world, lab.labels, rng))
    answers = world.answers(lab.curves.answers, rng)
    scores = {"proxy": scores_of(answers, proxy_TSS), "gold": world.gold(answers)}
    best = {
        name: [best_of_n.estimate(scores["proxy"], values, n) for n in lab.curves.n]
        for name, values in scores.items()
    }
    return {
        "rl": way(world, proxy_TSS, distances(lab.curves.points, lab.curves.max_kl)),
        "best": best,
        "correlation": covariance(world, proxy_TSS, world.gold_TSS),
        "accuracy": accuracy(world, proxy_TSS, rng),
    }


def summarize_curves(lab: Lab, runs: Sequence[dict[str, Any]]) -> Findings:
    """Both curves with Gao's fits."""
    kl_P = distances(lab.curves.points, lab.curves.max_kl)
    gold_KP = np.array([run["rl"]["gold"] for run in runs])
    lines = {name: along(np.array([run["rl"][name] for run in runs])) for name in runs[0]["rl"]}
    rl = Curve("reinforcement learning", kl_P.tolist(), lines, fitted(np.sqrt(kl_P), gold_KP, "rl"))
    bounds_P = np.array([best_of_n.kl_bound(n) for n in lab.curves.n])
    some = bounds_P > 0.0
    best_KP = np.array([run["best"]["gold"] for run in runs])
    fit = None
    if some.sum() > 1:
        fit = fitted(np.sqrt(bounds_P[some]), best_KP[:, some], "best_of_n")
    lines = {name: along(np.array([run["best"][name] for run in runs])) for name in runs[0]["best"]}
    facts = {
        "accuracy": over_seeds([run["accuracy"] for run in runs]),
        "correlation": over_seeds([run["correlation"] for run in runs]),
        "peak_gold": over_seeds(gold_KP.max(axis=1)),
        "last_gold": over_seeds(gold_KP[:, -1]),
        "last_kl": over_seeds([run["rl"]["kl"][-1] for run in runs]),
    }
    return Findings(curves=[rl, Curve("best of n", bounds_P.tolist(), lines, fit)], facts=facts)


def _far(world: Drawn, labels: Labels, seed: int, kl: float) -> dict[str, float]:
    """What a reward model with these labels leads to: gold at one KL, the highest gold on the way
    and the KL where that is."""
    rng = np.random.default_rng([seed, 3, labels.pairs])
    proxy_TSS = standardized(world.policy_TSS, train(world, labels, rng))
    kl_P = np.append(distances(_PLACES, _FAR), kl)
    found = way(world, proxy_TSS, kl_P)
    gold_P = np.array(found["gold"][:-1])
    highest = int(gold_P.argmax())
    rises = gold_P[highest] > 0.0
    return {
        "gold": found["gold"][-1],
        "kl": found["kl"][-1],
        "length": found["length"][-1],
        "peak_gold": float(max(gold_P[highest], 0.0)),
        "peak_kl": found["kl"][highest] if rises else 0.0,
        "accuracy": accuracy(world, proxy_TSS, rng),
    }


def _cases(lab: Lab, experiment: str) -> dict[str, Labels]:
    """The labels of each row of an experiment."""
    labels = lab.labels.model_copy
    if experiment == "noise":
        changes = {
            f"{100 * share:g} % flipped": {"flipped": share, "pairs": lab.noise.pairs}
            for share in lab.noise.flipped
        }
    elif experiment == "length_bias":
        changes = {
            f"bias {one:g} a token": {"length_bias": one, "pairs": lab.length_bias.pairs}
            for one in lab.length_bias.strengths
        }
    else:
        changes = {
            f"{kind}, {pairs} pairs": {"pairs": pairs, "features": kind}
            for kind in lab.scaling.features
            for pairs in lab.scaling.pairs
        }
    return {name: labels(update=change) for name, change in changes.items()}


def measure_cases(lab: Lab, seed: int, experiment: str) -> dict[str, Any]:
    """One world: `_far` of every case."""
    world = draw(lab.world, seed)
    cases = _cases(lab, experiment)
    return {name: _far(world, labels, seed, lab.scaling.kl) for name, labels in cases.items()}


def summarize_cases(lab: Lab, runs: Sequence[dict[str, Any]]) -> Findings:
    """A row for each case; the median of the peaks, which lie on a scale without an end."""
    rows = []
    for name in runs[0]:
        columns = {key: [run[name][key] for run in runs] for key in runs[0][name]}
        figures = {key: over_seeds(values) for key, values in columns.items()}
        rows.append(Row(name, {**figures, "median_peak_kl": float(np.median(columns["peak_kl"]))}))
    return Findings(rows=rows)


def summarize_scaling(lab: Lab, runs: Sequence[dict[str, Any]]) -> Findings:
    """The rows, and Spearman's correlation of pairs with mean gold for the labels' own features."""
    found = summarize_cases(lab, runs)
    facts = {}
    for kind in lab.scaling.features:
        gold = [
            float(np.mean([run[f"{kind}, {pairs} pairs"]["gold"] for run in runs]))
            for pairs in lab.scaling.pairs
        ]
        facts[f"spearman_{kind}"] = spearman(lab.scaling.pairs, gold)
    return Findings(rows=found.rows, facts=facts)
