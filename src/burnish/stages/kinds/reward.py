"""Train a reward model on comparisons.

Example: `burnish reward --config recipes/quickstart.yaml --out runs/quickstart`
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import model_validator

from burnish.config.bounds import BatchSize, Bounds, Coefficient, Epochs, NonNegativeFinite
from burnish.config.kinds import START, Slot, Stage
from burnish.config.sections import ComparedPasses, Lora, Optimizer, Reference, Sampling, Sources

if TYPE_CHECKING:
    from burnish.planning.estimate import Forecast, StagePlan
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
    """Adapters that are trained in place of the weights. None trains every weight; a reward model
    of its own beside a policy with `share_backbone: true`, which needs more memory."""
    optimizer: Optimizer = Optimizer(learning_rate=3e-4)
    """How weights are updated: AdamW, its learning rate and schedule."""
    sampling: Sampling = Sampling()
    """How the answers are drawn that set gain and bias, where the comparisons hold none of the
    policy's own."""
    members: Annotated[int, Bounds(ge=1, le=16)] = 1
    """Reward models that score together (docs/watch.md): each with a head, an order and, with
    `bootstrap`, pairs of its own, as adapters on one backbone."""
    combine: Literal["mean", "min", "mean-sd", "weights"] = "mean"
    """Of several members, the score is their mean, the least of theirs, the mean less `sd_weight`
    standard deviations, or that of one model with the average of their weights (arXiv:2401.12187).
    Each is normalized first."""
    sd_weight: NonNegativeFinite = 1.0
    """For `combine: mean-sd`."""
    bootstrap: bool = True
    """Of several members, each learns from as many prompts, drawn with replacement."""
    decorrelate: Literal["none", "length"] = "none"
    """length: take what a token of length adds to the score, among compared responses to one
    prompt, off again."""
    soft_labels: bool = True
    """Use the share of annotators as the target probability; off: the majority's answer as a
    certainty."""
    margin: Coefficient = 0.0
    """Subtracted from the score difference inside the sigmoid, in the preferred answer's direction,
    times |2p − 1|."""
    normalize: bool = True
    """Set the head's gain and bias so that the SFT model's completions score mean 0 and standard
    deviation 1."""

    @model_validator(mode="after")
    def _members_can_be(self) -> RewardModel:
        if self.members > 1 and self.lora is None:
            raise ValueError("members are adapters on one backbone: set lora, or members: 1")
        if self.combine == "weights" and self.lora is not None and self.lora.dora:
            raise ValueError(
                "weights of DoRA adapters have no average that is one: set lora.dora=false"
            )
        if self.members == 1 and self.combine != "mean":
            raise ValueError(
                f"combine: {self.combine} needs several members: set members, 5 is usual"
            )
        return self


def _plan(how: Forecast) -> StagePlan:
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
    seconds *= config.members
    if rank is not None and config.members > 1:
        parts.append(how.part("other members", (config.members - 1) * how.adapter("", rank).size))
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
