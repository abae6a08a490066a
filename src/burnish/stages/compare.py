"""Stage `compare`: the answers to each prompt are compared, and the comparisons become soft
labels."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from burnish.annotation.agreement import (
    Vote,
    first_shown_share,
    krippendorff_alpha,
    pairwise_agreement,
    votes,
)
from burnish.annotation.ai.judge import Judge, Tally, VerdictCache, principles_of
from burnish.annotation.labels import preference_data
from burnish.annotation.panel import default_panel, label_items
from burnish.annotation.snapshot import Entry, take_snapshot
from burnish.annotation.store import Store, Task
from burnish.config.making import Judges
from burnish.config.shipped import located
from burnish.data.preferences import comparisons_from_ranks, merge_by_prompt
from burnish.labels.soft import LabelOptions, Pair, comparisons, reliabilities
from burnish.models.ensemble import gain_of
from burnish.models.weights import load_reward_model
from burnish.records import PreferenceGroup
from burnish.rewards.base import prompt_text
from burnish.rewards.taste import PROPERTIES, property_matrix, taste_score
from burnish.stages.artifacts import COMPARISONS, Answered, read_answers, write_comparisons
from burnish.stages.chat_of import chat_of
from burnish.stages.context import Step
from burnish.stages.gold import accuracy, taste_of
from burnish.stages.people import labels_of
from burnish.stages.ranked import scored, telling

PROJECT = "preferences"
_JUDGED = (
    2048  # tokens that a local judge reads at most: a constitution, a conversation and two answers
)


def run(step: Step) -> None:
    """Compare, write the comparisons, report agreement and how well the labels found the gold
    taste."""
    answers = step.parent("answers")
    assert answers is not None  # nothing else makes answers
    answered = read_answers(step.run.place(answers.name))
    compared, findings = list[PreferenceGroup](), dict[str, Any]()
    for number, (judges, part) in enumerate(
        zip(step.settings.by, dealt(step, answered), strict=True)
    ):
        groups, told = _COMPARE[judges.called](step, judges, number, part)
        compared += groups
        findings |= told  # a panel's figures and another judge's stand side by side
        findings.setdefault("judges", []).append(
            {
                "by": judges.called,
                "prompts": len(part),
                "comparisons": sum(len(g.comparisons) for g in groups),
            }
        )
    place = {one.prompt.id: position for position, one in enumerate(answered)}
    compared.sort(key=lambda group: place.get(group.prompt.id, len(place)))
    write_comparisons(step.folder / COMPARISONS, compared)
    if not compared:
        step.say(
            f"{step.name}: no preference is left to learn from: no answer is preferred to another"
        )
    findings |= {
        "prompts": len(compared),
        "responses_per_prompt": len(answered[0].responses) if answered else 0,
    }
    for figure, reason in _unknown(findings):
        step.say(f"{step.name}: {figure} is unknown: {reason}")
    step.finish(findings)


def dealt(step: Step, answered: Sequence[Answered]) -> list[list[Answered]]:
    """The prompts of each who compares: by their shares, drawn by a hash, and in their order."""
    shares = step.settings.shares()
    if len(shares) == 1:
        return [list(answered)]
    drawn = sorted(
        answered, key=lambda one: hashlib.sha256(f"{step.seed}/{one.prompt.id}".encode()).digest()
    )
    ends = [round(len(drawn) * sum(shares[: number + 1])) for number in range(len(shares))]
    owner = {
        one.prompt.id: number
        for number, (start, end) in enumerate(pairwise([0, *ends]))
        for one in drawn[start:end]
    }
    return [
        [one for one in answered if owner[one.prompt.id] == number] for number in range(len(shares))
    ]


Compared = tuple[Sequence[PreferenceGroup], dict[str, Any]]


def _by_panel(step: Step, judges: Judges, number: int, answered: Sequence[Answered]) -> Compared:
    """Simulated annotators rank the answers through the store, which keeps their votes as they
    come."""
    assert judges.panel is not None
    store = Store(
        step.folder / ("annotations.sqlite" if number == 0 else f"annotations-{number}.sqlite")
    )
    taste = taste_of(step, judges.panel)
    try:
        store.add_project(PROJECT)
        known = {task.item_id for task in store.tasks(PROJECT)}
        missing = [one for one in answered if one.prompt.id not in known]
        for source in dict.fromkeys(one.models[0] for one in missing):
            own = [(one.prompt, list(one.responses)) for one in missing if one.models[0] == source]
            store.add_items(PROJECT, own, source=source)
        panel = default_panel(taste, size=judges.panel.size, seed=step.seed)
        label_items(
            store,
            PROJECT,
            panel,
            lambda task: property_matrix(prompt_text(task.prompt), task.candidates),
            PROPERTIES,
            annotators_per_item=judges.panel.annotators_per_item,
            seed=step.seed,
        )
        return panel_groups(step, store), _findings(taste, store)
    finally:
        store.close()


def panel_groups(step: Step, store: Store) -> tuple[PreferenceGroup, ...]:
    """The soft labels of the store, with groups that say nothing left out and counted."""
    options = LabelOptions(weighted=step.settings.reliability_weighted)
    dropped: Counter[str] = Counter()
    merged = merge_by_prompt(
        preference_data(take_snapshot(store, PROJECT), options, dropped=dropped)
    )
    return telling(step, "labelled items", merged.items, {**dropped, **merged.dropped})


def _by_reward(step: Step, judges: Judges, number: int, answered: Sequence[Answered]) -> Compared:
    """Every pair of answers with p = σ(s_first − s_second), s on the scale that Bradley–Terry was
    trained on."""
    view = load_reward_model(Path(step.model(f"by.{number}.reward")), step.load)
    undecided, dropped = _undecided(answered)
    gain, found = gain_of(view), []
    for group, scores in scored(step, view, undecided, "comparisons"):
        own = [score / gain for score in scores]
        pairs = (
            replace(c, probability=1.0 / (1.0 + math.exp(own[c.second] - own[c.first])))
            for c in group.comparisons
        )
        found.append(replace(group, comparisons=tuple(pairs)))
    return telling(step, "compared answers", found, dropped), {}


def _by_judge(step: Step, judges: Judges, number: int, answered: Sequence[Answered]) -> Compared:
    """A model asked by a constitution, each pair both ways round; verdicts are kept as they
    come."""
    config = judges.judge
    assert config is not None
    named = config.constitution
    constitution = principles_of(None if named is None else str(located(Path(named).expanduser())))
    chat = chat_of(
        step,
        config.model,
        config.endpoint,
        slot=f"by.{number}.judge.model",
        max_length=_JUDGED,
        logprobs=config.logprobs,
    )
    judge = Judge(
        chat, constitution, VerdictCache(step.folder / "parts" / f"verdicts-{number}.jsonl")
    )
    undecided, dropped = _undecided(answered)
    tally, progress = Tally(), step.progress()

    def decide(group: PreferenceGroup) -> tuple[PreferenceGroup, Tally]:
        own = Tally()
        entry = Entry(group.prompt.id, group.prompt, group.responses, (), "pairwise", "work", None)
        verdicts = ((c, judge.preference(entry, c.first, c.second, own)) for c in group.comparisons)
        pairs = [
            replace(c, probability=verdict[0]) for c, verdict in verdicts if verdict is not None
        ]
        return replace(group, comparisons=tuple(pairs)), own

    found = []
    with ThreadPoolExecutor(config.parallel if config.endpoint is not None else 1) as pool:
        for done, (group, own) in enumerate(pool.map(decide, undecided), start=1):
            tally.add(own)
            found.append(group)
            if progress is not None:
                progress(done, len(undecided), 0, {})
    if tally.unreadable:
        step.count_dropped(
            "compared answers", {"the judge's verdict could not be read": tally.unreadable}
        )
    judged = {
        "pairs": tally.pairs,
        "flips": tally.flips,
        "unreadable": tally.unreadable,
        "judge": chat.name,
    }
    return telling(step, "compared answers", found, dropped), {"judged": judged}


def _by_people(step: Step, judges: Judges, number: int, answered: Sequence[Answered]) -> Compared:
    """What annotators said; while that is not enough, the run waits for them."""
    assert judges.people is not None
    return labels_of(step, judges.people, answered), {}


def _undecided(answered: Sequence[Answered]) -> tuple[list[PreferenceGroup], Mapping[str, int]]:
    """Every pair of different answers to each prompt, and what was left out."""
    merged = merge_by_prompt(
        PreferenceGroup(one.prompt, one.responses, comparisons_from_ranks([1] * len(one.responses)))
        for one in answered
    )
    return [group for group in merged.items if group.comparisons], merged.dropped


_COMPARE: Mapping[str, Callable[[Step, Judges, int, Sequence[Answered]], Compared]] = {
    "panel": _by_panel,
    "people": _by_people,
    "judge": _by_judge,
    "reward": _by_reward,
}


def _findings(taste: Mapping[str, float], store: Store) -> dict[str, Any]:
    rankings, tasks = store.rankings(PROJECT), store.tasks(PROJECT)
    found = votes(rankings)
    gold = _gold_preferences(taste, tasks)
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
        "soft_label_accuracy": _label_accuracy(_soft_labels(found, reliability), gold),
        "majority_accuracy": _label_accuracy(_soft_labels(found, None), gold),
    }


def _unknown(findings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The figures that the labels do not give, each with the reason."""
    if findings.get("by") != "panel":
        return
    if math.isnan(findings["pairwise_agreement"]["value"]):
        yield (
            "the annotators' agreement",
            "there is no pair of answers on which two of them had a preference",
        )
    if math.isnan(findings["alpha"]["value"]):
        yield (
            "Krippendorff's alpha",
            "no pair was ranked by two annotators, or they all said the same of every pair",
        )
    if findings["soft_label_accuracy"] is None:
        yield "how often the labels are right", "the gold taste prefers no side of any pair"


def _annotator(
    name: str, own: Sequence[Vote], reliability: float, gold: dict[Pair, float]
) -> dict[str, Any]:
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


def _gold_preferences(weights: Mapping[str, float], tasks: Sequence[Task]) -> dict[Pair, float]:
    """1, 0 or ½ for every pair of every item: what the gold taste prefers."""
    preferences: dict[Pair, float] = {}
    for task in tasks:
        scores = [taste_score(weights, prompt_text(task.prompt), text) for text in task.candidates]
        for j in range(len(scores)):
            for i in range(j):
                preferences[task.item_id, i, j] = (
                    0.5 if scores[i] == scores[j] else float(scores[i] > scores[j])
                )
    return preferences


def _soft_labels(
    found: Sequence[Vote], reliability: Mapping[str, float] | None
) -> dict[Pair, float]:
    return {
        pair: label.probability
        for pair, label in comparisons(found, reliability, LabelOptions()).items()
    }


def _label_accuracy(labels: dict[Pair, float], gold: dict[Pair, float]) -> dict[str, Any] | None:
    """How often the label's side is the gold taste's, over pairs on which the gold taste has
    one."""
    pairs = list(labels)
    predicted = np.array([labels[pair] - 0.5 for pair in pairs])
    return accuracy(
        predicted, np.array([gold[pair] for pair in pairs]), [pair[0] for pair in pairs]
    )
