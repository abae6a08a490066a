"""Stage 3: the reward model, from the SFT model and the comparisons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from burnish.atomic import atomic_folder
from burnish.batch import TokenSequence
from burnish.data.render import render_response
from burnish.evaluation import reward_report
from burnish.models.adapters import LoraSpec, add_adapter
from burnish.models.backbone import Backbone
from burnish.models.heads import ScalarHead
from burnish.models.roles import View
from burnish.models.weights import save_reward_model
from burnish.pipeline import collect
from burnish.pipeline.context import Context, Split
from burnish.pipeline.lengths import render_rows
from burnish.pipeline.sampling import LocalSampler, fitting
from burnish.records import Comparison, PreferenceGroup
from burnish.runs.metrics import read_metrics
from burnish.trainers.groups import RankedGroup
from burnish.trainers.reward_model import score_groups, score_sequences, train_reward_model

_NORMALISE = 320  # completions that gain and bias are read off
_FEWEST = 8  # of those, where there are hardly any prompts


def run(context: Context) -> None:
    """Train, normalise, save under `reward/model`, report accuracy, calibration and length correlation on held-out prompts."""
    recipe, folder = context.recipe, context.stage("reward")
    backbone = context.load(context.sft_model, trained=recipe.reward.lora is None)
    groups = comparison_groups(context)
    train = ranked(context, backbone, _compared(context, groups.train))
    heldout = ranked(context, backbone, _compared(context, groups.heldout), required=False)
    unmeasured = context.not_evaluated("reward", groups, heldout)
    context.say_batch("reward", recipe.reward.batch_size, len(train), "prompts")
    view = new_reward_model(context, backbone)
    raw_N = train_reward_model(
        view, [group for _, group in train], [group for _, group in heldout], config=recipe.reward, seed=recipe.seed,
        folder=folder, progress=context.progress("reward"), writers=context.writers("reward"),
    )  # fmt: skip
    assert view.head is not None
    if raw_N is None and heldout:
        raw_N = score_groups(view, [group for _, group in heldout], config=recipe.reward)
    limit = recipe.reward.optimiser.micro_batch_tokens
    if recipe.reward.normalise:
        scores = score_sequences(view, _sft_samples(context, backbone, train), max_tokens=limit)
        if scores.min() == scores.max():
            context.say("reward: not normalized: the SFT model's completions all have the same score")
        else:
            view.head.normalise(scores)
    with atomic_folder(folder / "model") as scratch:
        save_reward_model(view, scratch, base=context.sft_model)
    findings = _training_findings(context, view, train) | {"not_evaluated": unmeasured}
    if raw_N is not None:
        scores_N = raw_N * float(view.head.gain) + float(view.head.bias)  # as the head says them since
        findings |= _findings(context, view, heldout, scores_N)
    context.finish("reward", findings)


def new_reward_model(context: Context, backbone: Backbone) -> View:
    """An untrained reward model on the backbone: an adapter set and a head, or every weight and a head."""
    recipe = context.recipe
    head = ScalarHead(backbone.width, seed=recipe.seed)
    if recipe.reward.lora is None:
        return View(backbone, head=head)
    spec = LoraSpec(recipe.reward.lora.r, recipe.reward.lora.alpha)
    backbone.freeze()
    add_adapter(backbone, "reward", spec, seed=recipe.seed)
    return View(backbone, "reward", spec, head)


def comparison_groups(context: Context) -> Split:
    """People's comparisons where the recipe names them, else what the panel said."""
    return context.comparisons if context.recipe.data.labelled else collect.labelled_groups(context)


def _compared(context: Context, groups: Sequence[PreferenceGroup]) -> list[PreferenceGroup]:
    """Without the groups whose answers were judged singly and all alike."""
    kept = [group for group in groups if group.comparisons]
    if len(kept) < len(groups):
        context.count_dropped("comparisons", {"nothing is preferred": len(groups) - len(kept)})
    return kept


def ranked(
    context: Context, backbone: Backbone, groups: Sequence[PreferenceGroup], *, required: bool = True
) -> list[tuple[PreferenceGroup, RankedGroup]]:
    """Groups as tokens; a group with a response that does not fit is an error, or dropped and counted."""
    limit = min(context.recipe.model.max_length, backbone.context)

    def render(group: PreferenceGroup) -> RankedGroup:
        responses = [
            render_response(backbone.tokenizer, group.prompt, text, max_tokens=limit) for text in group.responses
        ]
        # The prompt's last tokens are the same in each, whatever the response begins with: one prefix serves all.
        return RankedGroup(
            tuple(TokenSequence(r.prompt_tokens, r.response_tokens) for r in responses), group.comparisons, group.labels
        )

    return render_rows(context, backbone, groups, render, what="comparisons", room=limit, required=required)


def _sft_samples(
    context: Context, backbone: Backbone, train: Sequence[tuple[PreferenceGroup, RankedGroup]]
) -> list[TokenSequence]:
    """Completions of the SFT model: those the panel ranked, or, where people's comparisons came from elsewhere, fresh ones.

    A few hundred give the mean and the standard deviation to within a twentieth of the latter.
    """
    if not context.recipe.data.labelled:
        return [sequence for _, group in train for sequence in group.sequences][:_NORMALISE]
    recipe = context.recipe
    prompts = fitting(context, backbone, context.prompts.train, recipe.ppo.sampling, "prompts")[:64]
    sampler = LocalSampler(
        View(backbone), recipe.ppo.sampling, seed=recipe.seed, max_length=recipe.model.max_length,
        purpose="normalise", say=context.say_once,
    )  # fmt: skip
    rollouts = sampler.generate(prompts, samples=math.ceil(_FEWEST / len(prompts)))
    texts = [(r.prompt, r.completion.text) for r in rollouts]
    responses = [
        render_response(backbone.tokenizer, prompt, text, max_tokens=backbone.context) for prompt, text in texts
    ]
    return [TokenSequence(r.prompt_tokens, r.response_tokens) for r in responses]


def _training_findings(context: Context, view: View, train: Sequence[Any]) -> dict[str, Any]:
    """What is known without any held-out pair."""
    assert view.head is not None
    rows = read_metrics(context.stage("reward") / "metrics.jsonl")
    return {
        "pairs_train": sum(len(group.comparisons) for _, group in train),
        "pairs_heldout": 0,
        "prompts_train": len(train),
        "prompts_heldout": 0,
        "steps": len(rows),
        "curve": [
            {key: row[key] for key in ("step", "loss", "accuracy", "eval_loss", "eval_accuracy") if key in row}
            for row in rows
        ],
        "gain": float(view.head.gain),
        "bias": float(view.head.bias),
    }


def _findings(context: Context, view: View, heldout: Sequence[Any], scores: torch.Tensor) -> dict[str, Any]:
    """What held-out pairs tell."""
    pairs = [(number, pair, base) for number, (pair, base) in _offset_pairs(heldout)]
    difference = (
        torch.tensor([float(scores[base + p.first] - scores[base + p.second]) for _, p, base in pairs]).double().numpy()
    )
    assert view.head is not None
    log_odds = difference / float(view.head.gain)  # before normalising: what Bradley–Terry's σ was trained on
    labels = torch.tensor([p.probability for _, p, _ in pairs]).double().numpy()
    prompt_of_pair = [number for number, _, _ in pairs]
    words = [len(text.split()) for group, _ in heldout for text in group.responses]
    lengths_first = [words[base + p.first] for _, p, base in pairs]
    lengths_second = [words[base + p.second] for _, p, base in pairs]
    prompt_of_response = [number for number, (group, _) in enumerate(heldout) for _ in group.responses]
    findings = {
        "pairs_heldout": len(pairs),
        "prompts_heldout": len(heldout),
        "accuracy": collect.accuracy(difference, labels, prompt_of_pair),
        "longer_wins": collect.accuracy(np.subtract(lengths_first, lengths_second), labels, prompt_of_pair),
        "brier": reward_report.brier(log_odds, labels),
        "ece": reward_report.expected_calibration_error(log_odds, labels),
        "calibration": [b.to_dict() for b in reward_report.calibration_curve(log_odds, labels)],
        "length_correlation": reward_report.length_correlation(scores.numpy(), words, groups=prompt_of_response),
    }
    if not context.recipe.data.labelled:
        findings |= collect.ceilings(context, [group for group, _ in heldout], difference)
    return findings


def _offset_pairs(groups: Sequence[tuple[PreferenceGroup, RankedGroup]]) -> list[tuple[int, tuple[Comparison, int]]]:
    """(number of the prompt, (comparison, row of the prompt's first response)) for every comparison."""
    found, base = [], 0
    for number, (group, _) in enumerate(groups):
        found += [(number, (comparison, base)) for comparison in group.comparisons]
        base += len(group.responses)
    return found
