"""The small world: every string is listed, so that best-of-n is exact, its KL too."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from burnish.lab.chains import Answers, scores_of, standardized
from burnish.lab.results import Curve, Findings, along
from burnish.lab.reward_models import train
from burnish.lab.settings import Lab, World
from burnish.lab.worlds import draw
from burnish.statistics import best_of_n


def strings(tokens: int, length: int) -> Answers:
    """All strings of this length, in the order of their tokens."""
    listed = np.array(list(product(range(tokens), repeat=length)), dtype=np.int64)
    ends = np.full((len(listed), 1), tokens)
    before_NT, after_NT = np.hstack([ends, listed]), np.hstack([listed, ends])
    states = tokens + 1
    places_NT = (np.arange(length + 1) * states + before_NT) * states + after_NT
    rows = np.repeat(np.arange(len(listed)), length + 1)
    return Answers(rows, places_NT.ravel(), np.full(len(listed), length))


def world_of(lab: Lab) -> World:
    """The file's world, with strings of one length."""
    return lab.world.model_copy(update={"max_length": lab.exact.length, "end": 0.0})


def measure(lab: Lab, seed: int) -> dict[str, Any]:
    """One world: for each n the exact KL, and the proxy and gold of the best by proxy."""
    world = draw(world_of(lab), seed)
    labels = lab.labels.model_copy(update={"pairs": lab.exact.pairs})
    trained_TSS = train(world, labels, np.random.default_rng([seed, 2]))
    proxy_TSS = standardized(world.policy_TSS, trained_TSS)
    listed = strings(world.tokens, lab.exact.length)
    chances = np.exp(scores_of(listed, world.policy_TSS))
    chances /= chances.sum()
    # What adds up the same in another order must tie
    proxy = np.round(scores_of(listed, proxy_TSS), 9)
    gold = world.gold(listed)
    found: dict[str, list[float]] = {"kl": [], "proxy": [], "gold": []}
    for n in lab.exact.n:
        after = best_of_n.distribution(chances, proxy, n)
        found["kl"].append(best_of_n.kl(after, chances))
        found["proxy"].append(float(after @ proxy))
        found["gold"].append(float(after @ gold))
    return found


def summarize(lab: Lab, runs: Sequence[dict[str, Any]]) -> Findings:
    """Means over worlds, and the exact KL of one known case: eight outcomes, equally likely, the
    best of 64."""
    even = np.full(8, 1.0 / 8.0)
    lines = {name: along(np.array([run[name] for run in runs])) for name in ("kl", "proxy", "gold")}
    curve = Curve("best of n", [float(n) for n in lab.exact.n], lines)
    facts = {
        "strings": float(lab.world.vocabulary**lab.exact.length),
        "uniform_8_of_64_kl": best_of_n.kl(best_of_n.distribution(even, np.arange(8.0), 64), even),
        "uniform_8_of_64_bound": best_of_n.kl_bound(64),
    }
    return Findings(curves=[curve], facts=facts)
