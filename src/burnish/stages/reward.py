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
from burnish.models.adapters import add_adapter
from burnish.models.backbone import Backbone
from burnish.models.heads import ScalarHead
from burnish.models.roles import View
from burnish.models.weights import save_reward_model
from burnish.records import Comparison, PreferenceGroup
from burnish.runs.metrics import read_metrics
from burnish.stages.adapters import lora_spec
from burnish.stages.context import Step
from burnish.stages.gold import accuracy, ceilings
from burnish.stages.own_answers import compares_own_answers
from burnish.stages.ranked import compared, ranked
from burnish.stages.sampling import fitting, prompt_sampler
from burnish.trainers.gather import FirstSampler
from burnish.trainers.groups import RankedGroup
from burnish.trainers.reward_model import score_groups, score_sequences, train_reward_model

_NORMALISE = 320  # completions that gain and bias are read off
_FEWEST = 8  # of those, where there are hardly any prompts


def run(step: Step) -> None:
    """Train, normalize, save under `model`, report accuracy, calibration and length correlation on
    held-out prompts."""
    config, folder = step.settings, step.folder
    backbone = step.load(step.start, trained=config.lora is None)
    groups = step.comparisons
    train = ranked(step, backbone, compared(step, groups.train))
    heldout = ranked(step, backbone, compared(step, groups.heldout), required=False)
    unmeasured = step.not_evaluated(groups, heldout)
    step.say_batch(config.batch_size, len(train), "prompts")
    view = new_reward_model(step, backbone)
    shard(view)
    raw_N = train_reward_model(
        view, [group for _, group in train], [group for _, group in heldout], config=config, seed=step.seed,
        folder=folder, progress=step.progress(), writers=step.writers(),
    )  # fmt: skip
    assert view.head is not None
    if raw_N is None and heldout:
        raw_N = score_groups(view, [group for _, group in heldout], config=config)
    limit = config.optimizer.micro_batch_tokens
    if config.normalize:
        scores = score_sequences(view, _own_samples(step, backbone, train), max_tokens=limit)
        if scores.min() == scores.max():
            step.say(
                f"{step.name}: not normalized: the policy's completions all have the same score"
            )
        else:
            view.head.normalize(scores)
    with shared_folder(folder / "model") as scratch:
        save_reward_model(view, scratch, base=step.start)
    findings = _training_findings(step, view, train) | {"not_evaluated": unmeasured}
    if raw_N is not None:
        # as the head says them since
        scores_N = raw_N * float(view.head.gain) + float(view.head.bias)
        findings |= _findings(step, view, heldout, scores_N)
    step.finish(findings)


def new_reward_model(step: Step, backbone: Backbone) -> View:
    """An untrained reward model on the backbone: an adapter set and a head, or every weight and a
    head."""
    lora = step.settings.lora
    head = ScalarHead(backbone.width, seed=step.seed)
    if lora is None:
        return View(backbone, head=head)
    spec = lora_spec(lora)
    backbone.freeze()
    add_adapter(backbone, "reward", spec, seed=step.seed)
    return View(backbone, "reward", spec, head)


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
    step: Step, view: View, heldout: Sequence[Any], scores: torch.Tensor
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
    assert view.head is not None
    # before normalizing: what Bradley–Terry's σ was trained on
    log_odds = difference / float(view.head.gain)
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
