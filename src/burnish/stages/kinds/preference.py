"""Preference optimisation of a policy on comparisons: DPO and its relatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from burnish.config.kinds import HELD_TO, START, Slot, Stage
from burnish.config.preference import LOSS_NAMES, PreferenceTraining
from burnish.config.sections import Reference, Sources
from burnish.evaluation.stages import Found, Told

if TYPE_CHECKING:
    from burnish.planning.estimate import Forecast, StagePlan


class Preference(PreferenceTraining):
    """Preference optimisation of the SFT model on comparisons."""

    kind: Literal["preference"] = "preference"
    """The kind of stage; a loss's own name (dpo, simpo, ...) says kind and loss at once."""
    start: Reference | None = None
    """The policy it starts from. None: the newest policy before it, or base."""
    reference: Reference | None = None
    """The policy it is held to. None: what it starts from."""
    comparisons: Sources | None = None
    """What it learns from: a stage that makes comparisons, or a source as in `data.comparisons`.
    None: the newest before it."""


def _plan(how: Forecast) -> StagePlan:
    """The reference's pass, training on all answers to each prompt, evaluations."""
    from burnish.trainers.preference import loss_row

    config, data = how.settings, how.data
    prompts, offered = how.answers()
    answers = 2 if config.pairs == "extremes" else offered
    heldout = how.heldout(prompts)
    rank, row = how.rank_of(config.lora), loss_row(config)[0]
    tokens, scored = data.prompt_tokens + answers * data.answer_tokens, answers * data.answer_tokens
    reads = row.reference + 2 * row.unpaired * (tokens / answers / tokens)
    evaluations = 3 + config.examples(prompts) / config.batch_size / config.eval_every
    seconds = how.train(config.examples(prompts), tokens, scored, rank, config.optimizer)
    seconds += how.forward(reads * prompts + evaluations * heldout, tokens, scored)
    parts = how.training(config.optimizer, rank, config.batch_size, tokens, scored=scored / tokens)
    return how.planned(parts, seconds)


def _report(stage: Found) -> Told:
    from burnish.evaluation.preference_report import preference_line

    return Told(preference_line({"preference": stage.result}) or "")


STAGE = Stage(
    section=Preference,
    run="burnish.stages.preference:run",
    plan=_plan,
    slots=(START, HELD_TO, Slot("comparisons", ("Comparisons",), "data")),
    makes="Policy",
    sources=("comparisons",),
    family="loss",
    rows=LOSS_NAMES,
    needs=("comparisons",),
    report=_report,
)
