"""Rewards of tokens, generalised advantage estimation, whitening, running moments.

Padded matrices [B, T] with a mask, True at response tokens, which stand side by side in a row;
where the row's padding is makes no difference, and what stands at padding is ignored on the way in
and zero on the way out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Advantages(NamedTuple):
    """[B, T] each: the advantages, and the returns a critic learns (advantage + value)."""

    advantages_BT: Tensor
    returns_BT: Tensor


def gae(
    *, rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, gamma: float, gae_lambda: float
) -> Advantages:
    """Generalised advantage estimation (Schulman et al., arXiv:1506.02438, eq. 16), the episode
    ending with the response.

    δ_t = r_t + γ V(s_{t+1}) − V(s_t), A_t = δ_t + γλ A_{t+1}, with V and A zero after the last
    response token. values_BT[t] is the value of the state that token t was chosen in. Raises
    ValueError for a row whose response tokens do not stand side by side: a gap would silently end
    the episode.
    """
    rises_BT = mask_BT[:, 1:] & ~mask_BT[:, :-1]
    if (rises_BT.sum(dim=1) + mask_BT[:, :1].sum(dim=1) > 1).any():
        raise ValueError(
            "the response tokens of a row do not stand side by side, so where its episode ends is"
            " unclear"
        )
    zero = rewards_BT.new_zeros(rewards_BT.shape[0])
    advantage, next_value = zero, zero
    columns: list[Tensor] = []
    for t in range(rewards_BT.shape[1] - 1, -1, -1):
        here = mask_BT[:, t]
        delta = rewards_BT[:, t] + gamma * next_value - values_BT[:, t]
        advantage = torch.where(here, delta + gamma * gae_lambda * advantage, zero)
        next_value = torch.where(here, values_BT[:, t], zero)
        columns.append(advantage)
    advantages_BT = torch.stack(columns[::-1], dim=1) if columns else rewards_BT.clone()
    return Advantages(advantages_BT, torch.where(mask_BT, advantages_BT + values_BT, 0.0))


def shape_rewards(*, scores_B: Tensor, kl_BT: Tensor, mask_BT: Tensor, beta: float) -> Tensor:
    """[B, T]: −β·kl at every response token, and the score on top at the last one (Ouyang et al.,
    arXiv:2203.02155, eq. 2).

    A row without response tokens gets nothing.
    """
    rewards_BT = torch.where(mask_BT, -beta * kl_BT, 0.0)
    left_BT = mask_BT.flip(1).cumsum(dim=1).flip(1)  # response tokens from here on
    return rewards_BT + torch.where(mask_BT & (left_BT == 1), scores_B[:, None], 0.0)


def whiten(*, x: Tensor, mask: Tensor, eps: float = 1e-8) -> Tensor:
    """(x − mean) / √(variance + eps) over the masked entries, zero elsewhere; population variance
    (divide by the count)."""
    kept = x[mask]
    if kept.numel() == 0:
        return torch.zeros_like(x)
    mean, variance = kept.mean(), kept.var(correction=0)
    return torch.where(mask, (x - mean) * (variance + eps).rsqrt(), 0.0)


def centred_in_groups(*, rewards_B: Tensor, groups_B: Tensor) -> Tensor:
    """[B]: R − mean over the completion's group, `groups_B` its number (Liu et al.,
    arXiv:2503.20783, section 3.2).

    Groups may differ in size. Where all rewards of a group are equal the result is 0 to the last
    bit, not only nearly.
    """
    _, mean_G, varies_G = _groups(rewards_B, groups_B)
    return torch.where(varies_G[groups_B], rewards_B - mean_G[groups_B], 0.0)


def leave_one_out(*, rewards_B: Tensor, groups_B: Tensor) -> Tensor:
    """[B]: R_i − mean of the others of its group = (R_i − mean) · K/(K − 1) (Ahmadian et al.,
    arXiv:2402.14740, eq. 7).

    A completion without others gets 0: nothing is known to compare it with.
    """
    count_G, _, _ = _groups(rewards_B, groups_B)
    count_B = count_G[groups_B]
    return (
        centred_in_groups(rewards_B=rewards_B, groups_B=groups_B)
        * count_B
        / (count_B - 1).clamp(min=1)
    )


def normalized_in_groups(*, rewards_B: Tensor, groups_B: Tensor, eps: float = 1e-4) -> Tensor:
    """[B]: (R − mean) / (std + eps) over the completion's group (Shao et al., arXiv:2402.03300,
    section 4.1.2).

    Sample standard deviation (divide by K − 1), as the field's implementations have it. Groups may
    differ in size; one of equal rewards, or of one completion, gets zeros.
    """
    count_G, _, _ = _groups(rewards_B, groups_B)
    centred_B = centred_in_groups(rewards_B=rewards_B, groups_B=groups_B)
    squares_G = torch.zeros_like(count_G, dtype=rewards_B.dtype).index_add(
        0, groups_B, centred_B**2
    )
    std_G = (squares_G / (count_G - 1).clamp(min=1)).sqrt()
    return centred_B / (std_G[groups_B] + eps)


def spread_in_groups(*, rewards_B: Tensor, groups_B: Tensor) -> Tensor:
    """[G]: the sample standard deviation of each group that has a member, in the order of their
    numbers; 0 for one member."""
    count_G, _, _ = _groups(rewards_B, groups_B)
    centred_B = centred_in_groups(rewards_B=rewards_B, groups_B=groups_B)
    squares_G = torch.zeros_like(count_G, dtype=rewards_B.dtype).index_add(
        0, groups_B, centred_B**2
    )
    return (squares_G / (count_G - 1).clamp(min=1)).sqrt()[count_G > 0]


def _groups(rewards_B: Tensor, groups_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[G] each: how many there are, their mean, and whether they differ at all."""
    size = int(groups_B.max()) + 1 if len(groups_B) else 0
    count_G = torch.bincount(groups_B, minlength=size)
    mean_G = rewards_B.new_zeros(size).index_add(0, groups_B, rewards_B) / count_G.clamp(min=1)
    high_G = rewards_B.new_zeros(size).scatter_reduce(
        0, groups_B, rewards_B, "amax", include_self=False
    )
    low_G = rewards_B.new_zeros(size).scatter_reduce(
        0, groups_B, rewards_B, "amin", include_self=False
    )
    return count_G, mean_G, high_G != low_G


def overlong_penalty(*, lengths_B: Tensor, longest: int, cache: int) -> Tensor:
    """[B]: 0 while |y| ≤ M − c, then (M − c − |y|)/c, which is −1 at M, and −1 beyond (Yu et al.,
    arXiv:2503.14476, eq. 13).

    Args:
        lengths_B: |y|, in tokens.
        longest: M, the longest completion.
        cache: c, the last tokens before it, in which the penalty grows; from 1 to M.

    Raises ValueError for a cache out of range.
    """
    if not 1 <= cache <= longest:
        raise ValueError(f"the cache is {cache} tokens; from 1 to {longest} make sense")
    return ((longest - cache - lengths_B) / cache).clamp(min=-1.0, max=0.0)


@dataclass(frozen=True, slots=True)
class RunningMoments:
    """Count, mean and sum of squared deviations of all scores so far (Chan, Golub & LeVeque 1979),
    in float64."""

    count: int = 0
    mean: float = 0.0
    m2: float = 0.0

    @property
    def std(self) -> float:
        """Population standard deviation; 1 while nothing or only one value has been seen, or all
        were equal."""
        return (self.m2 / self.count) ** 0.5 if self.count > 1 and self.m2 > 0 else 1.0

    def update(self, scores_B: Tensor) -> RunningMoments:
        """The moments with these scores added."""
        if scores_B.numel() == 0:
            return self
        values = scores_B.double()
        n, mean = values.numel(), float(values.mean())
        total, shift = self.count + n, mean - self.mean
        m2 = self.m2 + float(((values - mean) ** 2).sum()) + shift**2 * self.count * n / total
        return RunningMoments(total, self.mean + shift * n / total, m2)

    def to_dict(self) -> dict[str, float]:
        """For a checkpoint."""
        return {"count": self.count, "mean": self.mean, "m2": self.m2}

    @classmethod
    def from_dict(cls, state: Mapping[str, float]) -> RunningMoments:
        """From a checkpoint."""
        return cls(int(state["count"]), state["mean"], state["m2"])


def normalize_rewards(*, scores_B: Tensor, moments: RunningMoments) -> Tensor:
    """[B]: scores divided by their running standard deviation; the mean stays ("Secrets of RLHF",
    arXiv:2307.04964, section 5.3.1)."""
    return scores_B / moments.std
