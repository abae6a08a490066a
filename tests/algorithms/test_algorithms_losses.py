"""Losses by hand, by enumeration of every sequence of a toy model, and under every way of cutting a
batch."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from burnish.algorithms.aggregate import aggregate, explained_variance
from burnish.algorithms.kl import adapt_beta, kl_estimate
from burnish.algorithms.policy_losses import ppo_policy_loss, ppo_value_loss
from burnish.algorithms.preference_losses import bradley_terry_loss, dpo_loss

V, L = 8, 4
SEQUENCES = torch.tensor(list(itertools.product(range(V), repeat=L)))  # all 4,096


def _toy(seed: int) -> Tensor:
    """Logits [L, V + 1, V] of a model whose next token depends on the place and the token before
    (V: none yet)."""
    return torch.randn(
        L, V + 1, V, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def _logprobs(logits: Tensor) -> Tensor:
    """[4096, L]: log-probability of every token of every sequence."""
    before = torch.cat([torch.full((len(SEQUENCES), 1), V), SEQUENCES[:, :-1]], dim=1)
    table = logits.log_softmax(-1)
    return torch.stack([table[t, before[:, t], SEQUENCES[:, t]] for t in range(L)], dim=1)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "clipped"),
    [
        (1.5, 2.0, -1.2 * 2.0, 1.0),  # too far up with a good token: clipped, no gradient
        (
            0.5,
            2.0,
            -0.5 * 2.0,
            0.0,
        ),  # down with a good token: the pessimistic term is the plain one
        (1.5, -2.0, 1.5 * 2.0, 0.0),  # up with a bad token: plain
        (0.5, -2.0, 0.8 * 2.0, 1.0),  # too far down with a bad token: clipped
        (1.1, 2.0, -1.1 * 2.0, 0.0),  # inside
    ],
)
def test_ppo_clip_in_each_quadrant(ratio: float, advantage: float, loss: float, clipped: float):
    logprobs = torch.tensor([math.log(ratio) - 1.0], dtype=torch.float64, requires_grad=True)
    found = ppo_policy_loss(
        logprobs=logprobs,
        old_logprobs=torch.tensor([-1.0], dtype=torch.float64),
        advantages=torch.tensor([advantage]),
        clip_low=0.2,
        clip_high=0.2,
    )
    found.per_token.sum().backward()
    assert float(found.per_token.detach()) == pytest.approx(loss)
    assert float(found.stats["clipfrac"]) == clipped
    assert float(logprobs.grad) == pytest.approx(0.0 if clipped else -ratio * advantage)
    assert float(found.stats["approx_kl"]) == pytest.approx(ratio - 1 - math.log(ratio))


def test_asymmetric_and_dual_clip():
    logprobs, old = torch.tensor([math.log(1.26), math.log(5.0)]), torch.zeros(2)
    found = ppo_policy_loss(
        logprobs=logprobs,
        old_logprobs=old,
        advantages=torch.tensor([1.0, -1.0]),
        clip_low=0.2,
        clip_high=0.28,
        dual_clip=3.0,
    )
    assert found.per_token.tolist() == pytest.approx([-1.26, 3.0])


@pytest.mark.parametrize(
    ("value", "loss", "clipped"),
    [
        (1.1, 0.5 * (1.1 - 2.0) ** 2, 0.0),  # moved 0.1 of the allowed 0.2
        (
            1.5,
            0.5 * (1.2 - 2.0) ** 2,
            1.0,
        ),  # 0.5 towards the return: the clipped value is further off
        (0.5, 0.5 * (0.5 - 2.0) ** 2, 0.0),  # away from the return: the plain one is further off
    ],
)
def test_value_loss_by_hand(value: float, loss: float, clipped: float):
    found = ppo_value_loss(
        values=torch.tensor([value]),
        old_values=torch.tensor([1.0]),
        returns=torch.tensor([2.0]),
        clip=0.2,
    )
    assert float(found.per_token) == pytest.approx(loss)
    assert float(found.stats["vf_clipfrac"]) == clipped
    free = ppo_value_loss(
        values=torch.tensor([value]),
        old_values=torch.tensor([1.0]),
        returns=torch.tensor([2.0]),
        clip=None,
    )
    assert float(free.per_token) == pytest.approx(0.5 * (value - 2.0) ** 2)


def test_the_expected_ppo_gradient_is_the_gradient_of_the_expected_advantage():
    """At ratio 1, E[∇ loss] = −∇ E[A(y)] for an advantage of whole sequences: enumerated, not
    sampled."""
    advantage = torch.randn(
        len(SEQUENCES), generator=torch.Generator().manual_seed(9), dtype=torch.float64
    )
    logits = _toy(1).requires_grad_(True)
    logprobs = _logprobs(logits)
    old = logprobs.detach()
    probability = old.sum(1).exp()
    loss = ppo_policy_loss(
        logprobs=logprobs,
        old_logprobs=old,
        advantages=advantage[:, None].expand(-1, L),
        clip_low=0.2,
        clip_high=0.2,
    )
    (found,) = torch.autograd.grad(
        (probability[:, None] * loss.per_token).sum(), logits, retain_graph=True
    )
    (exact,) = torch.autograd.grad(-(logprobs.sum(1).exp() * advantage).sum(), logits)
    torch.testing.assert_close(found, exact)


def test_kl_estimators_by_hand():
    logprobs, ref = torch.tensor([-1.0]), torch.tensor([-1.5])
    u = math.exp(-0.5)
    assert float(kl_estimate(logprobs=logprobs, ref_logprobs=ref, estimator="k1")) == pytest.approx(
        0.5
    )
    assert float(kl_estimate(logprobs=logprobs, ref_logprobs=ref, estimator="k2")) == pytest.approx(
        0.125
    )
    assert float(kl_estimate(logprobs=logprobs, ref_logprobs=ref, estimator="k3")) == pytest.approx(
        u + 0.5 - 1
    )
    with pytest.raises(ValueError, match="k1, k2, k3"):
        kl_estimate(logprobs=logprobs, ref_logprobs=ref, estimator="k4")


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_k1_and_k3_are_unbiased(estimator: str):
    policy, reference = _logprobs(_toy(1)).sum(1), _logprobs(_toy(2)).sum(1)
    exact = (policy.exp() * (policy - reference)).sum()
    torch.testing.assert_close(
        (
            policy.exp() * kl_estimate(logprobs=policy, ref_logprobs=reference, estimator=estimator)
        ).sum(),
        exact,
    )


def test_gradients_of_the_estimators_as_losses():
    """On policy: k1 gives nothing, k2 the gradient of KL(π ‖ π_ref), k3 that of KL(π_ref ‖ π)."""
    logits, reference = _toy(1).requires_grad_(True), _logprobs(_toy(2)).sum(1)

    def gradient(objective: Tensor) -> Tensor:
        return torch.autograd.grad(objective, logits, retain_graph=True)[0]

    policy = _logprobs(logits).sum(1)
    weight = policy.detach().exp()
    as_loss = {
        k: gradient(
            (weight * kl_estimate(logprobs=policy, ref_logprobs=reference, estimator=k)).sum()
        )
        for k in ("k1", "k2", "k3")
    }
    torch.testing.assert_close(as_loss["k1"], torch.zeros_like(logits), atol=1e-10, rtol=0)
    torch.testing.assert_close(as_loss["k2"], gradient((policy.exp() * (policy - reference)).sum()))
    torch.testing.assert_close(
        as_loss["k3"], gradient((reference.exp() * (reference - policy)).sum())
    )


def test_adaptive_beta_by_hand():
    assert adapt_beta(beta=0.15, kl=6.0, target=6.0, horizon=1e4, n_samples=500) == pytest.approx(
        0.15
    )
    # clipped at +0.2
    assert adapt_beta(beta=0.15, kl=60.0, target=6.0, horizon=1e4, n_samples=500) == pytest.approx(
        0.15 * 1.01
    )
    assert adapt_beta(beta=0.15, kl=5.4, target=6.0, horizon=1e4, n_samples=500) == pytest.approx(
        0.15 * (1 - 0.1 * 0.05)
    )


def test_bradley_terry_by_hand():
    loss = lambda *a, margin=0.0: float(  # noqa: E731
        bradley_terry_loss(
            scores_first=torch.tensor(a[0]),
            scores_second=torch.tensor(a[1]),
            probability=torch.tensor(a[2]),
            margin=margin,
        ).per_token
    )
    assert loss(1.3, 1.3, 1.0) == pytest.approx(math.log(2))
    assert loss(2.0, 1.0, 1.0) == pytest.approx(math.log1p(math.exp(-1.0)))
    assert loss(2.0, 1.0, 0.75) == pytest.approx(
        0.75 * math.log1p(math.exp(-1)) + 0.25 * math.log1p(math.exp(1))
    )
    assert loss(2.0, 1.0, 1.0, margin=0.5) == pytest.approx(math.log1p(math.exp(-0.5)))
    # the margin goes the other way
    assert loss(1.0, 2.0, 0.0, margin=0.5) == pytest.approx(math.log1p(math.exp(-0.5)))
    assert loss(2.0, 1.0, 0.5, margin=0.5) == pytest.approx(loss(2.0, 1.0, 0.5))


def test_a_soft_label_is_learnt_as_it_is():
    """The gradient vanishes where σ(d) = p, and nowhere near it."""
    d = torch.tensor([math.log(0.7 / 0.3), 2.0], dtype=torch.float64, requires_grad=True)
    p = torch.tensor([0.7, 0.7], dtype=torch.float64)
    bradley_terry_loss(
        scores_first=d, scores_second=torch.zeros(2, dtype=torch.float64), probability=p
    ).per_token.sum().backward()
    assert float(d.grad[0]) == pytest.approx(0.0, abs=1e-12)
    assert float(d.grad[1]) == pytest.approx(1 / (1 + math.exp(-2.0)) - 0.7)


def test_bradley_terry_stays_finite_far_out():
    d = torch.tensor([1e4, -1e4], requires_grad=True)
    loss = bradley_terry_loss(
        scores_first=d, scores_second=torch.zeros(2), probability=torch.ones(2)
    ).per_token
    loss.sum().backward()
    assert loss.tolist() == [0.0, 1e4]
    assert torch.isfinite(d.grad).all()


def test_dpo_by_hand():
    """h_w = −2 − (−3) = 1, h_l = −4 − (−3.5) = −0.5; β (h_w − h_l) = 0.1 · 1.5."""
    logprobs = [
        torch.tensor([x], dtype=torch.float64, requires_grad=x in (-2.0, -4.0))
        for x in (-2.0, -4.0, -3.0, -3.5)
    ]
    chosen, rejected, ref_chosen, ref_rejected = logprobs
    loss = dpo_loss(
        chosen_logprobs=chosen,
        rejected_logprobs=rejected,
        ref_chosen_logprobs=ref_chosen,
        ref_rejected_logprobs=ref_rejected,
        beta=0.1,
    )
    assert float(loss.per_token.detach()) == pytest.approx(math.log1p(math.exp(-0.15)))
    assert float(loss.stats["chosen_reward"]) == pytest.approx(0.1)
    assert float(loss.stats["rejected_reward"]) == pytest.approx(-0.05)
    loss.per_token.sum().backward()
    # eq. 8: the gradient is −β σ(−0.15) on the chosen completion's log-probability, and its
    # opposite on the rejected one's
    assert float(chosen.grad) == pytest.approx(-0.1 / (1 + math.exp(0.15)))
    assert float(rejected.grad) == pytest.approx(0.1 / (1 + math.exp(0.15)))


def test_dpo_begins_at_log_2():
    same = torch.tensor([-3.0, -700.0])
    loss = dpo_loss(
        chosen_logprobs=same,
        rejected_logprobs=same.flip(0),
        ref_chosen_logprobs=same,
        ref_rejected_logprobs=same.flip(0),
        beta=0.3,
    )
    assert loss.per_token.tolist() == pytest.approx([math.log(2)] * 2)


@pytest.mark.parametrize("cuts", [[12], [5, 7], [1] * 12])
def test_aggregate_does_not_depend_on_the_cut(cuts: list[int]):
    x = torch.randn(12, generator=torch.Generator().manual_seed(0))
    total = sum(aggregate(per_token=part, denominator=12) for part in x.split(cuts))
    torch.testing.assert_close(total, x.mean())


def test_explained_variance():
    returns, mask = torch.tensor([[1.0, 2.0, 3.0, 99.0]]), torch.tensor([[True, True, True, False]])
    assert float(explained_variance(values=returns, returns=returns, mask=mask)) == 1.0
    assert float(
        explained_variance(values=torch.full_like(returns, 7.0), returns=returns, mask=mask)
    ) == pytest.approx(0.0)
    assert math.isnan(
        explained_variance(values=returns, returns=torch.ones_like(returns), mask=mask)
    )
