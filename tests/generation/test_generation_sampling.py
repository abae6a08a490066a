"""Sampling is exact: it follows the distribution, and its random numbers belong to the request."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from burnish.generation.base import SamplingParams, request_seed
from burnish.generation.sampling import invert_cdf, penalise_repetition, sample, uniforms


def _many(logits: torch.Tensor, count: int, **options: float) -> tuple[torch.Tensor, torch.Tensor]:
    u = uniforms(np.arange(count, dtype=np.uint64), np.zeros(count, dtype=np.uint64))
    return sample(logits.expand(count, -1), u, temperature=1.0, **options)


def test_uniforms_are_uniform_and_reproducible():
    seeds, places = np.arange(20_000, dtype=np.uint64), np.full(20_000, 7, dtype=np.uint64)
    u = uniforms(seeds, places)
    assert kstest(u.numpy(), "uniform").pvalue > 0.001
    assert torch.equal(uniforms(seeds[5:6], places[5:6]), u[5:6])
    assert not torch.equal(uniforms(seeds, places + np.uint64(1)), u)


def test_sampling_follows_the_distribution():
    logits = torch.randn(1, 600, generator=torch.Generator().manual_seed(0)) * 2
    tokens, logprobs = _many(logits, 50_000)
    expected = logits.softmax(-1)[0].double().numpy()
    counts = np.bincount(tokens.numpy(), minlength=600)
    common = expected > 1e-3
    observed = np.append(counts[common], counts[~common].sum())
    shares = np.append(expected[common], expected[~common].sum())
    assert chisquare(observed, shares / shares.sum() * observed.sum()).pvalue > 0.001
    torch.testing.assert_close(logprobs, logits.log_softmax(-1)[0][tokens])


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"top_k": 2}, [0.5, 0.3]),
        ({"top_p": 0.7}, [0.5, 0.3]),
        ({"top_k": 3, "top_p": 0.45}, [0.5]),
        ({"min_p": 0.5}, [0.5, 0.3]),
        ({"min_p": 0.7, "top_k": 3}, [0.5]),
        ({"min_p": 0.3, "top_p": 0.6}, [0.5, 0.3]),
    ],
)
def test_truncation_renormalizes_what_is_kept(options: dict, kept: list[float]):
    tokens, logprobs = _many(torch.tensor([[0.2, 0.5, 0.3]]).log(), 4000, **options)
    by_token = {1: 0.5, 2: 0.3}
    for token in tokens.unique().tolist():
        share = by_token[token] / sum(kept)
        assert abs(float((tokens == token).float().mean()) - share) < 0.03
        torch.testing.assert_close(logprobs[tokens == token][0].exp(), torch.tensor(share))
    assert len(tokens.unique()) == len(kept)


@pytest.mark.parametrize(
    "options",
    [
        {"top_p": 0.9},
        {"top_p": 0.9999},
        {"top_p": 0.3, "min_p": 0.2},
        {"top_k": 40, "top_p": 0.8},
        {"min_p": 0.05},
        {"top_k": 5, "min_p": 0.4},
    ],
)
@pytest.mark.parametrize("sharpness", [0.3, 3.0])
def test_truncation_keeps_what_transformers_keeps(options: dict, sharpness: float):
    """The oracle: transformers' warpers. The flat rows make the nucleus outgrow the first
    candidates."""
    logits = torch.randn(4, 3000, generator=torch.Generator().manual_seed(1)) * sharpness
    expected = logits
    for name, warper in (
        ("top_k", TopKLogitsWarper),
        ("top_p", TopPLogitsWarper),
        ("min_p", MinPLogitsWarper),
    ):
        if name in options:
            expected = warper(options[name])(None, expected)
    expected = expected.log_softmax(-1)
    for row in range(4):
        tokens, logprobs = _many(logits[row : row + 1], 3000, **options)
        torch.testing.assert_close(logprobs, expected[row][tokens], atol=1e-5, rtol=1e-5)


def test_repetition_penalty_is_that_of_transformers():
    logits = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[1, 2, 2, 7], [0, 4, 5, 6]])
    seen = torch.zeros(2, 50, dtype=torch.bool).scatter_(1, ids, True)
    expected = RepetitionPenaltyLogitsProcessor(1.3)(ids, logits.clone())
    torch.testing.assert_close(penalise_repetition(logits, seen, 1.3), expected)


def test_temperature_zero_is_the_most_likely_token():
    tokens, logprobs = sample(
        torch.tensor([[0.1, 3.0, 1.0]]), torch.tensor([0.99]), temperature=0.0
    )
    assert tokens.tolist() == [1]
    torch.testing.assert_close(logprobs, torch.tensor([[0.1, 3.0, 1.0]]).log_softmax(-1)[:, 1])


@settings(deadline=None)
@given(st.integers(1, 700), st.floats(0, 1, exclude_max=True), st.integers(0, 10**6))
def test_a_token_without_probability_is_never_drawn(width: int, u: float, seed: int):
    p = torch.rand(1, width, generator=torch.Generator().manual_seed(seed))
    p[torch.rand(1, width, generator=torch.Generator().manual_seed(seed + 1)) < 0.7] = 0
    p[0, seed % width] = 1.0
    index = int(invert_cdf(p / p.sum(), torch.tensor([u], dtype=torch.float64)))
    assert p[0, index] > 0
    cumulative = (p / p.sum()).double().cumsum(-1)[0]
    assert cumulative[index] > u - 1e-5
    assert index == 0 or cumulative[index - 1] <= u + 1e-5


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_new_tokens": 0},
        {"max_new_tokens": 4, "top_p": 0.0},
        {"max_new_tokens": 4, "temperature": -1.0},
        {"max_new_tokens": 4, "min_new_tokens": 5},
        {"max_new_tokens": 4, "min_p": 1.5},
        {"max_new_tokens": 4, "repetition_penalty": 0.0},
        {"max_new_tokens": 4, "stop": ("",)},
        {"max_new_tokens": 4, "stop": ("a",), "min_new_tokens": 1},
    ],
)
def test_impossible_parameters_are_refused(wrong: dict):
    with pytest.raises(ValueError, match=r"must|in \(0, 1\]"):
        SamplingParams(**wrong)


def test_request_seeds_differ_by_each_part():
    assert (
        len(
            {
                request_seed(0, "a", 1),
                request_seed(0, "a", 2),
                request_seed(1, "a", 1),
                request_seed(0, "b", 1),
            }
        )
        == 4
    )
