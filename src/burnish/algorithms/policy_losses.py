"""Losses of policies, and PPO's of values, per token, with the statistics the field watches. To be
minimised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class Loss(NamedTuple):
    """A loss per token (or per pair) and detached statistics of the same shape, which the caller
    averages as it does the loss."""

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
    """−min(r A, clip(r, 1 − clip_low, 1 + clip_high) A), r = π/π_old (Schulman et al.,
    arXiv:1707.06347, eq. 7).

    With `dual_clip` c > 1, a token of negative advantage never loses more than −c A (Ye et al.,
    arXiv:1912.09729, eq. 4).
    Statistics: `ratio`; `clipfrac`, 1 where the clipped term was the binding one; `approx_kl`, (r −
    1) − log r, the unbiased non-negative estimate of KL(π_old ‖ π).
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


def gspo_policy_loss(
    *,
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    sequence_of_P: Tensor,
    sequences: int,
    clip_low: float,
    clip_high: float,
) -> Loss:
    """−min(s A, clip(s, 1 − clip_low, 1 + clip_high) A), s = exp(mean over the sequence of log
    π/π_old) (arXiv:2507.18071, eq. 5 to 7).

    Every token [P] carries its sequence's ratio; gradients flow as s · ∇ log π of the token
    (GSPO-token, eq. 14), which adds up to the sequence's gradient where its tokens share an
    advantage. Sequences must be whole. Average over each sequence first. Statistics as
    `ppo_policy_loss`, `ratio` being s.
    """
    log_ratio_P = logprobs - old_logprobs
    gap_P = log_ratio_P.detach()
    zeros_N = gap_P.new_zeros(sequences)
    count_N = zeros_N.index_add(0, sequence_of_P, torch.ones_like(gap_P))
    mean_P = (zeros_N.index_add(0, sequence_of_P, gap_P) / count_N.clamp(min=1))[sequence_of_P]
    ratio_P = mean_P.exp() * (logprobs - logprobs.detach()).exp()
    plain = -advantages * ratio_P
    clipped = -advantages * ratio_P.clamp(1.0 - clip_low, 1.0 + clip_high)
    with torch.no_grad():
        stats = {
            "ratio": ratio_P.detach(),
            "clipfrac": (clipped > plain).to(plain.dtype),
            "approx_kl": log_ratio_P.expm1() - log_ratio_P,
        }
    return Loss(torch.maximum(plain, clipped), stats)


def cispo_policy_loss(
    *, logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, clip_low: float, clip_high: float
) -> Loss:
    """−sg(clip(r, 1 − clip_low, 1 + clip_high)) A log π, r = π/π_old (MiniMax, arXiv:2506.13585,
    eq. 4 and 5).

    The weight is clipped and never differentiated, so no token loses its gradient. The cap is 1 +
    clip_high, as the paper has it; with clip_low ≥ 1 there is no floor. Statistics as
    `ppo_policy_loss`, `clipfrac` where the weight was clipped.
    """
    log_ratio = (logprobs - old_logprobs).detach()
    ratio = log_ratio.exp()
    weight = ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    stats = {
        "ratio": ratio,
        "clipfrac": (weight != ratio).to(ratio.dtype),
        "approx_kl": log_ratio.expm1() - log_ratio,
    }
    return Loss(-weight * advantages * logprobs, stats)


def reinforce_policy_loss(*, logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor) -> Loss:
    """−A log π (Williams 1992): the gradient of the expected reward where the policy is still the
    one that sampled.

    Nothing corrects for a policy that has moved since. Statistics as `ppo_policy_loss`; `clipfrac`
    is 0.
    """
    log_ratio = (logprobs - old_logprobs).detach()
    ratio = log_ratio.exp()
    stats = {
        "ratio": ratio,
        "clipfrac": torch.zeros_like(ratio),
        "approx_kl": log_ratio.expm1() - log_ratio,
    }
    return Loss(-advantages * logprobs, stats)


def importance_weights(
    *,
    old_logprobs: Tensor,
    sampler_logprobs: Tensor,
    cap: float,
    kind: str,
    level: str,
    sequence_of_P: Tensor,
    sequences: int,
) -> Loss:
    """The weight [P] of tokens drawn from μ, not from the trainer's π_old; multiplies the policy
    loss.

    With w = π_old/μ of the token, or of its whole sequence (the product over its tokens) at `level`
    "sequence": "truncate" is min(w, cap), `truncated_importance`; "mask" is w where w ≤ cap and 0
    above it (arXiv:2510.18855 calls the two-sided form IcePop). Statistics: `capped`, 1 where the
    cap was passed. Raises ValueError for another kind or level.
    """
    if kind not in ("truncate", "mask") or level not in ("token", "sequence"):
        raise ValueError(f"unknown importance {kind!r} at level {level!r}")
    gap_P = old_logprobs - sampler_logprobs
    if level == "sequence":
        gap_P = gap_P.new_zeros(sequences).index_add(0, sequence_of_P, gap_P)[sequence_of_P]
    if kind == "truncate":
        return truncated_importance(
            old_logprobs=gap_P, sampler_logprobs=torch.zeros_like(gap_P), cap=cap
        )
    weight_P = gap_P.exp()
    over_P = weight_P > cap
    return Loss(torch.where(over_P, 0.0, weight_P), {"capped": over_P.to(weight_P.dtype)})


def truncated_importance(*, old_logprobs: Tensor, sampler_logprobs: Tensor, cap: float) -> Loss:
    """min(π_old/μ, cap) per token: the weight of a token that was drawn from μ, not from the
    trainer's π_old.

    Truncated importance sampling (Ionides 2008), as it is used where rollouts come from another
    engine, another precision or a truncated distribution; multiplies the policy loss. Statistics:
    `capped`, 1 where the cap was reached.
    """
    weight = (old_logprobs - sampler_logprobs).exp()
    return Loss(weight.clamp(max=cap), {"capped": (weight > cap).to(weight.dtype)})


def ppo_value_loss(
    *, values: Tensor, old_values: Tensor, returns: Tensor, clip: float | None
) -> Loss:
    """½ max((V − R)², (V_old + clip(V − V_old, ±clip) − R)²); without `clip`, ½ (V − R)².

    The clipping of the 2017 reference implementation (see "The 37 implementation details of PPO",
    2022, detail 9).
    Statistics: `vf_clipfrac`, 1 where the clipped term was the binding one.
    """
    plain = (values - returns) ** 2
    if clip is None:
        return Loss(0.5 * plain, {"vf_clipfrac": torch.zeros_like(plain.detach())})
    clipped = (old_values + (values - old_values).clamp(-clip, clip) - returns) ** 2
    return Loss(
        0.5 * torch.maximum(plain, clipped),
        {"vf_clipfrac": (clipped > plain).detach().to(plain.dtype)},
    )
