"""Rankings of models, biases, pace: against worked arithmetic, enumeration and brute-force
optimisation."""

from __future__ import annotations

import math
from collections import Counter
from datetime import date
from itertools import product

import numpy as np
import pytest
from scipy.optimize import minimize

from burnish.annotation.agreement import Vote
from burnish.annotation.statistics.bias import holm, length_bias, logistic, position_bias
from burnish.annotation.statistics.pace import Price, Timed, drift, progress, share, speeds
from burnish.statistics.ranking import (
    Match,
    annotator_cycles,
    bradley_terry,
    elo,
    fit_bradley_terry,
    model_cycles,
)

DAY = date(2030, 1, 1)


def test_bradley_terry_of_two_models_by_hand():
    wins = np.array([[0.0, 7000.0], [3000.0, 0.0]])
    theta, log_nu = fit_bradley_terry(wins, np.zeros((2, 2)))
    # the prior moves it by less
    assert theta[0] - theta[1] == pytest.approx(math.log(7 / 3), abs=1e-3)
    assert log_nu == -math.inf
    # evenly matched, a fifth ties: ν / (2 + ν) = 1/5, ν = 1/2
    theta, log_nu = fit_bradley_terry(
        np.array([[0.0, 4000.0], [4000.0, 0.0]]), np.array([[0, 2000.0], [2000.0, 0]])
    )
    assert math.exp(log_nu) == pytest.approx(0.5, abs=1e-3)
    # ties as half wins: 7000 + 1000 of 11000... 8000 against 4000
    theta, _ = fit_bradley_terry(
        np.array([[0.0, 7000.0], [3000.0, 0.0]]),
        np.array([[0, 2000.0], [2000.0, 0]]),
        method="half",
    )
    assert theta[0] - theta[1] == pytest.approx(math.log(2), abs=1e-3)


def test_davidsons_model_is_the_optimum_of_its_likelihood():
    rng = np.random.default_rng(0)
    wins = rng.integers(0, 12, size=(4, 4)).astype(float)
    ties = rng.integers(0, 5, size=(4, 4)).astype(float)
    np.fill_diagonal(wins, 0)
    ties = np.triu(ties, 1) + np.triu(ties, 1).T

    def loss(x: np.ndarray) -> float:
        strength, nu, total = np.exp(x[:4]), math.exp(x[4]), 0.0
        for i in range(4):
            for j in range(4):
                if i == j:
                    continue
                tie = nu * math.sqrt(strength[i] * strength[j])
                whole = strength[i] + strength[j] + tie
                total -= wins[i, j] * math.log(strength[i] / whole) + ties[i, j] / 2 * math.log(
                    tie / whole
                )
        return total + (x[:4] ** 2).sum() / (2 * 9) + x[4] ** 2 / (2 * 100)

    best = minimize(loss, np.zeros(5), method="BFGS", options={"gtol": 1e-8}).x
    theta, log_nu = fit_bradley_terry(wins, ties)
    assert theta == pytest.approx(best[:4] - best[:4].mean(), abs=1e-4)
    assert log_nu == pytest.approx(best[4], abs=1e-4)


def test_the_ranking_has_intervals_over_prompts_and_survives_a_clean_sweep():
    matches = [Match(f"p{i}", "a", "b", 1.0) for i in range(20)]
    first, second = bradley_terry(matches, resamples=50)
    assert (first.model, second.model) == ("a", "b")
    assert math.isfinite(first.strength.value)
    assert (first.best, first.worst, second.best, second.worst) == (1, 1, 2, 2)
    assert first.comparisons == 20
    # Ten votes on each of two prompts that disagree: over prompts the interval is wide, whatever
    # the number of votes.
    split = [Match(p, "a", "b", v) for p, v in (("x", 1.0), ("y", 0.0)) for _ in range(10)]
    wide = bradley_terry(split, resamples=200)[0]
    assert wide.strength.low < -0.8 < 0.8 < wide.strength.high
    assert bradley_terry([]) == []


def test_elo_by_hand():
    rating = elo([Match("x", "a", "b", 1.0), Match("y", "a", "b", 0.5)])
    # 1000 each: a gains 16 · ½ = 8. Then a (1008) ties with b (992): expected 1 / (1 +
    # 10^(−16/400)) = 0.52301
    assert rating["a"] == pytest.approx(1008 + 16 * (0.5 - 1 / (1 + 10 ** (-16 / 400))))
    assert rating["a"] + rating["b"] == pytest.approx(2000)


def test_circles_of_models_are_found_and_unlikely_where_votes_are_many():
    circle = [("a", "b"), ("b", "c"), ("c", "a")]
    sure = [Match(f"p{i}", x, y, 1.0) for x, y in circle for i in range(40)]
    found = model_cycles(sure, draws=200)
    assert (found.observed, found.triples, found.examples) == (1, 1, (("a", "b", "c"),))
    # The best fit is three equal models: each majority falls either way, and 2 of the 8 outcomes
    # are circles.
    assert found.expected == pytest.approx(0.25, abs=0.1)
    straight = [
        Match(f"p{i}", x, y, 1.0)
        for x, y in (("a", "b"), ("b", "c"), ("a", "c"))
        for i in range(40)
    ]
    assert model_cycles(straight, draws=50).observed == 0
    assert model_cycles(straight[:40]).triples == 0


def test_circles_of_one_annotator_against_enumeration():
    error = 0.2
    outcomes = list(product([0.0, 1.0], repeat=3))
    votes = {
        ("a", str(i)): {(0, 1): x, (1, 2): y, (0, 2): z} for i, (x, y, z) in enumerate(outcomes)
    }
    found = annotator_cycles(votes, {"a": error})
    assert (found.observed, found.triples) == (2, 8)
    chance = sum(  # the true order is 0, 1, 2: every vote "0" is an error
        math.prod(error if v == 0.0 else 1 - error for v in votes["a", str(i)].values())
        for i, (x, y, z) in enumerate(outcomes)
        if x == y == 1.0 - z
    )
    assert found.expected == pytest.approx(8 * chance)
    tied = annotator_cycles({("a", "t"): {(0, 1): 1.0, (1, 2): 0.5, (0, 2): 0.0}}, {"a": error})
    assert tied.triples == 0


def _votes(firsts: list[bool], *, annotator: str = "a", first_shown: bool = True) -> list[Vote]:
    return [Vote(f"i{n}", 0, 1, annotator, float(won), first_shown) for n, won in enumerate(firsts)]


def test_the_sign_test_of_position_by_hand():
    result = position_bias(_votes([True] * 8 + [False] * 2))
    assert (result.share, result.n) == (0.8, 10)
    assert result.p_value == pytest.approx(2 * (45 + 10 + 1) / 1024)
    shown_last = position_bias(_votes([True] * 8 + [False] * 2, first_shown=False))
    assert shown_last.share == pytest.approx(0.2)
    # One ranking of three is one sign, not three votes: 2 of 3 pairs went to the earlier one.
    ranking = [
        Vote("i", 0, 1, "a", 1.0, True),
        Vote("i", 0, 2, "a", 1.0, True),
        Vote("i", 1, 2, "a", 0.0, True),
    ]
    assert position_bias(ranking).n == 1
    assert position_bias(_votes([])).n == 0


def test_length_bias_by_hand_and_by_scikit_learn():
    # The longer of (15 words, 7 words): log2(16/8) = 1. Of 40 items it wins 30; sides balanced in
    # both.
    words = {(f"i{n}", c): (15, 7)[c] for n in range(40) for c in (0, 1)}
    votes = [Vote(f"i{n}", 0, 1, "a", float(n < 30), n % 2 == 0) for n in range(40)]
    bias = length_bias(votes, words)
    assert bias is not None
    assert bias.odds_ratio == pytest.approx(30 / 10)
    assert bias.position_odds_ratio == pytest.approx(1.0)
    # one vote a cluster: variance Σ (y − p)² / (Σ p q)² · 40/39 = 40 · (.75 · .25) / (40 · .75 ·
    # .25)² · 40/39
    error = math.sqrt(1 / 7.5 * 40 / 39)
    assert bias.low == pytest.approx(3 * math.exp(-1.959964 * error))
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(5)
    x = np.column_stack([rng.normal(size=200), rng.choice([-1.0, 1.0], size=200)])
    y = (rng.random(200) < 1 / (1 + np.exp(-(0.8 * x[:, 0] + 0.3 * x[:, 1])))).astype(float)
    fit = logistic(x, y)
    assert fit is not None
    theirs = linear.LogisticRegression(C=1e12, fit_intercept=False, tol=1e-10).fit(x, y)
    assert fit[0] == pytest.approx(theirs.coef_[0], abs=1e-4)


def test_length_bias_stays_silent_where_it_cannot_know():
    words = {(f"i{n}", c): (15, 7)[c] for n in range(40) for c in (0, 1)}
    assert length_bias(_votes([True, False] * 4), words) is None  # too few
    assert length_bias(_votes([True] * 40), words) is None  # separated, and no variation
    same = dict.fromkeys(words, 5)
    assert (
        length_bias(
            [Vote(f"i{n}", 0, 1, "a", float(n % 3 == 0), n % 2 == 0) for n in range(40)], same
        )
        is None
    )


def test_clustered_errors_equal_the_sandwich_written_out():
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(30, 2)), rng.integers(0, 2, size=30).astype(float)
    names = [f"c{i // 3}" for i in range(30)]
    fit = logistic(x, y, clusters=names)
    assert fit is not None
    p = 1 / (1 + np.exp(-x @ fit[0]))
    bread = np.linalg.inv(sum(p[i] * (1 - p[i]) * np.outer(x[i], x[i]) for i in range(30)))
    sums = [sum(x[i] * (y[i] - p[i]) for i in range(3 * c, 3 * c + 3)) for c in range(10)]
    assert fit[1] == pytest.approx(bread @ sum(np.outer(s, s) for s in sums) @ bread * 10 / 9)


def test_holm_by_hand():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06}
    )
    adjusted = holm({"a": 0.01, "b": math.nan})
    assert adjusted["a"] == 0.01
    assert math.isnan(adjusted["b"])


def test_a_speeder_is_measured_by_words():
    answers = [Timed("slow", 50.0, 100, DAY) for _ in range(5)] + [
        Timed("usual", 40.0, 100, DAY) for _ in range(5)
    ]
    answers += [Timed("fast", 1.0, 10, DAY), *(Timed("fast", 10.0, 100, DAY) for _ in range(4))]
    found = speeds(answers)
    # seconds per word: 0.5, 0.4, 0.1; the project's is 0.4
    assert {name: round(s.ratio, 3) for name, s in found.items()} == {
        "slow": 1.25,
        "usual": 1.0,
        "fast": 0.25,
    }
    assert {name for name, s in found.items() if s.speeder} == {"fast"}
    assert not speeds(answers[:5] + answers[10:14])[
        "fast"
    ].speeder  # four answers are too few to say so


def test_drift_by_hand():
    outcomes = [
        (date(2030, 1, 1 + d), i < right) for d, right in enumerate((8, 5, 2)) for i in range(10)
    ]
    found = drift(outcomes)
    assert found.change == pytest.approx(-0.3)
    z = 6 / math.sqrt(0.25 * 20)
    assert found.p_value == pytest.approx(math.erfc(z / math.sqrt(2)))
    assert [row[1:] for row in found.days] == [(8, 10), (5, 10), (2, 10)]
    assert drift(outcomes[:10]).p_value == 1.0


def test_gold_share():
    passed = share(9, 10)
    assert passed.value == 0.9
    assert (passed.low, passed.high) == (
        pytest.approx(0.596, abs=1e-3),
        pytest.approx(0.982, abs=1e-3),
    )
    assert math.isnan(share(0, 0).value)


def test_progress_and_cost_by_hand():
    answers = Counter({"a": 3, "b": 1, "c": 0, "d": 2})
    timed = [
        Timed("x", 60.0, 10, DAY),
        Timed("x", 120.0, 10, DAY),
        Timed("y", 60.0, 10, date(2030, 1, 2)),
    ]
    found = progress(
        {i: answers[i] for i in "abcd"}, overlap=2, timed=timed, untimed=3, price=Price(0.5, 36.0)
    )
    assert (found.answered, found.needed, found.items_done, found.items) == (2 + 1 + 0 + 2, 8, 2, 4)
    # six answers at 0.50; 240 s measured and 3 · 80 s for the untimed at 36 an hour = 1 a hundred
    # seconds
    assert found.cost == pytest.approx(3.0 + 4.8)
    assert found.cost_to_end == pytest.approx(3 * 0.5 + 3 * 80 / 100)
    assert found.per_day == pytest.approx(1.5)
    assert found.days_left == pytest.approx(2.0)
    assert found.median_seconds == 60.0
