"""The online family as rows of one table: PPO, GRPO and its relatives, RLOO, REINFORCE++.

A row names the parts: how rewards become advantages, the loss, how per-token losses are averaged,
where the KL penalty stands, which groups are kept, what befalls completions that are too long.
Every part can be exchanged for another row's by `resolve`; the loop that trains knows the parts and
no row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from burnish.algorithms.advantages import (
    Advantages,
    centred_in_groups,
    gae,
    leave_one_out,
    normalized_in_groups,
    shape_rewards,
)
from burnish.algorithms.policy_losses import (
    Loss,
    cispo_policy_loss,
    gspo_policy_loss,
    ppo_policy_loss,
    reinforce_policy_loss,
)


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One row.

    Args:
        name: what recipes call it.
        paper: where it was proposed.
        advantage: a key of `ADVANTAGES`, or a function of `Earned` that returns `Advantages`.
        loss: a key of `LOSSES`, or a function that is called as they are and returns a loss for
            each token [P], or a `Loss`.
        aggregation: token, sequence, constant or sum; see `aggregate.loss_denominator`.
        whiten: whiten the advantages over all tokens of the batch.
        kl: where the penalty β·KL(π ‖ π_ref) stands: in the reward, in the loss, or none.
        kl_estimator: k1, k2 or k3; see `kl.kl_estimate`.
        kl_level: token: the estimates of a completion's tokens are added up; sequence: one estimate
            from its whole log-ratio.
        beta: β.
        filter: none, or mixed: only groups whose rewards differ are trained on, others are sampled
            in their place.
        overlong: none; shape: `advantages.overlong_penalty` is added to the reward; mask: a
            completion that was cut off takes part in its group's statistics and not in the loss.
        clip_low, clip_high: the ratio's range is [1 − clip_low, 1 + clip_high].
        dual_clip: see `policy_losses.ppo_policy_loss`.
        critic, groups: what `needs_critic` and `needs_groups` say of an advantage that is a
            function; None: as the table has it.
    """

    name: str
    paper: str
    advantage: str | Callable[[Earned], Advantages]
    loss: str | Callable[..., Loss | Tensor]
    aggregation: str
    whiten: bool = False
    kl: str = "none"
    kl_estimator: str = "k1"
    kl_level: str = "token"
    beta: float = 0.0
    filter: str = "none"
    overlong: str = "none"
    clip_low: float = 0.2
    clip_high: float = 0.2
    dual_clip: float | None = None
    critic: bool | None = None
    groups: bool | None = None

    def parts(self) -> dict[str, Any]:
        """The row as JSON holds it, a function by its name; which roles it needs, `roles` says."""
        values = {
            part.name: getattr(self, part.name)
            for part in fields(self)
            if part.name not in ("critic", "groups")
        }
        return {
            name: value.__name__ if callable(value) else value for name, value in values.items()
        }

    @property
    def needs_critic(self) -> bool:
        """Whether its advantages come from learned values."""
        return self.advantage in WITH_CRITIC if self.critic is None else self.critic

    @property
    def needs_reference(self) -> bool:
        """Whether there is a penalty for leaving the reference."""
        return self.kl != "none" and self.beta > 0

    @property
    def needs_groups(self) -> bool:
        """Whether completions are compared with others of the same prompt."""
        return self.advantage in WITH_GROUPS if self.groups is None else self.groups

    @property
    def roles(self) -> tuple[str, ...]:
        """The models it needs besides whatever rewards are made of."""
        wanted = {"policy": True, "critic": self.needs_critic, "reference": self.needs_reference}
        return tuple(role for role, needed in wanted.items() if needed)


ROWS: Mapping[str, Algorithm] = MappingProxyType(
    {
        row.name: row
        for row in (
            Algorithm(
                "ppo", "arXiv:1707.06347, arXiv:2203.02155", "gae", "clip", "token",
                whiten=True, kl="reward", kl_estimator="k1", beta=0.05,
            ),
            Algorithm(
                "grpo", "arXiv:2402.03300", "group_normalized", "clip", "sequence",
                kl="loss", kl_estimator="k3", beta=0.04,
            ),
            Algorithm("dr-grpo", "arXiv:2503.20783", "group_mean", "clip", "constant"),
            Algorithm(
                "dapo", "arXiv:2503.14476", "group_normalized", "clip", "token",
                filter="mixed", overlong="shape", clip_high=0.28,
            ),
            Algorithm(
                "gspo", "arXiv:2507.18071", "group_normalized", "sequence_clip", "sequence",
                clip_low=3e-4, clip_high=4e-4,
            ),
            Algorithm(
                "cispo", "arXiv:2506.13585", "group_normalized", "cispo", "token",
                clip_low=1.0, clip_high=4.0,
            ),
            Algorithm(
                "rloo", "arXiv:2402.14740", "leave_one_out", "reinforce", "sum",
                kl="reward", kl_estimator="k1", beta=0.05,
            ),
            Algorithm(
                "reinforce++", "arXiv:2501.03262", "to_go", "clip", "token",
                whiten=True, kl="reward", kl_estimator="k1", beta=0.01,
            ),
            Algorithm(
                "reinforce++-baseline", "arXiv:2501.03262", "group_mean", "clip", "token",
                whiten=True, kl="loss", kl_estimator="k2", beta=0.001,
            ),
        )
    }
)  # fmt: skip
"""The rows, by name."""


class Earned(NamedTuple):
    """What advantages are made of. B completions, T tokens.

    `scores_B` the completions' rewards, `groups_B` the number of the prompt each answers, `kl_BT`
    the penalty's estimate per token (zeros where no penalty stands in the reward), `values_BT` the
    critic's (None without one).
    """

    scores_B: Tensor
    groups_B: Tensor
    kl_BT: Tensor
    mask_BT: Tensor
    values_BT: Tensor | None
    beta: float
    gamma: float
    gae_lambda: float


def _gae(earned: Earned) -> Advantages:
    assert earned.values_BT is not None
    rewards_BT = _rewards(earned)
    return gae(
        rewards_BT=rewards_BT,
        values_BT=earned.values_BT,
        mask_BT=earned.mask_BT,
        gamma=earned.gamma,
        gae_lambda=earned.gae_lambda,
    )


def _to_go(earned: Earned) -> Advantages:
    """A_t = Σ_{s≥t} γ^{s−t} r_s: generalised advantages with λ = 1 and values of 0."""
    rewards_BT = _rewards(earned)
    zeros_BT = torch.zeros_like(rewards_BT)
    return gae(
        rewards_BT=rewards_BT,
        values_BT=zeros_BT,
        mask_BT=earned.mask_BT,
        gamma=earned.gamma,
        gae_lambda=1.0,
    )


def _whole(compare: Callable[..., Tensor]) -> Callable[[Earned], Advantages]:
    """An advantage of whole completions, the same at each of their tokens; a penalty in the reward
    counts by its sum."""

    def advantage(earned: Earned) -> Advantages:
        mask_BT = earned.mask_BT
        penalty_B = earned.beta * (earned.kl_BT * mask_BT).sum(dim=1)
        rewards_B = earned.scores_B - penalty_B
        compared_B = compare(rewards_B=rewards_B, groups_B=earned.groups_B)
        return Advantages(
            torch.where(mask_BT, compared_B[:, None], 0.0),
            torch.where(mask_BT, rewards_B[:, None], 0.0),
        )

    return advantage


def _rewards(earned: Earned) -> Tensor:
    return shape_rewards(
        scores_B=earned.scores_B, kl_BT=earned.kl_BT, mask_BT=earned.mask_BT, beta=earned.beta
    )


ADVANTAGES: Mapping[str, Callable[[Earned], Advantages]] = MappingProxyType(
    {
        "gae": _gae,
        "to_go": _to_go,
        "group_normalized": _whole(normalized_in_groups),
        "group_mean": _whole(centred_in_groups),
        "leave_one_out": _whole(leave_one_out),
    }
)
"""How rewards become advantages and, for a critic, returns."""

WITH_CRITIC = frozenset({"gae"})
WITH_GROUPS = frozenset({"group_normalized", "group_mean", "leave_one_out"})


def _clip(
    algorithm: Algorithm, *, sequence_of_P: Tensor, sequences: int, **tensors: Tensor
) -> Loss:
    bounds = {
        "clip_low": algorithm.clip_low,
        "clip_high": algorithm.clip_high,
        "dual_clip": algorithm.dual_clip,
    }
    return ppo_policy_loss(**tensors, **bounds)  # type: ignore[arg-type]


def _sequence_clip(
    algorithm: Algorithm, *, sequence_of_P: Tensor, sequences: int, **tensors: Tensor
) -> Loss:
    bounds = {"clip_low": algorithm.clip_low, "clip_high": algorithm.clip_high}
    return gspo_policy_loss(**tensors, sequence_of_P=sequence_of_P, sequences=sequences, **bounds)  # type: ignore[arg-type]


def _cispo(
    algorithm: Algorithm, *, sequence_of_P: Tensor, sequences: int, **tensors: Tensor
) -> Loss:
    bounds = {"clip_low": algorithm.clip_low, "clip_high": algorithm.clip_high}
    return cispo_policy_loss(**tensors, **bounds)  # type: ignore[arg-type]


def _reinforce(
    algorithm: Algorithm, *, sequence_of_P: Tensor, sequences: int, **tensors: Tensor
) -> Loss:
    return reinforce_policy_loss(**tensors)


LOSSES: Mapping[str, Callable[..., Loss]] = MappingProxyType(
    {"clip": _clip, "sequence_clip": _sequence_clip, "cispo": _cispo, "reinforce": _reinforce}
)
"""Per-token losses: `(algorithm, logprobs=, old_logprobs=, advantages=, sequence_of_P=,
sequences=)`, tensors [P]."""


def advantages_of(algorithm: Algorithm, earned: Earned) -> Advantages:
    """Advantages and returns by the row's own function, or that of the table."""
    part = algorithm.advantage
    return (ADVANTAGES[part] if isinstance(part, str) else part)(earned)


def loss_of(algorithm: Algorithm, **tensors: Any) -> Loss:
    """The loss of each token by the row's own function, or that of the table; with the statistic
    `ratio`, π/π_old."""
    part = algorithm.loss
    found = (LOSSES[part] if isinstance(part, str) else part)(algorithm, **tensors)
    loss = found if isinstance(found, Loss) else Loss(found, {})
    if "ratio" in loss.stats:
        return loss
    return Loss(
        loss.per_token,
        {**loss.stats, "ratio": (tensors["logprobs"] - tensors["old_logprobs"]).detach().exp()},
    )


def resolve(name: str | Algorithm, changes: Mapping[str, Any] = MappingProxyType({})) -> Algorithm:
    """The row `name`, or a row of one's own, with some of its parts exchanged.

    Raises ValueError for a name or a part that is not in the tables; for a k1 penalty in the loss,
    whose expected gradient is
    zero: it would look like a penalty and be none; and for half of a penalty, β without a place or
    a place without β.
    """
    if isinstance(name, str) and name not in ROWS:
        raise ValueError(f"unknown algorithm {name!r}; there are {', '.join(ROWS)}")
    row = replace(ROWS[name] if isinstance(name, str) else name, **changes)
    for part, table in (("advantage", ADVANTAGES), ("loss", LOSSES)):
        value = getattr(row, part)
        if not callable(value) and value not in table:
            raise ValueError(f"unknown {part} {value!r}; there are {', '.join(table)}")
    if row.kl == "loss" and row.kl_estimator == "k1" and row.needs_reference:
        raise ValueError(
            "k1 in the loss has an expected gradient of zero; take k2 (or k3), or put the penalty"
            " in the reward"
        )
    if changes.get("beta") and row.kl == "none" and "kl" not in changes:
        raise ValueError(
            f"beta is {row.beta}, but {row.name} has no penalty: set kl to loss or reward too, or"
            " leave beta out"
        )
    if changes.get("kl", "none") != "none" and row.beta == 0 and "beta" not in changes:
        raise ValueError(
            f"kl is {row.kl}, but beta is 0 in {row.name}, so there is no penalty: set beta too, or"
            " leave kl out"
        )
    if row.dual_clip is not None and row.loss != "clip":
        raise ValueError(f"dual_clip belongs to the loss clip, not to {row.loss}")
    if row.dual_clip is not None and row.dual_clip <= 1:
        raise ValueError(f"dual_clip is {row.dual_clip}; it must be above 1")
    return row
