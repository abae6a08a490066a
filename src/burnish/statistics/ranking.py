"""Which model is preferred: Bradley–Terry with ties and bootstrap intervals, Elo, intransitive
triples."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np

from burnish.statistics.coefficients import Floats
from burnish.statistics.estimate import Estimate

Ties = Literal["davidson", "half"]
_PRIOR_SD = 3.0
"""Of log-strengths: a model that has won every comparison has no finite maximum-likelihood
strength."""
_ELO_SCALE = 400.0 / math.log(10.0)


@dataclass(frozen=True, slots=True)
class Match:
    """One comparison of two models on one prompt: `value` is 1 if `first` won, 0 if `second`, ½ for
    a tie."""

    item_id: str
    first: str
    second: str
    value: float


@dataclass(frozen=True, slots=True)
class Standing:
    """A model in the ranking: its log-strength (mean 0 over models) with an interval, and its
    chance against an average one.

    `best` and `worst` are the 95 % interval of its place.
    """

    model: str
    strength: Estimate
    win_chance: float
    best: int
    worst: int
    comparisons: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "model": self.model,
            "strength": self.strength.to_dict(),
            "elo_scale": round(1000.0 + _ELO_SCALE * self.strength.value, 1),
            "win_chance": self.win_chance,
            "best": self.best,
            "worst": self.worst,
            "comparisons": self.comparisons,
        }


def fit_bradley_terry(
    wins: Floats, ties: Floats, *, method: Ties = "davidson"
) -> tuple[Floats, float]:
    """(log-strengths θ of mean 0, log ν) by Newton's method from `wins[i, j]` of i over j and
    symmetric `ties[i, j]`.

    Davidson (1970): P(i beats j) = π_i / D, P(tie) = ν √(π_i π_j) / D, D = π_i + π_j + ν √(π_i
    π_j), π = exp θ. "half" counts a tie as half a win of either, ν = 0 (log ν = −∞): Bradley &
    Terry (1952). θ has a normal prior of standard deviation 3, log ν one of 10, which matter only
    where the data set no bound.
    """
    count = len(wins)
    if method == "half" or not ties.any():
        wins, ties, tied = wins + ties / 2.0, np.zeros_like(ties), False
    else:
        tied = True
    x = np.zeros(count + 1)
    prior = np.append(np.full(count, 1.0 / _PRIOR_SD**2), 1.0 / 10.0**2)
    for _ in range(100):
        gradient, hessian = _derivatives(x, wins, ties, tied=tied)
        gradient, hessian = gradient + prior * x, hessian + np.diag(prior)
        step = np.linalg.solve(hessian, gradient)
        # no leap of more than 2 log-units
        x = x - step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-10:
            break
    return x[:count] - x[:count].mean(), float(x[count]) if tied else -math.inf


def bradley_terry(
    matches: Sequence[Match], *, method: Ties = "davidson", resamples: int = 500, seed: int = 0
) -> list[Standing]:
    """The models from strongest to weakest, with intervals by a bootstrap over prompts (not votes:
    those of one prompt are not independent). Models that no comparison joins, directly or through
    others, are only held together by the prior."""
    models = sorted({model for one in matches for model in (one.first, one.second)})
    if len(models) < 2:
        return []
    wins_P, ties_P = _tables(matches, models)
    theta, _ = fit_bradley_terry(wins_P.sum(axis=0), ties_P.sum(axis=0), method=method)
    rng, prompts = np.random.default_rng(seed), len(wins_P)
    draws = np.empty((resamples, len(models)))
    for i in range(resamples):
        weights = np.bincount(rng.integers(prompts, size=prompts), minlength=prompts).astype(float)
        wins, ties = (np.tensordot(weights, table, axes=1) for table in (wins_P, ties_P))
        draws[i] = fit_bradley_terry(wins, ties, method=method)[0]
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    places = 1 + (draws[:, None, :] > draws[:, :, None]).sum(axis=2)
    best, worst = np.percentile(places, [2.5, 97.5], axis=0, method="inverted_cdf")
    played = (wins_P + wins_P.transpose(0, 2, 1) + ties_P).sum(axis=(0, 2))
    return [
        Standing(
            models[i],
            Estimate(
                float(theta[i]), float(low[i]), float(high[i]), prompts, "bootstrap over prompts"
            ),
            float(1.0 / (1.0 + math.exp(-theta[i]))),
            int(best[i]),
            int(worst[i]),
            int(played[i]),
        )
        for i in map(int, np.argsort(-theta, kind="stable"))
    ]


def elo(matches: Iterable[Match], *, k: float = 16.0, start: float = 1000.0) -> dict[str, float]:
    """Elo ratings after the matches in the order given: R += k (value − 1 / (1 + 10^((R_other − R)
    / 400))).

    The result depends on that order; Bradley–Terry's does not.
    """
    rating: dict[str, float] = defaultdict(lambda: start)
    for one in matches:
        expected = 1.0 / (1.0 + 10.0 ** ((rating[one.second] - rating[one.first]) / 400.0))
        change = k * (one.value - expected)
        rating[one.first] += change
        rating[one.second] -= change
    return dict(rating)


@dataclass(frozen=True, slots=True)
class Cycles:
    """Intransitive triples among `triples` whose three pairs are all decided, and how many noise
    alone would give."""

    observed: int
    triples: int
    expected: float
    p_value: float
    examples: tuple[tuple[str, str, str], ...] = ()


def model_cycles(matches: Sequence[Match], *, draws: int = 500, seed: int = 0) -> Cycles:
    """Triples of models whose majorities run in a circle, against the number expected if
    Bradley–Terry were true.

    The expectation is the mean over `draws` sets of votes drawn from the fitted model (Davidson's,
    ties included), each pair of models as often as it was compared; `p_value` the share of draws
    with at least as many circles (plus one over plus one).
    """
    models = sorted({model for one in matches for model in (one.first, one.second)})
    if len(models) < 3:
        return Cycles(0, 0, 0.0, 1.0)
    wins_P, ties_P = _tables(matches, models)
    wins, ties = wins_P.sum(axis=0), ties_P.sum(axis=0)
    lead = wins - wins.T
    observed = _circles(lead)
    theta, log_nu = fit_bradley_terry(wins, ties)
    rng = np.random.default_rng(seed)
    counts: list[int] = []
    for _ in range(draws):
        drawn = np.zeros_like(lead)
        for i, j in combinations(range(len(models)), 2):
            p_first, p_tie = _chances(theta[i] - theta[j], log_nu)
            n = int(wins[i, j] + wins[j, i] + ties[i, j])
            first, second, _ = rng.multinomial(n, [p_first, max(0.0, 1.0 - p_first - p_tie), p_tie])
            drawn[i, j], drawn[j, i] = first - second, second - first
        counts.append(len(_circles(drawn)))
    decided = sum(
        all(lead[a, b] != 0 for a, b in combinations(three, 2))
        for three in combinations(range(len(models)), 3)
    )
    more = sum(count >= len(observed) for count in counts)
    named = tuple((models[a], models[b], models[c]) for a, b, c in observed)
    return Cycles(len(observed), decided, float(np.mean(counts)), (more + 1) / (draws + 1), named)


def annotator_cycles(
    votes: Mapping[tuple[str, str], Mapping[tuple[int, int], float]], error: Mapping[str, float]
) -> Cycles:
    """Triples of answers to one prompt that one annotator judged in pairs, in a circle.

    `votes[annotator, item][i, j]` (i < j) is 1 if i was preferred, 0 if j; ties decide nothing. If
    each vote errs with probability e against a true order, a triple is a circle with probability e
    (1 − e): two of the eight outcomes are circles, (1−e)²e and e²(1−e). `error[annotator]` is that
    e; at ½ it gives chance's 1 in 4. p: Poisson's upper tail.
    """
    from scipy.stats import poisson

    observed, triples, expected = 0, 0, 0.0
    for (annotator, _), said in votes.items():
        for a, b, c in combinations(sorted({i for pair in said for i in pair}), 3):
            around = [said.get((a, b), 0.5), said.get((b, c), 0.5), 1.0 - said.get((a, c), 0.5)]
            if 0.5 in around:
                continue
            triples += 1
            observed += around in ([1.0] * 3, [0.0] * 3)
            expected += error[annotator] * (1.0 - error[annotator])
    return Cycles(
        observed, triples, expected, float(poisson.sf(observed - 1, expected)) if triples else 1.0
    )


def _tables(matches: Sequence[Match], models: Sequence[str]) -> tuple[Floats, Floats]:
    """By prompt: wins [P, M, M] and ties [P, M, M], the latter symmetric."""
    place = {model: i for i, model in enumerate(models)}
    prompts: dict[str, int] = {}
    rows = [prompts.setdefault(one.item_id, len(prompts)) for one in matches]
    wins, ties = (np.zeros((len(prompts), len(models), len(models))) for _ in range(2))
    for row, one in zip(rows, matches, strict=True):
        i, j = place[one.first], place[one.second]
        if i == j:
            raise ValueError(f"model {one.first!r} is compared with itself")
        if one.value == 0.5:
            ties[row, i, j] += 1.0
            ties[row, j, i] += 1.0
        elif one.value == 1.0:
            wins[row, i, j] += 1.0
        else:
            wins[row, j, i] += 1.0
    return wins, ties


def _chances(difference: float, log_nu: float) -> tuple[float, float]:
    """(P(first wins), P(tie)) of two models whose log-strengths differ by this."""
    parts = np.array([difference / 2.0, -difference / 2.0, log_nu])
    parts = np.exp(parts - parts.max())
    return float(parts[0] / parts.sum()), float(parts[2] / parts.sum())


def _derivatives(x: Floats, wins: Floats, ties: Floats, *, tied: bool) -> tuple[Floats, Floats]:
    """Gradient and Hessian of the negative log-likelihood in (θ, log ν).

    With d = θ_i − θ_j a pair is a softmax over (win, loss, tie) of logits (d/2, −d/2, log ν), so
    that its Hessian is the number of comparisons times the covariance of the features (½, 0), (−½,
    0), (0, 1).
    """
    count = len(wins)
    theta, log_nu = x[:count], x[count] if tied else -math.inf
    half = np.subtract.outer(theta, theta) / 2.0
    peak = np.maximum(np.abs(half), log_nu)
    up, down, level = np.exp(half - peak), np.exp(-half - peak), np.exp(log_nu - peak)
    total = up + down + level
    p_win, p_loss, p_tie = up / total, down / total, level / total
    n = wins + wins.T + ties
    # antisymmetric: derivative by d of pair (i, j)
    g_d = n * (p_win - p_loss) / 2.0 - (wins - wins.T) / 2.0
    h_dd = n * ((p_win + p_loss) - (p_win - p_loss) ** 2) / 4.0
    gradient, hessian = np.zeros(count + 1), np.zeros((count + 1, count + 1))
    gradient[:count] = g_d.sum(axis=1)
    hessian[:count, :count] = np.diag(h_dd.sum(axis=1)) - h_dd
    if tied:
        upper = np.triu(np.ones_like(n), 1)
        h_dn = -n * (p_win - p_loss) / 2.0 * p_tie
        gradient[count] = (upper * (n * p_tie - ties)).sum()
        hessian[:count, count] = hessian[count, :count] = h_dn.sum(axis=1)
        hessian[count, count] = (upper * n * p_tie * (1.0 - p_tie)).sum()
    return gradient, hessian


def _circles(lead: Floats) -> list[tuple[int, int, int]]:
    """(a, b, c) with a over b, b over c, c over a, by the sign of `lead`."""
    found: list[tuple[int, int, int]] = []
    for a, b, c in combinations(range(len(lead)), 3):
        if lead[a, b] > 0 and lead[b, c] > 0 and lead[c, a] > 0:
            found.append((a, b, c))
        elif lead[a, b] < 0 and lead[b, c] < 0 and lead[c, a] < 0:
            found.append((a, c, b))
    return found
