"""Penalties and losses summed over tokens, by enumerating every sequence of a toy policy
(vocabulary 8, length 4)."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from burnish.algorithms.advantages import gae, shape_rewards
from burnish.algorithms.kl import kl_estimate
from burnish.algorithms.policy_losses import ppo_policy_loss

V, L = 8, 4
SEQUENCES = torch.tensor(list(itertools.product(range(V), repeat=L)))  # all 4,096
ALL = torch.ones(SEQUENCES.shape, dtype=torch.bool)


def _policy(seed: int) -> Tensor:
    """Logits [L, V + 1, V]: the next token depends on the place and on the token before (V where
    there is none)."""
    return 0.5 * torch.randn(
        L, V + 1, V, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def _rows(logits: Tensor) -> Tensor:
    """[4096, L, V]: log-probabilities of every next token after each prefix of each sequence."""
    before = torch.cat([torch.full((len(SEQUENCES), 1), V), SEQUENCES[:, :-1]], dim=1)
    return torch.stack([logits.log_softmax(-1)[t, before[:, t]] for t in range(L)], dim=1)


def _logprobs(logits: Tensor) -> Tensor:
    """[4096, L]: of the tokens themselves."""
    return _rows(logits).gather(2, SEQUENCES[..., None])[..., 0]


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_token_estimates_add_up_to_the_divergence_of_the_sequences(estimator: str):
    policy, reference = _logprobs(_policy(1)), _logprobs(_policy(2))
    probability = policy.sum(1).exp()
    exact = (probability * (policy - reference).sum(1)).sum()
    per_token = kl_estimate(logprobs=policy, ref_logprobs=reference, estimator=estimator)
    torch.testing.assert_close((probability * per_token.sum(1)).sum(), exact)


def test_token_estimates_as_losses_hold_the_prefixes_fixed():
    """k1: nothing; k2, k3: Σ_t E[∇ KL of step t], the prefix drawn from π but not differentiated:
    not all of ∇ KL(π ‖ π_ref)."""
    logits, reference = _policy(1).requires_grad_(True), _policy(2)
    ours, theirs = _logprobs(logits), _logprobs(reference)
    probability = ours.detach().sum(1).exp()

    def gradient(objective: Tensor) -> Tensor:
        return torch.autograd.grad(objective, logits, retain_graph=True)[0]

    def as_loss(estimator: str) -> Tensor:
        per_token = kl_estimate(logprobs=ours, ref_logprobs=theirs, estimator=estimator)
        return gradient((probability * per_token.sum(1)).sum())

    rows, ref_rows = _rows(logits), _rows(reference)
    reverse = gradient((probability[:, None] * (rows.exp() * (rows - ref_rows)).sum(-1)).sum())
    forward = gradient((probability[:, None] * (ref_rows.exp() * (ref_rows - rows)).sum(-1)).sum())
    torch.testing.assert_close(as_loss("k1"), torch.zeros_like(logits), atol=1e-12, rtol=0)
    torch.testing.assert_close(as_loss("k2"), reverse)
    torch.testing.assert_close(as_loss("k3"), forward)
    whole = gradient((ours.sum(1).exp() * (ours - theirs).sum(1)).sum())
    assert (whole - reverse).norm() > 0.01 * whole.norm()


def test_the_whole_chain_follows_the_gradient_of_the_penalised_reward():
    """PPO as it runs: k1 in the reward, GAE at γ = λ = 1, the clipped loss at ratio 1.

    In expectation its gradient is −∇ (E[score] − β KL(π ‖ π_ref)), whatever the critic says of each
    prefix.
    """
    beta, logits, theirs = 0.3, _policy(1).requires_grad_(True), _logprobs(_policy(2))
    ours = _logprobs(logits)
    old = ours.detach()
    probability = old.sum(1).exp()
    scores = torch.randn(
        len(SEQUENCES), generator=torch.Generator().manual_seed(3), dtype=torch.float64
    )
    before = torch.cat([torch.full((len(SEQUENCES), 1), V), SEQUENCES[:, :-1]], dim=1)
    table = torch.randn(L, V + 1, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    values = table[torch.arange(L), before]  # a critic that sees the prefix only

    kl = kl_estimate(logprobs=old, ref_logprobs=theirs, estimator="k1")
    rewards = shape_rewards(scores_B=scores, kl_BT=kl, mask_BT=ALL, beta=beta)
    estimate = gae(rewards_BT=rewards, values_BT=values, mask_BT=ALL, gamma=1.0, gae_lambda=1.0)
    loss = ppo_policy_loss(
        logprobs=ours,
        old_logprobs=old,
        advantages=estimate.advantages_BT,
        clip_low=0.2,
        clip_high=0.2,
    )
    (found,) = torch.autograd.grad(
        (probability * loss.per_token.sum(1)).sum(), logits, retain_graph=True
    )
    objective = (ours.sum(1).exp() * (scores - beta * (ours - theirs).sum(1))).sum()
    (exact,) = torch.autograd.grad(-objective, logits)
    torch.testing.assert_close(found, exact)


def test_approx_kl_is_the_divergence_of_old_from_new():
    """E_old[(r − 1) − log r] = KL(π_old ‖ π), and the mean ratio is 1."""
    old, new = _logprobs(_policy(1)).sum(1), _logprobs(_policy(2)).sum(1)
    stats = ppo_policy_loss(
        logprobs=new, old_logprobs=old, advantages=torch.ones_like(new), clip_low=0.2, clip_high=0.2
    ).stats
    torch.testing.assert_close(
        (old.exp() * stats["approx_kl"]).sum(), (old.exp() * (old - new)).sum()
    )
    assert float((old.exp() * stats["ratio"]).sum()) == pytest.approx(1.0)
