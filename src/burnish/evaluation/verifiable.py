"""Evaluation on prompts whose answers can be checked: accuracy, pass@k, paired differences, and how
far a verifier errs. Pure.

The unit is the prompt: intervals resample prompts with all their completions (arXiv:2411.00640 says
why). Completions that could not be judged (a verifier's time-out or error) are left out of every
number here, and counted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

from burnish.records import Reward, Rollout
from burnish.rewards.maths import MathsReward
from burnish.rewards.scorer import tags_of
from burnish.statistics.estimate import Estimate
from burnish.statistics.uncertainty import (
    bootstrap_mean,
    bootstrap_share,
    mcnemar_exact,
    paired_difference,
    pass_at_k,
    smallest_detectable_effect,
    wilson,
)

UNJUDGED = frozenset(
    {"verifier-timeout", "verifier-error", "not-judged", "infrastructure", "pattern-timeout"}
)
"""Verdicts that say nothing of the completion."""
KS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Right (1) and wrong (0) by completion, prompt by prompt: `right[g]` are the judged
    completions of prompt `groups[g]`."""

    groups: tuple[Hashable, ...]
    right: tuple[tuple[float, ...], ...]
    uncounted: int = 0

    @classmethod
    def of(
        cls,
        rollouts: Sequence[Rollout],
        rewards: Sequence[Reward],
        *,
        pass_at: float = 1.0,
        verifiers: Sequence[str] = (),
    ) -> Outcomes:
        """Of judged rollouts. Right: each of the `verifiers` (names of rewards) with a verdict on
        it says correct; without verifiers, its reward is at least `pass_at`. What none of the
        verifiers judges is left out and not counted."""
        found: dict[Hashable, list[float]] = {}
        uncounted = 0
        for rollout, reward in zip(rollouts, rewards, strict=True):
            said = [reward.verdicts[name] for name in verifiers if name in reward.verdicts]
            if not reward.counted or UNJUDGED & set(said):
                uncounted += 1
            elif said or not verifiers:
                right = (
                    all(verdict == "correct" for verdict in said)
                    if verifiers
                    else reward.value >= pass_at
                )
                found.setdefault(rollout.prompt.id, []).append(float(right))
        return cls(tuple(found), tuple(tuple(values) for values in found.values()), uncounted)


def accuracy(outcomes: Outcomes) -> Estimate:
    """Mean accuracy over prompts (each prompt's mean counts the same), with an interval over
    prompts."""
    return bootstrap_share([float(np.mean(values)) for values in outcomes.right])


def pass_at(outcomes: Outcomes, k: int) -> Estimate | None:
    """The mean over prompts of 1 − C(n−c, k)/C(n, k) (arXiv:2107.03374), over those with n ≥ k
    judged completions; None without any."""
    values = [pass_at_k(len(v), int(sum(v)), k) for v in outcomes.right if len(v) >= k]
    return bootstrap_share(values) if values else None


def compare(a: Outcomes, b: Outcomes) -> dict[str, Any] | None:
    """How much better a is than b on the prompts that both have: the difference of each prompt's
    mean, with its interval; the smallest difference that so many prompts would show with 80 %
    power; and McNemar's exact test on the first completions. None if they have no prompt in
    common."""
    of_b = dict(zip(b.groups, b.right, strict=True))
    pairs = [
        (values, of_b[name]) for name, values in zip(a.groups, a.right, strict=True) if name in of_b
    ]
    if not pairs:
        return None
    means_a, means_b = ([float(np.mean(pair[side])) for pair in pairs] for side in (0, 1))
    difference = paired_difference(means_a, means_b)
    firsts = Counter((int(x[0]), int(y[0])) for x, y in pairs)
    gained, lost = firsts[1, 0], firsts[0, 1]
    spread = float(np.std(np.subtract(means_a, means_b), ddof=1)) if len(pairs) > 1 else 0.0
    return {
        "difference": difference.to_dict(),
        "detectable": smallest_detectable_effect(spread, len(pairs)),
        "gained": gained,
        "lost": lost,
        "mcnemar_p": mcnemar_exact(gained, lost),
    }


def findings(
    rollouts: Sequence[Rollout], rewards: Sequence[Reward], outcomes: Outcomes
) -> dict[str, Any]:
    """Everything that the report shows of one model on verifiable prompts; None where there is
    nothing to say."""
    counted = [reward for reward in rewards if reward.counted]
    groups = [rollout.prompt.id for rollout in rollouts]
    return {
        "accuracy": accuracy(outcomes).to_dict() if outcomes.right else None,
        "pass_at": {
            str(k): found.to_dict() for k in KS if (found := pass_at(outcomes, k)) is not None
        },
        "uncounted": outcomes.uncounted,
        "completions": len(rollouts),
        "components": _components(rollouts, rewards),
        "verdicts": verdict_counts(rewards),
        "no_variance": without_variance(groups, rewards),
        "reward": bootstrap_mean(
            [r.value for r in counted],
            groups=[g for g, r in zip(groups, rewards, strict=True) if r.counted],
        ).to_dict()
        if counted
        else None,
        "tokens": bootstrap_mean(
            [len(r.completion.tokens) for r in rollouts], groups=groups
        ).to_dict(),
        "entropy": _entropy(rollouts, groups),
        "by_tag": _by_tag(rollouts, outcomes),
    }


def verdict_counts(rewards: Sequence[Reward]) -> dict[str, dict[str, int]]:
    """How often each reward said what."""
    counts: dict[str, Counter[str]] = {}
    for reward in rewards:
        for name, verdict in reward.verdicts.items():
            counts.setdefault(name, Counter())[verdict] += 1
    return {name: dict(sorted(found.items())) for name, found in counts.items()}


def without_variance(
    groups: Sequence[Hashable], rewards: Sequence[Reward]
) -> dict[str, float] | None:
    """The share of prompts whose judged completions all have the same reward, and of those all at
    the top and all at the bottom of what was seen; prompts with one completion do not count. None
    without any other."""
    values: dict[Hashable, list[float]] = {}
    for group, reward in zip(groups, rewards, strict=True):
        if reward.counted:
            values.setdefault(group, []).append(reward.value)
    several = [v for v in values.values() if len(v) > 1]
    if not several:
        return None
    flat = [v[0] for v in several if min(v) == max(v)]
    top, bottom = max(max(v) for v in several), min(min(v) for v in several)
    share = lambda n: n / len(several)  # noqa: E731
    return {
        "share": share(len(flat)),
        "all_best": share(sum(v == top for v in flat if top > bottom)),
        "all_worst": share(sum(v == bottom for v in flat if top > bottom)),
    }


def verifier_rates(pairs: Sequence[Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """How often the maths verifier errs on labelled pairs (None: those that ship), with Wilson's
    intervals.

    `false_positive`: the share of wrong answers that it calls correct. `false_negative`: of right
    answers that it does not. `unjudged` counts time-outs and errors, which are neither. `mistakes`
    lists the pairs.
    """
    pairs = labelled_pairs() if pairs is None else pairs
    reward = MathsReward()
    try:
        judged = reward.judge([p["completion"] for p in pairs], answer=[p["gold"] for p in pairs])
    finally:
        reward.close()
    found = [
        (pair, j.verdict == "correct") for pair, j in zip(pairs, judged, strict=True) if j.counted
    ]
    wrong = [said for pair, said in found if not pair["correct"]]
    right = [said for pair, said in found if pair["correct"]]
    return {
        "pairs": len(pairs),
        "unjudged": len(pairs) - len(found),
        "false_positive": wilson(sum(wrong), len(wrong)).to_dict() if wrong else None,
        "false_negative": wilson(len(right) - sum(right), len(right)).to_dict() if right else None,
        "mistakes": [dict(pair) for pair, said in found if said != pair["correct"]],
    }


def labelled_pairs() -> list[dict[str, Any]]:
    """The tricky pairs that ship: `kind`, `gold`, `completion`, `correct`."""
    file = resources.files("burnish.rewards") / "maths_pairs.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _components(rollouts: Sequence[Rollout], rewards: Sequence[Reward]) -> dict[str, Any]:
    names = dict.fromkeys(name for reward in rewards for name in reward.components)
    found: dict[str, Any] = {}
    for name in names:
        rows = [
            (r.prompt.id, w.components[name])
            for r, w in zip(rollouts, rewards, strict=True)
            if name in w.components
        ]
        found[name] = bootstrap_mean([v for _, v in rows], groups=[g for g, _ in rows]).to_dict()
    return found


def _entropy(rollouts: Sequence[Rollout], groups: Sequence[Hashable]) -> dict[str, Any] | None:
    """−log π of the drawn tokens, in nats a token: its mean estimates the entropy of the model
    where sampling followed it."""
    known = [
        (g, r.completion.model_logprobs)
        for g, r in zip(groups, rollouts, strict=True)
        if r.completion.model_logprobs
    ]
    if not known:
        return None
    return bootstrap_mean(
        [-float(np.mean(v)) for _, v in known], groups=[g for g, _ in known]
    ).to_dict()


def _by_tag(rollouts: Sequence[Rollout], outcomes: Outcomes) -> dict[str, Any]:
    """Accuracy by the prompts' tags: those that some of the judged prompts have and others have
    not."""
    tags = {rollout.prompt.id: tags_of(rollout.prompt) for rollout in rollouts}
    found: dict[str, Any] = {}
    for tag in sorted({tag for name in outcomes.groups for tag in tags[str(name)]}):
        rows = [i for i, name in enumerate(outcomes.groups) if tag in tags[str(name)]]
        if len(rows) < len(outcomes.groups):
            chosen = Outcomes(
                tuple(outcomes.groups[i] for i in rows), tuple(outcomes.right[i] for i in rows)
            )
            found[tag] = accuracy(chosen).to_dict()
    return found
