"""Stage `compare`: the answers to each prompt are compared, and the comparisons become soft labels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from burnish.annotation.aggregation import Pair, preference_groups, reliabilities, soft_labels
from burnish.annotation.agreement import Vote, first_shown_share, krippendorff_alpha, pairwise_agreement, votes
from burnish.annotation.panel import default_panel, label_items
from burnish.annotation.store import Store, Task
from burnish.data.columns import NothingLeft
from burnish.data.preferences import comparisons_from_ranks, informative, merge_by_prompt
from burnish.models.weights import load_reward_model
from burnish.pipeline.artifacts import COMPARISONS, Answered, read_answers, write_comparisons
from burnish.pipeline.context import Step
from burnish.pipeline.gold import accuracy
from burnish.pipeline.ranked import ranked
from burnish.records import PreferenceGroup
from burnish.rewards.base import prompt_text
from burnish.rewards.taste import PROPERTIES, property_matrix, taste_score
from burnish.trainers.reward_model import score_sequences

PROJECT = "preferences"
_MICRO_BATCH_TOKENS = 1024


def run(step: Step) -> None:
    """Compare, write the comparisons, report agreement and how well the labels found the gold taste."""
    answers = step.parent("answers")
    assert answers is not None  # nothing else makes answers
    answered = read_answers(step.run.place(answers.name))
    groups, findings = _by_panel(step, answered) if step.settings.by.panel is not None else _by_reward(step, answered)
    write_comparisons(step.folder / COMPARISONS, groups)
    if not groups:
        step.say(f"{step.name}: no preference is left to learn from: no answer is preferred to another")
    for figure, reason in _unknown(findings):
        step.say(f"{step.name}: {figure} is unknown: {reason}")
    step.finish(findings)


def _by_panel(step: Step, answered: Sequence[Answered]) -> tuple[tuple[PreferenceGroup, ...], dict[str, Any]]:
    """Simulated annotators rank the answers through the store, which keeps their votes as they come."""
    store = Store(step.folder / "annotations.sqlite")
    try:
        store.add_project(PROJECT)
        known = {task.item_id for task in store.tasks(PROJECT)}
        missing = [one for one in answered if one.prompt.id not in known]
        for source in dict.fromkeys(one.models[0] for one in missing):
            own = [(one.prompt, list(one.responses)) for one in missing if one.models[0] == source]
            store.add_items(PROJECT, own, source=source)
        ask_panel(step, store)
        return panel_groups(step, store), _findings(step, store)
    finally:
        store.close()


def ask_panel(step: Step, store: Store) -> None:
    """Have the simulated annotators rank every item of the store that they have not ranked yet."""
    who = step.settings.by.panel
    panel = default_panel(step.recipe.taste.model_dump(), size=who.size, seed=step.seed)
    label_items(
        store, PROJECT, panel, lambda task: property_matrix(prompt_text(task.prompt), task.candidates), PROPERTIES,
        annotators_per_item=who.annotators_per_item, seed=step.seed,
    )  # fmt: skip


def panel_groups(step: Step, store: Store) -> tuple[PreferenceGroup, ...]:
    """The soft labels of the store, with groups that say nothing left out and counted."""
    found = votes(store.rankings(PROJECT))
    labels = soft_labels(found, reliability=reliabilities(found) if step.settings.reliability_weighted else None)
    merged = merge_by_prompt(preference_groups(store.tasks(PROJECT), labels))
    return _telling(step, "labelled items", merged.items, merged.dropped)


def _telling(
    step: Step, what: str, groups: Sequence[PreferenceGroup], dropped: Mapping[str, int]
) -> tuple[PreferenceGroup, ...]:
    """The groups in which an answer is preferred to another, what is left out counted. None is a finding too: a stage that
    learns from them refuses."""
    try:
        kept = informative(groups)
    except NothingLeft:
        step.count_dropped(what, {**dropped, "nothing is preferred": len(groups)})
        return ()
    step.count_dropped(what, {**dropped, **kept.dropped})
    return kept.items


def _by_reward(step: Step, answered: Sequence[Answered]) -> tuple[tuple[PreferenceGroup, ...], dict[str, Any]]:
    """Every pair of answers with p = σ(s_first − s_second), s on the scale that Bradley–Terry was trained on."""
    view = load_reward_model(Path(step.model("by.reward")), step.load)
    assert view.head is not None
    merged = merge_by_prompt(
        PreferenceGroup(one.prompt, one.responses, comparisons_from_ranks([1] * len(one.responses))) for one in answered
    )
    groups = ranked(step, view.backbone, [group for group in merged.items if group.comparisons])
    scores = score_sequences(
        view, [s for _, tokens in groups for s in tokens.sequences], max_tokens=_MICRO_BATCH_TOKENS
    )
    values = iter((scores.double() / float(view.head.gain)).tolist())
    found = []
    for group, _ in groups:
        own = [next(values) for _ in group.responses]
        pairs = (
            replace(c, probability=1.0 / (1.0 + math.exp(own[c.second] - own[c.first]))) for c in group.comparisons
        )
        found.append(replace(group, comparisons=tuple(pairs)))
    kept = _telling(step, "compared answers", found, merged.dropped)
    findings = {
        "by": "reward model",
        "prompts": len(kept),
        "responses_per_prompt": len(answered[0].responses) if answered else 0,
        "comparisons": sum(len(group.comparisons) for group in kept),
    }
    return kept, findings


def _findings(step: Step, store: Store) -> dict[str, Any]:
    rankings, tasks = store.rankings(PROJECT), store.tasks(PROJECT)
    found = votes(rankings)
    gold = _gold_preferences(step, tasks)
    reliability = reliabilities(found)
    alpha, warning = krippendorff_alpha(found)
    return {
        "by": "panel",
        "prompts": len(tasks),
        "responses_per_prompt": len(tasks[0].candidates) if tasks else 0,
        "rankings": len(rankings),
        "comparisons": len(found),
        "annotators": [
            _annotator(name, [v for v in found if v.annotator == name], reliability[name], gold)
            for name in sorted(reliability)
        ],
        "pairwise_agreement": pairwise_agreement(found).to_dict(),
        "alpha": alpha.to_dict(),
        "alpha_warning": warning,
        "soft_label_accuracy": _label_accuracy(soft_labels(found, reliability=reliability), gold),
        "majority_accuracy": _label_accuracy(soft_labels(found, reliability=None), gold),
    }


def _unknown(findings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The figures that the labels do not give, each with the reason."""
    if findings["by"] != "panel":
        return
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


def _gold_preferences(step: Step, tasks: Sequence[Task]) -> dict[Pair, float]:
    """1, 0 or ½ for every pair of every item: what the gold taste prefers."""
    weights, preferences = step.recipe.taste.model_dump(), {}
    for task in tasks:
        scores = [taste_score(weights, prompt_text(task.prompt), text) for text in task.candidates]
        for j in range(len(scores)):
            for i in range(j):
                preferences[task.item_id, i, j] = 0.5 if scores[i] == scores[j] else float(scores[i] > scores[j])
    return preferences


def _label_accuracy(labels: dict[Pair, float], gold: dict[Pair, float]) -> dict[str, Any] | None:
    """How often the label's side is the gold taste's, over pairs on which the gold taste has one."""
    pairs = list(labels)
    predicted = np.array([labels[pair] - 0.5 for pair in pairs])
    return accuracy(predicted, np.array([gold[pair] for pair in pairs]), [pair[0] for pair in pairs])
