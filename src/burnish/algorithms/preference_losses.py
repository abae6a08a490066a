"""Losses of comparisons, and the table of the losses that train a policy on them. To be minimised.

Notation, for one pair of answers to a prompt x: l = log π(y|x), summed over the answer's tokens;
|y| its tokens; h = l − log π_ref(y|x); `chosen` (w) and `rejected` (l) are the two answers.
`probability` p in [0, 1] is how sure it is that the chosen answer is the better one (a share of
annotators, say), 1 where nobody doubts it. `margin` μ ≥ 0 is by how much the better answer must
lead. Every loss is per pair [N], in nats; a certain pair, p = 1 and μ = 0, gives the paper's own
formula.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from burnish.algorithms.policy_losses import Loss


def bradley_terry_loss(
    *,
    scores_first: Tensor,
    scores_second: Tensor,
    probability: Tensor,
    margin: Tensor | float = 0.0,
) -> Loss:
    """−p log σ(d_w) − (1 − p) log σ(−d_w) for each comparison, d_w = s_first − s_second − μ·sign(p
    − ½).

    Bradley–Terry (1952) as in Ouyang et al. (arXiv:2203.02155, eq. 1), with p the probability that
    the first is better and the margin μ ≥ 0 inside the sigmoid: the preferred answer must lead by μ
    (Touvron et al., arXiv:2307.09288, eq. 2). At p = ½ no answer is preferred and the margin has no
    effect. Statistics: `score_difference`, s_first − s_second.
    """
    difference = scores_first - scores_second
    loss = _cross_entropy(difference - margin * torch.sign(probability - 0.5), probability)
    return Loss(loss, {"score_difference": difference.detach()})


def dpo_loss(
    *,
    chosen_logprobs: Tensor,
    rejected_logprobs: Tensor,
    ref_chosen_logprobs: Tensor,
    ref_rejected_logprobs: Tensor,
    beta: float,
    probability: Tensor | float = 1.0,
    margin: Tensor | float = 0.0,
    label_smoothing: float = 0.0,
) -> Loss:
    """−q log σ(d) − (1 − q) log σ(−d), d = β (h_w − h_l) − μ·sign(p − ½), q = p (1 − ε) + (1 − p)
    ε.

    Rafailov et al., arXiv:2305.18290, eq. 7, at q = 1 and μ = 0. With ε = `label_smoothing`, the
    probability that a label is wrong, it is conservative DPO (Mitchell, "A note on DPO with noisy
    preferences and relationship to IPO", 2023); with the margin, DPO with an offset (Amini et al.,
    arXiv:2402.10571).
    Statistics: the implicit rewards `chosen_reward` and `rejected_reward`, β h.
    """
    chosen, rejected = (
        beta * (chosen_logprobs - ref_chosen_logprobs),
        beta * (rejected_logprobs - ref_rejected_logprobs),
    )
    p = _like(probability, chosen)
    lead = chosen - rejected - margin * torch.sign(p - 0.5)
    return Loss(
        _cross_entropy(lead, p + label_smoothing * (1.0 - 2.0 * p)), _rewards(chosen, rejected)
    )


def robust_dpo_loss(
    *,
    chosen_logprobs: Tensor,
    rejected_logprobs: Tensor,
    ref_chosen_logprobs: Tensor,
    ref_rejected_logprobs: Tensor,
    beta: float,
    label_noise: float,
    probability: Tensor | float = 1.0,
    margin: Tensor | float = 0.0,
) -> Loss:
    """p R(d) + (1 − p) R(−d), R(d) = [−(1 − ε) log σ(d) + ε log σ(−d)] / (1 − 2ε), d as in
    `dpo_loss`.

    Robust DPO (Chowdhury et al., arXiv:2403.00409): where labels are flipped with probability ε =
    `label_noise` < ½, its mean over the flips is DPO's loss on the true labels. It is not bounded
    below. Statistics: β h.
    """
    chosen, rejected = (
        beta * (chosen_logprobs - ref_chosen_logprobs),
        beta * (rejected_logprobs - ref_rejected_logprobs),
    )
    p = _like(probability, chosen)
    lead = chosen - rejected - margin * torch.sign(p - 0.5)
    # p R(d) + (1 − p) R(−d) is the cross-entropy to q = [p (1 − ε) − (1 − p) ε] / (1 − 2ε), which
    # leaves [0, 1].
    unbiased = (p - label_noise) / (1.0 - 2.0 * label_noise)
    return Loss(_cross_entropy(lead, unbiased), _rewards(chosen, rejected))


def ipo_loss(
    *,
    chosen_logprobs: Tensor,
    rejected_logprobs: Tensor,
    ref_chosen_logprobs: Tensor,
    ref_rejected_logprobs: Tensor,
    chosen_tokens: Tensor,
    rejected_tokens: Tensor,
    tau: float,
    average: bool = False,
    probability: Tensor | float = 1.0,
    margin: Tensor | float = 0.0,
) -> Loss:
    """(h_w − h_l − [(2p − 1)/2 + μ·sign(p − ½)]/τ)² (Azar et al., arXiv:2310.12036, eq. 17: (h_w −
    h_l − 1/(2τ))²).

    The soft target is the paper's loss averaged over labels drawn with probability p, but for a
    constant. With `average`, h is divided by |y| (not in the paper, but in several
    implementations). Statistics: τ h.
    """
    h_w, h_l = chosen_logprobs - ref_chosen_logprobs, rejected_logprobs - ref_rejected_logprobs
    if average:
        h_w, h_l = h_w / chosen_tokens, h_l / rejected_tokens
    p = _like(probability, h_w)
    target = (p - 0.5 + margin * torch.sign(p - 0.5)) / tau
    return Loss((h_w - h_l - target) ** 2, _rewards(tau * h_w, tau * h_l))


def hinge_loss(
    *,
    chosen_logprobs: Tensor,
    rejected_logprobs: Tensor,
    ref_chosen_logprobs: Tensor,
    ref_rejected_logprobs: Tensor,
    beta: float,
    probability: Tensor | float = 1.0,
    margin: Tensor | float = 0.0,
) -> Loss:
    """p max(0, 1 − d) + (1 − p) max(0, 1 + d), d as in `dpo_loss`.

    SLiC's hinge (Zhao et al., arXiv:2305.10425) on DPO's rewards (Liu et al., arXiv:2309.06657).
    Statistics: β h.
    """
    chosen, rejected = (
        beta * (chosen_logprobs - ref_chosen_logprobs),
        beta * (rejected_logprobs - ref_rejected_logprobs),
    )
    p = _like(probability, chosen)
    lead = chosen - rejected - margin * torch.sign(p - 0.5)
    return Loss(p * F.relu(1.0 - lead) + (1.0 - p) * F.relu(1.0 + lead), _rewards(chosen, rejected))


def normalized_dpo_loss(
    *,
    chosen_logprobs: Tensor,
    rejected_logprobs: Tensor,
    ref_chosen_logprobs: Tensor,
    ref_rejected_logprobs: Tensor,
    chosen_tokens: Tensor,
    rejected_tokens: Tensor,
    beta: float,
    probability: Tensor | float = 1.0,
    margin: Tensor | float = 0.0,
) -> Loss:
    """DPO with h/|y| in place of h: −log σ(β (h_w/|w| − h_l/|l|)) (Tülu 3, Lambert et al.,
    arXiv:2411.15124).

    Statistics: β h/|y|.
    """
    return dpo_loss(
        chosen_logprobs=chosen_logprobs / chosen_tokens,
        rejected_logprobs=rejected_logprobs / rejected_tokens,
        ref_chosen_logprobs=ref_chosen_logprobs / chosen_tokens,
        ref_rejected_logprobs=ref_rejected_logprobs / rejected_tokens,
        beta=beta,
        probability=probability,
        margin=margin,
    )


def simpo_loss(
    *,
    chosen_logprobs: Tensor,
    rejected_logprobs: Tensor,
    chosen_tokens: Tensor,
    rejected_tokens: Tensor,
    beta: float,
    gamma: float,
    probability: Tensor | float = 1.0,
    margin: Tensor | float = 0.0,
) -> Loss:
    """−p log σ(d) − (1 − p) log σ(−d), d = β l_w/|w| − β l_l/|l| − γ (2p − 1) − μ·sign(p − ½).

    Meng et al., arXiv:2405.14734, at p = 1: no reference. The target margin γ shrinks with how sure
    the label is.
    Statistics: β l/|y|.
    """
    chosen, rejected = (
        beta * chosen_logprobs / chosen_tokens,
        beta * rejected_logprobs / rejected_tokens,
    )
    p = _like(probability, chosen)
    lead = chosen - rejected - gamma * (2.0 * p - 1.0) - margin * torch.sign(p - 0.5)
    return Loss(_cross_entropy(lead, p), _rewards(chosen, rejected))


def orpo_loss(
    *,
    chosen_logprobs: Tensor,
    rejected_logprobs: Tensor,
    chosen_tokens: Tensor,
    rejected_tokens: Tensor,
    beta: float,
    probability: Tensor | float = 1.0,
    margin: Tensor | float = 0.0,
) -> Loss:
    """β [−p log σ(d) − (1 − p) log σ(−d)], d = logit P_w − logit P_l − μ·sign(p − ½), P =
    exp(l/|y|).

    The odds-ratio part of ORPO (Hong et al., arXiv:2403.07691, eq. 6 and 7; β is their λ): the NLL
    of the chosen answer is the SFT term's. No reference. Statistics: β l/|y|.
    """
    mean_w, mean_l = chosen_logprobs / chosen_tokens, rejected_logprobs / rejected_tokens
    p = _like(probability, mean_w)
    lead = log_odds(mean_w) - log_odds(mean_l) - margin * torch.sign(p - 0.5)
    return Loss(beta * _cross_entropy(lead, p), _rewards(beta * mean_w, beta * mean_l))


def cpo_loss(
    *,
    chosen_logprobs: Tensor,
    rejected_logprobs: Tensor,
    beta: float,
    probability: Tensor | float = 1.0,
    margin: Tensor | float = 0.0,
) -> Loss:
    """−p log σ(d) − (1 − p) log σ(−d), d = β (l_w − l_l) − μ·sign(p − ½): the preference part of
    CPO.

    Xu et al., arXiv:2401.08417, eq. 3 (DPO against a uniform reference); their −log π(y_w|x) is the
    SFT term. Statistics: β l.
    """
    chosen, rejected = beta * chosen_logprobs, beta * rejected_logprobs
    p = _like(probability, chosen)
    return Loss(
        _cross_entropy(chosen - rejected - margin * torch.sign(p - 0.5), p),
        _rewards(chosen, rejected),
    )


def kto_loss(
    *,
    logprobs: Tensor,
    ref_logprobs: Tensor,
    kl: Tensor | float,
    beta: float,
    probability: Tensor | float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Loss:
    """p λ_D (1 − σ(β (h − z))) + (1 − p) λ_U (1 − σ(β (z − h))), for each answer by itself.

    Ethayarajh et al., arXiv:2402.01306, for an answer that is desirable with probability p; z =
    `kl` is `kto_kl`, a constant. Statistics: `reward`, β h.
    """
    h = logprobs - ref_logprobs
    p = _like(probability, h)
    good = desirable_weight * torch.sigmoid(-beta * (h - kl))
    bad = undesirable_weight * torch.sigmoid(-beta * (kl - h))
    return Loss(p * good + (1.0 - p) * bad, {"reward": (beta * h).detach()})


def kto_kl(*, logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """z = max(0, mean h) over answers that belong to other prompts: a scalar without gradient.

    The biased, low-variance estimate of KL(π ‖ π_ref) of arXiv:2402.01306.
    """
    return (logprobs - ref_logprobs).detach().mean().clamp(min=0.0)


def log_odds(log_p: Tensor) -> Tensor:
    """log P − log(1 − P) from log P < 0, without the loss of digits near P = 1 (Mächler 2012,
    log1mexp)."""
    near_one = log_p > -math.log(2.0)
    # Each branch gets arguments on which its gradient is finite, for a where() would carry 0 · inf
    # = NaN back.
    small = torch.where(near_one, log_p, -1.0)
    large = torch.where(near_one, -1.0, log_p)
    return log_p - torch.where(near_one, (-torch.expm1(small)).log(), torch.log1p(-large.exp()))


@dataclass(frozen=True, slots=True)
class PreferenceLoss:
    """A row of the table: the function, and what it is given besides the pair's log-probabilities,
    `probability` and `margin`.

    Args:
        function: called with keywords; whatever else it has are options.
        reference: also the reference's log-probabilities.
        lengths: also the answers' tokens.
        unpaired: judges answers singly: it is given `logprobs`, `ref_logprobs`, `kl` and
            `probability` of each.
    """

    function: Callable[..., Loss]
    reference: bool = True
    lengths: bool = False
    unpaired: bool = False

    def rewards(
        self, *, logprobs: Tensor, ref_logprobs: Tensor, tokens: Tensor, options: Mapping[str, Any]
    ) -> Tensor:
        """The implicit reward of each answer, as the function's statistics have it: β or τ times h
        (l without a reference), divided by |y| where the loss is. `options` are the loss's."""
        value = logprobs - ref_logprobs if self.reference else logprobs
        if self.lengths and options.get("average", True):
            value = value / tokens
        return options.get("beta", options.get("tau", 1.0)) * value


def own_loss(function: Callable[..., Loss | Tensor], takes: Sequence[str]) -> PreferenceLoss:
    """A row for a function that the table does not have.

    Args:
        function: called with keywords; it returns a loss for each pair (or each answer), or a
            `Loss`.
        takes: what it asks for of what losses are given: `ref_chosen_logprobs`, `chosen_tokens`,
            `margin`, ...; those that have `logprobs` among them judge answers singly.
    """

    def per_pair(**given: Any) -> Loss:
        options = {
            name: value for name, value in given.items() if name in takes or name not in _GIVEN
        }
        found = function(**options)
        return found if isinstance(found, Loss) else Loss(found, {})

    reference = any(name.startswith("ref_") for name in takes)
    lengths = any(name.endswith("_tokens") for name in takes)
    return PreferenceLoss(
        per_pair, reference=reference, lengths=lengths, unpaired="logprobs" in takes
    )


_GIVEN = frozenset(
    ("chosen_logprobs", "rejected_logprobs", "ref_chosen_logprobs", "ref_rejected_logprobs",
        "chosen_tokens", "rejected_tokens",
     "logprobs", "ref_logprobs", "kl", "probability", "margin")
)  # fmt: skip
"""What losses are given besides their options."""


LOSSES: Mapping[str, PreferenceLoss] = {
    "dpo": PreferenceLoss(dpo_loss),
    "cdpo": PreferenceLoss(dpo_loss),
    "rdpo": PreferenceLoss(robust_dpo_loss),
    "dpo_norm": PreferenceLoss(normalized_dpo_loss, lengths=True),
    "ipo": PreferenceLoss(ipo_loss, lengths=True),
    "hinge": PreferenceLoss(hinge_loss),
    "simpo": PreferenceLoss(simpo_loss, reference=False, lengths=True),
    "kto": PreferenceLoss(kto_loss, unpaired=True),
    "orpo": PreferenceLoss(orpo_loss, reference=False, lengths=True),
    "cpo": PreferenceLoss(cpo_loss, reference=False),
}
"""By the name it has in a recipe."""


def _cross_entropy(lead: Tensor, q: Tensor) -> Tensor:
    """−q log σ(d) − (1 − q) log σ(−d)."""
    return -q * F.logsigmoid(lead) - (1.0 - q) * F.logsigmoid(-lead)


def _like(value: Tensor | float, other: Tensor) -> Tensor:
    return value if isinstance(value, Tensor) else torch.full_like(other, value)


def _rewards(chosen: Tensor, rejected: Tensor) -> dict[str, Tensor]:
    return {"chosen_reward": chosen.detach(), "rejected_reward": rejected.detach()}
