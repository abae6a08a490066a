"""The part of the evaluate stage that judges by the recipe's rewards: accuracy, pass@k, components
and verdicts of every model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from burnish.config.rewards import HttpReward, ModelReward, RewardSpec
from burnish.evaluation.nulls import beats, null_test
from burnish.evaluation.verifiable import Outcomes, compare, findings, verifier_rates
from burnish.models.backbone import Backbone
from burnish.records import Reward
from burnish.stages.context import Step
from burnish.stages.graders import written
from burnish.stages.judged import Nulls, Sampled, firsts_of, reference_of
from burnish.stages.rewards import build_scorer
from burnish.stages.turns import with_pay

VERIFIERS = ("maths", "task", "code")
"""The kinds of rewards whose verdict "correct" says that an answer is right."""


def _unfit(judges: Sequence[RewardSpec]) -> str | None:
    """Why these rewards, of which none is a verifier, may not say which model is better."""
    if any(isinstance(one, ModelReward | HttpReward) for one in judges):
        return "a reward model is among the rewards, and training was made to please it"
    return None


def _null_test(
    step: Step, sampled: Sampled, nulls: Nulls, right: Outcomes, *, reference: Backbone
) -> dict[str, Any]:
    """How often the verifiers call a null right where the reference is wrong, a tie counting half;
    nothing where none takes part, or where an environment answers."""
    judges = [one for one in step.settings.rewards or () if one.name in VERIFIERS]
    if not judges or step.settings.environment is not None:
        return null_test({})
    firsts = firsts_of(sampled, reference_of(step))
    of_reference = dict(zip(right.groups, right.right, strict=True))
    wins: dict[str, list[float]] = {}
    scorer = build_scorer(step, judges, backbone=reference)
    try:
        for name, texts in nulls.items():
            rollouts = written(reference, firsts, texts)
            said = Outcomes.of(
                rollouts, scorer.score(rollouts), verifiers=[one.called for one in judges]
            )
            pairs = zip(said.groups, said.right, strict=True)
            wins[name] = [
                float(beats(own[0], of_reference[group][0]))
                for group, own in pairs
                if group in of_reference
            ]
    finally:
        scorer.close()
    return null_test(wins)


def verified(
    step: Step, sampled: Sampled, nulls: Nulls, *, reference: Backbone
) -> tuple[dict[str, Any], dict[str, list[Reward]]]:
    """The report's findings, and every model's rewards.

    An answer is right if each verifier that judges it says correct; without a verifier among the
    rewards, if its reward is at least `pass_at`. Where the maths verifier takes part, its error
    rates on the labelled pairs stand beside.
    """
    config = step.settings
    judges = config.rewards or ()
    composed = build_scorer(step, judges, backbone=reference) if judges else None
    scorer = with_pay(composed, config.environment)
    try:
        rewards = {name: scorer.score(rollouts) for name, rollouts in sampled.items()}
    finally:
        if composed is not None:
            composed.close()
    names = tuple(one.called for one in judges if one.name in VERIFIERS)
    outcomes = {
        name: Outcomes.of(rollouts, rewards[name], pass_at=config.pass_at, verifiers=names)
        for name, rollouts in sampled.items()
    }
    found = {
        "verifiers": list(names),
        "unfit": None if names else _unfit(judges),
        **_null_test(step, sampled, nulls, outcomes[reference_of(step)], reference=reference),
        "models": [
            {"name": name, **findings(rollouts, rewards[name], outcomes[name])}
            for name, rollouts in sampled.items()
        ],
        "comparisons": [
            {"a": a, "b": b, **difference}
            for b, a in combinations(sampled, 2)
            if (difference := compare(outcomes[a], outcomes[b])) is not None
        ],
        "maths_verifier": verifier_rates() if any(one.name == "maths" for one in judges) else None,
    }
    return found, rewards
