"""Stage 2: the SFT model writes responses, the panel ranks them through the store, the rankings become soft labels."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from burnish.annotation.agreement import Vote, first_shown_share, krippendorff_alpha, pairwise_agreement, votes
from burnish.annotation.labels import preference_data
from burnish.annotation.panel import default_panel, label_items
from burnish.annotation.snapshot import take_snapshot
from burnish.annotation.store import Store, Task
from burnish.data.preferences import informative, merge_by_prompt
from burnish.data.prompts import split_or_all
from burnish.evaluation.reward_report import pairwise_accuracy
from burnish.labels.soft import LabelOptions, Pair, comparisons, reliabilities
from burnish.models.roles import View
from burnish.pipeline.context import Context, Split
from burnish.pipeline.sampling import LocalSampler, fitting
from burnish.records import PreferenceGroup, Prompt
from burnish.rewards.base import prompt_text
from burnish.rewards.taste import PROPERTIES, property_matrix, taste_score
from burnish.trainers.loop import Progress

PROJECT = "preferences"
_CHUNK = 32  # prompts sampled between two commits, so that a killed run loses little


def run(context: Context) -> None:
    """Sample, store, label, aggregate; report agreement and how well the aggregate found the gold taste."""
    recipe = context.recipe
    backbone = context.load(context.sft_model)
    store = Store(
        context.stage("collect") / "annotations.sqlite"
    )  # not before: a model that does not load leaves nothing
    store.add_project(PROJECT)
    prompts = fitting(context, backbone, context.prompts.train, recipe.collect.sampling, "prompts")
    sampler = LocalSampler(
        View(backbone), recipe.collect.sampling, seed=recipe.seed, max_length=recipe.model.max_length,
        purpose="collect", say=context.say_once,
    )  # fmt: skip
    fill(
        store, sampler, prompts[: recipe.collect.prompts], samples=recipe.collect.responses_per_prompt, source="sft",
        progress=context.progress("collect"),
    )  # fmt: skip
    ask_panel(context, store)
    findings = _findings(context, store)
    for figure, reason in _unknown(findings):
        context.say(f"collect: {figure} is unknown: {reason}")
    context.finish("collect", findings)
    store.close()


def labelled_groups(context: Context) -> Split:
    """The soft labels of the store, split by prompt, with groups that say nothing left out and counted."""
    store = Store(context.stage("collect") / "annotations.sqlite")
    groups = panel_groups(context, store)
    store.close()
    # The prompts are the training side of a split by prompt, perhaps by the same hash.
    share, seed = context.recipe.data.heldout, context.recipe.seed
    return Split(*split_or_all(groups, heldout=share, seed=seed, salt="compared/"))


def fill(
    store: Store, sampler: LocalSampler, prompts: Sequence[Prompt], *, samples: int, source: str, round: int = 0,
    progress: Progress | None = None,
) -> None:  # fmt: skip
    """`samples` responses to each prompt that the store does not have yet."""
    known = {task.item_id for task in store.tasks(PROJECT)}
    missing = [prompt for prompt in prompts if prompt.id not in known]
    for start in range(0, len(missing), _CHUNK):
        chunk = missing[start : start + _CHUNK]
        rollouts = sampler.generate(chunk, samples=samples, round=round)
        texts = [[r.completion.text for r in rollouts[i * samples : (i + 1) * samples]] for i in range(len(chunk))]
        store.add_items(PROJECT, list(zip(chunk, texts, strict=True)), source=source)
        if progress is not None:
            done = min(start + _CHUNK, len(missing))
            progress(done, len(missing), sum(len(r.completion.tokens) for r in rollouts), {})


def ask_panel(context: Context, store: Store) -> None:
    """Have the simulated annotators rank every item of the store that they have not ranked yet."""
    recipe = context.recipe
    panel = default_panel(recipe.taste.model_dump(), size=recipe.collect.panel.size, seed=recipe.seed)
    label_items(
        store, PROJECT, panel, lambda task: property_matrix(prompt_text(task.prompt), task.candidates), PROPERTIES,
        annotators_per_item=recipe.collect.panel.annotators_per_item, seed=recipe.seed,
    )  # fmt: skip


def panel_groups(context: Context, store: Store) -> tuple[PreferenceGroup, ...]:
    """The soft labels of the store, with groups that say nothing left out and counted."""
    options = LabelOptions(weighted=context.recipe.collect.reliability_weighted)
    dropped: Counter[str] = Counter()
    merged = merge_by_prompt(preference_data(take_snapshot(store, PROJECT), options, dropped=dropped))
    groups = informative(merged.items)
    context.count_dropped("labelled items", {**dropped, **merged.dropped, **groups.dropped})
    return groups.items


def ceilings(context: Context, groups: Sequence[PreferenceGroup], difference: np.ndarray) -> dict[str, Any]:
    """What the panel's noise allows on held-out pairs: `ceiling`, how often the gold taste itself agrees with the labels;
    and `gold_accuracy`, how often the reward model agrees with the gold taste."""
    weights = context.recipe.taste.model_dump()
    gold, labels, prompt_of_pair = [], [], []
    for number, group in enumerate(groups):
        scores = [taste_score(weights, prompt_text(group.prompt), text) for text in group.responses]
        for pair in group.comparisons:
            gold.append(scores[pair.first] - scores[pair.second])
            labels.append(pair.probability)
            prompt_of_pair.append(number)
    truth = np.array(gold)
    return {
        "ceiling": accuracy(truth, np.array(labels), prompt_of_pair),
        "gold_accuracy": accuracy(difference, np.where(truth == 0, 0.5, (truth > 0).astype(float)), prompt_of_pair),
    }


def accuracy(difference: np.ndarray, labels: np.ndarray, groups: Sequence[Hashable]) -> dict[str, Any] | None:
    """How often the difference's sign is the label's side, with its interval; None where every label is a tie."""
    return None if (labels == 0.5).all() else pairwise_accuracy(difference, labels, groups=groups).to_dict()


def _findings(context: Context, store: Store) -> dict[str, Any]:
    rankings, tasks = store.rankings(PROJECT), store.tasks(PROJECT)
    found = votes(rankings)
    gold = _gold_preferences(context, tasks)
    reliability = reliabilities(found)
    alpha, warning = krippendorff_alpha(found)
    return {
        "prompts": len(tasks),
        "responses_per_prompt": context.recipe.collect.responses_per_prompt,
        "rankings": len(rankings),
        "comparisons": len(found),
        "annotators": [
            _annotator(name, [v for v in found if v.annotator == name], reliability[name], gold)
            for name in sorted(reliability)
        ],
        "pairwise_agreement": pairwise_agreement(found).to_dict(),
        "alpha": alpha.to_dict(),
        "alpha_warning": warning,
        "soft_label_accuracy": _label_accuracy(_soft_labels(found, reliability), gold),
        "majority_accuracy": _label_accuracy(_soft_labels(found, None), gold),
    }


def _unknown(findings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The figures that the labels do not give, each with the reason."""
    if math.isnan(findings["pairwise_agreement"]["value"]):
        yield "the annotators' agreement", "there is no pair of answers on which two of them had a preference"
    if math.isnan(findings["alpha"]["value"]):
        yield "Krippendorff's alpha", "no pair was ranked by two annotators, or they all said the same of every pair"
    if findings["soft_label_accuracy"] is None:
        yield "how often the labels are right", "the gold taste prefers no side of any pair"


def _annotator(name: str, own: Sequence[Vote], reliability: float, gold: dict[Pair, float]) -> dict[str, Any]:
    judged = [
        float(v.value == gold[v.item_id, v.first, v.second])
        for v in own
        if v.value != 0.5 and gold[v.item_id, v.first, v.second] != 0.5
    ]
    share, p_value = first_shown_share(own)
    agreement = float(np.mean(judged)) if judged else float("nan")
    return {
        "name": name,
        "votes": len(own),
        "reliability": reliability,
        "gold_agreement": agreement,
        "first_shown_share": share,
        "position_p": p_value,
    }


def _gold_preferences(context: Context, tasks: Sequence[Task]) -> dict[Pair, float]:
    """1, 0 or ½ for every pair of every item: what the gold taste prefers."""
    weights, preferences = context.recipe.taste.model_dump(), {}
    for task in tasks:
        scores = [taste_score(weights, prompt_text(task.prompt), text) for text in task.candidates]
        for j in range(len(scores)):
            for i in range(j):
                preferences[task.item_id, i, j] = 0.5 if scores[i] == scores[j] else float(scores[i] > scores[j])
    return preferences


def _soft_labels(found: Sequence[Vote], reliability: Mapping[str, float] | None) -> dict[Pair, float]:
    return {pair: label.probability for pair, label in comparisons(found, reliability, LabelOptions()).items()}


def _label_accuracy(labels: dict[Pair, float], gold: dict[Pair, float]) -> dict[str, Any] | None:
    """How often the label's side is the gold taste's, over pairs on which the gold taste has one."""
    pairs = list(labels)
    predicted = np.array([labels[pair] - 0.5 for pair in pairs])
    return accuracy(predicted, np.array([gold[pair] for pair in pairs]), [pair[0] for pair in pairs])
