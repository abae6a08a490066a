"""What would have warned: fresh answers judged on the way, in worlds where gold is known exactly.

Alarm A is the slope of a judge on the proxy, alarm B the length of answers (`statistics.alarms`,
which training asks too). An alarm is in time while exact gold has not yet lost a tenth of its peak.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from burnish.lab.chains import (
    Answers,
    Floats,
    expectations,
    inverse_at_kl,
    sample,
    scores_of,
    standardized,
    tilted,
)
from burnish.lab.curves import distances
from burnish.lab.results import Findings, Row
from burnish.lab.reward_models import train
from burnish.lab.settings import Alarms, Lab, Labels
from burnish.lab.worlds import Drawn, draw
from burnish.statistics.alarms import (
    Check,
    Marks,
    Start,
    check_of,
    length_alarm,
    recent_slope,
    slope_alarm,
    start_of,
)
from burnish.statistics.estimate import Estimate

FRESH = "fresh labels"
LENGTH = "length"
EITHER = "fresh labels or length"
HEALTHY = "good proxy"
Judge = Callable[[Answers], Floats]


def kinds(lab: Lab) -> dict[str, Labels]:
    """The labels of the proxies: three that are hacked, and one that is not."""
    alarms, labels = lab.alarms, lab.labels.model_copy
    biased = {"pairs": alarms.biased_pairs, "length_bias": alarms.length_bias}
    strongly = {"pairs": alarms.biased_pairs, "length_bias": alarms.strong_bias}
    good = {"pairs": alarms.healthy_pairs, "features": alarms.healthy_features}
    return {
        "few labels": labels(update={"pairs": alarms.pairs}),
        "annotators like length": labels(update=biased),
        "annotators like length a lot": labels(update=strongly),
        HEALTHY: labels(update=good),
    }


def measure(lab: Lab, seed: int) -> dict[str, Any]:
    """One world: for each proxy when gold peaked and was lost, and when each alarm rang, as numbers
    of checks from 1; None for never."""
    world, found = draw(lab.world, seed), {}
    for place, (name, labels) in enumerate(kinds(lab).items()):
        rng = np.random.default_rng([seed, 5, place])
        proxy_TSS = standardized(world.policy_TSS, train(world, labels, rng))
        kl_P = distances(lab.alarms.checks, lab.alarms.max_kl)
        inverse_P = inverse_at_kl(world.policy_TSS, proxy_TSS, kl_P)
        policies, _ = tilted(world.policy_TSS, proxy_TSS, inverse_P)
        found[name] = {
            **_gold(world, policies, lab.alarms),
            "rang": _rang(world, policies, proxy_TSS, labels, lab.alarms, rng),
        }
    return found


def _gold(world: Drawn, policies_PTSS: Floats, alarms: Alarms) -> dict[str, Any]:
    """Where exact gold is highest, and where it has lost its share."""
    gold_P = np.append(0.0, expectations(policies_PTSS, [world.gold_TSS])[0])
    peak = int(gold_P.argmax())
    lost = np.flatnonzero(gold_P[peak:] < (1.0 - alarms.loss) * gold_P[peak])
    return {
        "peak": peak,
        "peak_gold": float(gold_P[peak]),
        "last_gold": float(gold_P[-1]),
        "lost": peak + int(lost[0]) if len(lost) else None,
    }


def _rang(
    world: Drawn,
    policies_PTSS: Floats,
    proxy_TSS: Floats,
    labels: Labels,
    alarms: Alarms,
    rng: np.random.Generator,
) -> dict[str, int | None]:
    """The first check at which each alarm rings."""
    before = world.answers(alarms.start_answers, rng)
    fresh = [sample(policy, alarms.answers, rng) for policy in policies_PTSS]
    rang: dict[str, int | None] = {}
    for name, judge in judges(world, labels, alarms, rng).items():
        start = start_of(_marks(before, proxy_TSS, judge, alarms))
        checks = [
            check_of(step, _marks(answers, proxy_TSS, judge, alarms), start)
            for step, answers in enumerate(fresh, start=1)
        ]
        told = [check for check in checks if check is not None]
        rang[name] = first_slope_alarm(told, start, alarms)
        if name == FRESH:
            rang[LENGTH] = next(
                (one.step for one in told if length_alarm(one, start, ratio=alarms.ratio)), None
            )
    steps = [step for step in (rang[FRESH], rang[LENGTH]) if step is not None]
    return {**rang, EITHER: min(steps, default=None)}


def first_slope_alarm(checks: Sequence[Check], start: Start, alarms: Alarms) -> int | None:
    """The step of the first check at which alarm A rings."""
    for count, check in enumerate(checks, start=1):
        slope = recent_slope(checks[:count], window=alarms.window)
        if slope_alarm(slope, start, share=alarms.slope):
            return check.step
    return None


def judges(
    world: Drawn, labels: Labels, alarms: Alarms, rng: np.random.Generator
) -> dict[str, Judge]:
    """Who judges fresh answers: people who are asked now, who err but like what gold likes; and
    second reward models, whose labels have the bias of the first's."""
    more = labels.model_copy(update={"pairs": alarms.other_pairs})
    other = more.model_copy(update={"features": "positions"})
    same_TSS, other_TSS = train(world, more, rng), train(world, other, rng)

    def people(answers: Answers) -> Floats:
        return world.gold(answers) + alarms.judge_noise * rng.normal(size=len(answers))

    return {
        FRESH: people,
        "a second model of its kind": lambda answers: scores_of(answers, same_TSS),
        "a second model that sees positions": lambda answers: scores_of(answers, other_TSS),
    }


def _marks(answers: Answers, proxy_TSS: Floats, judge: Judge, alarms: Alarms) -> Marks:
    """Every answer is to the one prompt there is; dealing them over as many as a check has answers
    lets the alarms' errors, which are over prompts, be those over answers."""
    prompts = np.arange(len(answers)) % alarms.answers
    return Marks(
        scores_of(answers, proxy_TSS).tolist(),
        judge(answers).tolist(),
        answers.lengths_N.tolist(),
        prompts.tolist(),
    )


def summarize(lab: Lab, runs: Sequence[dict[str, Any]]) -> Findings:
    """A row for each proxy and alarm: in how many worlds it rang, in time, and by the peak."""
    rows, kl_P = [], distances(lab.alarms.checks, lab.alarms.max_kl)
    for kind in runs[0]:
        worlds = [run[kind] for run in runs]
        lost = sum(one["lost"] is not None for one in worlds)
        for alarm in runs[0][kind]["rang"]:
            in_time = sum(_by(one["rang"][alarm], one["lost"]) for one in worlds)
            by_peak = sum(_by(one["rang"][alarm], one["peak"]) for one in worlds)
            rang = sum(one["rang"][alarm] is not None for one in worlds)
            counts = {"worlds": len(worlds), "lost": lost, "rang": rang}
            if kind != HEALTHY:
                counts |= {"in_time": in_time, "by_peak": by_peak}
            figures: dict[str, Estimate | float | None] = {
                name: float(value) for name, value in counts.items()
            }
            figures["median_kl"] = _median_kl([one["rang"][alarm] for one in worlds], kl_P)
            rows.append(Row(f"{kind}: {alarm}", figures))
    return Findings(rows=rows)


def _by(rang: int | None, until: int | None) -> bool:
    """Whether an alarm rang at the latest at a check; None for `until`: at any."""
    return rang is not None and (until is None or rang <= until)


def _median_kl(rang: Sequence[int | None], kl_P: Floats) -> float | None:
    """The KL of the check at which an alarm rang, the median over the worlds in which it did."""
    heard = [kl_P[step - 1] for step in rang if step is not None]
    return float(np.median(heard)) if heard else None
