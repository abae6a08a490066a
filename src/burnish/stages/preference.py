"""Stage `preference`: preference optimisation of a policy on comparisons, by whichever loss the
recipe names."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from burnish.atomic import shared_folder
from burnish.data.preferences import extremes
from burnish.errors import UserError
from burnish.execution.shards import shard
from burnish.models.adapters import add_adapter
from burnish.models.backbone import Backbone
from burnish.models.roles import View
from burnish.models.sources import cache_root
from burnish.models.weights import save_policy
from burnish.records import PreferenceGroup
from burnish.runs.metrics import read_metrics
from burnish.stages.adapters import lora_spec, quantization_of
from burnish.stages.context import Step
from burnish.stages.gold import ceilings
from burnish.stages.preference_findings import pair_findings, pair_table
from burnish.stages.ranked import ranked
from burnish.trainers.groups import RankedGroup
from burnish.trainers.preference import Example, loss_row, prepare, score, train_preferences

_CURVE = (
    "step", "loss", "nll_loss", "kl", "kl_from_reference", "rewards/chosen", "rewards/rejected",
    "rewards/margins",
    "rewards/accuracies", "logps/chosen", "logps/rejected", "falls/chosen", "falls/rejected",
    "eval_loss",
    "eval_rewards/accuracies", "eval_rewards/margins", "eval_logps/chosen", "eval_logps/rejected",
    "eval_falls/chosen",
)  # fmt: skip
Answered = list[tuple[PreferenceGroup, RankedGroup]]


def run(step: Step) -> None:
    """Train, save the policy (adapters merged) under `model`; findings on held-out prompts beside
    it."""
    groups, config = step.comparisons, step.settings
    load = partial(
        step.load, trained=config.lora is None, quantization=quantization_of(config.lora)
    )
    start, reference = step.start, step.model("reference")
    backbone = load(reference)
    learnt = answered(step, backbone, groups.train, "comparisons")
    asked = answered(step, backbone, groups.heldout, "held-out comparisons", required=False)
    step.say_batch(config.batch_size, len(learnt), "prompts")
    share = {
        "config": config,
        "seed": step.seed,
        "cache": cache_root() / "reference",
        "say": step.say,
    }
    examples = prepare(View(backbone), [group for _, group in learnt], **share)
    measured = prepare(View(backbone), [group for _, group in asked], measured=True, **share)
    if start != reference:
        del backbone  # before the other is loaded: one model in memory at a time
        backbone = load(start)
    view = new_policy(step, backbone)
    shard(view)
    train_preferences(
        view,
        examples,
        measured,
        config=config,
        seed=step.seed,
        folder=step.folder,
        progress=step.progress(),
        writers=step.writers(),
    )
    with shared_folder(step.folder / "model") as scratch:
        save_policy(view, scratch, base=start)
    unmeasured = step.not_evaluated(groups, asked)
    step.finish(findings(step, view, learnt, asked, measured) | {"not_evaluated": unmeasured})


def answered(
    step: Step,
    backbone: Backbone,
    groups: Sequence[PreferenceGroup],
    what: str,
    *,
    required: bool = True,
) -> Answered:
    """The groups that the loss can learn from, as tokens; what it cannot is counted."""
    config = step.settings
    unpaired = loss_row(config)[0].unpaired
    usable = [
        g
        for g in groups
        if any(c.probability != 0.5 for c in g.comparisons) or (unpaired and g.labels)
    ]
    if len(usable) < len(groups):
        step.count_dropped(what, {"nothing is preferred": len(groups) - len(usable)})
    if not usable and required:
        raise UserError(
            f"none of the {what} has an answer that is preferred to another, which the loss"
            f" {config.loss.name} needs.",
            hint="Answers judged singly can be learnt from with the kind kto.",
        )
    chosen = [extremes(g) for g in usable] if config.pairs == "extremes" else usable
    return ranked(step, backbone, chosen, required=required)


def new_policy(step: Step, backbone: Backbone) -> View:
    """What learns: a fresh adapter set on the frozen backbone, or every weight."""
    lora = step.settings.lora
    if lora is None:
        return View(backbone)
    spec = lora_spec(lora)
    backbone.freeze()
    add_adapter(backbone, "policy", spec, seed=step.seed)
    return View(backbone, "policy", spec)


def findings(
    step: Step, view: View, learnt: Answered, heldout: Answered, measured: Sequence[Example]
) -> dict[str, Any]:
    """What the stage reports: accuracy on held-out pairs, what became of the answers'
    probabilities, and lengths."""
    config = step.settings
    rows = read_metrics(step.folder / "metrics.jsonl")
    found = {
        "loss": config.loss.name,
        "reference": loss_row(config)[0].reference,
        "pairs_train": sum(len(group.comparisons) for _, group in learnt),
        "answers_train": sum(len(group.sequences) for _, group in learnt),
        "prompts_train": len(learnt),
        "prompts_heldout": len(heldout),
        "steps": len(rows),
        "curve": [{name: row[name] for name in _CURVE if name in row} for row in rows],
    }
    if not heldout:
        return found
    pairs = pair_table(heldout, measured, score(view, measured, config=config))
    if len(pairs["lead"]):
        found |= pair_findings(pairs) | ceilings(
            step, [group for group, _ in heldout], pairs["every_lead"]
        )
    return found
