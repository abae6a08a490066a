"""Stage `evaluate`: policies on held-out prompts, judged by the gold taste or by rewards, and by the reward model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from burnish.batch import Batch
from burnish.config.kinds import BASE
from burnish.config.sections import Sampling
from burnish.evaluation.uncertainty import bootstrap_mean, paired_difference, win_rate
from burnish.models.backbone import Backbone
from burnish.models.roles import View
from burnish.models.weights import load_reward_adapter, load_reward_model
from burnish.records import Prompt, Reward, Rollout
from burnish.rewards.base import prompt_text
from burnish.rewards.model import RewardModelScorer
from burnish.rewards.taste import PROPERTIES, property_matrix, taste_score
from burnish.runs.manifest import release_memory
from burnish.stages.artifacts import ANSWERS
from burnish.stages.context import Step
from burnish.stages.evaluated import answer_rows, read_rows, rollouts_of, write_rows
from burnish.stages.roles import stands_on
from burnish.stages.sampling import LocalSampler, end_tokens_of, fitting
from burnish.stages.turns import make_sampler
from burnish.stages.verify import verified
from burnish.trainers.stages import column, sequence_of

MICRO_BATCH_TOKENS = 1024
"""Tokens of answers that a judge reads at once."""
_CHUNK = 64  # prompts answered between two files, so that a killed run loses little


@dataclass(frozen=True)
class Judged:
    """One model's completions of the held-out prompts and what was measured on them."""

    name: str
    rollouts: list[Rollout]
    gold: np.ndarray | None
    reward: np.ndarray | None
    kl: np.ndarray | None


def run(step: Step) -> None:
    """Sample each model on the same prompts with the same random numbers, judge, compare pair by pair, write the findings."""
    config = step.settings
    sampled: dict[str, list[Rollout]] = {}
    reference = step.load(step.model("reference"), exact=True)
    split, sampling = step.prompts, config.sampling
    prompts = fitting(step, reference, split.heldout, sampling, "held-out prompts", required=False)
    prompts = prompts[: config.count]
    unmeasured = step.not_evaluated(split, prompts)
    if unmeasured is not None:
        step.finish({"prompts": 0, "not_evaluated": unmeasured})
        return
    models = {one.shown: step.run.reference(one) for one in step.node.inputs["models"]}
    held_to = step.node.inputs["reference"][0].shown
    for number, (name, source) in enumerate(models.items()):
        load = (lambda: reference) if source == step.model("reference") else partial(step.load, source, exact=True)
        sampled[name] = _sampled(step, load, prompts, name, number)
        step.say(f"sampled {len(prompts)} held-out prompts from the {name} model")
        release_memory()  # what its sampler took stays in the heap, in pieces that the next model does not fit into
    _keep_answers(step, sampled)
    unmeasured_kl = _why_no_kl(sampling)
    measured = [name for name in models if name not in (held_to, BASE) and unmeasured_kl is None]
    kl = {name: _kl(step, models[name], sampled[name], reference) for name in measured}
    scores = _reward_scores(step, reference, sampled)
    weights = step.recipe.taste.model_dump()
    verifiable = bool(config.rewards) or config.environment is not None
    by_rewards, rewards = verified(step, sampled, reference=reference) if verifiable else (None, {})
    judged = [
        Judged(name, rollouts, None if by_rewards else _gold(weights, rollouts), scores.get(name), kl.get(name))
        for name, rollouts in sampled.items()
    ]
    groups = [r.prompt.id for r in judged[0].rollouts]
    step.finish(
        {
            "prompts": len(prompts),
            "responses_per_prompt": config.responses_per_prompt,
            "reference": held_to,
            "sampling": sampling.in_words,
            "no_kl": unmeasured_kl,
            **({"weights": weights} if by_rewards is None else {"verifiable": by_rewards}),
            "models": [_summary(j, groups) for j in judged],
            "comparisons": [c for b, a in combinations(judged, 2) for c in _compare(a, b, groups)],
            "samples": _samples(judged, rewards, config.samples, config.responses_per_prompt),
        },
    )


def _sampled(
    step: Step, load: Callable[[], Backbone], prompts: Sequence[Prompt], name: str, number: int
) -> list[Rollout]:
    """A model's answers, part by part; what an earlier start has left is taken over."""
    config, rollouts = step.settings, list[Rollout]()
    make: Callable[[Backbone], LocalSampler] = lambda backbone: make_sampler(  # noqa: E731
        config.environment, View(backbone), config.sampling, seed=step.seed, max_length=step.recipe.model.max_length, purpose="evaluate", say=step.say_once,
    )  # fmt: skip
    sampler: LocalSampler | None = None
    for start in range(0, len(prompts), _CHUNK):
        chunk, part = prompts[start : start + _CHUNK], step.folder / "parts" / f"{number}-{start:06d}.jsonl"
        if not part.is_file():
            sampler = sampler or make(load())
            answers = sampler.generate(chunk, samples=config.responses_per_prompt)
            write_rows(part, _answer_rows(step, name, answers))
        rollouts += rollouts_of(read_rows(part), chunk)
    return rollouts


def _answer_rows(step: Step, name: str, rollouts: Sequence[Rollout]) -> list[dict[str, Any]]:
    per_prompt = step.settings.responses_per_prompt
    return answer_rows(name, rollouts, seed=step.seed, per_prompt=per_prompt)


def _keep_answers(step: Step, sampled: Mapping[str, Sequence[Rollout]]) -> None:
    """Every answer of every model, in the stage's folder."""
    rows = (row for name, rollouts in sampled.items() for row in _answer_rows(step, name, rollouts))
    write_rows(step.folder / ANSWERS, rows)


def _why_no_kl(sampling: Sampling) -> str | None:
    """Why these answers say nothing of the policy's own distribution, as the report puts it; None: they do."""
    if sampling.temperature == 1 and sampling.follows_the_model:
        return None
    return (
        "KL to the reference is not shown: it is estimated without bias only from answers drawn at temperature 1 "
        "with nothing truncated or rounded (`sampling: {temperature: 1, top_p: 1}`)."
    )


def _gold(weights: dict[str, float], rollouts: Sequence[Rollout]) -> np.ndarray:
    return np.array([taste_score(weights, prompt_text(r.prompt), r.completion.text) for r in rollouts])


def _reward_scores(step: Step, reference: Backbone, sampled: dict[str, list[Rollout]]) -> dict[str, np.ndarray]:
    if step.node.input("reward") is None:
        return {}
    folder = Path(step.model("reward"))
    if stands_on(step, folder, reference):
        view = load_reward_adapter(reference, folder)
    else:
        view = load_reward_model(folder, partial(step.load, exact=True))
    scorer = RewardModelScorer(
        view,
        end_tokens=end_tokens_of(reference),
        max_tokens=MICRO_BATCH_TOKENS,
    )
    # The models' answers to one prompt stand side by side, so that the prompt is read once.
    together = [rollout for answers in zip(*sampled.values(), strict=True) for rollout in answers]
    scores = np.array([reward.value for reward in scorer.score(together)]).reshape(-1, len(sampled))
    return {name: scores[:, place] for place, name in enumerate(sampled)}


def _kl(step: Step, model: str, rollouts: Sequence[Rollout], reference: Backbone) -> np.ndarray:
    """log π(completion) − log π_ref(completion) of each completion, in nats, at temperature 1.

    The policy's is what its sampler said, where that is known, else the trainer's own arithmetic, as the reference's always is.
    Its mean estimates KL(π ‖ π_ref) without bias, since completions are drawn untempered and untruncated (`_why_no_kl`).
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
    return torch.zeros(len(batch)).index_add_(0, batch.sequence_of_P, of_policy - of_reference).double().numpy()


def _summary(judged: Judged, groups: Sequence[str]) -> dict[str, Any]:
    words = np.array([len(r.completion.text.split()) for r in judged.rollouts], dtype=float)
    interval = lambda values: None if values is None else bootstrap_mean(values, groups=groups).to_dict()  # noqa: E731
    found = {
        "name": judged.name,
        "gold": interval(judged.gold),
        "reward": interval(judged.reward),
        "kl_ref": interval(judged.kl),
        "length": interval(words),
        "tokens": float(np.mean([len(r.completion.tokens) for r in judged.rollouts])),
        "truncation_rate": float(np.mean([r.completion.finish_reason == "length" for r in judged.rollouts])),
    }
    if judged.gold is None:
        return found
    measured = np.concatenate([property_matrix(prompt_text(r.prompt), [r.completion.text]) for r in judged.rollouts])
    return {**found, "properties": dict(zip(PROPERTIES, measured.mean(axis=0).tolist(), strict=True))}


def _compare(a: Judged, b: Judged, groups: Sequence[str]) -> list[dict[str, Any]]:
    """How often a beats b on the same prompt, and by how much, under each judge."""
    judges = [("gold", a.gold, b.gold), ("reward model", a.reward, b.reward)]
    return [
        {
            "a": a.name,
            "b": b.name,
            "judge": judge,
            "win_rate": win_rate(of_a, of_b, groups=groups).to_dict(),
            "difference": paired_difference(of_a, of_b, groups=groups).to_dict(),
        }
        for judge, of_a, of_b in judges
        if of_a is not None and of_b is not None
    ]


def _samples(
    judged: Sequence[Judged], rewards: Mapping[str, Sequence[Reward]], count: int, per_prompt: int
) -> list[dict[str, Any]]:
    """The first completion of the first prompts: not chosen for their looks. `reward` is the recipe's where it has some."""
    rows = range(0, len(judged[0].rollouts), per_prompt)[:count]
    return [
        {
            "prompt": prompt_text(judged[0].rollouts[row].prompt),
            "responses": [
                {
                    "model": j.name,
                    "text": j.rollouts[row].completion.text,
                    "gold": _at(j.gold, row),
                    "reward": rewards[j.name][row].value if j.name in rewards else _at(j.reward, row),
                }
                for j in judged
            ],
        }
        for row in rows
    ]


def _at(values: np.ndarray | None, row: int) -> float | None:
    return None if values is None else float(values[row])
