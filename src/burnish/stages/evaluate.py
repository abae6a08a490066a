"""Stage `evaluate`: policies answer held-out prompts, and everybody who may judge says what they
think of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from burnish.batch import Batch
from burnish.config.kinds import BASE
from burnish.config.sections import Sampling
from burnish.evaluation.nulls import null_answers, null_test
from burnish.models.backbone import Backbone
from burnish.models.roles import View
from burnish.records import Prompt, Reward, Rollout
from burnish.rewards.base import prompt_text
from burnish.runs.manifest import release_memory
from burnish.stages.arbiters import by_judge, by_people
from burnish.stages.artifacts import ANSWERS
from burnish.stages.behind_endpoint import behind_endpoint, is_endpoint
from burnish.stages.context import Step
from burnish.stages.evaluated import VERDICTS, answer_rows, read_rows, rollouts_of, write_rows
from burnish.stages.graders import MICRO_BATCH_TOKENS, by_reward, by_taste
from burnish.stages.judged import Judged, Nulls, firsts_of, reference_of, simulated_only
from burnish.stages.sampling import fitting
from burnish.stages.suites import measured
from burnish.stages.turns import make_sampler
from burnish.stages.verify import verified
from burnish.statistics.length_control import length_controlled
from burnish.statistics.uncertainty import bootstrap_mean, bootstrap_share, paired_difference
from burnish.trainers.stages import column, sequence_of

_CHUNK = 64  # prompts answered between two files, so that a killed run loses little


def run(step: Step) -> None:
    """Sample each model on the same prompts with the same random numbers, judge, compare pair by
    pair, write the findings."""
    config = step.settings
    suites = {"suites": measured(step)} if config.suites else {}
    if suites and not _asks(step):
        step.finish(suites)
        return
    sampled: dict[str, list[Rollout]] = {}
    reference = step.load(step.model("reference"), exact=True)
    split, sampling = step.prompts, config.sampling
    prompts = fitting(step, reference, split.heldout, sampling, "held-out prompts", required=False)
    prompts = list({prompt.id: prompt for prompt in prompts}.values())[: config.count]
    unmeasured = step.not_evaluated(split, prompts)
    if unmeasured is not None:
        step.finish({"prompts": 0, "not_evaluated": unmeasured, **suites})
        return
    models = {one.shown: step.run.reference(one) for one in step.node.inputs["models"]}
    held_to = step.node.inputs["reference"][0].shown
    for number, (name, source) in enumerate(models.items()):
        load = (
            (lambda: reference)
            if source == step.model("reference")
            else partial(step.load, source, exact=True)
        )
        sampled[name] = _sampled(step, load, prompts, name, number, source)
        step.say(f"sampled {len(prompts)} held-out prompts from the {name} model")
        # what its sampler took stays in the heap, in pieces that the next model does not fit into
        release_memory()
    _keep_answers(step, sampled)
    unmeasured_kl = _why_no_kl(sampling)
    distant = [
        name
        for name, source in models.items()
        if name not in (held_to, BASE) and unmeasured_kl is None and not is_endpoint(source)
    ]
    kl = {name: _kl(step, models[name], sampled[name], reference) for name in distant}
    verifiable = bool(config.rewards) or config.environment is not None
    firsts = firsts_of(sampled, reference_of(step))
    nulls = null_answers(
        [prompt_text(one.prompt) for one in firsts], [one.completion.text for one in firsts]
    )
    checked, rewards = (
        verified(step, sampled, nulls, reference=reference) if verifiable else (None, {})
    )
    taste = config.taste if config.taste is not None else not verifiable and simulated_only(step)
    judged = _judged(step, sampled, nulls, reference=reference, taste=taste)
    verdicts = [row for one in judged for row in one.rows]
    verdicts += [
        row for name, own in rewards.items() for row in _reward_rows(step, name, sampled[name], own)
    ]
    write_rows(step.folder / VERDICTS, verdicts)
    groups = [rollout.prompt.id for rollout in next(iter(sampled.values()))]
    step.finish(
        {
            "prompts": len(prompts),
            "responses_per_prompt": config.responses_per_prompt,
            "reference": held_to,
            "sampling": sampling.in_words,
            "no_kl": unmeasured_kl,
            **suites,
            **({} if checked is None else {"verifiable": checked}),
            "judges": [_told(one) for one in judged],
            "models": [
                _summary(name, sampled[name], kl.get(name), judged, groups) for name in sampled
            ],
            "comparisons": [row for one in judged for row in _comparisons(one, sampled)],
            "samples": _samples(
                sampled, judged, rewards, config.samples, config.responses_per_prompt
            ),
        },
    )


def _asks(step: Step) -> bool:
    """Whether the recipe names prompts that the models answer, beside the suites."""
    data = step.node.data
    return data.prompts is not None or data.labelled or data.demonstrations is not None


def _sampled(
    step: Step,
    load: Callable[[], Backbone],
    prompts: Sequence[Prompt],
    name: str,
    number: int,
    source: str,
) -> list[Rollout]:
    """A model's answers, part by part; what an earlier start has left is taken over."""
    rollouts = list[Rollout]()
    generate: Callable[[Sequence[Prompt]], list[Rollout]] | None = None
    for start in range(0, len(prompts), _CHUNK):
        chunk, part = (
            prompts[start : start + _CHUNK],
            step.folder / "parts" / f"{number}-{start:06d}.jsonl",
        )
        if not part.is_file():
            generate = generate or (
                behind_endpoint(step, source) if is_endpoint(source) else _sampler(step, load())
            )
            write_rows(part, _answer_rows(step, name, generate(chunk)))
        rollouts += rollouts_of(read_rows(part), chunk)
    return rollouts


def _sampler(step: Step, backbone: Backbone) -> Callable[[Sequence[Prompt]], list[Rollout]]:
    config = step.settings
    sampler = make_sampler(
        config.environment,
        View(backbone),
        config.sampling,
        seed=step.seed,
        max_length=step.recipe.model.max_length,
        purpose="evaluate",
        say=step.say_once,
    )
    return lambda prompts: sampler.generate(prompts, samples=config.responses_per_prompt)


def _answer_rows(step: Step, name: str, rollouts: Sequence[Rollout]) -> list[dict[str, Any]]:
    per_prompt = step.settings.responses_per_prompt
    return answer_rows(name, rollouts, seed=step.seed, per_prompt=per_prompt)


def _keep_answers(step: Step, sampled: Mapping[str, Sequence[Rollout]]) -> None:
    """Every answer of every model, in the stage's folder."""
    rows = (row for name, rollouts in sampled.items() for row in _answer_rows(step, name, rollouts))
    write_rows(step.folder / ANSWERS, rows)


def _why_no_kl(sampling: Sampling) -> str | None:
    """Why these answers say nothing of the policy's own distribution, as the report puts it; None:
    they do."""
    if sampling.temperature == 1 and sampling.follows_the_model:
        return None
    return (
        "KL to the reference is not shown: it is estimated without bias only from answers drawn at"
        " temperature 1 with nothing truncated or rounded (temperature: 1, top_p: 1)."
    )


def _kl(step: Step, model: str, rollouts: Sequence[Rollout], reference: Backbone) -> np.ndarray:
    """log π(completion) − log π_ref(completion) of each completion, in nats, at temperature 1.

    The policy's is what its sampler said, where that is known, else the trainer's own arithmetic,
    as the reference's always is. Its mean estimates KL(π ‖ π_ref) without bias, since completions
    are drawn untempered and untruncated (`_why_no_kl`).
    """
    batch = Batch(tuple(sequence_of(r) for r in rollouts))

    def by(backbone: Backbone) -> torch.Tensor:
        view = View(backbone)
        return column(lambda b: view.logprobs(b).logprobs_P, batch, max_tokens=MICRO_BATCH_TOKENS)

    of_reference = by(reference)
    if rollouts[0].completion.model_logprobs:
        of_policy = torch.tensor([value for r in rollouts for value in r.completion.model_logprobs])
    else:
        of_policy = by(step.load(model, exact=True))
    return (
        torch.zeros(len(batch))
        .index_add_(0, batch.sequence_of_P, of_policy - of_reference)
        .double()
        .numpy()
    )


def _judged(
    step: Step,
    sampled: Mapping[str, Sequence[Rollout]],
    nulls: Nulls,
    *,
    reference: Backbone,
    taste: bool,
) -> list[Judged]:
    """What everybody says who is asked: people last, for whom the run may have to wait."""
    found = [by_taste(step, sampled, nulls, reference)] if taste else []
    if step.node.input("reward") is not None:
        found.append(by_reward(step, sampled, nulls, reference))
    if step.settings.judge is not None:
        found.append(by_judge(step, sampled, nulls))
    return [*found, by_people(step, sampled)] if step.settings.people is not None else found


def _reward_rows(
    step: Step, name: str, rollouts: Sequence[Rollout], own: Sequence[Reward]
) -> list[dict[str, Any]]:
    """What the recipe's rewards said of a model's answers."""
    per_prompt = step.settings.responses_per_prompt
    return [
        {
            "judge": "rewards",
            "prompt_id": rollout.prompt.id,
            "number": place % per_prompt,
            "model": name,
            "score": reward.value,
            "components": dict(reward.components),
            "verdicts": dict(reward.verdicts),
        }
        for place, (rollout, reward) in enumerate(zip(rollouts, own, strict=True))
    ]


def _told(judged: Judged) -> dict[str, Any]:
    """What the report says of a judge."""
    return {
        "name": judged.name,
        "kind": judged.kind,
        "unfit": judged.unfit,
        **null_test(judged.nulls),
        **judged.figures,
    }


def _summary(
    name: str,
    rollouts: Sequence[Rollout],
    kl: np.ndarray | None,
    judged: Sequence[Judged],
    groups: Sequence[str],
) -> dict[str, Any]:
    """A model's means, with their intervals over prompts."""
    words = np.array([len(r.completion.text.split()) for r in rollouts], dtype=float)
    marks = {one.kind: one.marks.get(name) for one in judged}

    def interval(values):
        return None if values is None else bootstrap_mean(values, groups=groups).to_dict()

    found = {
        "name": name,
        "gold": interval(marks.get("taste")),
        "reward": interval(marks.get("reward")),
        "kl_ref": interval(kl),
        "length": interval(words),
        "tokens": (
            float(np.mean([len(r.completion.tokens) for r in rollouts]))
            if rollouts[0].prompt_tokens
            else None
        ),
        "truncation_rate": float(
            np.mean([r.completion.finish_reason == "length" for r in rollouts])
        ),
    }
    measured = next(
        ((one.names, one.properties[name]) for one in judged if name in one.properties), None
    )
    if measured is None:
        return found
    names, values = measured
    return {**found, "properties": dict(zip(names, values.mean(axis=0).tolist(), strict=True))}


def _comparisons(judged: Judged, sampled: Mapping[str, Sequence[Rollout]]) -> list[dict[str, Any]]:
    """How often a beats b on the same prompt under one judge, raw and at equal length, and by how
    much where it gives scores."""
    found = []
    for (a, b), (values, places) in judged.wins.items():
        prompts = [sampled[a][place].prompt.id for place in places]
        of_a, of_b = (
            np.array([len(sampled[name][place].completion.text) for place in places])
            for name in (a, b)
        )
        row: dict[str, Any] = {"a": a, "b": b, "judge": judged.name}
        row["win_rate"] = bootstrap_share(values, groups=prompts).to_dict()
        controlled = length_controlled(values, of_a - of_b, groups=prompts)
        row["length_controlled"] = controlled.to_dict()
        if a in judged.marks:
            row["difference"] = paired_difference(
                judged.marks[a], judged.marks[b], groups=prompts
            ).to_dict()
        if a in judged.properties:
            moved = zip(judged.names, judged.properties[a].T, judged.properties[b].T, strict=True)
            row["properties"] = {
                name: paired_difference(after, before, groups=prompts).to_dict()
                for name, after, before in moved
            }
        found.append(row)
    return found


def _samples(
    sampled: Mapping[str, Sequence[Rollout]],
    judged: Sequence[Judged],
    rewards: Mapping[str, Sequence[Reward]],
    count: int,
    per_prompt: int,
) -> list[dict[str, Any]]:
    """The first completion of the first prompts: not chosen for their looks. `reward` is the
    recipe's where it has some."""
    marks = {one.kind: one.marks for one in judged}
    rows = range(0, len(next(iter(sampled.values()))), per_prompt)[:count]
    return [
        {
            "prompt": prompt_text(next(iter(sampled.values()))[row].prompt),
            "responses": [
                {
                    "model": name,
                    "text": rollouts[row].completion.text,
                    "gold": _at(marks.get("taste", {}).get(name), row),
                    "reward": (
                        rewards[name][row].value
                        if name in rewards
                        else _at(marks.get("reward", {}).get(name), row)
                    ),
                }
                for name, rollouts in sampled.items()
            ],
        }
        for row in rows
    ]


def _at(values: np.ndarray | None, row: int) -> float | None:
    return None if values is None else float(values[row])
