"""Best of n: by hand, against every draw listed, against Monte Carlo, against every subset."""

from __future__ import annotations

import math
from itertools import combinations, product

import numpy as np
import pytest

from burnish.statistics import best_of_n


def test_eight_outcomes_the_best_of_sixty_four():
    even = np.full(8, 1 / 8)
    after = best_of_n.distribution(even, np.arange(8), 64)
    assert after[7] == pytest.approx(1 - (7 / 8) ** 64)
    assert best_of_n.kl(after, even) == pytest.approx(2.078, abs=5e-4)
    assert best_of_n.kl_bound(64) == pytest.approx(math.log(64) - 63 / 64)


def test_two_coins_by_hand():
    # the better of two: 1 - 0.7² = 0.51
    assert best_of_n.distribution([0.7, 0.3], [0, 1], 2) == pytest.approx([0.49, 0.51])


def test_every_draw_of_a_small_world():
    chances, scores = np.array([0.1, 0.2, 0.3, 0.4]), np.array([1.0, 2.0, 2.0, 0.0])
    expected = np.zeros(4)
    for draw in product(range(4), repeat=3):
        highest = max(scores[one] for one in draw)
        tied = [one for one in draw if scores[one] == highest]
        for one in tied:
            expected[one] += np.prod(chances[list(draw)]) / len(tied)
    assert best_of_n.distribution(chances, scores, 3) == pytest.approx(expected)


def test_a_bound_is_a_bound_and_one_of_one_changes_nothing():
    rng = np.random.default_rng(0)
    chances = rng.dirichlet(np.full(30, 0.5))
    scores = rng.integers(5, size=30).astype(float)
    for n in (1, 2, 10, 1000):
        after = best_of_n.distribution(chances, scores, n)
        assert after.sum() == pytest.approx(1.0)
        assert best_of_n.kl(after, chances) <= best_of_n.kl_bound(n) + 1e-12
    assert best_of_n.distribution(chances, scores, 1) == pytest.approx(chances)


def test_monte_carlo_agrees():
    rng = np.random.default_rng(1)
    chances, scores, values = rng.dirichlet(np.ones(20)), rng.normal(size=20), rng.normal(size=20)
    expected = best_of_n.distribution(chances, scores, 7) @ values
    drawn = rng.choice(20, size=(40_000, 7), p=chances)
    best = drawn[np.arange(40_000), scores[drawn].argmax(axis=1)]
    error = values[best].std() / 200
    assert values[best].mean() == pytest.approx(expected, abs=4 * error)


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_the_estimate_is_the_mean_over_every_subset(n: int):
    scores = np.array([0.5, 2.0, 2.0, -1.0, 2.0, 0.5])
    values = np.array([1.0, 5.0, -3.0, 2.0, 4.0, 7.0])
    each = []
    for subset in combinations(range(6), n):
        highest = max(scores[list(subset)])
        each.append(np.mean([values[one] for one in subset if scores[one] == highest]))
    assert best_of_n.estimate(scores, values, n) == pytest.approx(np.mean(each))


def test_the_weights_of_many_answers_add_up():
    values = np.ones(65_536)
    scores = np.random.default_rng(2).normal(size=65_536)
    assert best_of_n.estimate(scores, values, 1024) == pytest.approx(1.0)
    # the expected share of the best of n that lies under the median is 2⁻ⁿ
    low = (scores < np.median(scores)).astype(float)
    assert best_of_n.estimate(scores, low, 4) == pytest.approx(2.0**-4, abs=1e-4)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="1 <= n <= 3"):
        best_of_n.estimate([1, 2, 3], [1, 2, 3], 4)
    with pytest.raises(ValueError, match="one length"):
        best_of_n.estimate([1, 2, 3], [1, 2], 1)
    with pytest.raises(ValueError, match="add up to 1"):
        best_of_n.distribution([0.5, 0.6], [0, 1], 2)
    with pytest.raises(ValueError, match="n >= 1"):
        best_of_n.kl_bound(0)
