"""The chunked log-softmax against the naive one, values and gradients."""

from __future__ import annotations

import pytest
import torch

from burnish.algorithms import logprobs
from burnish.algorithms.logprobs import token_logprobs


def _inputs(
    positions: int = 7, width: int = 5, vocabulary: int = 11
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(
        positions, width, generator=generator, dtype=torch.float64, requires_grad=True
    )
    weight = torch.randn(
        vocabulary, width, generator=generator, dtype=torch.float64, requires_grad=True
    )
    return hidden, weight, torch.randint(vocabulary, (positions,), generator=generator)


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_values_and_gradients_equal_the_naive_path(chunk: int, temperature: float):
    hidden, weight, targets = _inputs()
    upstream = torch.randn(2, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = token_logprobs(
        hidden_PD=hidden,
        weight_VD=weight,
        targets_P=targets,
        temperature=temperature,
        chunk=chunk,
        entropy=True,
    )
    log_p = (hidden @ weight.T / temperature).log_softmax(-1)
    expected = log_p.gather(1, targets[:, None])[:, 0], -(log_p.exp() * log_p).sum(-1)
    torch.testing.assert_close(found.logprobs_P, expected[0])
    torch.testing.assert_close(found.entropy_P, expected[1])
    ours = torch.autograd.grad(
        (upstream[0] * found.logprobs_P + upstream[1] * found.entropy_P).sum(), (hidden, weight)
    )
    theirs = torch.autograd.grad(
        (upstream[0] * expected[0] + upstream[1] * expected[1]).sum(), (hidden, weight)
    )
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("entropy", [False, True])
def test_gradcheck(entropy: bool):
    hidden, weight, targets = _inputs(4, 3, 5)

    def f(h: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        found = token_logprobs(
            hidden_PD=h, weight_VD=w, targets_P=targets, temperature=0.8, chunk=3, entropy=entropy
        )
        return torch.cat([found.logprobs_P, found.entropy_P]) if entropy else found.logprobs_P

    assert torch.autograd.gradcheck(f, (hidden, weight))


def test_no_positions_no_numbers():
    hidden, weight, _ = _inputs()
    found = token_logprobs(
        hidden_PD=hidden[:0],
        weight_VD=weight,
        targets_P=torch.zeros(0, dtype=torch.long),
        entropy=True,
    )
    assert found.logprobs_P.shape == found.entropy_P.shape == (0,)
    found.logprobs_P.sum().backward()
    assert (weight.grad == 0).all()


def test_a_frozen_weight_gets_no_gradient():
    hidden, weight, targets = _inputs()
    token_logprobs(
        hidden_PD=hidden, weight_VD=weight.detach(), targets_P=targets
    ).logprobs_P.sum().backward()
    assert hidden.grad is not None
    assert weight.grad is None


def test_bfloat16_is_summed_in_float32():
    hidden, weight, targets = _inputs()
    low = token_logprobs(
        hidden_PD=hidden.bfloat16(), weight_VD=weight.bfloat16(), targets_P=targets
    ).logprobs_P
    assert low.dtype == torch.float32


def _transformed(
    hidden, weight, bias, scale: float, softcap: float | None, temperature: float
) -> torch.Tensor:
    logits = hidden @ weight.T * scale
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    return ((logits + bias) / temperature).log_softmax(-1)


@pytest.mark.parametrize("scale", [1.0, 0.3, 2.5])
@pytest.mark.parametrize("softcap", [None, 1.7])
@pytest.mark.parametrize("entropy", [False, True])
def test_scaled_and_capped_logits_equal_the_naive_path(
    scale: float, softcap: float | None, entropy: bool
):
    """The order: scale, cap, bias, temperature; values, entropies and all three gradients."""
    hidden, weight, targets = _inputs()
    generator = torch.Generator().manual_seed(2)
    bias = torch.randn(11, generator=generator, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(2, 7, generator=generator, dtype=torch.float64)
    found = token_logprobs(
        hidden_PD=hidden,
        weight_VD=weight,
        targets_P=targets,
        bias_V=bias,
        scale=scale,
        softcap=softcap,
        temperature=0.6,
        chunk=3,
        entropy=entropy,
    )
    log_p = _transformed(hidden, weight, bias, scale, softcap, 0.6)
    expected = upstream[0] * log_p.gather(1, targets[:, None])[:, 0]
    ours = upstream[0] * found.logprobs_P
    if entropy:
        expected = expected - upstream[1] * (log_p.exp() * log_p).sum(-1)
        ours = ours + upstream[1] * found.entropy_P
    torch.testing.assert_close(ours, expected)
    inputs = (hidden, weight, bias)
    for a, b in zip(
        torch.autograd.grad(ours.sum(), inputs),
        torch.autograd.grad(expected.sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_worked_numbers_of_a_capped_logit():
    """Products 3 and 0, scale 2, cap 6: 6 tanh(1) = 4.569565 and 0; log π = −log(1 + e^−4.569565) =
    −0.010309."""
    found = token_logprobs(
        hidden_PD=torch.tensor([[3.0]]),
        weight_VD=torch.tensor([[1.0], [0.0]]),
        targets_P=torch.tensor([0]),
        scale=2.0,
        softcap=6.0,
    )
    torch.testing.assert_close(found.logprobs_P, torch.tensor([-0.010309]), atol=1e-6, rtol=1e-4)


def test_a_ban_holds_under_a_cap():
    hidden, weight, targets = _inputs()
    bias = torch.zeros(11, dtype=torch.float64)
    bias[3] = -torch.inf
    found = token_logprobs(
        hidden_PD=hidden,
        weight_VD=weight,
        targets_P=torch.full_like(targets, 3),
        bias_V=bias,
        softcap=2.0,
    )
    assert (found.logprobs_P == -torch.inf).all()


@pytest.mark.parametrize("softcap", [0.0, -1.0, float("nan")])
def test_a_cap_that_is_not_positive_is_refused(softcap: float):
    hidden, weight, targets = _inputs()
    with pytest.raises(ValueError, match="softcap"):
        token_logprobs(hidden_PD=hidden, weight_VD=weight, targets_P=targets, softcap=softcap)


@pytest.mark.parametrize("rows", [3, 100])
def test_a_narrower_weight_gives_what_its_wide_numbers_give(
    rows: int, monkeypatch: pytest.MonkeyPatch
):
    """Brought to the hidden states' precision a few rows at a time: sums, entropies, gradients."""
    monkeypatch.setattr(logprobs, "_ROWS", rows)
    hidden, weight, targets = _inputs()
    narrow = weight.detach().bfloat16()
    results = []
    for head in (narrow, narrow.double()):
        found = token_logprobs(
            hidden_PD=hidden, weight_VD=head, targets_P=targets, chunk=3, softcap=2.0, entropy=True
        )
        assert found.entropy_P is not None
        (gradient,) = torch.autograd.grad((found.logprobs_P + 0.3 * found.entropy_P).sum(), hidden)
        results.append((found.logprobs_P, found.entropy_P, gradient))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)
