"""Judges of an evaluation that give every answer a score: the gold taste, and reward models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np

from burnish.config.graph import BASE
from burnish.data.render import render_prompt
from burnish.evaluation.nulls import beats
from burnish.models.backbone import Backbone
from burnish.models.roles import View
from burnish.models.weights import load_reward_adapter, load_reward_model
from burnish.records import Completion, Prompt, Rollout
from burnish.rewards.base import prompt_text
from burnish.rewards.model import ScopedModelReward
from burnish.rewards.sense import Answer, SenseOfBase
from burnish.rewards.taste import PROPERTIES, properties, sense, taste_score
from burnish.stages.context import Step
from burnish.stages.judged import (
    Judged,
    Nulls,
    Sampled,
    firsts_of,
    prompts_of,
    reference_of,
    simulated_only,
    trained,
)
from burnish.stages.roles import stands_on
from burnish.stages.sampling import end_tokens_of

MICRO_BATCH_TOKENS = 1024
"""Tokens of answers that a judge reads at once."""
_SPECIMENS = 32  # prompts by which it is found what real text is to the base model
GOLD, REWARD_MODEL = "gold", "reward model"


def by_taste(step: Step, sampled: Sampled, nulls: Nulls, reference: Backbone) -> Judged:
    """The gold taste, with the sense that the recipe's base model sees in each answer."""
    weights, prompts = step.recipe.taste.model_dump(), prompts_of(sampled)
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
        marks[name] = np.array(
            [taste_score(weights, p, t, beside=b, under_base=f) for p, t, b, f in own]
        )
        measured[name] = np.array(
            [[*properties(p, t, beside=b).values(), sense(p, t) * f] for p, t, b, f in own]
        )
    names = (*PROPERTIES, "sense")
    unfit = None
    if not simulated_only(step):
        unfit = (
            "it is an invented taste, of simulated annotators, and they did not label what the"
            " models learnt from"
        )
    judged = _graded(GOLD, "taste", unfit, sampled, nulls, marks, reference_of(step))
    rows = [
        {**row, "properties": dict(zip(names, values.tolist(), strict=True))}
        for row, values in zip(
            judged.rows, np.concatenate([measured[name] for name in sampled]), strict=True
        )
    ]
    return Judged(
        GOLD,
        "taste",
        unfit,
        judged.wins,
        judged.marks,
        judged.nulls,
        rows,
        {name: measured[name] for name in sampled},
        names,
        {"weights": weights, "no_sense": why_not},
    )


def _sense(
    step: Step, prompts: Sequence[Prompt], answers: Mapping[str, Sequence[str]], reference: Backbone
) -> tuple[dict[str, list[float]], str | None]:
    """The sense of every answer under the base model, and why it was not measured: then it is 1."""
    name = step.recipe.model.name
    base = reference if step.model("reference") == name else step.load(name, exact=True)
    longest = base.longest(step.recipe.model.max_length)
    asked = [render_prompt(base.tokenizer, prompt, max_tokens=longest) for prompt in prompts]
    beside = [*asked[1:], *asked[:1]]
    real = [Answer(b, b, prompt_text(p)) for p, b in zip(prompts, beside, strict=True)][:_SPECIMENS]
    unmeasured = {name: [1.0] * len(texts) for name, texts in answers.items()}
    if len(prompts) < 2:
        return unmeasured, "there is one prompt, and sense is measured beside another"
    judge = SenseOfBase(View(base), real, max_tokens=MICRO_BATCH_TOKENS, longest=longest)
    if not judge.scale.tells:
        reason = (
            f"{name} does not tell text from the same words in reverse, so it was not asked what"
            " makes sense"
        )
        return unmeasured, reason
    # All answers to one prompt stand side by side, so that it is read once.
    share = {name: len(texts) // len(prompts) for name, texts in answers.items()}
    places = [
        (name, number, place)
        for place in range(len(prompts))
        for name in answers
        for number in range(place * share[name], (place + 1) * share[name])
    ]
    values = judge.of(
        [Answer(asked[p], beside[p], answers[name][number]) for name, number, p in places]
    )
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
    # Models from outside may have tokenizers of their own, or give no tokens: then the texts are
    # read.
    own = all(one.stage is not None or one.outside == BASE for one in step.node.inputs["models"])
    tokenizer = view.backbone.tokenizer
    scorer = ScopedModelReward(
        view,
        scope="full",
        end_tokens=end_tokens_of(reference if own else view.backbone),
        max_tokens=MICRO_BATCH_TOKENS,
        render=(
            None
            if own
            else partial(render_prompt, tokenizer, max_tokens=step.recipe.model.max_length)
        ),
    )
    firsts = firsts_of(sampled, reference_of(step))
    of_nulls = {name: written(reference, firsts, texts) for name, texts in nulls.items()}
    marks = {}
    for group in (sampled, of_nulls):
        if not group:
            continue
        # The answers to one prompt stand side by side, so that the prompt is read once.
        together = [rollout for answers in zip(*group.values(), strict=True) for rollout in answers]
        scores = np.array([reward.value for reward in scorer.score(together)]).reshape(
            -1, len(group)
        )
        marks |= {name: scores[:, place] for place, name in enumerate(group)}
    return _graded(
        REWARD_MODEL, "reward", _unfit_reward(step), sampled, nulls, marks, reference_of(step)
    )


def _unfit_reward(step: Step) -> str | None:
    own = step.node.inputs["reward"]
    used = [one for node in trained(step) for inputs in node.inputs.values() for one in inputs]
    if own[0].stage is not None or own[0] in used:
        return "it is what training was made to please, or learnt from the same labels"
    return None


def written(backbone: Backbone, asked: Sequence[Rollout], texts: Sequence[str]) -> list[Rollout]:
    """Texts that no model sampled, as answers."""
    encode = lambda text: tuple(backbone.tokenizer(text, add_special_tokens=False)["input_ids"])  # noqa: E731
    return [
        Rollout(one.prompt, one.prompt_tokens, Completion(text, encode(text), (), "stop"), 0)
        for one, text in zip(asked, texts, strict=True)
    ]


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
    share = len(prompts) // len(prompts_of(sampled))
    wins = {
        (a, b): (beats(marks[a], marks[b]), range(len(prompts)))
        for b, a in combinations(sampled, 2)
    }
    rows = [
        {
            "judge": name,
            "prompt_id": prompt,
            "number": place % share,
            "model": model,
            "score": float(score),
        }
        for model in sampled
        for place, (prompt, score) in enumerate(zip(prompts, marks[model], strict=True))
    ]
    fooled = {null: beats(marks[null], marks[reference][::share]).tolist() for null in nulls}
    return Judged(name, kind, unfit, wins, {model: marks[model] for model in sampled}, fooled, rows)


def _beside(prompts: Sequence[Prompt]) -> list[Prompt]:
    """For each prompt another: the next in the list."""
    return [*prompts[1:], *prompts[:1]]


def _texts(rollouts: Sequence[Rollout]) -> list[str]:
    return [one.completion.text for one in rollouts]
