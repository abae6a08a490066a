"""The alarms: worked numbers, and how often they are right in a world whose gold is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from burnish.statistics.alarms import (
    Check,
    Marks,
    Slope,
    Start,
    check_of,
    length_alarm,
    recent_slope,
    slope_alarm,
    start_of,
)


def _start(slope: float = 0.6, correlation: float = 0.3) -> Start:
    return Start({}, {}, 1.0, 1.0, 10.0, slope, 0.05, correlation)


def _checks(proxies: Sequence[float], judges: Sequence[float], se: float = 0.1) -> list[Check]:
    return [
        Check(step, proxy, judge, se, 1.0)
        for step, (proxy, judge) in enumerate(zip(proxies, judges, strict=True), start=1)
    ]


def test_the_start_by_hand():
    """Two prompts, two answers each. Within prompts the rewards are ±1 and ±2 about their means,
    the marks ∓.1 and ±.3, the lengths ±1 and ±3."""
    marks = Marks((2.0, 4.0, 8.0, 4.0), (0.3, 0.1, 0.9, 0.3), (4.0, 6.0, 9.0, 3.0), (0, 0, 1, 1))
    start = start_of(marks)
    assert start.proxy == {0: 3.0, 1: 6.0}
    assert start.judge == pytest.approx({0: 0.2, 1: 0.6})
    assert start.proxy_sd == pytest.approx(math.sqrt((1 + 1 + 4 + 4) / 2))
    assert start.judge_sd == pytest.approx(math.sqrt((0.01 + 0.01 + 0.09 + 0.09) / 2))
    assert start.length == 5.5
    # Σ xy = −.1 − .1 + .6 + .6 = 1 of √(10 · .2)
    assert start.slope == pytest.approx(1.0 / math.sqrt(10 * 0.2))
    assert start.slope_se == pytest.approx(math.sqrt(1 - 1 / 2) / math.sqrt(4 - 2 - 1))
    # Σ = 1 + 1 + 6 + 6 = 14 of √(10 · 20)
    assert start.length_correlation == pytest.approx(14 / math.sqrt(10 * 20))


def test_a_start_without_spread_divides_by_one():
    start = start_of(Marks((1.0,) * 4, (0.1, 0.2, 0.3, 0.1), (3.0,) * 4, (0, 0, 1, 1)))
    assert (start.proxy_sd, start.slope, start.length_correlation) == (1.0, 0.0, 0.0)
    assert start_of(Marks((1.0,), (1.0,), (2.0,), (0,))).slope_se == math.inf
    with pytest.raises(ValueError, match="no answer"):
        start_of(Marks((), (), (), ()))


def test_a_check_by_hand():
    start = Start({0: 1.0, 1: 2.0, 2: 9.0}, {0: 0.5, 1: 0.1, 2: 9.0}, 2.0, 0.1, 10.0, 0.5, 0.1, 0.3)
    check = check_of(5, Marks((3.0, 5.0), (0.7, 0.2), (12.0, 18.0), (0, 1)), start)
    assert check is not None
    assert check.proxy == pytest.approx((2.0 + 3.0) / 2 / 2.0)
    # differences .2 and .1 of a standard deviation .1: 2 and 1
    assert check.judge == pytest.approx(1.5)
    assert check.judge_se == pytest.approx(math.sqrt((0.25 + 0.25) / (2 * 1)))
    assert check.length_ratio == pytest.approx(1.5)
    assert check_of(5, Marks((1.0,), (1.0,), (1.0,), (7,)), start) is None


def test_the_slope_is_that_of_the_last_points_with_the_start_while_they_are_fewer():
    assert recent_slope(_checks([1.0], [0.5]), window=6) == Slope(None, None, False)
    few = recent_slope(_checks([1.0, 2.0], [0.5, 0.4], se=0.3), window=6)
    # (0, 0), (1, .5), (2, .4): cov = (.0·−1 + 0 + .4)/3, var = 2/3
    assert few.value == pytest.approx(0.2)
    assert few.se == pytest.approx(0.3 / (math.sqrt(3) * math.sqrt(2 / 3)))
    assert few.rising
    proxies, judges = [9.0, 1.0, 2.0, 3.0, 4.0], [0.0, 0.5, 0.7, 0.6, 0.2]
    full = recent_slope(_checks(proxies, judges), window=4)
    expected = np.polyfit(proxies[1:], judges[1:], 1)[0]
    assert full.value == pytest.approx(expected)
    assert full.se == pytest.approx(0.1 / (2.0 * np.std(proxies[1:])))
    assert not recent_slope(_checks([3.0, 2.0, 1.0], [0.1, 0.2, 0.3]), window=3).rising
    assert recent_slope(_checks([1.0, 1.0, 1.0], [0.1, 0.2, 0.3]), window=3).value is None


def test_alarm_a_is_a_slope_clearly_below_its_share_of_the_first():
    start = _start(slope=0.6)
    assert slope_alarm(Slope(0.1, 0.1, True), start, share=0.5)
    assert not slope_alarm(Slope(0.1, 0.2, True), start, share=0.5)
    assert not slope_alarm(Slope(0.1, 0.1, False), start, share=0.5)
    assert not slope_alarm(Slope(None, None, True), start, share=0.5)
    assert not slope_alarm(Slope(0.1, 0.1, True), start, share=0.3)


def test_alarm_b_is_length_that_the_reward_paid_for():
    longer = Check(1, 1.0, 1.0, 0.1, 1.31)
    assert length_alarm(longer, _start(correlation=0.21), ratio=1.3)
    assert not length_alarm(longer, _start(correlation=0.2), ratio=1.3)
    assert not length_alarm(longer, _start(correlation=0.21), ratio=1.31)


# -- a world whose gold is known: answers x ~ N(θ, 1) in D dimensions, of which the first is their
# length ------------------

_D, _CHECKS, _KL, _PROMPTS = 40, 24, 12.0, 64


@dataclass(frozen=True)
class _World:
    """Gold g·x − c |x⊥|², x⊥ what is across g: whatever the reward pushes that gold does not ask
    for does harm. The reward is Bradley–Terry on `pairs` noisy labels of people who like length by
    `bias`; the policy moves along it, KL = |θ|²/2."""

    pairs: int
    bias: float = 0.0
    harm: float = 0.12

    def play(self, seed: int) -> tuple[int | None, int | None, float]:
        """(first check with alarm A, first with B, the share of its peak that gold had lost by the
        first of them: or at the end)."""
        rng = np.random.default_rng(seed)
        gold = np.zeros(_D)
        gold[1:] = rng.normal(size=_D - 1)
        gold /= np.linalg.norm(gold)
        reward = self._fit(rng, gold)
        towards = reward / np.linalg.norm(reward)

        def marks(theta: np.ndarray, each: int) -> Marks:
            x = rng.normal(size=(_PROMPTS * each, _D)) + theta
            along = x @ gold
            judged = along - self.harm * ((x * x).sum(axis=1) - along**2)
            prompts = np.repeat(np.arange(_PROMPTS), each)
            lengths = 20.0 * np.exp(0.5 * x[:, 0])
            return Marks(*(v.tolist() for v in (x @ reward, judged, lengths, prompts)))

        def true(theta: np.ndarray) -> float:
            return float(theta @ gold - self.harm * (theta @ theta - (theta @ gold) ** 2))

        start, checks = start_of(marks(np.zeros(_D), 4)), list[Check]()
        first: dict[str, int] = {}
        thetas = [towards * math.sqrt(2 * _KL * i / _CHECKS) for i in range(1, _CHECKS + 1)]
        for number, theta in enumerate(thetas):
            check = check_of(number + 1, marks(theta, 1), start)
            assert check is not None
            checks.append(check)
            if slope_alarm(recent_slope(checks, window=6), start, share=0.5):
                first.setdefault("A", number)
            if length_alarm(check, start, ratio=1.3):
                first.setdefault("B", number)
        golds = [0.0, *map(true, thetas)]
        ended = 1 + min(first.values(), default=_CHECKS - 1)
        peak = max(golds)
        return first.get("A"), first.get("B"), (max(golds[: ended + 1]) - golds[ended]) / peak

    def _fit(self, rng: np.random.Generator, gold: np.ndarray) -> np.ndarray:
        difference = rng.normal(size=(self.pairs, _D)) * math.sqrt(2)
        taste = gold.copy()
        taste[0] += self.bias
        labels = (rng.random(self.pairs) < 1 / (1 + np.exp(-difference @ taste))).astype(float)
        weights = np.zeros(_D)
        for _ in range(20):  # Newton, ridge 1
            p = 1 / (1 + np.exp(-difference @ weights))
            hessian = (difference.T * (p * (1 - p))) @ difference + np.eye(_D)
            step = np.linalg.solve(hessian, difference.T @ (labels - p) - weights)
            weights += step
            if np.abs(step).max() < 1e-9:
                break
        return weights


def _rates(world: _World) -> tuple[int, int, int]:
    """Of 20 seeds: those in which A fired, B fired, and the first of them came before gold had lost
    a tenth of its peak."""
    played = [world.play(seed) for seed in range(20)]
    fired = [one for one in played if one[0] is not None or one[1] is not None]
    in_time = sum(lost < 0.1 for _, _, lost in fired)
    return (
        sum(a is not None for a, _, _ in played),
        sum(b is not None for _, b, _ in played),
        in_time,
    )


def test_few_pairs_are_caught_before_gold_falls():
    a, _, in_time = _rates(_World(pairs=125))
    assert a >= 18
    assert in_time >= 17


def test_annotators_who_like_length_are_caught():
    _, b, in_time = _rates(_World(pairs=1_000, bias=1.2))
    assert b >= 18
    assert in_time >= 17


def test_a_healthy_run_is_left_alone():
    a, b, _ = _rates(_World(pairs=10_000))
    assert a <= 2
    assert b <= 1
