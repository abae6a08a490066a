"""Rewards of tokens, generalised advantage estimation, whitening, running moments.

Padded matrices [B, T] with a mask, True at response tokens, which stand side by side in a row; where the row's padding
is makes no difference, and what stands at padding is ignored on the way in and zero on the way out.
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


def gae(*, rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, gamma: float, lam: float) -> Advantages:
    """Generalised advantage estimation (Schulman et al., arXiv:1506.02438, eq. 16), the episode ending with the response.

    δ_t = r_t + γ V(s_{t+1}) − V(s_t), A_t = δ_t + γλ A_{t+1}, with V and A zero after the last response token.
    values_BT[t] is the value of the state that token t was chosen in. Raises ValueError for a row whose response tokens
    do not stand side by side: a gap would silently end the episode.
    """
    rises_BT = mask_BT[:, 1:] & ~mask_BT[:, :-1]
    if (rises_BT.sum(dim=1) + mask_BT[:, :1].sum(dim=1) > 1).any():
        raise ValueError("the response tokens of a row do not stand side by side, so where its episode ends is unclear")
    zero = rewards_BT.new_zeros(rewards_BT.shape[0])
    advantage, next_value = zero, zero
    columns = []
    for t in range(rewards_BT.shape[1] - 1, -1, -1):
        here = mask_BT[:, t]
        delta = rewards_BT[:, t] + gamma * next_value - values_BT[:, t]
        advantage = torch.where(here, delta + gamma * lam * advantage, zero)
        next_value = torch.where(here, values_BT[:, t], zero)
        columns.append(advantage)
    advantages_BT = torch.stack(columns[::-1], dim=1) if columns else rewards_BT.clone()
    return Advantages(advantages_BT, torch.where(mask_BT, advantages_BT + values_BT, 0.0))


def shape_rewards(*, scores_B: Tensor, kl_BT: Tensor, mask_BT: Tensor, beta: float) -> Tensor:
    """[B, T]: −β·kl at every response token, and the score on top at the last one (Ouyang et al., arXiv:2203.02155, eq. 2).

    A row without response tokens gets nothing.
    """
    rewards_BT = torch.where(mask_BT, -beta * kl_BT, 0.0)
    left_BT = mask_BT.flip(1).cumsum(dim=1).flip(1)  # response tokens from here on
    return rewards_BT + torch.where(mask_BT & (left_BT == 1), scores_B[:, None], 0.0)


def whiten(*, x: Tensor, mask: Tensor, shift_mean: bool = True, eps: float = 1e-8) -> Tensor:
    """(x − mean) / √(variance + eps) over the masked entries, zero elsewhere; population variance (divide by the count).

    `shift_mean=False` leaves the mean where it was.
    """
    kept = x[mask]
    if kept.numel() == 0:
        return torch.zeros_like(x)
    mean, variance = kept.mean(), kept.var(correction=0)
    whitened = (x - mean) * (variance + eps).rsqrt()
    return torch.where(mask, whitened if shift_mean else whitened + mean, 0.0)


def group_advantages(*, rewards_GK: Tensor, eps: float = 1e-4) -> Tensor:
    """[G, K]: (R − mean) / (std + eps) over the K completions of each of G prompts (Shao et al., arXiv:2402.03300, section 4.1.2).

    Sample standard deviation (divide by K − 1), as the field's implementations have it. A group of equal rewards, or of
    one completion, gets zeros.
    """
    centred = rewards_GK - rewards_GK.mean(dim=1, keepdim=True)
    if rewards_GK.shape[1] < 2:
        return centred
    return centred / (rewards_GK.std(dim=1, keepdim=True) + eps)


@dataclass(frozen=True, slots=True)
class RunningMoments:
    """Count, mean and sum of squared deviations of all scores so far (Chan, Golub & LeVeque 1979), in float64."""

    count: int = 0
    mean: float = 0.0
    m2: float = 0.0

    @property
    def std(self) -> float:
        """Population standard deviation; 1 while nothing or only one value has been seen, or all were equal."""
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


def normalise_rewards(*, scores_B: Tensor, moments: RunningMoments, clip: float | None, shift_mean: bool) -> Tensor:
    """Scores divided by their running standard deviation (with the mean taken off first, if asked), then clipped to ±clip.

    "Secrets of RLHF" (arXiv:2307.04964), section 5.3.1.
    """
    scaled = (scores_B - moments.mean if shift_mean else scores_B) / moments.std
    return scaled if clip is None else scaled.clamp(-clip, clip)
