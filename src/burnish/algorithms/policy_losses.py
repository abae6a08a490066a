"""Losses of PPO, per token, with the statistics the field watches. To be minimised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class Loss(NamedTuple):
    """A loss per token (or per pair) and detached statistics of the same shape, which the caller averages as it does the loss."""

    per_token: Tensor
    stats: Mapping[str, Tensor]


def ppo_policy_loss(
    *,
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None = None,
) -> Loss:
    """−min(r A, clip(r, 1 − clip_low, 1 + clip_high) A), r = π/π_old (Schulman et al., arXiv:1707.06347, eq. 7).

    With `dual_clip` c > 1, a token of negative advantage never loses more than −c A (Ye et al., arXiv:1912.09729, eq. 4).
    Statistics: `ratio`; `clipfrac`, 1 where the clipped term was the binding one; `approx_kl`, (r − 1) − log r, the
    unbiased non-negative estimate of KL(π_old ‖ π).
    """
    log_ratio = logprobs - old_logprobs
    ratio = log_ratio.exp()
    plain = -advantages * ratio
    clipped = -advantages * ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    loss = torch.maximum(plain, clipped)
    if dual_clip is not None:
        loss = torch.where(advantages < 0, torch.minimum(loss, -dual_clip * advantages), loss)
    with torch.no_grad():
        stats = {
            "ratio": ratio.detach(),
            "clipfrac": (clipped > plain).to(loss.dtype),
            "approx_kl": log_ratio.expm1() - log_ratio,
        }
    return Loss(loss, stats)


def truncated_importance(*, old_logprobs: Tensor, sampler_logprobs: Tensor, cap: float) -> Loss:
    """min(π_old/μ, cap) per token: the weight of a token that was drawn from μ, not from the trainer's π_old.

    Truncated importance sampling (Ionides 2008), as it is used where rollouts come from another engine, another precision
    or a truncated distribution; multiplies the policy loss. Statistics: `capped`, 1 where the cap was reached.
    """
    weight = (old_logprobs - sampler_logprobs).exp()
    return Loss(weight.clamp(max=cap), {"capped": (weight > cap).to(weight.dtype)})


def ppo_value_loss(*, values: Tensor, old_values: Tensor, returns: Tensor, clip: float | None) -> Loss:
    """½ max((V − R)², (V_old + clip(V − V_old, ±clip) − R)²); without `clip`, ½ (V − R)².

    The clipping of the 2017 reference implementation (see "The 37 implementation details of PPO", 2022, detail 9).
    Statistics: `vf_clipfrac`, 1 where the clipped term was the binding one.
    """
    plain = (values - returns) ** 2
    if clip is None:
        return Loss(0.5 * plain, {"vf_clipfrac": torch.zeros_like(plain.detach())})
    clipped = (old_values + (values - old_values).clamp(-clip, clip) - returns) ** 2
    return Loss(0.5 * torch.maximum(plain, clipped), {"vf_clipfrac": (clipped > plain).detach().to(plain.dtype)})
