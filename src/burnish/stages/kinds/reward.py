"""A reward model, from a policy and comparisons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from burnish.config.kinds import START, Slot, Stage
from burnish.config.schema import RewardModel

if TYPE_CHECKING:
    from burnish.planning.estimate import Estimate, StagePlan
    from burnish.stages.context import Step


def _plan(how: Estimate) -> StagePlan:
    """Bradley–Terry on the comparisons; then a policy's answers to 64 prompts, to set gain and bias."""
    config, data = how.settings, how.data
    prompts, responses = how.answers()
    heldout = how.heldout(prompts)
    rank = how.rank_of(config.lora)
    tokens = data.prompt_tokens + responses * data.answer_tokens
    parts = how.training(config.optimiser, rank, config.batch_size, tokens)
    evaluations = 2 + config.epochs * prompts / config.batch_size / config.eval_every
    seconds = how.train(config.epochs * prompts, tokens, 0.0, rank, config.optimiser)
    seconds += how.forward(evaluations * heldout, tokens, 0.0)
    seconds += how.generate(64, config.sampling)
    return how.planned(parts, seconds)


def _samples(step: Step) -> bool:
    """Gain and bias are set on the policy's own answers: those that were compared, or fresh ones."""
    from burnish.stages.own_answers import compares_own_answers

    return step.settings.normalise and not compares_own_answers(step)


STAGE = Stage(
    section=RewardModel,
    run="burnish.stages.reward:run",
    plan=_plan,
    slots=(START, Slot("comparisons", ("Comparisons",), "data")),
    makes="RewardModel",
    sources=("comparisons", "prompts"),
    needs=("comparisons",),
    samples=_samples,
)
