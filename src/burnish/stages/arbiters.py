"""Judges of an evaluation that compare two answers: a model, asked both ways round, and people."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from burnish.annotation.ai.judge import Judge, Tally, VerdictCache, flips, principles_of
from burnish.annotation.snapshot import Entry
from burnish.records import Prompt
from burnish.stages.artifacts import Answered
from burnish.stages.chat_of import chat_of
from burnish.stages.context import Step
from burnish.stages.judged import Judged, Nulls, Sampled, firsts_of, reference_of, trained
from burnish.stages.people import preferences_of
from burnish.statistics.uncertainty import bootstrap_mean, bootstrap_share

PEOPLE = "people"
_JUDGED = 2048  # tokens that a local judge reads at most


@dataclass(frozen=True)
class _Question:
    """A pair that a model is asked about: an answer of `name`, a model or a null, and the
    reference's to the same prompt."""

    name: str
    place: int
    prompt: Prompt
    text: str
    other: str


def by_judge(step: Step, sampled: Sampled, nulls: Nulls) -> Judged:
    """A model, asked of every model's answers beside the reference's, and of the nulls beside them;
    both ways round."""
    config, reference = step.settings.judge, reference_of(step)
    per_prompt = step.settings.responses_per_prompt
    chat = chat_of(
        step,
        config.model,
        config.endpoint,
        slot="judge.model",
        max_length=_JUDGED,
        logprobs=config.logprobs,
    )
    judge = Judge(
        chat,
        principles_of(config.constitution),
        VerdictCache(step.folder / "parts" / "verdicts-judge.jsonl"),
    )
    asked = _questions(sampled, nulls, reference)
    said = _decided(
        step, judge, asked, parallel=config.parallel if config.endpoint is not None else 1
    )
    unreadable = sum(sides is None for sides in said)
    if unreadable:
        step.count_dropped("verdicts", {"the judge's verdict could not be read": unreadable})
    rows: list[dict[str, Any]] = []
    wins: dict[str, list[tuple[float, int]]] = {}
    for one, sides in zip(asked, said, strict=True):
        p = None if sides is None else (sides[0] + 1.0 - sides[1]) / 2.0
        rows.append(
            {
                "judge": chat.name,
                "prompt_id": one.prompt.id,
                "number": one.place % per_prompt if one.name in sampled else 0,
                "a": one.name,
                "b": reference,
                "p": p,
                "p_first_shown": sides,
            }
        )
        if p is not None:
            wins.setdefault(one.name, []).append((p, one.place))
    readable = [
        (sides, one.prompt.id) for one, sides in zip(asked, said, strict=True) if sides is not None
    ]
    figures = {
        "constitution": config.constitution,
        "unreadable": unreadable,
        **_steadiness(readable),
    }
    return Judged(
        chat.name,
        "judge",
        _unfit_judge(step),
        {(name, reference): _values(own) for name, own in wins.items() if name not in nulls},
        nulls={name: [p for p, _ in wins[name]] for name in nulls if name in wins},
        rows=rows,
        figures=figures,
    )


def _questions(sampled: Sampled, nulls: Nulls, reference: str) -> list[_Question]:
    asked = [
        _Question(name, place, own.prompt, own.completion.text, other.completion.text)
        for name, rollouts in sampled.items()
        if name != reference
        for place, (own, other) in enumerate(zip(rollouts, sampled[reference], strict=True))
    ]
    return asked + [
        _Question(name, place, first.prompt, text, first.completion.text)
        for name, texts in nulls.items()
        for place, (first, text) in enumerate(
            zip(firsts_of(sampled, reference), texts, strict=True)
        )
    ]


def _decided(
    step: Step, judge: Judge, asked: Sequence[_Question], *, parallel: int
) -> list[tuple[float, float] | None]:
    """The judge's word on each pair in both orders (`Judge.both_orders`); None where it could not
    be read. Two equal texts tie."""

    def decide(one: _Question) -> tuple[float, float] | None:
        if one.text == one.other:
            return 0.5, 0.5
        entry = Entry(
            one.prompt.id, one.prompt, (one.text, one.other), (), "pairwise", "work", None
        )
        return judge.both_orders(entry, 0, 1, Tally())

    found, progress = list[tuple[float, float] | None](), step.progress()
    with ThreadPoolExecutor(parallel) as pool:
        for done, sides in enumerate(pool.map(decide, asked), start=1):
            found.append(sides)
            if progress is not None:
                progress(done, len(asked), 0, {})
    return found


def _steadiness(said: Sequence[tuple[tuple[float, float], str]]) -> dict[str, Any]:
    """How often the order of showing decided, and by how much the first shown is preferred: mean of
    (p + q − 1) / 2, p and q being the probabilities that the first shown wins in the two orders."""
    if not said:
        return {"flips": None, "position_bias": None}
    prompts = [prompt for _, prompt in said]
    followed = [float(flips(*sides)) for sides, _ in said]
    bias = [(sum(sides) - 1.0) / 2.0 for sides, _ in said]
    return {
        "flips": bootstrap_share(followed, groups=prompts).to_dict(),
        "position_bias": bootstrap_mean(bias, groups=prompts).to_dict(),
    }


def _unfit_judge(step: Step) -> str | None:
    """A judge that training used, or that is one of the models, may not say which is best."""
    config, before = step.settings.judge, trained(step)
    names = {step.run.reference(one) for one in step.node.inputs.get("judge.model", ())} | {
        f"{config.endpoint}#{config.model}"
    }
    if any(step.run.reference(one) in names for one in step.node.inputs["models"]):
        return "it is one of the models that it judges"
    asked = [one.judge for node in before if node.kind == "compare" for one in node.settings.by]
    asked += [node.settings for node in before if node.kind == "revise"]
    same = (config.endpoint, config.model)
    if any(one is not None and (one.endpoint, one.model) == same for one in asked):
        return "it is the model whose verdicts the policy was trained on"
    return None


def by_people(step: Step, sampled: Sampled) -> Judged:
    """People's blind comparisons of the last model with the reference. An empty answer loses to one
    that is not."""
    reference = reference_of(step)
    name = next((one for one in reversed(list(sampled)) if one != reference), None)
    if name is None:
        return Judged(PEOPLE, "people", None, {})
    pairs = list(zip(sampled[name], sampled[reference], strict=True))
    answered = [
        Answered(own.prompt, (own.completion.text, other.completion.text), (name, reference))
        for own, other in pairs
    ]
    said = preferences_of(step, step.settings.people, answered)
    values, places, rows = list[float](), list[int](), []
    for place, (own, other) in enumerate(pairs):
        texts = (own.completion.text, other.completion.text)
        p = (
            _by_hand(texts)
            if len(set(map(str.strip, texts))) < 2 or "" in map(str.strip, texts)
            else said.get(place)
        )
        rows.append(
            {"judge": PEOPLE, "prompt_id": own.prompt.id,
                "number": place % step.settings.responses_per_prompt, "a": name, "b": reference,
                "p": p}
        )  # fmt: skip
        if p is not None:
            values.append(p)
            places.append(place)
    figures = {"asked": len(pairs), "compared": len(values)}
    wins = {(name, reference): (np.array(values), places)} if values else {}
    return Judged(PEOPLE, "people", None, wins, rows=rows, figures=figures)


def _by_hand(texts: tuple[str, str]) -> float:
    """Of a pair of which one or both are empty, or both the same."""
    own, other = (bool(text.strip()) for text in texts)
    return 0.5 + (own - other) / 2.0


def _values(own: Sequence[tuple[float, int]]) -> tuple[np.ndarray, list[int]]:
    return np.array([p for p, _ in own]), [place for _, place in own]
