"""The parts of the online family by hand, and the identities between rows."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from burnish.algorithms.advantages import (
    centred_in_groups,
    leave_one_out,
    normalized_in_groups,
    overlong_penalty,
    spread_in_groups,
)
from burnish.algorithms.aggregate import loss_denominator, token_weights
from burnish.algorithms.policy_losses import (
    cispo_policy_loss,
    gspo_policy_loss,
    importance_weights,
    ppo_policy_loss,
    reinforce_policy_loss,
)
from burnish.algorithms.recipes import ADVANTAGES, LOSSES, ROWS, WITH_GROUPS, Earned, resolve
from burnish.config.online import Algorithm, AlgorithmName

REWARDS, GROUPS = torch.tensor([1.0, 0.0, 0.5, 2.0, 2.0, 3.0]), torch.tensor([0, 0, 0, 1, 1, 2])


def test_advantages_in_groups_by_hand():
    """Groups (1, 0, ½), (2, 2) and (3): means ½, 2, 3; the first's sample deviation is ½."""
    found = {
        f.__name__: f(rewards_B=REWARDS, groups_B=GROUPS).tolist()
        for f in (centred_in_groups, leave_one_out)
    }
    assert found["centred_in_groups"] == [0.5, -0.5, 0.0, 0.0, 0.0, 0.0]
    assert found["leave_one_out"] == pytest.approx([1 - 0.25, 0 - 0.75, 0.0, 0.0, 0.0, 0.0])
    normalized = normalized_in_groups(rewards_B=REWARDS, groups_B=GROUPS)
    assert normalized.tolist() == pytest.approx([0.5 / 0.5001, -0.5 / 0.5001, 0.0, 0.0, 0.0, 0.0])
    assert spread_in_groups(rewards_B=REWARDS, groups_B=GROUPS).tolist() == pytest.approx(
        [0.5, 0.0, 0.0]
    )


def test_normalized_in_groups_by_hand():
    """Group 0: mean 2, deviations −2, 0, 2, sample std 2. Group 1: all equal. Group 2: 1 and 4,
    deviations ∓1.5, std 3/√2. Group 3: alone."""
    rewards = torch.tensor([0.0, 2.0, 4.0, 5.0, 5.0, 5.0, 1.0, 4.0, 7.0], dtype=torch.float64)
    found = normalized_in_groups(
        rewards_B=rewards, groups_B=torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 3]), eps=1e-4
    )
    pair = 1.5 / (3 / math.sqrt(2) + 1e-4)
    assert found.tolist() == pytest.approx(
        [-2 / 2.0001, 0.0, 2 / 2.0001, 0.0, 0.0, 0.0, -pair, pair, 0.0]
    )


@given(
    st.lists(st.lists(st.floats(-5, 5, width=32), min_size=4, max_size=4), min_size=1, max_size=5)
)
def test_rloo_is_the_reward_minus_the_others_mean_and_dr_grpo_times_k_over_k_minus_1(
    rows: list[list[float]],
):
    rewards_GK = torch.tensor(rows, dtype=torch.float64)
    flat = {
        "rewards_B": rewards_GK.flatten(),
        "groups_B": torch.arange(len(rows)).repeat_interleave(4),
    }
    torch.testing.assert_close(leave_one_out(**flat), centred_in_groups(**flat) * 4 / 3)
    others = (rewards_GK.sum(1, keepdim=True) - rewards_GK) / 3
    torch.testing.assert_close(
        leave_one_out(**flat), (rewards_GK - others).flatten(), atol=1e-12, rtol=1e-9
    )


@pytest.mark.parametrize("name", sorted(WITH_GROUPS))
def test_a_group_of_equal_rewards_has_no_gradient_to_the_last_bit(name: str):
    """0.1 has no exact mean in binary: the advantages are 0 nevertheless."""
    mask = torch.ones(7, 3, dtype=torch.bool)
    earned = Earned(
        torch.full((7,), 0.1),
        torch.zeros(7, dtype=torch.long),
        torch.zeros(7, 3),
        mask,
        None,
        0.1,
        1.0,
        1.0,
    )
    assert not ADVANTAGES[name](earned).advantages_BT.any()


def test_a_penalty_in_the_reward_counts_by_its_sum_or_from_here_on():
    """Rewards 1 and 0, β ½, penalties (0.2, 0.4) and (0, 0.1): totals 0.7 and −0.05."""
    kl, mask = torch.tensor([[0.2, 0.4], [0.0, 0.1]]), torch.ones(2, 2, dtype=torch.bool)
    earned = Earned(
        torch.tensor([1.0, 0.0]), torch.zeros(2, dtype=torch.long), kl, mask, None, 0.5, 1.0, 1.0
    )
    assert ADVANTAGES["leave_one_out"](earned).advantages_BT.flatten().tolist() == pytest.approx(
        [0.75, 0.75, -0.75, -0.75]
    )
    assert ADVANTAGES["to_go"](earned).advantages_BT.flatten().tolist() == pytest.approx(
        [0.7, 0.8, -0.05, -0.05]
    )


def test_overlong_shaping_by_hand():
    """M = 20, c = 4: nothing up to 16, −¼ a token from there, −1 at 20 and beyond."""
    lengths = torch.tensor([3.0, 16.0, 17.0, 19.0, 20.0, 25.0])
    assert overlong_penalty(lengths_B=lengths, longest=20, cache=4).tolist() == [
        0.0,
        0.0,
        -0.25,
        -0.75,
        -1.0,
        -1.0,
    ]
    with pytest.raises(ValueError, match="from 1 to 20"):
        overlong_penalty(lengths_B=lengths, longest=20, cache=21)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("token", 10 / 5), ("sequence", 4.5 / 2), ("constant", 10 / 16), ("sum", 10 / 2)],
)
def test_averages_by_hand(kind: str, expected: float):
    """Completions (1, 2, 0) and (3, 4): their means are 1 and 3½."""
    per_token, counts = torch.tensor([1.0, 2.0, 0.0, 3.0, 4.0]), torch.tensor([3, 2])
    weights = token_weights(kind=kind, counts_N=counts)
    total = float((per_token if weights is None else per_token * weights).sum())
    assert total / loss_denominator(kind=kind, tokens=5, sequences=2, constant=8) == pytest.approx(
        expected
    )


def test_gspo_by_hand_and_that_it_is_grpo_at_length_1():
    """Log-ratios (0.2, 0.4) and (−0.3): s = e^0.3 for both tokens of the first, e^−0.3 for the
    second."""
    now = torch.tensor([-0.8, -0.6, -1.3], dtype=torch.float64, requires_grad=True)
    old, where = torch.full((3,), -1.0, dtype=torch.float64), torch.tensor([0, 0, 1])
    advantages = torch.tensor([2.0, 2.0, -1.0], dtype=torch.float64)
    how = {"clip_low": 0.5, "clip_high": 0.5}
    found = gspo_policy_loss(
        logprobs=now,
        old_logprobs=old,
        advantages=advantages,
        sequence_of_P=where,
        sequences=2,
        **how,
    )
    assert found.stats["ratio"].tolist() == pytest.approx([math.exp(0.3)] * 2 + [math.exp(-0.3)])
    (grad,) = torch.autograd.grad(found.per_token[:2].mean() + found.per_token[2], now)
    # d s/d log π_t = s/|o|
    assert grad.tolist() == pytest.approx([-2 * math.exp(0.3) / 2] * 2 + [math.exp(-0.3)])
    alone = torch.arange(3)
    same = gspo_policy_loss(
        logprobs=now,
        old_logprobs=old,
        advantages=advantages,
        sequence_of_P=alone,
        sequences=3,
        **how,
    )
    grpo = ppo_policy_loss(logprobs=now, old_logprobs=old, advantages=advantages, **how)
    torch.testing.assert_close(same.per_token, grpo.per_token)
    torch.testing.assert_close(
        *(torch.autograd.grad(loss.per_token.sum(), now)[0] for loss in (same, grpo))
    )
    narrow = gspo_policy_loss(
        logprobs=now,
        old_logprobs=old,
        advantages=advantages,
        sequence_of_P=where,
        sequences=2,
        clip_low=3e-4,
        clip_high=4e-4,
    )
    assert narrow.stats["clipfrac"].tolist() == [1.0, 1.0, 1.0]
    assert not torch.autograd.grad(narrow.per_token.sum(), now)[0].any()


def test_cispo_and_reinforce_by_hand():
    """Ratios 1.5 and 8 under a cap of 1 + 4: weights 1.5 and 5, gradients −w A; REINFORCE has no
    weight."""
    now = torch.tensor([math.log(1.5), math.log(8.0)], dtype=torch.float64, requires_grad=True)
    old, advantages = (
        torch.zeros(2, dtype=torch.float64),
        torch.tensor([2.0, 1.0], dtype=torch.float64),
    )
    cispo = cispo_policy_loss(
        logprobs=now, old_logprobs=old, advantages=advantages, clip_low=1.0, clip_high=4.0
    )
    assert torch.autograd.grad(cispo.per_token.sum(), now)[0].tolist() == pytest.approx(
        [-3.0, -5.0]
    )
    assert cispo.stats["clipfrac"].tolist() == [0.0, 1.0]
    plain = reinforce_policy_loss(logprobs=now, old_logprobs=old, advantages=advantages)
    assert torch.autograd.grad(plain.per_token.sum(), now)[0].tolist() == [-2.0, -1.0]


@pytest.mark.parametrize(
    ("kind", "level", "expected"),
    [
        ("truncate", "token", [2.0, 0.5, 1.5]), ("mask", "token", [0.0, 0.5, 1.5]),
        ("truncate", "sequence", [2.0, 2.0, 1.5]), ("mask", "sequence", [2.0, 2.0, 1.5]),
    ],
)  # fmt: skip
def test_importance_by_hand(kind: str, level: str, expected: list[float]):
    """π/μ of the tokens: 4 and ½ of one completion (product 2), 1.5 of another; the cap is 2."""
    old = torch.tensor([math.log(4.0), math.log(0.5), math.log(1.5)])
    found = importance_weights(
        old_logprobs=old,
        sampler_logprobs=torch.zeros(3),
        cap=2.0 + 1e-6,
        kind=kind,
        level=level,
        sequence_of_P=torch.tensor([0, 0, 1]),
        sequences=2,
    )
    assert found.per_token.tolist() == pytest.approx(expected, rel=1e-5)
    assert float(found.stats["capped"].sum()) == (1.0 if level == "token" else 0.0)


def test_rows_by_their_papers():
    assert {name: row.roles for name, row in ROWS.items()} == {
        "ppo": ("policy", "critic", "reference"), "grpo": ("policy", "reference"),
        "dr-grpo": ("policy",), "dapo": ("policy",),
        "gspo": ("policy",), "cispo": ("policy",), "rloo": ("policy", "reference"),
        "reinforce++": ("policy", "reference"),
        "reinforce++-baseline": ("policy", "reference"),
    }  # fmt: skip
    assert (ROWS["dapo"].clip_low, ROWS["dapo"].clip_high, ROWS["dapo"].filter) == (
        0.2,
        0.28,
        "mixed",
    )
    assert all("arXiv:" in row.paper for row in ROWS.values())
    assert set(ROWS) == set(get_args(AlgorithmName))


def test_any_part_can_be_exchanged_and_the_recipe_offers_all_of_them():
    row = resolve("grpo", {"loss": "cispo", "kl_estimator": "k2", "clip_high": 4.0})
    assert (row.advantage, row.loss, row.kl_estimator, row.clip_high, row.beta) == (
        "group_normalized",
        "cispo",
        "k2",
        4.0,
        0.04,
    )
    assert resolve("grpo", {"beta": 0.0}).roles == ("policy",)
    offered = {name: field.annotation for name, field in Algorithm.model_fields.items()}
    for part, table in (("advantage", ADVANTAGES), ("loss", LOSSES)):
        values = {value for option in get_args(offered[part]) for value in get_args(option)}
        assert values == set(table)
    for name, changes, said in (
        ("grp", {}, "unknown algorithm 'grp'"),
        ("grpo", {"loss": "hinge"}, "unknown loss"),
        ("grpo", {"kl_estimator": "k1"}, "expected gradient of zero"),
        ("cispo", {"dual_clip": 3.0}, "belongs to the loss clip"),
        ("grpo", {"dual_clip": 0.5}, "above 1"),
    ):
        with pytest.raises(ValueError, match=said):
            resolve(name, changes)
