from __future__ import annotations

import json
import math
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from burnish.statistics.estimate import Estimate
from burnish.statistics.uncertainty import (
    bootstrap_mean,
    bootstrap_share,
    holm,
    mcnemar_exact,
    paired_difference,
    pass_at_k,
    smallest_detectable_effect,
    wilson,
    win_rate,
)


def test_the_bootstrap_matches_the_enumerated_distribution_of_three_prompts():
    """All 27 draws of three prompts, written out; percentiles of a long bootstrap agree with
    theirs."""
    values = [0.0, 1.0, 5.0]
    means = sorted(sum(draw) / 3 for draw in product(values, repeat=3))
    # P(mean = 0) = 1/27 = 0.037 > 0.025, so the lower bound is 0; likewise the upper is 5.
    found = bootstrap_mean(values, resamples=50_000)
    assert (found.value, found.low, found.high, found.n) == (2.0, means[0], means[-1], 3)
    inner = bootstrap_mean(values, resamples=50_000, level=0.6)
    assert (inner.low, inner.high) == pytest.approx(
        (np.quantile(means, 0.2), np.quantile(means, 0.8)), abs=0.05
    )


def test_the_interval_is_that_of_the_normal_approximation_for_many_prompts():
    values = np.random.default_rng(3).normal(2.0, 1.5, 800)
    found = bootstrap_mean(values)
    half = 1.96 * values.std() / math.sqrt(800)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.05)
    assert found.value == pytest.approx(values.mean())


def test_completions_of_one_prompt_are_drawn_together():
    """Repeating every prompt's value nine times adds no information: the interval stays, where a
    naive one would shrink to a third."""
    values = np.random.default_rng(0).normal(size=50)
    once = bootstrap_mean(values)
    repeated = bootstrap_mean(np.repeat(values, 9), groups=np.repeat(np.arange(50), 9).tolist())
    naive = bootstrap_mean(np.repeat(values, 9))
    assert (repeated.low, repeated.high, repeated.n) == pytest.approx((once.low, once.high, 50))
    assert naive.high - naive.low < 0.4 * (once.high - once.low)


def test_prompts_of_unequal_size_weigh_by_their_values_in_any_order():
    values, groups = [1.0, 1.0, 1.0, 5.0], ["a", "a", "a", "b"]
    found = bootstrap_mean(values, groups=groups)
    # Draws: aa -> 1, ab -> 8/4 = 2, bb -> 5.
    assert (found.value, found.low, found.high, found.n) == (2.0, 1.0, 5.0, 2)
    shuffled = bootstrap_mean([1.0, 5.0, 1.0, 1.0], groups=["a", "b", "a", "a"])
    assert shuffled == found


def test_coverage_is_near_its_level_with_correlated_completions():
    """60 prompts × 3 completions sharing a prompt effect, true mean 0: 95 % intervals catch it
    about 95 % of the time."""
    rng, caught, trials = np.random.default_rng(1), 0, 300
    groups = np.repeat(np.arange(60), 3).tolist()
    for trial in range(trials):
        values = np.repeat(rng.normal(size=60), 3) + 0.5 * rng.normal(size=180)
        found = bootstrap_mean(values, groups=groups, resamples=600, seed=trial)
        caught += found.low <= 0.0 <= found.high
    assert 0.90 <= caught / trials <= 0.98


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    values = np.random.default_rng(0).normal(size=40)
    assert bootstrap_mean(values, seed=4) == bootstrap_mean(values, seed=4)
    assert bootstrap_mean(values, seed=4).low != bootstrap_mean(values, seed=5).low


def test_drawing_in_several_goes_is_the_same_as_drawing_at_once(monkeypatch):
    values = np.random.default_rng(0).normal(size=40)
    whole = bootstrap_mean(values, resamples=1000)
    monkeypatch.setattr("burnish.statistics.uncertainty._DRAWS_AT_ONCE", 40 * 7)
    assert bootstrap_mean(values, resamples=1000) == whole


def test_one_prompt_has_no_interval_and_says_so_in_json():
    found = bootstrap_mean([3.0, 4.0], groups=["a", "a"])
    assert (found.value, found.low, found.high, found.n) == (3.5, -math.inf, math.inf, 1)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False)) == {
        "value": 3.5, "low": None, "high": None, "n": 1, "method": "one unit",
    }  # fmt: skip


def test_prompts_that_all_agree_are_marked_as_without_spread():
    assert bootstrap_mean([2.0, 2.0, 2.0]) == Estimate(2.0, 2.0, 2.0, 3, "no spread")


@pytest.mark.parametrize("bad", [[], [[1.0]], [1.0, math.nan], [math.inf]])
def test_what_cannot_be_averaged_is_refused(bad):
    with pytest.raises(ValueError, match="values"):
        bootstrap_mean(bad)


def test_lists_of_different_length_are_refused():
    with pytest.raises(ValueError, match="2 and 1"):
        paired_difference([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="2 values"):
        bootstrap_mean([1.0, 2.0], groups=["a"])
    with pytest.raises(ValueError, match="level"):
        bootstrap_mean([1.0, 2.0], level=95)


def test_pairing_removes_what_prompts_have_in_common():
    rng = np.random.default_rng(2)
    prompt, noise = rng.normal(0, 10, 100), rng.normal(0, 0.1, 100)
    found = paired_difference(prompt + 0.5 + noise, prompt)
    assert found.value == pytest.approx(0.5, abs=0.05)
    assert found.high - found.low < 0.1


def test_win_rate_counts_ties_half_and_averages_over_prompts():
    """Prompt a: win, tie; prompt b: loss, loss; prompt c: win, win. (1 + ½ + 0 + 0 + 1 + 1) / 6."""
    found = win_rate([2, 1, 0, 0, 3, 3], [1, 1, 1, 1, 1, 1], groups=["a", "a", "b", "b", "c", "c"])
    assert (found.value, found.n) == (pytest.approx(3.5 / 6), 3)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=20))
def test_win_rates_of_two_models_add_up_to_one(pairs):
    a, b = zip(*pairs, strict=True)
    forth, back = win_rate(a, b, resamples=200), win_rate(b, a, resamples=200)
    assert forth.value + back.value == pytest.approx(1.0)
    assert forth.low == pytest.approx(1.0 - back.high, abs=1e-9)
    assert 0.0 <= forth.low <= forth.value <= forth.high <= 1.0


def test_winning_every_prompt_does_not_make_the_next_one_certain():
    found = win_rate([1.0] * 10, [0.0] * 10)
    assert (found.value, found.high, found.method) == (1.0, 1.0, "wilson")
    assert found.low == pytest.approx(10 / (10 + 1.959964**2), abs=1e-6)  # p = 1: n / (n + z²)
    assert win_rate([1.0], [0.0]).n == 1


def test_shares_outside_zero_and_one_are_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        bootstrap_share([0.5, 1.5])


@given(st.integers(0, 40), st.integers(1, 40), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_agrees_with_scipy(successes, n, level):
    if successes > n:
        return
    found = wilson(successes, n, level=level)
    expected = stats.binomtest(successes, n).proportion_ci(confidence_level=level, method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_wilson_refuses_impossible_counts():
    for successes, n in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="proportion"):
            wilson(successes, n)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_exact_binomial_test(b, c):
    expected = stats.binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
    assert mcnemar_exact(b, c) == pytest.approx(expected)
    assert mcnemar_exact(b, c) == mcnemar_exact(c, b)


def test_mcnemar_by_hand():
    assert mcnemar_exact(0, 5) == 2 / 32
    assert mcnemar_exact(1, 5) == 2 * (1 + 6) / 64


def test_holm_by_hand():
    """Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1 = 0.02, 0.03, 0.06, 0.04; the last is raised
    to 0.06."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
    with pytest.raises(ValueError, match="p-values"):
        holm([1.2])


def test_smallest_detectable_effect_by_hand_and_by_simulation():
    assert smallest_detectable_effect(1.0, 100) == pytest.approx(
        (1.959964 + 0.841621) / 10, abs=1e-6
    )
    effect = smallest_detectable_effect(2.0, 50)
    means = np.random.default_rng(0).normal(effect, 2.0, (4000, 50)).mean(axis=1)
    assert np.mean(means > 1.959964 * 2.0 / math.sqrt(50)) == pytest.approx(0.8, abs=0.02)
    with pytest.raises(ValueError, match="std"):
        smallest_detectable_effect(math.nan, 10)


@given(
    st.integers(1, 7).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n)))
)
def test_pass_at_k_is_the_share_of_draws_with_a_right_one(case):
    n, c, k = case
    draws = list(combinations([True] * c + [False] * (n - c), k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, draws)) / len(draws))


def test_pass_at_k_where_the_plug_in_is_biased():
    assert pass_at_k(10, 2, 5) == pytest.approx(0.7778, abs=1e-4)
    assert pass_at_k(10_000, 1, 10) == pytest.approx(0.001)
    for n, c, k in ((4, 1, 5), (4, 5, 1), (4, -1, 1), (4, 1, 0)):
        with pytest.raises(ValueError, match="pass@k"):
            pass_at_k(n, c, k)
