"""Stage `reward`: the reward model, from a policy and comparisons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from burnish.atomic import shared_folder
from burnish.batch import TokenSequence
from burnish.data.render import render_response
from burnish.evaluation import reward_report
from burnish.execution.shards import shard
from burnish.models.backbone import Backbone
from burnish.models.ensemble import RewardEnsemble, RewardModel, gain_of, members_of
from burnish.models.roles import View
from burnish.models.weights import save_members, save_reward_model
from burnish.records import Comparison, PreferenceGroup
from burnish.runs.metrics import read_metrics
from burnish.stages.adapters import quantization_of
from burnish.stages.context import Step
from burnish.stages.gold import accuracy, ceilings
from burnish.stages.members import as_one, new_members, told_of_members
from burnish.stages.own_answers import compares_own_answers
from burnish.stages.ranked import compared, ranked
from burnish.stages.sampling import fitting, prompt_sampler
from burnish.trainers.gather import FirstSampler
from burnish.trainers.groups import RankedGroup
from burnish.trainers.reward_model import score_groups_and_spread, train_reward_model

_NORMALISE = 320  # completions that gain and bias are read off
_FEWEST = 8  # of those, where there are hardly any prompts


def run(step: Step) -> None:
    """Train, normalize, save under `model`, report accuracy, calibration and length correlation on
    held-out prompts."""
    config = step.settings
    backbone = step.load(
        step.start, trained=config.lora is None, quantization=quantization_of(config.lora)
    )
    groups = step.comparisons
    train = ranked(step, backbone, compared(step, groups.train))
    heldout = ranked(step, backbone, compared(step, groups.heldout), required=False)
    unmeasured = step.not_evaluated(groups, heldout)
    step.say_batch(config.batch_size, len(train), "prompts")
    members = new_members(step, backbone)
    shard(members[0].view)
    groups_of_train, groups_of_heldout = ([g for _, g in rows] for rows in (train, heldout))
    raw_N: torch.Tensor | None = None
    for member in members:
        several = len(members) > 1 and config.bootstrap
        raw_N = train_reward_model(
            member.view,
            member.drawn(groups_of_train) if several else groups_of_train,
            groups_of_heldout,
            config=config,
            seed=member.seed,
            folder=member.folder,
            progress=step.progress(),
            writers=step.writers(),
        )
    views = [member.view for member in members]
    samples = _own_samples(step, backbone, train) if config.normalize else []
    model = as_one(step, views, groups_of_train, samples)
    _save(step, model, views)
    findings = _training_findings(step, members_of(model)[0], train) | {"not_evaluated": unmeasured}
    findings |= told_of_members(model, config)
    if heldout:
        scores_N, spread_N = _scores(model, raw_N, groups_of_heldout, config)
        findings |= _findings(step, model, heldout, scores_N)
        if spread_N is not None:
            findings["spread"] = float(spread_N.mean())
    step.finish(findings)


def _save(step: Step, model: RewardModel, views: Sequence[View]) -> None:
    """The model, or the first of the members that score, as others read it; and its members."""
    first = members_of(model)[0]
    rule = model.rule if isinstance(model, RewardEnsemble) else None
    with shared_folder(step.folder / "model") as scratch:
        save_reward_model(first, scratch, base=step.start)
        save_members(views, scratch, place=step.folder / "model", base=step.start, rule=rule)


def _scores(
    model: RewardModel, raw_N: torch.Tensor | None, heldout: Sequence[RankedGroup], config: Any
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """`score_groups_and_spread` of the held-out responses. The scores of a single model are known
    from its training, but for what normalizing has done since."""
    if not isinstance(model, View) or model.head is None or raw_N is None or config.members > 1:
        return score_groups_and_spread(model, heldout, config=config)
    return raw_N * float(model.head.gain) + float(model.head.bias), None


def _own_samples(
    step: Step, backbone: Backbone, train: Sequence[tuple[PreferenceGroup, RankedGroup]]
) -> list[TokenSequence]:
    """Completions of the policy it starts from: those that were compared, or, where the comparisons
    are of other answers, fresh ones.

    A few hundred give the mean and the standard deviation to within a twentieth of the latter.
    """
    if compares_own_answers(step):
        return [sequence for _, group in train for sequence in group.sequences][:_NORMALISE]
    sampling = step.settings.sampling
    prompts = fitting(step, backbone, step.prompts.train, sampling, "prompts")[:64]
    policy = View(backbone)
    make = partial(
        prompt_sampler, policy, sampling, seed=step.seed, max_length=step.recipe.model.max_length,
        purpose="normalize", say=step.say_once,
    )  # fmt: skip
    rollouts = FirstSampler(policy, make).generate(
        prompts, samples=math.ceil(_FEWEST / len(prompts))
    )
    texts = [(r.prompt, r.completion.text) for r in rollouts]
    responses = [
        render_response(backbone.tokenizer, prompt, text, max_tokens=backbone.context)
        for prompt, text in texts
    ]
    return [TokenSequence(r.prompt_tokens, r.response_tokens) for r in responses]


def _training_findings(step: Step, view: View, train: Sequence[Any]) -> dict[str, Any]:
    """What is known without any held-out pair."""
    assert view.head is not None
    rows = read_metrics(step.folder / "metrics.jsonl")
    return {
        "pairs_train": sum(len(group.comparisons) for _, group in train),
        "pairs_heldout": 0,
        "prompts_train": len(train),
        "prompts_heldout": 0,
        "steps": len(rows),
        "curve": [
            {
                key: row[key]
                for key in ("step", "loss", "accuracy", "eval_loss", "eval_accuracy")
                if key in row
            }
            for row in rows
        ],
        "gain": float(view.head.gain),
        "bias": float(view.head.bias),
    }


def _findings(
    step: Step, model: RewardModel, heldout: Sequence[Any], scores: torch.Tensor
) -> dict[str, Any]:
    """What held-out pairs tell."""
    pairs = [(number, pair, base) for number, (pair, base) in _offset_pairs(heldout)]
    difference = (
        torch.tensor(
            [float(scores[base + p.first] - scores[base + p.second]) for _, p, base in pairs]
        )
        .double()
        .numpy()
    )
    # before normalizing: what Bradley–Terry's σ was trained on
    log_odds = difference / gain_of(model)
    labels = torch.tensor([p.probability for _, p, _ in pairs]).double().numpy()
    prompt_of_pair = [number for number, _, _ in pairs]
    words = [len(text.split()) for group, _ in heldout for text in group.responses]
    lengths_first = [words[base + p.first] for _, p, base in pairs]
    lengths_second = [words[base + p.second] for _, p, base in pairs]
    prompt_of_response = [
        number for number, (group, _) in enumerate(heldout) for _ in group.responses
    ]
    findings = {
        "pairs_heldout": len(pairs),
        "prompts_heldout": len(heldout),
        "accuracy": accuracy(difference, labels, prompt_of_pair),
        "longer_wins": accuracy(np.subtract(lengths_first, lengths_second), labels, prompt_of_pair),
        "brier": reward_report.brier(log_odds, labels),
        "ece": reward_report.expected_calibration_error(log_odds, labels),
        "calibration": [b.to_dict() for b in reward_report.calibration_curve(log_odds, labels)],
        "length_correlation": reward_report.length_correlation(
            scores.numpy(), words, groups=prompt_of_response
        ),
    }
    return findings | ceilings(step, [group for group, _ in heldout], difference)


def _offset_pairs(
    groups: Sequence[tuple[PreferenceGroup, RankedGroup]],
) -> list[tuple[int, tuple[Comparison, int]]]:
    """(number of the prompt, (comparison, row of the prompt's first response)) for every
    comparison."""
    found, base = [], 0
    for number, (group, _) in enumerate(groups):
        found += [(number, (comparison, base)) for comparison in group.comparisons]
        base += len(group.responses)
    return found
