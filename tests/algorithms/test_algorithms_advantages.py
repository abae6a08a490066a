"""GAE by hand and by its definition as a double sum; padding changes nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from burnish.algorithms.advantages import (
    RunningMoments,
    gae,
    normalize_rewards,
    shape_rewards,
    whiten,
)


def test_gae_on_three_tokens_by_hand():
    r, v = torch.tensor([[0.0, 0.5, 1.0]]), torch.tensor([[0.2, 0.4, 0.6]])
    found = gae(
        rewards_BT=r,
        values_BT=v,
        mask_BT=torch.ones(1, 3, dtype=torch.bool),
        gamma=0.9,
        gae_lambda=0.8,
    )
    d2 = 1.0 - 0.6
    d1 = 0.5 + 0.9 * 0.6 - 0.4
    d0 = 0.0 + 0.9 * 0.4 - 0.2
    a2, a1 = d2, d1 + 0.72 * d2
    a0 = d0 + 0.72 * a1
    assert found.advantages_BT[0].tolist() == pytest.approx([a0, a1, a2])
    assert found.returns_BT[0].tolist() == pytest.approx([a0 + 0.2, a1 + 0.4, a2 + 0.6])


def _double_sum(r: list[float], v: list[float], gamma: float, gae_lambda: float) -> list[float]:
    """A_t = Σ_{l≥0} (γλ)^l δ_{t+l}."""
    n = len(r)
    delta = [r[t] + gamma * (v[t + 1] if t + 1 < n else 0.0) - v[t] for t in range(n)]
    return [sum((gamma * gae_lambda) ** k * delta[t + k] for k in range(n - t)) for t in range(n)]


def _place(rows: list[list[float]], left: int, right: int, fill: float) -> Tensor:
    """Rows in a padded matrix, `left` paddings before each."""
    width = left + max(map(len, rows)) + right
    return torch.tensor(
        [[fill] * left + row + [fill] * (width - left - len(row)) for row in rows],
        dtype=torch.float64,
    )


rows_of_numbers = st.lists(
    st.lists(st.floats(-5, 5), min_size=1, max_size=6), min_size=1, max_size=4
)


@settings(deadline=None, max_examples=60)
@given(rows_of_numbers, st.integers(0, 3), st.integers(0, 3), st.floats(0, 1), st.floats(0, 1))
def test_gae_is_the_double_sum_wherever_the_padding_is(
    rows: list[list[float]], left: int, right: int, gamma: float, gae_lambda: float
):
    values = [[0.3 * x + 0.1 for x in row] for row in rows]
    mask = _place([[1.0] * len(row) for row in rows], left, right, 0.0).bool()
    found = gae(
        rewards_BT=_place(rows, left, right, 77.0),
        values_BT=_place(values, left, right, -55.0),
        mask_BT=mask,
        gamma=gamma,
        gae_lambda=gae_lambda,
    )
    for i, (r, v) in enumerate(zip(rows, values, strict=True)):
        assert found.advantages_BT[i][mask[i]].tolist() == pytest.approx(
            _double_sum(r, v, gamma, gae_lambda), abs=1e-9
        )
    assert (found.advantages_BT[~mask] == 0).all()
    assert (found.returns_BT[~mask] == 0).all()


def test_lambda_1_gamma_1_is_the_return_minus_the_value():
    r, v = torch.randn(2, 5), torch.randn(2, 5)
    found = gae(
        rewards_BT=r,
        values_BT=v,
        mask_BT=torch.ones(2, 5, dtype=torch.bool),
        gamma=1.0,
        gae_lambda=1.0,
    )
    torch.testing.assert_close(found.returns_BT, r.flip(1).cumsum(1).flip(1))


@pytest.mark.parametrize("left", [0, 2])
def test_rewards_are_kl_everywhere_and_the_score_at_the_end(left: int):
    kl = _place([[0.1, 0.2, 0.3], [0.4]], left, 1, 9.0)
    mask = _place([[1.0, 1.0, 1.0], [1.0]], left, 1, 0.0).bool()
    found = shape_rewards(
        scores_B=torch.tensor([2.0, -1.0], dtype=torch.float64), kl_BT=kl, mask_BT=mask, beta=0.5
    )
    assert found[0][mask[0]].tolist() == pytest.approx([-0.05, -0.1, 2.0 - 0.15])
    assert found[1][mask[1]].tolist() == pytest.approx([-1.0 - 0.2])
    assert (found[~mask] == 0).all()


def test_a_row_without_tokens_gets_nothing():
    found = shape_rewards(
        scores_B=torch.tensor([5.0]),
        kl_BT=torch.ones(1, 3),
        mask_BT=torch.zeros(1, 3, dtype=torch.bool),
        beta=1.0,
    )
    assert found.tolist() == [[0.0, 0.0, 0.0]]


def test_whiten_uses_the_population_variance():
    x, mask = torch.tensor([[1.0, 3.0, 100.0]]), torch.tensor([[True, True, False]])
    assert whiten(x=x, mask=mask).tolist()[0] == pytest.approx([-1.0, 1.0, 0.0])
    assert whiten(x=torch.full((1, 3), 4.0), mask=mask).tolist() == [[0.0, 0.0, 0.0]]


@given(st.lists(st.lists(st.floats(-100, 100), max_size=5), min_size=1, max_size=5))
def test_running_moments_equal_those_of_all_at_once(batches: list[list[float]]):
    moments = RunningMoments()
    for batch in batches:
        moments = RunningMoments.from_dict(
            moments.update(torch.tensor(batch, dtype=torch.float64)).to_dict()
        )
    everything = torch.tensor([x for batch in batches for x in batch], dtype=torch.float64)
    assert moments.count == len(everything)
    if len(everything) > 1 and everything.std(correction=0) > 1e-6:
        assert moments.mean == pytest.approx(float(everything.mean()), abs=1e-9)
        assert moments.std == pytest.approx(float(everything.std(correction=0)), rel=1e-6)


def test_rewards_are_divided_by_their_running_deviation():
    moments = RunningMoments().update(torch.tensor([1.0, 5.0]))  # mean 3, std 2
    assert normalize_rewards(scores_B=torch.tensor([1.0, 9.0]), moments=moments).tolist() == [
        0.5,
        4.5,
    ]
