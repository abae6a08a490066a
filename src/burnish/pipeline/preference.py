"""Stage: preference optimisation of the SFT model on comparisons, by whichever loss the recipe names.

The first round learns from the comparisons that are there. Each later one has the policy answer prompts, the panel or the
reward model compare the answers, and goes on from the policy on those comparisons.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from burnish.algorithms.preference_losses import LOSSES
from burnish.annotation.store import Store
from burnish.atomic import atomic_folder, recover, write_json
from burnish.data.preferences import comparisons_from_ranks, extremes, informative, merge_by_prompt
from burnish.data.prompts import Stream
from burnish.errors import UserError
from burnish.models.adapters import LoraSpec, add_adapter
from burnish.models.backbone import Backbone
from burnish.models.roles import View
from burnish.models.sources import cache_root
from burnish.models.weights import load_reward_view, save_policy
from burnish.pipeline import collect
from burnish.pipeline.context import Context
from burnish.pipeline.preference_findings import pair_findings, pair_table
from burnish.pipeline.reward import comparison_groups, ranked
from burnish.pipeline.sampling import LocalSampler, fitting
from burnish.records import PreferenceGroup
from burnish.runs.metrics import read_metrics
from burnish.trainers.groups import RankedGroup
from burnish.trainers.preference import Example, prepare, score, train_preferences
from burnish.trainers.reward_model import score_sequences

_CURVE = (
    "step", "loss", "nll_loss", "kl", "kl_from_reference", "rewards/chosen", "rewards/rejected", "rewards/margins",
    "rewards/accuracies", "logps/chosen", "logps/rejected", "falls/chosen", "falls/rejected", "eval_loss",
    "eval_rewards/accuracies", "eval_rewards/margins", "eval_logps/chosen", "eval_logps/rejected", "eval_falls/chosen",
)  # fmt: skip
_COUNTS = "counts.json"
Answered = list[tuple[PreferenceGroup, RankedGroup]]


@dataclass(frozen=True, slots=True)
class Round:
    """One round: its number from 1, its folder, the model it starts from and the model it is held to."""

    number: int
    folder: Path
    start: str
    reference: str


def run(context: Context) -> None:
    """Train, save the policy (adapters merged) under `preference/model`; findings on held-out prompts beside it."""
    groups = comparison_groups(context)
    rounds, last = rounds_of(context), None
    for one in rounds:
        recover(one.folder / "model")
        if (one.folder / "model").is_dir() and one is not rounds[-1]:
            context.dropped = json.loads((one.folder / _COUNTS).read_text())["dropped"]
            continue
        learnt_from = groups.train if one.number == 1 else compared(context, one)
        last = train_round(context, one, learnt_from, groups.heldout)
    if len(rounds) > 1:
        with atomic_folder(context.stage("preference") / "model") as scratch:
            shutil.copytree(rounds[-1].folder / "model", scratch, dirs_exist_ok=True, copy_function=os.link)
    assert last is not None  # the last round is always gone through, if only to measure it
    unmeasured = context.not_evaluated("preference", groups, last.heldout)
    context.finish("preference", findings(context, rounds, last) | {"not_evaluated": unmeasured})


def rounds_of(context: Context) -> list[Round]:
    """The rounds of the recipe; a single one has the stage's own folder."""
    config, stage = context.recipe.preference, context.stage("preference")
    folders = [stage] if config.rounds == 1 else [stage / f"round-{n}" for n in range(1, config.rounds + 1)]
    starts = [context.sft_model, *(str((folder / "model").resolve()) for folder in folders[:-1])]
    held_to = starts if config.online.reference == "previous" else [context.sft_model] * len(folders)
    return [
        Round(number, folder, start, reference)
        for number, (folder, start, reference) in enumerate(zip(folders, starts, held_to, strict=True), start=1)
    ]


@dataclass(frozen=True)
class Trained:
    """What a round leaves in memory for the findings."""

    view: View
    heldout: Answered
    measured: list[Example]


def train_round(
    context: Context, one: Round, groups: Sequence[PreferenceGroup], heldout: Sequence[PreferenceGroup]
) -> Trained:
    """From `one.start`, on these groups; the model goes to the round's folder. A round that was begun goes on."""
    recipe = context.recipe
    load = partial(context.load, trained=recipe.preference.lora is None)
    backbone = load(one.reference)
    learnt = answered(context, backbone, groups, "comparisons")
    asked = answered(context, backbone, heldout, "held-out comparisons", required=False)
    context.say_batch("preference", recipe.preference.batch_size, len(learnt), "prompts")
    share = {
        "config": recipe.preference, "seed": recipe.seed, "cache": cache_root() / "reference", "say": context.say,
    }  # fmt: skip
    examples = prepare(View(backbone), [group for _, group in learnt], **share)
    measured = prepare(View(backbone), [group for _, group in asked], measured=True, **share)
    if one.start != one.reference:
        del backbone  # before the other is loaded: one model in memory at a time
        backbone = load(one.start)
    view = new_policy(context, backbone, seed=recipe.seed + one.number - 1)
    train_preferences(
        view, examples, measured, config=recipe.preference, seed=recipe.seed + one.number - 1, folder=one.folder,
        progress=context.progress("preference"), writers=context.writers("preference") if one.number == recipe.preference.rounds else (),
    )  # fmt: skip
    counts = {
        "pairs": sum(len(group.comparisons) for _, group in learnt),
        "answers": sum(len(group.sequences) for _, group in learnt),
        "prompts": len(learnt),
        "dropped": context.dropped,
    }
    write_json(one.folder / _COUNTS, counts)  # before the model, whose being there ends the round
    with atomic_folder(one.folder / "model") as scratch:
        save_policy(view, scratch, base=one.start)
    return Trained(view, asked, measured)


def compared(context: Context, one: Round) -> tuple[PreferenceGroup, ...]:
    """The policy's own answers to this round's prompts, compared by the recipe's judge.

    Answers and votes are kept in the round's folder as they come, so that a killed round asks for nothing twice.
    """
    recipe, config = context.recipe, context.recipe.preference.online
    one.folder.mkdir(parents=True, exist_ok=True)
    store = Store(one.folder / "annotations.sqlite")
    store.add_project(collect.PROJECT)
    backbone = context.load(one.start)
    prompts = fitting(context, backbone, context.prompts.train, config.sampling, "prompts")
    size = min(config.prompts or len(prompts), len(prompts))
    chosen = Stream(prompts, seed=recipe.seed, batch_size=size).batch(one.number - 2)
    sampler = LocalSampler(
        View(backbone), config.sampling, seed=recipe.seed, max_length=recipe.model.max_length, purpose="preference",
        say=context.say_once,
    )  # fmt: skip
    unique = list({prompt.id: prompt for prompt in chosen}.values())
    context.say(f"preference: round {one.number}: answering {len(unique)} prompts")
    collect.fill(
        store, sampler, unique, samples=config.responses_per_prompt, source=f"round-{one.number}", round=one.number
    )
    if config.judge == "panel":
        collect.ask_panel(context, store)
        groups = collect.panel_groups(context, store)
    else:
        groups = scored_groups(context, store)
    store.close()
    return groups


def scored_groups(context: Context, store: Store) -> tuple[PreferenceGroup, ...]:
    """Every pair of answers in the store with p = σ(s_first − s_second), s on the scale that Bradley–Terry was trained on."""
    base, folder = context.load(context.sft_model), context.stage("reward") / "model"
    view = load_reward_view(folder, base, context.load)
    assert view.head is not None
    merged = merge_by_prompt(
        PreferenceGroup(task.prompt, task.candidates, comparisons_from_ranks([1] * len(task.candidates)))
        for task in store.tasks(collect.PROJECT)
    )
    undecided = [group for group in merged.items if group.comparisons]
    groups = ranked(context, base, undecided)
    limit = context.recipe.reward.optimiser.micro_batch_tokens
    scores = score_sequences(view, [s for _, tokens in groups for s in tokens.sequences], max_tokens=limit)
    values = iter((scores.double() / float(view.head.gain)).tolist())
    found = []
    for group, _ in groups:
        own = [next(values) for _ in group.responses]
        pairs = (
            replace(c, probability=1.0 / (1.0 + math.exp(own[c.second] - own[c.first]))) for c in group.comparisons
        )
        found.append(replace(group, comparisons=tuple(pairs)))
    kept = informative(found)
    context.count_dropped("compared answers", {**merged.dropped, **kept.dropped})
    return kept.items


def answered(
    context: Context, backbone: Backbone, groups: Sequence[PreferenceGroup], what: str, *, required: bool = True
) -> Answered:
    """The groups that the loss can learn from, as tokens; what it cannot is counted."""
    config = context.recipe.preference
    unpaired = LOSSES[config.loss.name].unpaired
    usable = [g for g in groups if any(c.probability != 0.5 for c in g.comparisons) or (unpaired and g.labels)]
    if len(usable) < len(groups):
        context.count_dropped(what, {"nothing is preferred": len(groups) - len(usable)})
    if not usable and required:
        raise UserError(
            f"none of the {what} has an answer that is preferred to another, which the loss {config.loss.name} needs.",
            hint="Answers judged singly can be learnt from with preference.loss.name=kto.",
        )
    chosen = [extremes(g) for g in usable] if config.pairs == "extremes" else usable
    return ranked(context, backbone, chosen, required=required)


def new_policy(context: Context, backbone: Backbone, *, seed: int) -> View:
    """What learns: a fresh adapter set on the frozen backbone, or every weight."""
    lora = context.recipe.preference.lora
    if lora is None:
        return View(backbone)
    spec = LoraSpec(lora.r, lora.alpha)
    backbone.freeze()
    add_adapter(backbone, "policy", spec, seed=seed)
    return View(backbone, "policy", spec)


def findings(context: Context, rounds: Sequence[Round], last: Trained) -> dict[str, Any]:
    """What the stage reports: accuracy on held-out pairs, what became of the answers' probabilities, and lengths."""
    config = context.recipe.preference
    logs = [read_metrics(one.folder / "metrics.jsonl") for one in rounds]
    counts = [json.loads((one.folder / _COUNTS).read_text()) for one in rounds]
    curve, offset = [], 0
    for rows in logs:
        curve += [{name: row[name] for name in _CURVE if name in row} | {"step": offset + row["step"]} for row in rows]
        offset += len(rows)
    found = {
        "loss": config.loss.name,
        "reference": LOSSES[config.loss.name].reference,
        "rounds": len(rounds),
        **{f"{name}_train": sum(count[name] for count in counts) for name in ("pairs", "answers", "prompts")},
        "prompts_heldout": len(last.heldout),
        "steps": offset,
        "steps_of_rounds": [len(rows) for rows in logs],
        "curve": curve,
    }
    if not last.heldout:
        return found
    pairs = pair_table(last.heldout, last.measured, score(last.view, last.measured, config=config))
    if len(pairs["lead"]):
        found |= pair_findings(pairs)
        if not context.recipe.data.labelled:
            found |= collect.ceilings(context, [group for group, _ in last.heldout], pairs["every_lead"])
    return found
