"""Several evaluations taken together: the same models under several seeds, or others on the same
prompts. Pure.

Verdicts are rows as `stages.evaluated` keeps them: of a judge that gives scores one for each answer
(`model`, `score`), of one that compares one for each pair (`a`, `b`, `p`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy import stats

from burnish.statistics.estimate import Estimate
from burnish.statistics.length_control import length_controlled
from burnish.statistics.uncertainty import bootstrap_share, holm, smallest_detectable_effect

Rows = Sequence[Mapping[str, Any]]
_Key = tuple[str, int]
"""A prompt and the number of the answer to it."""


@dataclass(frozen=True)
class Evaluation:
    """One evaluation: its answers, its verdicts, and the model that the others were measured
    from."""

    answers: Rows
    verdicts: Rows
    reference: str


@dataclass(frozen=True)
class Contest:
    """How often a is preferred to b by one judge. `seeds` has the rate of each evaluation; `p` is
    of the two-sided test against ½, `holm` the same corrected for all contests of the judge;
    `detectable` the smallest win rate above ½ that would be found in four cases of five."""

    judge: str
    a: str
    b: str
    win_rate: Estimate
    length_controlled: Estimate
    seeds: tuple[float, ...]
    p: float
    holm: float
    detectable: float


def contests(evaluations: Sequence[Evaluation]) -> list[Contest]:
    """Every pair of models that a judge has compared, on the same prompts.

    Models of one name in several evaluations are one model under several seeds: their verdicts are
    pooled, and a prompt is one unit however many seeds answered it. Two models that never stand in
    one evaluation are compared by their scores, where the judge gives some. Where all evaluations
    have one reference, each model is compared with it alone.
    """
    found = []
    for judge in dict.fromkeys(str(row["judge"]) for one in evaluations for row in one.verdicts):
        own = [_outcomes(evaluations, judge, a, b) for a, b in _pairs(evaluations, judge)]
        rows = [(pair, outcomes) for pair, outcomes in own if outcomes]
        values = [_p_value(outcomes) for _, outcomes in rows]
        found += [
            _contest(judge, pair, outcomes, p, corrected)
            for (pair, outcomes), p, corrected in zip(rows, values, holm(values), strict=True)
        ]
    return found


@dataclass(frozen=True, slots=True)
class _Outcome:
    seed: int  # the evaluation's place
    prompt: str
    win: float
    gap: int


def _pairs(evaluations: Sequence[Evaluation], judge: str) -> list[tuple[str, str]]:
    """(a, b), the later model first."""
    models = dict.fromkeys(str(row["model"]) for one in evaluations for row in one.answers)
    references = {one.reference for one in evaluations}
    if len(references) == 1 and (reference := references.pop()) in models:
        return [(name, reference) for name in models if name != reference]
    return [(a, b) for b, a in combinations(models, 2)]


def _outcomes(
    evaluations: Sequence[Evaluation], judge: str, a: str, b: str
) -> tuple[tuple[str, str], list[_Outcome]]:
    together = [
        outcome
        for seed, one in enumerate(evaluations)
        for outcome in _compared(seed, one, judge, a, b) or _scored(seed, one, one, judge, a, b)
    ]
    if together:
        return (a, b), together
    apart = ((one, other) for one in evaluations for other in evaluations if one is not other)
    return (a, b), [
        outcome
        for seed, (one, other) in enumerate(apart)
        for outcome in _scored(seed, one, other, judge, a, b)
    ]


def _compared(seed: int, one: Evaluation, judge: str, a: str, b: str) -> list[_Outcome]:
    """From verdicts on pairs, whichever way round they stand."""
    lengths = _lengths(one.answers)
    found = []
    for row in one.verdicts:
        if row["judge"] != judge or {row.get("a"), row.get("b")} != {a, b} or row.get("p") is None:
            continue
        key = (str(row["prompt_id"]), int(row["number"]))
        win = row["p"] if row["a"] == a else 1.0 - row["p"]
        found.append(_Outcome(seed, key[0], win, lengths[a][key] - lengths[b][key]))
    return found


def _scored(
    seed: int, one: Evaluation, other: Evaluation, judge: str, a: str, b: str
) -> list[_Outcome]:
    """From scores: a's in one evaluation, b's in the same or another, on the prompts of both."""
    of_a, of_b = _scores(one.verdicts, judge, a), _scores(other.verdicts, judge, b)
    long_a, long_b = _lengths(one.answers)[a], _lengths(other.answers)[b]
    return [
        _Outcome(seed, key[0], 0.5 + 0.5 * np.sign(score - of_b[key]), long_a[key] - long_b[key])
        for key, score in of_a.items()
        if key in of_b
    ]


def _scores(verdicts: Rows, judge: str, model: str) -> dict[_Key, float]:
    own = (row for row in verdicts if row["judge"] == judge and row.get("model") == model)
    return {(str(row["prompt_id"]), int(row["number"])): float(row["score"]) for row in own}


def _lengths(answers: Rows) -> dict[str, dict[_Key, int]]:
    """Characters of each answer, by model."""
    found: dict[str, dict[_Key, int]] = defaultdict(dict)
    for row in answers:
        found[str(row["model"])][str(row["prompt_id"]), int(row["number"])] = len(row["text"])
    return found


def _by_prompt(outcomes: Iterable[_Outcome]) -> np.ndarray:
    """The mean win of each prompt."""
    values: dict[str, list[float]] = defaultdict(list)
    for one in outcomes:
        values[one.prompt].append(one.win)
    return np.array([np.mean(own) for own in values.values()])


def _p_value(outcomes: Sequence[_Outcome]) -> float:
    """Of the t-test that the mean over prompts is ½; 1 where there is one prompt, or no prompt
    differs from it."""
    means = _by_prompt(outcomes) - 0.5
    if len(means) < 2 or not means.any():
        return 1.0
    if np.ptp(means) == 0.0:
        return float(stats.binomtest(len(means), len(means)).pvalue)
    t = float(means.mean() / (means.std(ddof=1) / np.sqrt(len(means))))
    return float(2.0 * stats.t.sf(abs(t), len(means) - 1))


def _contest(
    judge: str, pair: tuple[str, str], outcomes: Sequence[_Outcome], p: float, corrected: float
) -> Contest:
    wins, prompts = [one.win for one in outcomes], [one.prompt for one in outcomes]
    seeds = dict.fromkeys(one.seed for one in outcomes)
    means = _by_prompt(outcomes)
    spread = float(means.std(ddof=1)) if len(means) > 1 else 0.5
    return Contest(
        judge,
        *pair,
        bootstrap_share(wins, groups=prompts),
        length_controlled(wins, [one.gap for one in outcomes], groups=prompts),
        tuple(float(np.mean([one.win for one in outcomes if one.seed == seed])) for seed in seeds),
        p,
        corrected,
        min(1.0, 0.5 + smallest_detectable_effect(spread, len(means))),
    )
