"""Losses of comparisons. To be minimised."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from burnish.algorithms.policy_losses import Loss


def bradley_terry_loss(
    *, scores_first: Tensor, scores_second: Tensor, probability: Tensor, margin: Tensor | float = 0.0
) -> Loss:
    """−p log σ(d_w) − (1 − p) log σ(−d_w) for each comparison, d_w = s_first − s_second − μ·sign(p − ½).

    Bradley–Terry (1952) as in Ouyang et al. (arXiv:2203.02155, eq. 1), with p the probability that the first is better
    and the margin μ ≥ 0 inside the sigmoid: the preferred answer must lead by μ (Touvron et al., arXiv:2307.09288, eq. 2).
    At p = ½ no answer is preferred and the margin has no effect. Statistics: `score_difference`, s_first − s_second.
    """
    difference = scores_first - scores_second
    led = difference - margin * torch.sign(probability - 0.5)
    loss = -probability * F.logsigmoid(led) - (1.0 - probability) * F.logsigmoid(-led)
    return Loss(loss, {"score_difference": difference.detach()})


def dpo_loss(
    *,
    chosen_logprobs: Tensor,
    rejected_logprobs: Tensor,
    ref_chosen_logprobs: Tensor,
    ref_rejected_logprobs: Tensor,
    beta: float,
) -> Loss:
    """−log σ(β (h_w − h_l)), h = log π(y|x) − log π_ref(y|x), for each pair (Rafailov et al., arXiv:2305.18290, eq. 7).

    Each argument [N]: log-probabilities of whole completions, summed over their tokens, in nats. Statistics: the implicit
    rewards `chosen_reward` and `rejected_reward`, β h.
    """
    chosen = beta * (chosen_logprobs - ref_chosen_logprobs)
    rejected = beta * (rejected_logprobs - ref_rejected_logprobs)
    stats = {"chosen_reward": chosen.detach(), "rejected_reward": rejected.detach()}
    return Loss(-F.logsigmoid(chosen - rejected), stats)
