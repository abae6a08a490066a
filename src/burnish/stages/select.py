"""Stage `select`: of several answers to each prompt the best are kept, as demonstrations or as
pairs with the worst."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from burnish.data.preferences import comparisons_from_ranks
from burnish.data.prompts import split_or_all
from burnish.errors import UserError
from burnish.models.weights import load_reward_model
from burnish.records import Completion, Demonstration, Message, PreferenceGroup, Rollout
from burnish.stages.artifacts import (
    COMPARISONS,
    DEMONSTRATIONS,
    Answered,
    read_answers,
    write_comparisons,
    write_demonstrations,
)
from burnish.stages.configuration import configuration_of
from burnish.stages.context import Step
from burnish.stages.ranked import scored
from burnish.stages.rewards import build_scorer


@dataclass(frozen=True, slots=True)
class Ordered:
    """A prompt's answers with their scores, the best first; equal texts once, and answers that no
    reward applies to left out."""

    answered: Answered
    texts: tuple[str, ...]
    scores: tuple[float, ...]


def run(step: Step) -> None:
    """Score every answer, keep what is asked for, say how scores and counts were."""
    answers = step.parent("answers")
    assert answers is not None  # nothing else makes answers
    answered = read_answers(step.run.place(answers.name))
    scores = (
        _by_rewards(step, answered) if step.settings.rewards else _by_reward_model(step, answered)
    )
    ordered = [_ordered(one, own) for one, own in zip(answered, scores, strict=True)]
    if step.settings.make == "pairs":
        groups = _pairs(step, ordered)
        write_comparisons(step.folder / COMPARISONS, groups)
        kept = 2 * len(groups)
    else:
        demonstrations = _demonstrations(step, ordered)
        split = split_or_all(
            demonstrations, heldout=step.recipe.data.heldout, seed=step.recipe.seed, salt="made/"
        )
        write_demonstrations(step.folder / DEMONSTRATIONS, *split[:2])
        kept = len(demonstrations)
    step.finish(_findings(step, ordered, kept))


def _by_reward_model(step: Step, answered: Sequence[Answered]) -> list[list[float | None]]:
    """The reward model's score of every answer; None where prompt and answer are too long for it
    and are dropped."""
    view = load_reward_model(Path(step.model("reward")), step.load)
    groups = [PreferenceGroup(one.prompt, one.responses, ()) for one in answered]
    known = {group.prompt.id: scores for group, scores in scored(step, view, groups, "answers")}
    return [list(known.get(one.prompt.id, [None] * len(one.responses))) for one in answered]


def _by_rewards(step: Step, answered: Sequence[Answered]) -> list[list[float | None]]:
    """What the rewards give each answer; None where none of them applies."""
    _, tokenizer = configuration_of(step.run)
    rollouts = [
        Rollout(one.prompt, (), _completion(tokenizer, text), 0)
        for one in answered
        for text in one.responses
    ]
    scorer = build_scorer(step, step.settings.rewards)
    try:
        values = iter(
            [reward.value if reward.counted else None for reward in scorer.score(rollouts)]
        )
    finally:
        scorer.close()
    return [[next(values) for _ in one.responses] for one in answered]


def _completion(tokenizer: Any, text: str) -> Completion:
    tokens = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
    return Completion(
        text=text, tokens=tokens, sampler_logprobs=(0.0,) * len(tokens), finish_reason="stop"
    )


def _ordered(answered: Answered, scores: Sequence[float | None]) -> Ordered:
    """The answers in order of their scores; of equal scores the first comes first."""
    best: dict[str, float] = {}
    for text, score in zip(answered.responses, scores, strict=True):
        if score is not None and np.isfinite(score):
            best.setdefault(text, score)
    order = sorted(best, key=lambda text: -best[text])
    return Ordered(answered, tuple(order), tuple(best[text] for text in order))


def _demonstrations(step: Step, answers: Sequence[Ordered]) -> list[Demonstration]:
    """The best answers as conversations to imitate; several of one prompt are told apart by their
    ids."""
    config, found = step.settings, list[Demonstration]()
    for one in answers:
        prompt = one.answered.prompt
        kept = [
            text
            for text, score in zip(one.texts[: config.top], one.scores, strict=False)
            if config.threshold is None or score >= config.threshold
        ]
        for number, text in enumerate(kept):
            name = prompt.id if number == 0 else f"{prompt.id}#{number + 1}"
            messages = (*prompt.messages, Message(role="assistant", content=text))
            found.append(Demonstration(name, messages, prompt.tools, prompt.chat_template_kwargs))
    if not found:
        raise _nothing(step, answers, "answer")
    return found


def _pairs(step: Step, answers: Sequence[Ordered]) -> list[PreferenceGroup]:
    """The best answer of each prompt against its worst, where they differ in score."""
    threshold, found = step.settings.threshold, list[PreferenceGroup]()
    for one in answers:
        if len(one.texts) < 2 or one.scores[0] == one.scores[-1]:
            continue
        if threshold is None or one.scores[0] >= threshold:
            pair = (one.texts[0], one.texts[-1])
            found.append(PreferenceGroup(one.answered.prompt, pair, comparisons_from_ranks([1, 2])))
    if not found:
        raise _nothing(step, answers, "pair")
    return found


def _nothing(step: Step, answers: Sequence[Ordered], what: str) -> UserError:
    highest = max((one.scores[0] for one in answers if one.scores), default=float("nan"))
    threshold = step.settings.threshold
    bound = (
        ""
        if threshold is None
        else f" {step.name}.threshold is {threshold:g}, and the best score {highest:.3g}."
    )
    return UserError(
        f"the stage {step.name} keeps no {what}: no prompt has one that is good enough.{bound}",
        field=f"{step.name}.threshold",
        hint="Lower the threshold, or sample more answers to each prompt.",
    )


def _findings(step: Step, answers: Sequence[Ordered], kept: int) -> dict[str, Any]:
    best = [one.scores[0] for one in answers if one.scores]
    every = [score for one in answers for score in one.scores]
    threshold = step.settings.threshold
    return {
        "prompts": len(answers),
        "kept": kept,
        "make": step.settings.make,
        "answers": sum(len(one.answered.responses) for one in answers),
        "without_any": len(answers) - len([b for b in best if threshold is None or b >= threshold]),
        "mean_score": float(np.mean(every)) if every else None,
        "best_score": float(np.mean(best)) if best else None,
        "samples": [
            {
                "prompt": one.answered.prompt.messages[-1]["content"],
                "best": one.texts[0],
                "score": one.scores[0],
            }
            for one in answers[:4]
            if one.texts
        ],
    }
