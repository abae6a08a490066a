"""Who judges an evaluation, what they say of the models' answers, and why they may not give its headline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np

from burnish.annotation.ai.judge import Judge, Tally, VerdictCache, flips, principles_of
from burnish.annotation.snapshot import Entry
from burnish.config.graph import Node
from burnish.data.render import render_prompt
from burnish.evaluation.nulls import beats
from burnish.evaluation.uncertainty import bootstrap_mean, bootstrap_share
from burnish.models.backbone import Backbone
from burnish.models.roles import View
from burnish.models.weights import load_reward_adapter, load_reward_model
from burnish.records import Completion, Prompt, Rollout
from burnish.rewards.base import prompt_text
from burnish.rewards.model import RewardModelScorer
from burnish.rewards.sense import Answer, SenseOfBase
from burnish.rewards.taste import PROPERTIES, properties, sense, taste_score
from burnish.stages.artifacts import Answered
from burnish.stages.chat_of import chat_of
from burnish.stages.context import Step
from burnish.stages.people import preferences_of
from burnish.stages.roles import stands_on
from burnish.stages.sampling import end_tokens_of

Sampled = Mapping[str, Sequence[Rollout]]
Nulls = Mapping[str, Sequence[str]]
MICRO_BATCH_TOKENS = 1024
"""Tokens of answers that a judge reads at once."""
_JUDGED = 2048  # tokens that a local judge reads at most
_SPECIMENS = 32  # prompts by which it is found what real text is to the base model
GOLD, REWARD_MODEL, PEOPLE = "gold", "reward model", "people"


@dataclass(frozen=True)
class Judged:
    """What one judge said.

    Args:
        name: the judge's.
        kind: what it is.
        unfit: why it may not give the headline; None: it may.
        wins: (a, b) to (how far a's answers are preferred to b's, each in [0, 1]; the prompt of each).
        marks: each model's scores, of a judge that gives scores.
        nulls: by null, how far it is preferred to the reference's answer, one a prompt.
        rows: the verdicts, for the file.
        properties: [N, F] of each model by the names in `names`, of the taste.
        figures: what else is told of the judge.
    """

    name: str
    kind: Literal["people", "judge", "reward", "taste"]
    unfit: str | None
    wins: Mapping[tuple[str, str], tuple[np.ndarray, Sequence[str]]]
    marks: Mapping[str, np.ndarray] = field(default_factory=dict)
    nulls: Mapping[str, Sequence[float]] = field(default_factory=dict)
    rows: Sequence[Mapping[str, Any]] = ()
    properties: Mapping[str, np.ndarray] = field(default_factory=dict)
    names: Sequence[str] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)


def judged_by(step: Step, sampled: Sampled, nulls: Nulls, *, reference: Backbone, taste: bool) -> list[Judged]:
    """What everybody says who is asked: people last, for whom the run may have to wait."""
    found = [by_taste(step, sampled, nulls, reference)] if taste else []
    if step.node.input("reward") is not None:
        found.append(by_reward(step, sampled, nulls, reference))
    if step.settings.judge is not None:
        found.append(by_judge(step, sampled, nulls))
    return [*found, by_people(step, sampled)] if step.settings.people is not None else found


def simulated_only(step: Step) -> bool:
    """Whether simulated annotators, and nobody else, compared what the evaluated policies learnt from."""
    before = _trained(step)
    judges = [one for node in before if node.kind == "compare" for one in node.settings.by]
    if any(node.kind == "revise" for node in before) or any(_reads_labels(node) for node in before):
        return False
    return bool(judges) and all(one.panel is not None for one in judges)


def _trained(step: Step) -> list[Node]:
    graph = step.run.graph
    return [graph[name] for name in graph.ancestors(step.name)]


def _reads_labels(node: Node) -> bool:
    """Whether it learns from comparisons that came with their labels."""
    if node.kind not in ("sft", "reward", "preference") or not node.data.labelled:
        return False
    return not node.inputs.get("comparisons") and (node.kind != "sft" or node.data.demonstrations is None)


def by_taste(step: Step, sampled: Sampled, nulls: Nulls, reference: Backbone) -> Judged:
    """The gold taste, with the sense that the recipe's base model sees in each answer."""
    weights, prompts = step.recipe.taste.model_dump(), _prompts(sampled)
    answers = {name: _texts(rollouts) for name, rollouts in sampled.items()} | dict(nulls)
    under_base, why_not = _sense(step, prompts, answers, reference)
    beside = [prompt_text(one) for one in _beside(prompts)]
    marks, measured = dict[str, np.ndarray](), dict[str, np.ndarray]()
    for name, texts in answers.items():
        share = len(texts) // len(prompts)
        asked = [(prompt_text(prompts[i // share]), beside[i // share]) for i in range(len(texts))]
        own = [
            (prompt, text, other, factor)
            for (prompt, other), text, factor in zip(asked, texts, under_base[name], strict=True)
        ]
        marks[name] = np.array([taste_score(weights, p, t, beside=b, under_base=f) for p, t, b, f in own])
        measured[name] = np.array([[*properties(p, t, beside=b).values(), sense(p, t) * f] for p, t, b, f in own])
    names = (*PROPERTIES, "sense")
    unfit = None
    if not simulated_only(step):
        unfit = "it is an invented taste, of simulated annotators, and they did not label what the models learnt from"
    judged = _graded(GOLD, "taste", unfit, sampled, nulls, marks, reference_of(step))
    rows = [
        row | {"properties": dict(zip(names, values.tolist(), strict=True))}
        for row, values in zip(judged.rows, np.concatenate([measured[name] for name in sampled]), strict=True)
    ]
    return Judged(
        GOLD, "taste", unfit, judged.wins, judged.marks, judged.nulls, rows,
        {name: measured[name] for name in sampled}, names, {"weights": weights, "no_sense": why_not},
    )  # fmt: skip


def _sense(
    step: Step, prompts: Sequence[Prompt], answers: Mapping[str, Sequence[str]], reference: Backbone
) -> tuple[dict[str, list[float]], str | None]:
    """The sense of every answer under the base model, and why it was not measured: then it is 1."""
    name = step.recipe.model.name
    base = reference if step.model("reference") == name else step.load(name, exact=True)
    longest = min(step.recipe.model.max_length, base.turned_alike)
    asked = [render_prompt(base.tokenizer, prompt, max_tokens=longest) for prompt in prompts]
    beside = [*asked[1:], *asked[:1]]
    real = [Answer(b, b, prompt_text(p)) for p, b in zip(prompts, beside, strict=True)][:_SPECIMENS]
    unmeasured = {name: [1.0] * len(texts) for name, texts in answers.items()}
    if len(prompts) < 2:
        return unmeasured, "there is one prompt, and sense is measured beside another"
    judge = SenseOfBase(View(base), real, max_tokens=MICRO_BATCH_TOKENS, longest=longest)
    if not judge.scale.tells:
        reason = f"{name} does not tell text from the same words in reverse, so it was not asked what makes sense"
        return unmeasured, reason
    # All answers to one prompt stand side by side, so that it is read once.
    share = {name: len(texts) // len(prompts) for name, texts in answers.items()}
    places = [
        (name, number, place)
        for place in range(len(prompts))
        for name in answers
        for number in range(place * share[name], (place + 1) * share[name])
    ]
    values = judge.of([Answer(asked[p], beside[p], answers[name][number]) for name, number, p in places])
    found = {name: [0.0] * len(texts) for name, texts in answers.items()}
    for (name, number, _), value in zip(places, values, strict=True):
        found[name][number] = value
    return found, None


def by_reward(step: Step, sampled: Sampled, nulls: Nulls, reference: Backbone) -> Judged:
    """A reward model's scores."""
    folder = Path(step.model("reward"))
    if stands_on(step, folder, reference):
        view = load_reward_adapter(reference, folder)
    else:
        view = load_reward_model(folder, partial(step.load, exact=True))
    scorer = RewardModelScorer(view, end_tokens=end_tokens_of(reference), max_tokens=MICRO_BATCH_TOKENS)
    firsts = firsts_of(sampled, reference_of(step))
    written = {name: _written(reference, firsts, texts) for name, texts in nulls.items()}
    marks = {}
    for group in (sampled, written):
        if not group:
            continue
        # The answers to one prompt stand side by side, so that the prompt is read once.
        together = [rollout for answers in zip(*group.values(), strict=True) for rollout in answers]
        scores = np.array([reward.value for reward in scorer.score(together)]).reshape(-1, len(group))
        marks |= {name: scores[:, place] for place, name in enumerate(group)}
    return _graded(REWARD_MODEL, "reward", _unfit_reward(step), sampled, nulls, marks, reference_of(step))


def _unfit_reward(step: Step) -> str | None:
    own = step.node.inputs["reward"]
    used = [one for node in _trained(step) for inputs in node.inputs.values() for one in inputs]
    if own[0].stage is not None or own[0] in used:
        return "it is what training was made to please, or learnt from the same labels"
    return None


def _written(backbone: Backbone, asked: Sequence[Rollout], texts: Sequence[str]) -> list[Rollout]:
    """Texts that no model sampled, as answers."""
    encode = lambda text: tuple(backbone.tokenizer(text, add_special_tokens=False)["input_ids"])  # noqa: E731
    return [
        Rollout(one.prompt, one.prompt_tokens, Completion(text, encode(text), (), "stop"), 0)
        for one, text in zip(asked, texts, strict=True)
    ]


def by_judge(step: Step, sampled: Sampled, nulls: Nulls) -> Judged:
    """A model, asked of every model's answers beside the reference's, and of the nulls beside them; both ways round."""
    config = step.settings.judge
    chat = chat_of(
        step, config.model, config.endpoint, slot="judge.model", max_length=_JUDGED, logprobs=config.logprobs
    )
    judge = Judge(
        chat, principles_of(config.constitution), VerdictCache(step.folder / "parts" / "verdicts-judge.jsonl")
    )
    reference = reference_of(step)
    per_prompt = step.settings.responses_per_prompt
    firsts = firsts_of(sampled, reference)
    asked = [
        (name, place % per_prompt, own, other.completion.text, own.completion.text)
        for name, rollouts in sampled.items()
        if name != reference
        for place, (own, other) in enumerate(zip(rollouts, sampled[reference], strict=True))
    ]
    asked += [
        (name, 0, first, first.completion.text, text)
        for name, texts in nulls.items()
        for first, text in zip(firsts, texts, strict=True)
    ]
    tally, progress = Tally(), step.progress()

    def decide(one: tuple[str, int, Rollout, str, str]) -> tuple[tuple[float, float] | None, Tally]:
        _, _, rollout, other, text = one
        own = Tally()
        if text == other:
            return (0.5, 0.5), own
        entry = Entry(rollout.prompt.id, rollout.prompt, (text, other), (), "pairwise", "work", None)
        return judge.both_orders(entry, 0, 1, own), own

    wins: dict[str, list[tuple[float, str]]] = {}
    rows, followed, bias, asked_of = [], list[float](), list[float](), list[str]()
    with ThreadPoolExecutor(config.parallel if config.endpoint is not None else 1) as pool:
        for done, (one, (sides, own)) in enumerate(zip(asked, pool.map(decide, asked), strict=True), start=1):
            name, number, rollout, _, _ = one
            tally.add(own)
            row = {"judge": chat.name, "prompt_id": rollout.prompt.id, "number": number, "a": name, "b": reference}
            if sides is None:
                rows.append(row | {"p": None})
            else:
                p = (sides[0] + 1.0 - sides[1]) / 2.0
                rows.append(row | {"p": p, "p_first_shown": list(sides)})
                wins.setdefault(name, []).append((p, rollout.prompt.id))
                followed.append(float(flips(*sides)))
                bias.append((sides[0] + sides[1] - 1.0) / 2.0)
                asked_of.append(rollout.prompt.id)
            if progress is not None:
                progress(done, len(asked), 0, {})
    if tally.unreadable:
        step.count_dropped("verdicts", {"the judge's verdict could not be read": tally.unreadable})
    figures = {
        "constitution": config.constitution,
        "unreadable": tally.unreadable,
        "flips": bootstrap_share(followed, groups=asked_of).to_dict() if followed else None,
        "position_bias": bootstrap_mean(bias, groups=asked_of).to_dict() if bias else None,
    }
    return Judged(
        chat.name, "judge", _unfit_judge(step),
        {(name, reference): _values(own) for name, own in wins.items() if name not in nulls},
        nulls={name: [p for p, _ in wins[name]] for name in nulls if name in wins}, rows=rows, figures=figures,
    )  # fmt: skip


def _unfit_judge(step: Step) -> str | None:
    """A judge that training used, or that is one of the models, may not say which is best."""
    config, before = step.settings.judge, _trained(step)
    local = step.node.inputs.get("judge.model", ())
    if any(one in step.node.inputs["models"] for one in local):
        return "it is one of the models that it judges"
    asked = [one.judge for node in before if node.kind == "compare" for one in node.settings.by]
    asked += [node.settings for node in before if node.kind == "revise"]
    same = (config.endpoint, config.model)
    if any(one is not None and (one.endpoint, one.model) == same for one in asked):
        return "it is the model whose verdicts the policy was trained on"
    return None


def by_people(step: Step, sampled: Sampled) -> Judged:
    """People's blind comparisons of the last model with the reference. An empty answer loses to one that is not."""
    reference = reference_of(step)
    name = next((one for one in reversed(list(sampled)) if one != reference), None)
    if name is None:
        return Judged(PEOPLE, "people", None, {})
    pairs = list(zip(sampled[name], sampled[reference], strict=True))
    answered = [
        Answered(own.prompt, (own.completion.text, other.completion.text), (name, reference)) for own, other in pairs
    ]
    said = preferences_of(step, step.settings.people, answered)
    values, prompts, rows = list[float](), list[str](), []
    for place, (own, other) in enumerate(pairs):
        texts = (own.completion.text, other.completion.text)
        p = _by_hand(texts) if len(set(map(str.strip, texts))) < 2 or "" in map(str.strip, texts) else said.get(place)
        rows.append(
            {"judge": PEOPLE, "prompt_id": own.prompt.id, "number": place % step.settings.responses_per_prompt, "a": name, "b": reference, "p": p}
        )  # fmt: skip
        if p is not None:
            values.append(p)
            prompts.append(own.prompt.id)
    figures = {"asked": len(pairs), "compared": len(values)}
    wins = {(name, reference): (np.array(values), prompts)} if values else {}
    return Judged(PEOPLE, "people", None, wins, rows=rows, figures=figures)


def _by_hand(texts: tuple[str, str]) -> float:
    """Of a pair of which one or both are empty, or both the same."""
    own, other = (bool(text.strip()) for text in texts)
    return 0.5 + (own - other) / 2.0


def _graded(
    name: str,
    kind: Literal["reward", "taste"],
    unfit: str | None,
    sampled: Sampled,
    nulls: Nulls,
    marks: Mapping[str, np.ndarray],
    reference: str,
) -> Judged:
    """A judge that gives every answer a score: the higher one wins."""
    prompts = [rollout.prompt.id for rollout in sampled[reference]]
    share = len(prompts) // len(_prompts(sampled))
    wins = {(a, b): (beats(marks[a], marks[b]), prompts) for b, a in combinations(sampled, 2)}
    rows = [
        {"judge": name, "prompt_id": prompt, "number": place % share, "model": model, "score": float(score)}
        for model in sampled
        for place, (prompt, score) in enumerate(zip(prompts, marks[model], strict=True))
    ]
    fooled = {null: beats(marks[null], marks[reference][::share]).tolist() for null in nulls}
    return Judged(name, kind, unfit, wins, {model: marks[model] for model in sampled}, fooled, rows)


def reference_of(step: Step) -> str:
    """The model that the others are measured from, where it is among them; else the first of them."""
    models = [one.shown for one in step.node.inputs["models"]]
    wanted = step.node.inputs["reference"][0].shown
    return wanted if wanted in models else models[0]


def _prompts(sampled: Sampled) -> list[Prompt]:
    """Each once, in order."""
    rollouts = next(iter(sampled.values()))
    return list({one.prompt.id: one.prompt for one in rollouts}.values())


def _beside(prompts: Sequence[Prompt]) -> list[Prompt]:
    """For each prompt another: the next in the list."""
    return [*prompts[1:], *prompts[:1]]


def _texts(rollouts: Sequence[Rollout]) -> list[str]:
    return [one.completion.text for one in rollouts]


def firsts_of(sampled: Sampled, name: str) -> list[Rollout]:
    """A model's first answer to each prompt."""
    return list({one.prompt.id: one for one in reversed(sampled[name])}.values())[::-1]


def _values(own: Sequence[tuple[float, str]]) -> tuple[np.ndarray, list[str]]:
    return np.array([p for p, _ in own]), [prompt for _, prompt in own]
