"""Train a reward model on comparisons.

Example: `burnish reward --config recipes/quickstart.yaml --out runs/quickstart`
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from burnish.config.bounds import BatchSize, Coefficient, Epochs
from burnish.config.kinds import START, Slot, Stage
from burnish.config.sections import ComparedPasses, Lora, Optimizer, Reference, Sampling, Sources

if TYPE_CHECKING:
    from burnish.planning.estimate import Estimate, StagePlan
    from burnish.stages.context import Step


class RewardModel(ComparedPasses):
    """The reward model: the SFT model with a scalar head, trained on comparisons by
    Bradley–Terry."""

    kind: Literal["reward"] = "reward"
    """The kind of stage."""
    start: Reference | None = None
    """The policy whose weights it starts from. None: the newest policy before it, or base."""
    comparisons: Sources | None = None
    """What it learns from: a stage that makes comparisons, or a source as in `data.comparisons`.
    None: the newest before it."""
    epochs: Epochs = 1.0
    """Passes over the comparisons; the paper trains one, since more overfit (arXiv:2203.02155)."""
    batch_size: BatchSize = 8
    """Prompts per step, each with all its responses and comparisons."""
    lora: Lora | None = Lora()
    """Adapters that are trained in place of the weights. None trains every weight; a reward model of its own beside a policy with `share_backbone:
    true`, which needs more memory."""
    optimizer: Optimizer = Optimizer(learning_rate=3e-4)
    """How weights are updated: AdamW, its learning rate and schedule."""
    sampling: Sampling = Sampling()
    """How the answers are drawn that set gain and bias, where the comparisons hold none of the
    policy's own."""
    soft_labels: bool = True
    """Use the share of annotators as the target probability; off: the majority's answer as a
    certainty."""
    margin: Coefficient = 0.0
    """Subtracted from the score difference inside the sigmoid, in the preferred answer's direction,
    times |2p − 1|."""
    normalize: bool = True
    """Set the head's gain and bias so that the SFT model's completions score mean 0 and standard
    deviation 1."""


def _plan(how: Estimate) -> StagePlan:
    """Bradley–Terry on the comparisons; then a policy's answers to 64 prompts, to set gain and
    bias."""
    config, data = how.settings, how.data
    prompts, responses = how.answers()
    heldout = how.heldout(prompts)
    rank = how.rank_of(config.lora)
    tokens = data.prompt_tokens + responses * data.answer_tokens
    parts = how.training(config.optimizer, rank, config.batch_size, tokens)
    evaluations = 2 + config.examples(prompts) / config.batch_size / config.eval_every
    seconds = how.train(config.examples(prompts), tokens, 0.0, rank, config.optimizer)
    seconds += how.forward(evaluations * heldout, tokens, 0.0)
    seconds += how.generate(64, config.sampling)
    return how.planned(parts, seconds)


def _samples(step: Step) -> bool:
    """Gain and bias are set on the policy's own answers: those that were compared, or fresh
    ones."""
    from burnish.stages.own_answers import compares_own_answers

    return step.settings.normalize and not compares_own_answers(step)


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
