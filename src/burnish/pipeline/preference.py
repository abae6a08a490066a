"""Stage: preference optimisation of the SFT model on comparisons, by whichever loss the recipe names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from burnish.algorithms.preference_losses import LOSSES
from burnish.atomic import atomic_folder
from burnish.data.preferences import extremes
from burnish.errors import UserError
from burnish.evaluation.reward_report import length_correlation
from burnish.evaluation.uncertainty import bootstrap_mean, bootstrap_share
from burnish.models.adapters import LoraSpec, add_adapter, save_adapter
from burnish.models.backbone import Backbone, load_backbone
from burnish.models.roles import View
from burnish.models.sources import cache_root
from burnish.models.weights import save_model
from burnish.pipeline import collect
from burnish.pipeline.context import Context, Split
from burnish.pipeline.reward import comparison_groups, ranked
from burnish.records import PreferenceGroup
from burnish.runs.metrics import read_metrics
from burnish.trainers.groups import RankedGroup
from burnish.trainers.preference import FALL, Example, Scored, prepare, score, train_preferences

_CURVE = (
    "step", "loss", "nll_loss", "kl", "kl_from_reference", "rewards/chosen", "rewards/rejected", "rewards/margins",
    "rewards/accuracies", "logps/chosen", "logps/rejected", "falls/chosen", "falls/rejected", "eval_loss",
    "eval_rewards/accuracies", "eval_rewards/margins", "eval_logps/chosen", "eval_logps/rejected", "eval_falls/chosen",
)  # fmt: skip
Answered = list[tuple[PreferenceGroup, RankedGroup]]


def run(context: Context) -> None:
    """Train, save the policy (adapters merged) under `preference/model`; findings on held-out prompts beside it."""
    folder = context.stage("preference")
    groups = Split(*comparison_groups(context))
    train(context, groups, folder=folder, start=context.sft_model)


def train(context: Context, groups: Split, *, folder: Path, start: str) -> None:
    """One round: from the model `start`, on these groups."""
    recipe = context.recipe
    backbone = load_backbone(start, products=context.products, say=context.say)
    learnt, heldout = (
        answered(context, backbone, part, what)
        for part, what in ((groups.train, "comparisons"), (groups.heldout, "held-out comparisons"))
    )
    examples, measured = examples_of(context, backbone, learnt, heldout)
    view = new_policy(context, backbone)
    train_preferences(
        view, examples, measured, config=recipe.preference, seed=recipe.seed, folder=folder,
        progress=context.progress("preference"), writers=context.writers("preference"),
    )  # fmt: skip
    with atomic_folder(folder / "model") as scratch:
        save_model(view, scratch)
        if view.adapter is not None and view.lora is not None:
            save_adapter(backbone, view.adapter, view.lora, scratch / "adapter", base=start, task_type="CAUSAL_LM")
    context.finish("preference", findings(context, view, learnt, heldout, measured))


def answered(context: Context, backbone: Backbone, groups: Sequence[PreferenceGroup], what: str) -> Answered:
    """The groups that the loss can learn from, as tokens; what it cannot is counted."""
    config = context.recipe.preference
    unpaired = LOSSES[config.loss.name].unpaired
    usable = [g for g in groups if any(c.probability != 0.5 for c in g.comparisons) or (unpaired and g.labels)]
    if len(usable) < len(groups):
        context.count_dropped(what, {"nothing is preferred": len(groups) - len(usable)})
    if not usable:
        raise UserError(
            f"none of the {what} has an answer that is preferred to another, which the loss {config.loss.name} needs.",
            hint="Answers judged singly can be learnt from with preference.loss.name=kto.",
        )
    chosen = [extremes(g) for g in usable] if config.pairs == "extremes" else usable
    return ranked(context, backbone, chosen)


def examples_of(
    context: Context, backbone: Backbone, learnt: Answered, heldout: Answered
) -> tuple[list[Example], list[Example]]:
    """Training and held-out examples; the backbone, as it is now, is the reference."""
    recipe = context.recipe
    reference, cache = View(backbone), cache_root() / "reference"
    share = {"config": recipe.preference, "seed": recipe.seed, "cache": cache, "say": context.say}
    return (
        prepare(reference, [group for _, group in learnt], **share),
        prepare(reference, [group for _, group in heldout], measured=True, **share),
    )


def new_policy(context: Context, backbone: Backbone) -> View:
    """What learns: a fresh adapter set on the frozen backbone, or every weight."""
    lora = context.recipe.preference.lora
    if lora is None:
        return View(backbone)
    spec = LoraSpec(lora.r, lora.alpha)
    backbone.freeze()
    add_adapter(backbone, "policy", spec, seed=context.recipe.seed)
    return View(backbone, "policy", spec)


def findings(
    context: Context, view: View, learnt: Answered, heldout: Answered, measured: Sequence[Example]
) -> dict[str, Any]:
    """What the stage reports: accuracy on held-out pairs, what became of the answers' probabilities, and lengths."""
    config = context.recipe.preference
    rows = read_metrics(context.stage("preference") / "metrics.jsonl")
    found = {
        "loss": config.loss.name,
        "reference": LOSSES[config.loss.name].reference,
        "pairs_train": sum(len(group.comparisons) for _, group in learnt),
        "answers_train": sum(len(group.sequences) for _, group in learnt),
        "prompts_train": len(learnt),
        "prompts_heldout": len(heldout),
        "steps": len(rows),
        "curve": [{name: row[name] for name in _CURVE if name in row} for row in rows],
    }
    scored = score(view, measured, config=config)
    pairs = pair_table(heldout, measured, scored)
    if len(pairs["lead"]):
        found |= pair_findings(pairs)
        if not context.recipe.data.labelled and not any(g.labels for g, _ in heldout):
            found |= collect.ceilings(context, [group for group, _ in heldout], pairs["every_lead"])
    return found


def pair_table(heldout: Answered, measured: Sequence[Example], scored: Sequence[Scored]) -> dict[str, np.ndarray]:
    """One entry a held-out pair with a better side: `lead` of its reward; the changes `rise_chosen` and `rise_rejected` of the
    log-probabilities (nats, whole answers); `words`, by how many words the better answer is longer; `prompt`, a number.

    `every_lead` has the first answer's lead for every comparison, ties among them.
    """
    columns: dict[str, list[float]] = {n: [] for n in ("lead", "rise_chosen", "rise_rejected", "words", "prompt")}
    every: list[float] = []
    for number, ((group, tokens), example, said) in enumerate(zip(heldout, measured, scored, strict=True)):
        assert example.reference is not None
        words = [len(text.split()) for text in group.responses]
        rise = [now - before for now, before in zip(said.logprobs, example.reference, strict=True)]
        for pair in tokens.comparisons:
            every.append(said.rewards[pair.first] - said.rewards[pair.second])
            if pair.probability == 0.5:
                continue
            better, worse = (pair.first, pair.second) if pair.probability > 0.5 else (pair.second, pair.first)
            entry = (said.rewards[better] - said.rewards[worse], rise[better], rise[worse], words[better] - words[worse], number)  # fmt: skip
            for name, value in zip(columns, entry, strict=True):
                columns[name].append(value)
    return {name: np.array(values) for name, values in columns.items()} | {"every_lead": np.array(every)}


def pair_findings(pairs: dict[str, np.ndarray]) -> dict[str, Any]:
    """Shares and means over held-out pairs with intervals over prompts."""
    lead, words, prompt = pairs["lead"], pairs["words"], pairs["prompt"]
    right = np.where(lead == 0, 0.5, (lead > 0).astype(float))
    fell = {side: (pairs[f"rise_{side}"] < -FALL).astype(float) for side in ("chosen", "rejected")}

    def share(values: np.ndarray, where: np.ndarray | None = None) -> dict[str, Any] | None:
        keep = np.ones(len(values), dtype=bool) if where is None else where
        if not keep.any():
            return None
        return bootstrap_share(values[keep], groups=prompt[keep].tolist()).to_dict()

    def mean(values: np.ndarray) -> dict[str, Any]:
        return bootstrap_mean(values, groups=prompt.tolist()).to_dict()

    return {
        "pairs_heldout": len(lead),
        "accuracy": share(right),
        "accuracy_longer": share(right, words > 0),
        "accuracy_shorter": share(right, words < 0),
        "longer_wins": share(np.where(words == 0, 0.5, (words > 0).astype(float))),
        "chosen_falls": share(fell["chosen"]),
        "rejected_falls": share(fell["rejected"]),
        "both_fall": share(fell["chosen"] * fell["rejected"]),
        "margin": mean(lead),
        "rise_chosen": mean(pairs["rise_chosen"]),
        "rise_rejected": mean(pairs["rise_rejected"]),
        "length_correlation": length_correlation(lead, words),
    }
