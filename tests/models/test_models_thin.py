"""The engine's matrices: each form gives what the norm, the product and what follows it give one
after the other."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from burnish.models import int8, thin
from burnish.models.int8 import Int8Matrix
from burnish.models.thin import Norm, Thin

K, N = 96, 256


def _draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _norm() -> Norm:
    return Norm(_draw(K, seed=1).abs() + 0.5, 1e-5)


@pytest.fixture(params=["whole", "pieces", "bfloat16", "int8"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """(makes a matrix of a weight [K, N] and a norm, how far it may be off)."""
    if request.param == "int8":
        if not int8.available():
            pytest.skip("no 8-bit products here")
        peaks = _draw(K, seed=5).abs() + 0.1
        return lambda weight, norm: Int8Matrix.of(weight.T, peaks, norm), 0.03
    count = {"whole": 1, "pieces": 4, "bfloat16": 1}[request.param]
    monkeypatch.setattr(thin, "_pieces", lambda weight: count)
    dtype = torch.bfloat16 if request.param == "bfloat16" else torch.float32
    return lambda weight, norm: Thin.of(
        weight.to(dtype), norm
    ), 0.02 if request.param == "bfloat16" else 1e-6


@pytest.mark.parametrize("rows", [1, 7, 40])
@pytest.mark.parametrize("normed", [False, True])
def test_every_form_says_the_same(form, rows: int, normed: bool):
    make, near = form
    x, weight, residual = _draw(rows, K, seed=2), _draw(K, N, seed=3), _draw(rows, N, seed=4)
    norm = _norm() if normed else None
    matrix = make(weight, norm)
    # by hand, in float64
    inputs = x.double()
    if norm is not None:
        inputs = (
            inputs / (inputs.square().mean(-1, keepdim=True) + norm.epsilon).sqrt() * norm.weight_K
        )
    wanted = inputs @ weight.double()
    gate, up = wanted.chunk(2, dim=1)
    for found, exact in (
        (matrix.inputs(x), inputs),
        (matrix.product(x), wanted),
        (matrix.added(residual, x), residual + wanted),
        (matrix.gated(x, F.silu), F.silu(gate) * up),
    ):
        assert found.is_contiguous()
        assert found.dtype == torch.float32
        assert float((found - exact).norm() / exact.norm()) < near


def test_other_numbers_go_into_the_same_memory(form):
    make, near = form
    x, weight = _draw(9, K, seed=2), _draw(K, N, seed=3)
    matrix = make(_draw(K, N, seed=6), _norm())
    if isinstance(matrix, Int8Matrix):
        return  # rounded anew each time
    renewed = matrix.renewed(weight, None)
    if not matrix.weight.is_mkldnn:
        assert renewed.weight.data_ptr() == matrix.weight.data_ptr()
    wanted = x @ weight
    assert float((renewed.product(x) - wanted).norm() / wanted.norm()) < near


def test_pieces_are_even_and_not_too_narrow(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(thin, "use_fast_exact_matmul", lambda: False)
    for threads, columns, count in (
        (1, 960, 1),
        (2, 960, 4),
        (2, 576, 4),
        (2, 100, 1),
        (16, 960, 12),
        (16, 3072, 32),
        (3, 960, 6),
        (2, 257, 1),
    ):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert thin._pieces(torch.empty(8, columns)) == count
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert thin._pieces(torch.empty(8, 960, dtype=torch.bfloat16)) == 1
    # oneDNN shares thin products out well
    monkeypatch.setattr(thin, "use_fast_exact_matmul", lambda: True)
    assert thin._pieces(torch.empty(8, 960)) == 1


def test_with_8_bits_a_row_gives_the_same_bits_in_any_company():
    if not int8.available():
        pytest.skip("no 8-bit products here")
    x = _draw(33, K)
    matrix = Int8Matrix.of(_draw(N, K, seed=3), _draw(K, seed=5).abs() + 0.1, _norm())
    together = matrix.added(torch.ones(33, N), x)
    for row in (0, 7, 32):
        assert torch.equal(matrix.added(torch.ones(1, N), x[row : row + 1])[0], together[row])
