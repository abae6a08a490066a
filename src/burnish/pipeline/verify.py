"""The part of the evaluate stage that judges by the recipe's rewards: accuracy, pass@k, components and verdicts of every model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from burnish.config.online import Conversation
from burnish.config.schema import Recipe
from burnish.evaluation.verifiable import Outcomes, compare, findings, verifier_rates
from burnish.models.backbone import Backbone
from burnish.pipeline.context import Context
from burnish.pipeline.rewards import build_scorer
from burnish.pipeline.turns import with_pay
from burnish.records import Reward, Rollout

VERIFIERS = ("maths", "task", "code")
"""The kinds of rewards whose verdict "correct" says that an answer is right."""


def environment_of(recipe: Recipe) -> Conversation | None:
    """The environment that the policies of this recipe are trained, and therefore judged, in."""
    return recipe.online.environment if "online" in recipe.stages else None


def verified(
    context: Context, sampled: Mapping[str, Sequence[Rollout]], *, reference: Backbone
) -> tuple[dict[str, Any], dict[str, list[Reward]]]:
    """The report's findings, and every model's rewards.

    An answer is right if each verifier that judges it says correct; without a verifier among the rewards, if its reward is
    at least `online.pass_at`. Where the maths verifier takes part, its error rates on the labelled pairs stand beside.
    """
    recipe = context.recipe
    composed = build_scorer(context, recipe.rewards, backbone=reference) if recipe.rewards else None
    scorer = with_pay(composed, environment_of(recipe))
    try:
        rewards = {name: scorer.score(rollouts) for name, rollouts in sampled.items()}
    finally:
        if composed is not None:
            composed.close()
    names = tuple(one.called for one in recipe.rewards if one.name in VERIFIERS)
    outcomes = {
        name: Outcomes.of(rollouts, rewards[name], pass_at=recipe.online.pass_at, verifiers=names)
        for name, rollouts in sampled.items()
    }
    found = {
        "verifiers": list(names),
        "models": [
            {"name": name, **findings(rollouts, rewards[name], outcomes[name])} for name, rollouts in sampled.items()
        ],
        "comparisons": [
            {"a": a, "b": b, **difference}
            for b, a in combinations(sampled, 2)
            if (difference := compare(outcomes[a], outcomes[b])) is not None
        ],
        "maths_verifier": verifier_rates() if any(one.name == "maths" for one in recipe.rewards) else None,
    }
    return found, rewards
