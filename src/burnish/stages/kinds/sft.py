"""Fine-tune a model on demonstrations.

Example: `burnish sft --config recipes/quickstart.yaml --out runs/quickstart`
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import field_validator

from burnish.config.bounds import BatchSize, Epochs
from burnish.config.kinds import START, Slot, Stage
from burnish.config.sections import Lora, Optimizer, Passes, Reference, Sources
from burnish.evaluation.stages import Found, Told
from burnish.evaluation.words import number, plain, several

if TYPE_CHECKING:
    from burnish.planning.estimate import Forecast, StagePlan


class Sft(Passes):
    """Supervised fine-tuning on demonstrations; the loss counts the assistant's turns only."""

    kind: Literal["sft"] = "sft"
    """The kind of stage."""
    start: Reference | None = None
    """The policy it starts from. None: the newest policy before it, or base."""
    demonstrations: Sources | None = None
    """What it learns from: a stage that makes demonstrations, or a source as in
    `data.demonstrations`. None: the newest before it."""
    epochs: Epochs = 2.0
    """How often the demonstrations are gone through; 0.5 is half of them."""
    batch_size: BatchSize = 16
    """Demonstrations that one optimizer step learns from."""
    lora: Lora | None = Lora(r=16, alpha=32.0)
    """Adapters that are trained in place of the weights. None trains every weight."""
    optimizer: Optimizer = Optimizer(learning_rate=5e-4)
    """How weights are updated: AdamW, its learning rate and schedule."""

    @field_validator("best_by")
    @classmethod
    def _has_a_loss_only(cls, value: str) -> str:
        if value != "loss":
            raise ValueError("demonstrations are evaluated by their loss alone")
        return value


def _plan(how: Forecast) -> StagePlan:
    """Training on demonstrations, and the held-out loss now and then."""
    config, data = how.settings, how.data
    count = data.demonstrations or data.comparisons
    rank = how.rank_of(config.lora)
    length = data.prompt_tokens + data.answer_tokens
    scored = data.answer_tokens / length
    parts = how.training(config.optimizer, rank, config.batch_size, length, scored=scored)
    evaluations = 1 + max(1, config.examples(count) / config.batch_size / config.eval_every)
    heldout = data.heldout_demonstrations or data.heldout_comparisons
    seconds = how.train(config.examples(count), length, data.answer_tokens, rank, config.optimizer)
    seconds += how.forward(evaluations * heldout, length, data.answer_tokens)
    return how.planned(parts, seconds)


def _report(stage: Found) -> Told:
    """What it learnt from, and what that did to the held-out loss."""
    sft = stage.result
    examples, steps = (
        several(number(sft.get("examples_train")), "demonstration"),
        several(number(sft.get("steps")), "step"),
    )
    before, after = (plain(number(sft.get(key))) for key in ("eval_loss_before", "eval_loss_after"))
    unmeasured = sft.get("not_evaluated")
    if unmeasured is not None:
        return Told(f"SFT learnt from {examples} in {steps}. It was not evaluated: {unmeasured}.")
    return Told(
        f"SFT learnt from {examples} in {steps}; the loss on held-out demonstrations went from"
        f" {before} to {after} nats per token."
    )


STAGE = Stage(
    section=Sft,
    run="burnish.stages.sft:run",
    plan=_plan,
    slots=(START, Slot("demonstrations", ("Demonstrations",), "data")),
    makes="Policy",
    sources=("demonstrations",),
    needs=("demonstrations",),
    first=True,
    report=_report,
)
