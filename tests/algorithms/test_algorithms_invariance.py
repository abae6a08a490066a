"""What must not matter: where padding is, what stands there, how a batch is cut, which answer is
called first."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from burnish.algorithms.advantages import gae, shape_rewards, whiten
from burnish.algorithms.aggregate import aggregate
from burnish.algorithms.logprobs import token_logprobs
from burnish.algorithms.policy_losses import ppo_policy_loss, ppo_value_loss
from burnish.algorithms.preference_losses import bradley_terry_loss

Rows = list[list[float]]
_rows = st.lists(st.lists(st.floats(-5, 5), min_size=1, max_size=6), min_size=1, max_size=4)
_pads = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=4, max_size=4)
_fills = st.sampled_from([0.0, 1e6, math.nan, math.inf])


def _placed(rows: Rows, pads: list[tuple[int, int]], fill: float) -> tuple[Tensor, Tensor]:
    """Each row at its own place in a matrix, `fill` around it; and the mask."""
    width = max(left + len(row) + right for row, (left, right) in zip(rows, pads, strict=False))
    x, mask = (
        torch.full((len(rows), width), fill, dtype=torch.float64),
        torch.zeros(len(rows), width, dtype=torch.bool),
    )
    for i, (row, (left, _)) in enumerate(zip(rows, pads, strict=False)):
        x[i, left : left + len(row)] = torch.tensor(row, dtype=torch.float64)
        mask[i, left : left + len(row)] = True
    return x, mask


@settings(deadline=None, max_examples=80)
@given(_rows, _pads, _fills, st.floats(0, 1), st.floats(0, 1))
def test_padding_does_not_matter(
    rows: Rows, pads: list[tuple[int, int]], fill: float, gamma: float, gae_lambda: float
):
    """Row by row at places of their own, with anything around them, against packed to the left with
    zeros."""
    scores = torch.linspace(-1, 1, len(rows), dtype=torch.float64)

    def stages(x: Tensor, mask: Tensor) -> list[Tensor]:
        rewards = shape_rewards(scores_B=scores, kl_BT=x, mask_BT=mask, beta=0.1)
        estimate = gae(
            rewards_BT=rewards, values_BT=x, mask_BT=mask, gamma=gamma, gae_lambda=gae_lambda
        )
        outputs = [rewards, *estimate, whiten(x=x, mask=mask)]
        assert all((out[~mask] == 0).all() for out in outputs)
        return [out[mask] for out in outputs]

    here, there = stages(*_placed(rows, pads, fill)), stages(*_placed(rows, [(0, 0)] * 4, 0.0))
    torch.testing.assert_close(here, there, rtol=0, atol=0)


@settings(deadline=None)
@given(_rows, _pads)
def test_shaped_rewards_add_up(rows: Rows, pads: list[tuple[int, int]]):
    """Σ_t r_t = score − β Σ_t kl_t, the score entering once, at the last response token."""
    kl, mask = _placed(rows, pads, math.nan)
    scores = torch.arange(1.0, len(rows) + 1, dtype=torch.float64)
    rewards = shape_rewards(scores_B=scores, kl_BT=kl, mask_BT=mask, beta=0.5)
    for i, row in enumerate(rows):
        assert float(rewards[i].sum()) == pytest.approx(float(scores[i]) - 0.5 * sum(row))
        assert rewards[i][mask[i]][:-1].tolist() == pytest.approx([-0.5 * kl for kl in row[:-1]])


def test_nothing_after_the_last_response_token_is_bootstrapped_from():
    """The critic's value beyond the end would change the last advantage, 1 − 0.25 = 0.75, were it
    used."""
    rewards, values = torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([[0.5, 0.25, 1000.0]])
    mask = torch.tensor([[True, True, False]])
    found = gae(rewards_BT=rewards, values_BT=values, mask_BT=mask, gamma=1.0, gae_lambda=0.0)
    assert found.advantages_BT.tolist() == [[0.0 + 0.25 - 0.5, 0.75, 0.0]]


@pytest.mark.parametrize(
    "mask", [[[True, False, True]], [[True, True, True], [False, True, False], [True, False, True]]]
)
def test_a_gap_in_a_response_is_refused(mask: list[list[bool]]):
    mask_BT = torch.tensor(mask)
    zeros = torch.zeros(mask_BT.shape)
    with pytest.raises(ValueError, match="side by side"):
        gae(rewards_BT=zeros, values_BT=zeros, mask_BT=mask_BT, gamma=1.0, gae_lambda=1.0)


@pytest.mark.parametrize("shape", [(2, 0), (0, 3)])
def test_nothing_in_nothing_out(shape: tuple[int, int]):
    empty, mask = torch.zeros(shape), torch.zeros(shape, dtype=torch.bool)
    rewards = shape_rewards(scores_B=torch.ones(shape[0]), kl_BT=empty, mask_BT=mask, beta=1.0)
    estimate = gae(rewards_BT=rewards, values_BT=empty, mask_BT=mask, gamma=1.0, gae_lambda=1.0)
    assert (
        rewards.shape == estimate.advantages_BT.shape == whiten(x=empty, mask=mask).shape == shape
    )


@settings(deadline=None)
@given(_rows, st.floats(-3, 3), st.floats(0.5, 3))
def test_whitening_undoes_any_shift_and_scale(rows: Rows, shift: float, scale: float):
    x, mask = _placed(rows, [(0, 0)] * 4, 0.0)
    white = whiten(x=x, mask=mask)[mask]
    if float(x[mask].var(correction=0)) < 1e-2:
        return
    assert float(white.mean()) == pytest.approx(0.0, abs=1e-9)
    # eps = 1e-8 beside a variance of at least 1e-2
    assert float((white**2).mean()) == pytest.approx(1.0, rel=1e-5)
    torch.testing.assert_close(
        whiten(x=scale * x + shift, mask=mask)[mask], white, rtol=1e-5, atol=1e-5
    )


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 12), max_size=4), st.integers(0, 1000))
def test_the_gradient_does_not_depend_on_how_the_batch_is_cut(at: list[int], seed: int):
    """Log-probabilities, policy loss, entropy bonus and value loss over micro-batches of unequal,
    even empty, size."""
    g = torch.Generator().manual_seed(seed)
    hidden, weight, head = (
        torch.randn(*shape, generator=g, dtype=torch.float64, requires_grad=True)
        for shape in ((12, 3), (6, 3), (3,))
    )
    targets, mask = torch.randint(6, (12,), generator=g), torch.rand(12, generator=g) < 0.7
    old, advantages, values, returns = torch.randn(4, 12, generator=g, dtype=torch.float64)

    def gradient(cuts: list[slice]) -> tuple[Tensor, ...]:
        total = torch.zeros((), dtype=torch.float64)
        for cut in cuts:
            scored = token_logprobs(
                hidden_PD=hidden[cut],
                weight_VD=weight,
                targets_P=targets[cut],
                chunk=4,
                entropy=True,
            )
            assert scored.entropy_P is not None
            policy = ppo_policy_loss(
                logprobs=scored.logprobs_P, old_logprobs=old[cut] - 2, advantages=advantages[cut],
                clip_low=0.2, clip_high=0.2,
            )  # fmt: skip
            value = ppo_value_loss(
                values=hidden[cut] @ head, old_values=values[cut], returns=returns[cut], clip=0.2
            )
            per_token = policy.per_token + value.per_token - 0.01 * scored.entropy_P
            total = total + aggregate(
                per_token=per_token[mask[cut]], denominator=int(mask.sum()) or 1
            )
        return torch.autograd.grad(total, (hidden, weight, head))

    ends = [0, *sorted(at), 12]
    cuts = [slice(a, b) for a, b in itertools.pairwise(ends)]
    for a, b in zip(gradient(cuts), gradient([slice(0, 12)]), strict=True):
        torch.testing.assert_close(a, b)


_score = st.floats(-20, 20)


@given(_score, _score, st.floats(0, 1), st.floats(0, 3))
def test_which_answer_is_called_first_does_not_matter(
    first: float, second: float, p: float, margin: float
):
    """Exchanging the answers exchanges p and 1 − p; the margin follows the preferred one."""

    def loss(a: float, b: float, probability: float) -> float:
        a_, b_, p_ = (torch.tensor(x, dtype=torch.float64) for x in (a, b, probability))
        return float(
            bradley_terry_loss(
                scores_first=a_, scores_second=b_, probability=p_, margin=margin
            ).per_token
        )

    if abs(p - 0.5) < 1e-9:  # 1 − p rounds, and the margin's side turns at ½
        return
    assert loss(first, second, p) == pytest.approx(loss(second, first, 1 - p), rel=1e-9, abs=1e-12)


@given(_score, _score, st.floats(0, 1), st.floats(0, 3))
def test_bradley_terry_is_its_formula(first: float, second: float, p: float, margin: float):
    """−p log σ(d) − (1 − p) log σ(−d), with exp and log written out."""
    d = first - second - margin * ((p > 0.5) - (p < 0.5))
    expected = p * math.log(1 + math.exp(-d)) + (1 - p) * math.log(1 + math.exp(d))
    found = bradley_terry_loss(
        scores_first=torch.tensor(first, dtype=torch.float64),
        scores_second=torch.tensor(second, dtype=torch.float64),
        probability=torch.tensor(p, dtype=torch.float64),
        margin=margin,
    )
    assert float(found.per_token) == pytest.approx(expected, rel=1e-9, abs=1e-9)
