"""How far an online stage's policy is from what it started as."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from burnish.batch import Batch
from burnish.models.roles import Roles, View
from burnish.records import Rollout
from burnish.stages.context import Step
from burnish.trainers.stages import column, sequence_of


def distance_from_start(step: Step, roles: Roles) -> Callable[[Sequence[Rollout]], float] | None:
    """The mean of log π(y) − log π_start(y) over answers y of the policy, which estimates KL(π ‖
    π_start) in nats an answer; None where nothing in memory is the start, or answers are not drawn
    from the model's own distribution."""
    sampling, start = step.settings.sampling, _start(step, roles)
    if start is None or sampling.temperature != 1 or not sampling.follows_the_model:
        return None
    limit = step.settings.optimizer.micro_batch_tokens

    @torch.no_grad()
    def distance(rollouts: Sequence[Rollout]) -> float:
        batch = Batch(tuple(sequence_of(one) for one in rollouts))
        policy_P, start_P = (
            column(
                lambda piece, view=view: view.logprobs(piece).logprobs_P, batch, max_tokens=limit
            )
            for view in (roles.policy, start)
        )
        return float((policy_P - start_P).double().sum()) / len(batch)

    return distance


def _start(step: Step, roles: Roles) -> View | None:
    """The start as a role that is in memory anyway."""
    if roles.policy.adapter is not None:
        return View(roles.policy.backbone)
    held_to = step.node.inputs["reference"] == step.node.inputs["start"]
    moves = step.settings.moving_reference is not None
    return roles.reference if held_to and not moves else None
