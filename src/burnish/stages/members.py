"""The members of a reward model: trained one after the other on one backbone, then made to score as
one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from burnish.batch import TokenSequence
from burnish.config.bounds import MOST_SEED
from burnish.errors import UserError
from burnish.models.adapters import add_adapter, average_adapters
from burnish.models.backbone import Backbone
from burnish.models.ensemble import (
    Combine,
    RewardEnsemble,
    RewardModel,
    ScoreRule,
    combined,
    without_length,
)
from burnish.models.heads import ScalarHead
from burnish.models.roles import View
from burnish.ranks import world
from burnish.stages.adapters import lora_spec
from burnish.stages.context import Step
from burnish.statistics.length_control import length_slope
from burnish.trainers.groups import RankedGroup
from burnish.trainers.reward_model import score_groups, score_sequences

_STRIDE = 15_485_863  # between the seeds of members


@dataclass(frozen=True)
class Member:
    """One reward model of several: what it learns on, and what its random numbers follow from."""

    view: View
    seed: int
    folder: Path

    def drawn(self, groups: Sequence[RankedGroup]) -> list[RankedGroup]:
        """As many prompts with their comparisons, with replacement."""
        rng = np.random.default_rng(self.seed)
        return [groups[i] for i in rng.integers(len(groups), size=len(groups))]


def new_members(step: Step, backbone: Backbone) -> list[Member]:
    """Untrained reward models on one backbone: adapter sets, each with a head; or every weight and
    a head. Members whose weights will be averaged begin with one head (arXiv:2401.12187)."""
    config = step.settings
    if world() > 1 and (config.members > 1 or config.decorrelate != "none"):
        raise UserError(
            "several members, and scores without length, are trained by one process.",
            field=f"{step.name}.members",
            hint="Leave scale.trainers out, or set members: 1 and decorrelate: none.",
        )
    if config.lora is None:
        head = ScalarHead(backbone.width, seed=step.seed)
        return [Member(View(backbone, head=head), step.seed, step.folder)]
    spec, found = lora_spec(config.lora), list[Member]()
    backbone.freeze()
    for number in range(config.members):
        seed = (step.seed + number * _STRIDE) % (MOST_SEED + 1)
        # PEFT tells sets apart by whether a name holds the other: no name holds another's
        name = "reward" if number == 0 else f"member_{number:02d}"
        add_adapter(backbone, name, spec, seed=seed)
        of_head = step.seed if config.combine == "weights" else seed
        view = View(backbone, name, spec, ScalarHead(backbone.width, seed=of_head))
        place = step.folder if number == 0 else step.folder / "members" / str(number)
        found.append(Member(view, seed, place))
    return found


def averaged(views: Sequence[View]) -> View:
    """The reward model whose weights are the mean of these: adapters and heads."""
    first, heads = views[0], [view.head for view in views]
    assert first.lora is not None
    names = [str(view.adapter) for view in views]
    spec = average_adapters(first.backbone, names, "average", first.lora)
    head = ScalarHead(first.backbone.width)
    with torch.no_grad():
        for own, *others in zip(
            head.parameters(), *(list(one.parameters()) for one in heads if one), strict=True
        ):
            own.copy_(torch.stack(list(others)).mean(dim=0))
    return View(first.backbone, "average", spec, head)


def as_one(
    step: Step,
    views: Sequence[View],
    train: Sequence[RankedGroup],
    samples: Sequence[TokenSequence],
) -> RewardModel:
    """What the trained members are as one reward model, with their heads normalized on `samples`,
    answers of the policy, where the recipe says so; a single one stays as it is."""
    config = step.settings
    if config.members > 1 and config.combine == "weights":
        views = [averaged(views)]
    slopes = [
        _slope(step, view, train) if config.decorrelate == "length" else 0.0 for view in views
    ]
    lengths_N = torch.tensor([len(one.response) for one in samples])
    limit = config.optimizer.micro_batch_tokens
    if config.normalize:
        for place, view in enumerate(views):
            assert view.head is not None
            scores_N = score_sequences(view, samples, max_tokens=limit)
            _normalize(step, view.head, scores_N - slopes[place] * lengths_N)
            slopes[place] *= float(view.head.gain)
    if len(views) == 1 and config.decorrelate == "none":
        return views[0]
    # of one view, an average of several also, there is nothing to combine
    how: Combine = "mean" if len(views) == 1 or config.combine == "weights" else config.combine
    rule = ScoreRule(how, tuple(slopes), config.sd_weight)
    if config.normalize and len(views) > 1:
        rule = _centred(rule, views, samples, lengths_N, limit)
    return RewardEnsemble(tuple(views), rule)


def _slope(step: Step, view: View, train: Sequence[RankedGroup]) -> float:
    """Score a token of the response, among the compared responses to one prompt."""
    scores_N = score_groups(view, train, config=step.settings)
    lengths = [len(one.response) for group in train for one in group.sequences]
    prompts = [number for number, group in enumerate(train) for _ in group.sequences]
    return length_slope(scores_N.double().numpy(), lengths, groups=prompts)


def _normalize(step: Step, head: ScalarHead, scores_N: torch.Tensor) -> None:
    """Set a head's gain and bias so that these have mean 0 and standard deviation 1, where they
    differ."""
    if scores_N.min() == scores_N.max():
        step.say(f"{step.name}: not normalized: the policy's completions all have the same score")
    else:
        head.normalize(scores_N)


def _centred(
    rule: ScoreRule,
    views: Sequence[View],
    samples: Sequence[TokenSequence],
    lengths_N: torch.Tensor,
    limit: int,
) -> ScoreRule:
    """The rule with gain and bias that give the samples mean 0 and standard deviation 1."""
    scores_MN = torch.stack([score_sequences(view, samples, max_tokens=limit) for view in views])
    scores_N = combined(without_length(scores_MN, lengths_N, rule), rule).double()
    mean, sd = float(scores_N.mean()), float(scores_N.std(correction=0))
    return rule if sd == 0.0 else replace(rule, gain=1.0 / sd, bias=-mean / sd)


def told_of_members(model: RewardModel, config: Any) -> dict[str, Any]:
    """How many there are, how they are combined, and what length was taken out of their scores."""
    found: dict[str, Any] = {
        "members": config.members, "combine": config.combine, "decorrelate": config.decorrelate,
    }  # fmt: skip
    if isinstance(model, RewardEnsemble):
        found["length_slopes"] = list(model.rule.slopes)
    return found
