"""The table of preference losses: each by worked arithmetic, at initialisation, by gradcheck, and
with soft labels."""

from __future__ import annotations

import inspect
import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from burnish.algorithms.preference_losses import LOSSES, kto_kl, kto_loss, log_odds

OPTIONS: dict[str, dict[str, float]] = {
    "dpo": {"beta": 0.1},
    "cdpo": {"beta": 0.1, "label_smoothing": 0.2},
    "rdpo": {"beta": 0.1, "label_noise": 0.2},
    "dpo_norm": {"beta": 5.0},
    "ipo": {"tau": 0.25},
    "hinge": {"beta": 0.1},
    "simpo": {"beta": 2.0, "gamma": 0.5},
    "kto": {"beta": 0.1},
    "orpo": {"beta": 0.3},
    "cpo": {"beta": 0.1},
}
PAIRED = [name for name, row in LOSSES.items() if not row.unpaired]

# One pair: l_w = −8 over 4 tokens, l_l = −30 over 10; the reference has −10 and −25. So h_w = 2,
# h_l = −5, h_w − h_l = 7; per token l_w/|w| = −2, l_l/|l| = −3; h_w/|w| = 0.5, h_l/|l| = −0.5.
CHOSEN, REJECTED, REF_CHOSEN, REF_REJECTED, LENGTHS = -8.0, -30.0, -10.0, -25.0, (4, 10)


def nll(x: float) -> float:
    """−log σ(x)."""
    return math.log1p(math.exp(-x))


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def paired(
    name: str, chosen: Tensor, rejected: Tensor, ref: tuple[Tensor, Tensor], **more: Any
) -> Any:
    """The loss `name` of pairs, given what its row says it is given."""
    row = LOSSES[name]
    given: dict[str, Any] = {"chosen_logprobs": chosen, "rejected_logprobs": rejected}
    if row.reference:
        given |= {"ref_chosen_logprobs": ref[0], "ref_rejected_logprobs": ref[1]}
    if row.lengths:
        given |= {"chosen_tokens": tensor(LENGTHS[0]), "rejected_tokens": tensor(LENGTHS[1])}
    return row.function(**given, **OPTIONS[name], **more)


def by_hand(name: str, **more: Any) -> Any:
    return paired(
        name, tensor(CHOSEN), tensor(REJECTED), (tensor(REF_CHOSEN), tensor(REF_REJECTED)), **more
    )


ODDS = {a: math.log(math.exp(a) / (1 - math.exp(a))) for a in (-2.0, -3.0)}


@pytest.mark.parametrize(
    ("name", "expected", "rewards"),
    [
        ("dpo", nll(0.7), (0.2, -0.5)),
        ("cdpo", 0.8 * nll(0.7) + 0.2 * nll(-0.7), (0.2, -0.5)),
        ("rdpo", (0.8 * nll(0.7) - 0.2 * nll(-0.7)) / 0.6, (0.2, -0.5)),
        ("dpo_norm", nll(5 * (0.5 + 0.5)), (2.5, -2.5)),
        ("ipo", (7 - 1 / (2 * 0.25)) ** 2, (0.5, -1.25)),
        ("hinge", 1 - 0.7, (0.2, -0.5)),
        ("simpo", nll(2 * (-2) - 2 * (-3) - 0.5), (-4.0, -6.0)),
        ("orpo", 0.3 * nll(ODDS[-2.0] - ODDS[-3.0]), (-0.6, -0.9)),
        ("cpo", nll(0.1 * 22), (-0.8, -3.0)),
    ],
)
def test_a_certain_pair_by_hand(name: str, expected: float, rewards: tuple[float, float]):
    found = by_hand(name)
    assert float(found.per_token) == pytest.approx(expected, rel=1e-12)
    assert float(found.stats["chosen_reward"]) == pytest.approx(rewards[0])
    assert float(found.stats["rejected_reward"]) == pytest.approx(rewards[1])
    # probability 1 and margin 0 are what the paper writes
    assert float(
        by_hand(name, probability=tensor(1.0), margin=tensor(0.0)).per_token
    ) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # p = 0.75, margin 0.3: d loses 0.3
        ("dpo", 0.75 * nll(0.4) + 0.25 * nll(-0.4)),
        ("cdpo", 0.65 * nll(0.4) + 0.35 * nll(-0.4)),  # 0.75 · 0.8 + 0.25 · 0.2
        (
            "rdpo",
            0.75 * (0.8 * nll(0.4) - 0.2 * nll(-0.4)) / 0.6
            + 0.25 * (0.8 * nll(-0.4) - 0.2 * nll(0.4)) / 0.6,
        ),
        ("dpo_norm", 0.75 * nll(4.7) + 0.25 * nll(-4.7)),
        ("ipo", (7 - (0.25 + 0.3) / 0.25) ** 2),
        ("hinge", 0.75 * (1 - 0.4) + 0.25 * (1 + 0.4)),
        ("simpo", 0.75 * nll(2 - 0.25 - 0.3) + 0.25 * nll(-(2 - 0.25 - 0.3))),  # γ (2p − 1) = 0.25
        (
            "orpo",
            0.3
            * (
                0.75 * nll(ODDS[-2.0] - ODDS[-3.0] - 0.3)
                + 0.25 * nll(-(ODDS[-2.0] - ODDS[-3.0] - 0.3))
            ),
        ),
        ("cpo", 0.75 * nll(1.9) + 0.25 * nll(-1.9)),
    ],
)
def test_an_uncertain_pair_with_a_margin_by_hand(name: str, expected: float):
    found = by_hand(name, probability=tensor(0.75), margin=tensor(0.3))
    assert float(found.per_token) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", PAIRED)
@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 0.8, 1.0])
def test_swapping_the_answers_and_the_label_changes_nothing(name: str, p: float):
    a, b = (tensor(-8.0), tensor(-10.0)), (tensor(-30.0), tensor(-25.0))
    row = LOSSES[name]

    def loss(
        first: tuple[Tensor, Tensor],
        second: tuple[Tensor, Tensor],
        lengths: tuple[int, int],
        p: float,
    ) -> float:
        given: dict[str, Any] = {"chosen_logprobs": first[0], "rejected_logprobs": second[0]}
        if row.reference:
            given |= {"ref_chosen_logprobs": first[1], "ref_rejected_logprobs": second[1]}
        if row.lengths:
            given |= {"chosen_tokens": tensor(lengths[0]), "rejected_tokens": tensor(lengths[1])}
        options = {"probability": tensor(p), "margin": tensor(0.2), **OPTIONS[name]}
        return float(row.function(**given, **options).per_token)

    assert loss(a, b, (4, 10), p) == pytest.approx(loss(b, a, (10, 4), 1 - p), rel=1e-12)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dpo", math.log(2)),
        ("cdpo", math.log(2)),
        ("rdpo", math.log(2)),  # (0.8 − 0.2)/0.6 of it
        ("dpo_norm", math.log(2)),
        ("ipo", 1 / (4 * 0.25**2)),
        ("hinge", 1.0),
    ],
)
def test_where_the_policy_is_the_reference(name: str, expected: float):
    values = tensor(-700.0, -3.0)
    found = paired(name, values, values.flip(0), (values, values.flip(0)))
    assert found.per_token.tolist() == pytest.approx([expected] * 2)


@pytest.mark.parametrize("name", PAIRED)
def test_gradcheck(name: str):
    generator = torch.Generator().manual_seed(3)
    chosen, rejected, ref_c, ref_r = (
        (-2 - 20 * torch.rand(6, generator=generator, dtype=torch.float64)).requires_grad_(i < 2)
        for i in range(4)
    )
    p = torch.rand(6, generator=generator, dtype=torch.float64)
    margin = torch.rand(6, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda c, r: paired(name, c, r, (ref_c, ref_r), probability=p, margin=margin).per_token,
        (chosen, rejected),
    )


def test_kto_by_hand():
    """h = 2 and −5, z = 0.5, β = 0.1, λ_D = 1.5, λ_U = 2."""
    sigma = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
    given = {
        "logprobs": tensor(-8.0, -30.0),
        "ref_logprobs": tensor(-10.0, -25.0),
        "beta": 0.1,
        "kl": 0.5,
    }
    weights = {"desirable_weight": 1.5, "undesirable_weight": 2.0}
    good = [1.5 * (1 - sigma(0.1 * (h - 0.5))) for h in (2, -5)]
    bad = [2.0 * (1 - sigma(0.1 * (0.5 - h))) for h in (2, -5)]
    found = kto_loss(**given, **weights, probability=tensor(1.0, 0.0))
    assert found.per_token.tolist() == pytest.approx([good[0], bad[1]])
    assert found.stats["reward"].tolist() == pytest.approx([0.2, -0.5])
    soft = kto_loss(**given, **weights, probability=tensor(0.75, 0.4))
    assert soft.per_token.tolist() == pytest.approx(
        [0.75 * good[0] + 0.25 * bad[0], 0.4 * good[1] + 0.6 * bad[1]]
    )


def test_kto_begins_at_half_its_weights():
    same = tensor(-3.0, -80.0)
    kl = kto_kl(logprobs=same, ref_logprobs=same)
    found = kto_loss(
        logprobs=same,
        ref_logprobs=same,
        kl=kl,
        beta=0.3,
        probability=tensor(1.0, 0.0),
        desirable_weight=1.5,
        undesirable_weight=0.8,
    )
    assert float(kl) == 0.0
    assert found.per_token.tolist() == pytest.approx([0.75, 0.4])


def test_ktos_kl_is_a_mean_not_below_zero_and_without_gradient():
    logprobs, ref = tensor(-3.0, -5.0, -1.0).requires_grad_(True), tensor(-4.0, -4.0, -4.0)
    kl = kto_kl(logprobs=logprobs, ref_logprobs=ref)
    assert float(kl) == pytest.approx((1 - 1 + 3) / 3)
    assert not kl.requires_grad
    assert float(kto_kl(logprobs=ref, ref_logprobs=logprobs)) == 0.0


def test_gradcheck_of_kto():
    generator = torch.Generator().manual_seed(4)
    logprobs = (-20 * torch.rand(5, generator=generator, dtype=torch.float64)).requires_grad_(True)
    ref, p = (
        -20 * torch.rand(5, generator=generator, dtype=torch.float64),
        torch.rand(5, dtype=torch.float64),
    )
    assert torch.autograd.gradcheck(
        lambda x: kto_loss(logprobs=x, ref_logprobs=ref, kl=0.7, beta=0.2, probability=p).per_token,
        (logprobs,),
    )


@pytest.mark.parametrize("name", ["dpo", "simpo", "orpo", "cpo", "hinge", "dpo_norm"])
def test_a_soft_label_is_the_mean_over_hard_ones(name: str):
    """Where nothing but the target depends on p: the loss at p is p of the loss at 1 and 1 − p of
    that at 0."""
    options = OPTIONS[name]
    try:
        OPTIONS[name] = {**options, **({"gamma": 0.0} if name == "simpo" else {})}
        soft, sure, wrong = (
            float(by_hand(name, probability=tensor(p)).per_token) for p in (0.7, 1.0, 0.0)
        )
    finally:
        OPTIONS[name] = options
    assert soft == pytest.approx(0.7 * sure + 0.3 * wrong)


def test_ipos_soft_target_is_the_mean_over_hard_labels_but_for_a_constant():
    """p (h − t)² + (1 − p)(h + t)² = (h − (2p − 1) t)² + constant: gradients agree."""
    gradient = {}
    for p in (0.7, 1.0, 0.0):
        chosen = tensor(CHOSEN).requires_grad_(True)
        paired(
            "ipo",
            chosen,
            tensor(REJECTED),
            (tensor(REF_CHOSEN), tensor(REF_REJECTED)),
            probability=tensor(p),
        ).per_token.sum().backward()
        gradient[p] = float(chosen.grad)
    assert gradient[0.7] == pytest.approx(0.7 * gradient[1.0] + 0.3 * gradient[0.0])


def test_robust_dpo_undoes_label_noise_exactly():
    """Averaged over labels flipped with probability ε, the loss and its gradient are those of DPO
    on the true labels."""
    epsilon = OPTIONS["rdpo"]["label_noise"]
    values = {}
    for name in ("rdpo", "dpo"):
        for p in (1.0, 0.0):
            chosen = tensor(CHOSEN).requires_grad_(True)
            loss = paired(
                name,
                chosen,
                tensor(REJECTED),
                (tensor(REF_CHOSEN), tensor(REF_REJECTED)),
                probability=tensor(p),
            ).per_token
            loss.sum().backward()
            values[name, p] = (float(loss.detach()), float(chosen.grad))
    for part in range(2):
        mean = (1 - epsilon) * values["rdpo", 1.0][part] + epsilon * values["rdpo", 0.0][part]
        assert mean == pytest.approx(values["dpo", 1.0][part])


def test_ipo_averaged_over_tokens():
    found = by_hand("ipo", average=True)
    assert float(found.per_token) == pytest.approx((0.5 + 0.5 - 2.0) ** 2)


def test_hinge_is_flat_beyond_its_margin():
    chosen = tensor(5.0).requires_grad_(True)
    paired(
        "hinge", chosen, tensor(-30.0), (tensor(-10.0), tensor(-25.0))
    ).per_token.sum().backward()
    assert float(chosen.grad) == 0.0  # β (15 + 5) = 2 > 1


@pytest.mark.parametrize("log_p", [-1e-6, -0.1, -math.log(2), -3.0, -40.0])
def test_log_odds(log_p: float):
    x = tensor(log_p).requires_grad_(True)
    found = log_odds(x)
    assert float(found.detach()) == pytest.approx(log_p - math.log(-math.expm1(log_p)), rel=1e-9)
    found.sum().backward()
    # d logit P / d log P = 1/(1 − P)
    assert float(x.grad) == pytest.approx(1 / -math.expm1(log_p), rel=1e-9)


def test_losses_stay_finite_far_out():
    for name, sign in itertools.product(PAIRED, (1.0, -1.0)):
        far = tensor(-1.0 if sign > 0 else -1e4).requires_grad_(True)
        other = tensor(-1e4 if sign > 0 else -1.0)
        loss = paired(
            name, far, other, (tensor(-50.0), tensor(-50.0)), probability=tensor(0.9)
        ).per_token
        loss.sum().backward()
        assert torch.isfinite(loss).all(), name
        assert torch.isfinite(far.grad).all(), name


def test_every_row_takes_what_the_table_says():
    for name, row in LOSSES.items():
        names = set(inspect.signature(row.function).parameters)
        assert "probability" in names, name
        assert row.unpaired != ("margin" in names), name
        assert row.reference == bool({"ref_chosen_logprobs", "ref_logprobs"} & names), name
        assert row.lengths == ("chosen_tokens" in names), name
        assert OPTIONS[name].keys() <= names, name
        assert row.function.__doc__, name
        assert "arXiv" in row.function.__doc__, name


@pytest.mark.parametrize("name", [*PAIRED, "ipo per token"])
def test_rewards_of_single_answers_are_those_of_the_pairs(name: str):
    name, average = name.split()[0], "per token" in name
    more = {"average": average} if name == "ipo" else {}
    found = by_hand(name, **more)
    rewards = LOSSES[name].rewards(
        logprobs=tensor(CHOSEN, REJECTED),
        ref_logprobs=tensor(REF_CHOSEN, REF_REJECTED),
        tokens=tensor(*LENGTHS),
        options={**OPTIONS[name], **more},
    )
    expected = [float(found.stats[f"{side}_reward"]) for side in ("chosen", "rejected")]
    assert rewards.tolist() == pytest.approx(expected)
