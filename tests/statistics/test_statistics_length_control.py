"""Win rates at equal length: against the posterior by brute force, and verdicts that length alone
explains."""

from __future__ import annotations

import numpy as np
import pytest

from burnish.statistics.length_control import length_controlled


def test_the_mode_is_that_of_a_grid():
    wins, gaps = [1.0, 1.0, 0.0, 0.5, 1.0], [10.0, 4.0, -3.0, 0.0, 2.0]
    found = length_controlled(wins, gaps, groups=range(5), resamples=10)
    beta, theta = np.meshgrid(np.linspace(-2, 3, 2001), np.linspace(-2, 3, 2001), indexing="ij")
    term = np.tanh(np.array(gaps) / np.std(gaps))
    total = -(beta**2) / 18 - theta**2 / 2
    for win, t in zip(wins, term, strict=True):
        logit = beta + theta * t
        total += win * logit - np.logaddexp(0, logit)
    best = np.unravel_index(total.argmax(), total.shape)
    assert found.value == pytest.approx(1 / (1 + np.exp(-beta[best])), abs=1e-3)
    assert found.n == 5


def test_a_win_that_length_explains_is_no_win_at_equal_length():
    rng = np.random.default_rng(0)
    gaps = rng.normal(8.0, 10.0, 400)  # mostly longer
    longer = (gaps + rng.normal(0.0, 4.0, 400) > 0).astype(float)
    found = length_controlled(longer, gaps, groups=range(400))
    assert longer.mean() > 0.7
    assert found.low < 0.5 < found.high
    fair = (rng.random(400) < 0.7).astype(float)  # a win that has nothing to do with it stays
    assert length_controlled(fair, gaps, groups=range(400)).low > 0.5


def test_equal_lengths_leave_the_raw_rate_but_for_the_prior():
    wins = [1.0] * 60 + [0.0] * 40
    found = length_controlled(wins, [5.0] * 100, groups=range(100))
    assert found.value == pytest.approx(0.6, abs=0.002)
    assert found.low < 0.6 < found.high


def test_prompts_are_the_unit():
    wins, gaps = [1.0, 0.0] * 20, [1.0, -1.0] * 20
    alone = length_controlled(wins, gaps, groups=range(40))
    clustered = length_controlled(wins * 4, gaps * 4, groups=[*range(40)] * 4)
    assert (clustered.low, clustered.high) == pytest.approx((alone.low, alone.high), abs=0.05)
    assert length_controlled([1.0], [0.0], groups=["a"]).method == "one unit"
    with pytest.raises(ValueError, match="equally many"):
        length_controlled([1.0], [0.0, 1.0], groups=["a"])
