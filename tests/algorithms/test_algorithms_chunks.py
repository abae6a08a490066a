"""The chunked log-softmax: bias, banned tokens, any chunk, low precision, and what it never holds
or computes."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from burnish.algorithms.logprobs import token_logprobs


def _inputs(
    positions: int, width: int = 3, vocabulary: int = 6, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    hidden, weight, bias = (
        torch.randn(*shape, generator=g, dtype=torch.float64, requires_grad=True)
        for shape in ((positions, width), (vocabulary, width), (vocabulary,))
    )
    return hidden, weight, bias, torch.randint(vocabulary, (positions,), generator=g)


def _naive(
    hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    log_p = ((hidden @ weight.T + bias) / temperature).log_softmax(-1)
    return log_p.gather(1, targets[:, None])[:, 0], -(log_p.exp() * log_p).sum(-1)


def test_two_tokens_by_hand():
    """Logits 0 and log 3 are probabilities 1/4 and 3/4; at temperature ½ the odds are squared: 1/10
    and 9/10."""
    common = {
        "hidden_PD": torch.tensor([[1.0], [1.0]], dtype=torch.float64),
        "weight_VD": torch.tensor([[0.0], [math.log(3.0)]], dtype=torch.float64),
        "targets_P": torch.tensor([0, 1]),
    }
    found = token_logprobs(**common, entropy=True)
    assert found.entropy_P is not None
    assert found.logprobs_P.exp().tolist() == pytest.approx([0.25, 0.75])
    assert found.entropy_P.tolist() == pytest.approx(
        [-0.25 * math.log(0.25) - 0.75 * math.log(0.75)] * 2
    )
    assert token_logprobs(**common, temperature=0.5).logprobs_P.exp().tolist() == pytest.approx(
        [0.1, 0.9]
    )
    tilted = token_logprobs(
        **common, bias_V=torch.tensor([math.log(3.0), 0.0], dtype=torch.float64)
    )
    assert tilted.logprobs_P.exp().tolist() == pytest.approx([0.5, 0.5])


@settings(deadline=None, max_examples=60)
@given(
    positions=st.integers(0, 9),
    chunk=st.integers(1, 12),
    temperature=st.floats(0.3, 3.0),
    entropy=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_chunk_equals_the_naive_path(
    positions: int, chunk: int, temperature: float, entropy: bool, seed: int
):
    hidden, weight, bias, targets = _inputs(positions, seed=seed)
    by_token, by_entropy = torch.randn(
        2, positions, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    found = token_logprobs(
        hidden_PD=hidden, weight_VD=weight, bias_V=bias, targets_P=targets,
        temperature=temperature, chunk=chunk, entropy=entropy,
    )  # fmt: skip
    logprobs, entropies = _naive(hidden, weight, bias, targets, temperature)
    torch.testing.assert_close(found.logprobs_P, logprobs)
    ours, theirs = (by_token * found.logprobs_P).sum(), (by_token * logprobs).sum()
    if entropy:
        assert found.entropy_P is not None
        torch.testing.assert_close(found.entropy_P, entropies)
        ours, theirs = (
            ours + (by_entropy * found.entropy_P).sum(),
            theirs + (by_entropy * entropies).sum(),
        )
    else:
        assert found.entropy_P is None
    inputs = (hidden, weight, bias)
    for a, b in zip(
        torch.autograd.grad(ours, inputs), torch.autograd.grad(theirs, inputs), strict=True
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("entropy", [False, True])
def test_gradcheck_with_a_bias(entropy: bool):
    hidden, weight, bias, targets = _inputs(4)

    def f(h: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        found = token_logprobs(
            hidden_PD=h,
            weight_VD=w,
            bias_V=b,
            targets_P=targets,
            temperature=0.8,
            chunk=3,
            entropy=entropy,
        )
        return tuple(x for x in found if x is not None)

    assert torch.autograd.gradcheck(f, (hidden, weight, bias))


def test_the_entropy_alone_can_be_the_loss():
    hidden, weight, bias, targets = _inputs(5)
    found = token_logprobs(
        hidden_PD=hidden, weight_VD=weight, bias_V=bias, targets_P=targets, chunk=2, entropy=True
    )
    assert found.entropy_P is not None
    inputs = (hidden, weight, bias)
    ours = torch.autograd.grad(found.entropy_P.sum(), inputs)
    theirs = torch.autograd.grad(_naive(hidden, weight, bias, targets, 1.0)[1].sum(), inputs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_a_banned_token_has_no_probability_and_moves_nothing():
    """With −inf on token 5 everything equals the vocabulary without it."""
    hidden, weight, bias, targets = _inputs(4)
    targets = targets.clamp(max=4)
    banned = bias.detach().clone()
    banned[5] = -torch.inf
    found = token_logprobs(
        hidden_PD=hidden, weight_VD=weight, bias_V=banned, targets_P=targets, chunk=3, entropy=True
    )
    assert found.entropy_P is not None
    expected = _naive(hidden, weight[:5], bias[:5], targets, 1.0)
    torch.testing.assert_close((found.logprobs_P, found.entropy_P), expected)
    inputs = (hidden, weight)
    ours = torch.autograd.grad((found.logprobs_P + 0.3 * found.entropy_P).sum(), inputs)
    theirs = torch.autograd.grad((expected[0] + 0.3 * expected[1]).sum(), inputs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_huge_logits_stay_finite():
    hidden = torch.tensor([[1e4], [1e4]], requires_grad=True)
    weight = torch.tensor([[1.0], [0.0], [-1.0]])
    found = token_logprobs(
        hidden_PD=hidden, weight_VD=weight, targets_P=torch.tensor([0, 2]), entropy=True
    )
    assert found.entropy_P is not None
    assert found.logprobs_P.tolist() == [0.0, -2e4]
    assert found.entropy_P.tolist() == [0.0, 0.0]
    (found.logprobs_P + found.entropy_P).sum().backward()
    assert hidden.grad is not None
    assert hidden.grad.flatten().tolist() == [
        0.0,
        -2.0,
    ]  # all of π is on token 0, whose weight is 1: (−1) − 1


def test_low_precision_inputs_do_not_make_gradients_depend_on_the_chunk():
    hidden, weight, _, targets = _inputs(1024, width=8, vocabulary=16)
    low_hidden, low_weight = hidden.detach().bfloat16(), weight.detach().bfloat16()

    def weight_grad(chunk: int) -> Tensor:
        w = low_weight.clone().requires_grad_(True)
        found = token_logprobs(hidden_PD=low_hidden, weight_VD=w, targets_P=targets, chunk=chunk)
        assert found.logprobs_P.dtype == torch.float32
        (grad,) = torch.autograd.grad(found.logprobs_P.sum(), w)
        assert grad.dtype == torch.bfloat16
        return grad.double()

    w = low_weight.double().requires_grad_(True)
    exact = torch.autograd.grad(
        _naive(low_hidden.double(), w, torch.zeros(16), targets, 1.0)[0].sum(), w
    )[0]
    for chunk in (1, 7, 1024):
        error = (weight_grad(chunk) - exact).norm() / exact.norm()
        # a few roundings to 8 bits; summed in bfloat16 over 1,024 chunks it is many times more
        assert error < 2**-7


class _Watch(TorchDispatchMode):
    """The number of entries of every tensor that an operation inside resulted in."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.sizes += [x.numel() for x in tree_leaves(result) if isinstance(x, Tensor)]
        return result


def test_the_matrix_positions_by_vocabulary_is_never_held():
    positions, vocabulary, chunk = 40, 30, 4
    hidden, weight, _, targets = _inputs(positions, vocabulary=vocabulary)
    with _Watch() as forward:
        found = token_logprobs(
            hidden_PD=hidden, weight_VD=weight, targets_P=targets, chunk=chunk, entropy=True
        )
        assert found.entropy_P is not None
        loss = (found.logprobs_P + found.entropy_P).sum()
    with _Watch() as backward:
        loss.backward()
    assert max(forward.sizes) == max(backward.sizes) == chunk * vocabulary
    with _Watch() as naive:  # the measure itself sees the whole matrix where there is one
        _naive(hidden, weight, torch.zeros(vocabulary), targets, 1.0)
    assert max(naive.sizes) == positions * vocabulary


def test_an_entropy_that_enters_no_loss_changes_no_gradient_and_costs_no_pass():
    hidden, weight, _, targets = _inputs(5)

    def backward(*, entropy: bool, weigh: float = 0.0) -> tuple[tuple[Tensor, ...], int]:
        found = token_logprobs(
            hidden_PD=hidden, weight_VD=weight, targets_P=targets, entropy=entropy
        )
        loss = found.logprobs_P.sum()
        if weigh and found.entropy_P is not None:
            loss = loss + weigh * found.entropy_P.sum()
        with _Watch() as watch:
            grads = torch.autograd.grad(loss, (hidden, weight))
        return grads, watch.sizes.count(5 * 6)  # operations on positions × vocabulary

    without, beside, used = (
        backward(entropy=False),
        backward(entropy=True),
        backward(entropy=True, weigh=0.1),
    )
    torch.testing.assert_close(beside[0], without[0], rtol=0, atol=0)
    assert beside[1] == without[1] < used[1]


def test_a_second_derivative_is_refused():
    hidden, weight, _, targets = _inputs(3)
    logprobs = token_logprobs(hidden_PD=hidden, weight_VD=weight, targets_P=targets).logprobs_P
    (first,) = torch.autograd.grad((logprobs**2).sum(), hidden, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@pytest.mark.parametrize(
    ("name", "value"), [("chunk", 0), ("chunk", -3), ("temperature", 0.0), ("temperature", -1.0)]
)
def test_numbers_out_of_range_are_refused(name: str, value: float):
    hidden, weight, _, targets = _inputs(3)
    with pytest.raises(ValueError, match=name):
        token_logprobs(hidden_PD=hidden, weight_VD=weight, targets_P=targets, **{name: value})
