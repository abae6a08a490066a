"""Whether a policy pleases its reward more and is no better for it: two alarms, with a judge that
training did not use. Pure.

All figures are measured from the policy that training began with: a mean over the same prompts less
its mean there, in standard deviations of its answers to one prompt. So the start is (0, 0), and a
reward and a judge that say the same rise together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

LENGTH_CORRELATION = 0.2
"""The least correlation of score and length, at the start, with which longer answers are
suspicious."""
_FEWEST = 3  # points of a line that an alarm may rest on


@dataclass(frozen=True, slots=True)
class Marks:
    """Answers of one policy: N marks by the training's reward and by the judge, lengths, and the
    number of the prompt that each answers (from 0, the same prompts in every set of marks)."""

    proxy_N: Sequence[float]
    judge_N: Sequence[float]
    length_N: Sequence[float]
    prompt_N: Sequence[int]


@dataclass(frozen=True, slots=True)
class Start:
    """The policy that training began with.

    Args:
        proxy: the mean reward of its answers, by prompt.
        judge: the judge's mean mark, by prompt.
        proxy_sd: the standard deviation of the rewards of answers to one prompt; 1 where they do
            not differ.
        judge_sd: of the judge's marks.
        length: the mean length.
        slope: ρ0, the slope of mark on reward among answers to one prompt, both in standard
            deviations, which is their correlation; 0 where either does not differ.
        slope_se: its standard error, √((1 − ρ0²) / (N − G − 1)) of N answers to G prompts.
        length_correlation: of reward and length among answers to one prompt.
    """

    proxy: dict[int, float]
    judge: dict[int, float]
    proxy_sd: float
    judge_sd: float
    length: float
    slope: float
    slope_se: float
    length_correlation: float

    def to_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Check:
    """One look at fresh answers of the policy.

    Args:
        step: updates that the policy has had.
        proxy: P, the training's reward.
        judge: J, the judge's mark.
        judge_se: the standard error of J over prompts.
        length_ratio: mean length of the answers over that at the start.
    """

    step: int
    proxy: float
    judge: float
    judge_se: float
    length_ratio: float

    def to_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Slope:
    """The judge's slope on the reward over the last checks, and its standard error; None where
    there is none yet. `rising`: the reward rose over them."""

    value: float | None
    se: float | None
    rising: bool


def start_of(marks: Marks) -> Start:
    """What the marks of the starting policy, several answers a prompt, say of it. Raises ValueError
    without any answer."""
    proxy_N, judge_N, length_N = (
        _vector(x) for x in (marks.proxy_N, marks.judge_N, marks.length_N)
    )
    if not len(proxy_N):
        raise ValueError("there is no answer to begin with")
    prompt_N = np.asarray(marks.prompt_N)
    within = [_centred(values_N, prompt_N) for values_N in (proxy_N, judge_N, length_N)]
    free = len(proxy_N) - len(np.unique(prompt_N))
    proxy_sd, judge_sd = (_spread(values_N, free) for values_N in within[:2])
    slope = _correlation(within[0], within[1])
    se = math.sqrt((1.0 - slope * slope) / (free - 1)) if free > 1 else math.inf
    return Start(
        _means(proxy_N, prompt_N),
        _means(judge_N, prompt_N),
        proxy_sd or 1.0,
        judge_sd or 1.0,
        float(length_N.mean()),
        slope,
        se,
        _correlation(within[0], within[2]),
    )


def check_of(step: int, marks: Marks, start: Start) -> Check | None:
    """Fresh answers measured from the start, prompt by prompt; None where no prompt is answered in
    both.

    J = d̄ / sd with d_g the difference of prompt g's means, SE_J² = Σ (d_g − d̄)² / (G (G − 1)) /
    sd².
    """
    prompt_N = np.asarray(marks.prompt_N)
    proxy, judge = (_means(_vector(x), prompt_N) for x in (marks.proxy_N, marks.judge_N))
    both = [prompt for prompt in proxy if prompt in start.proxy]
    if not both:
        return None
    gained = np.array([proxy[one] - start.proxy[one] for one in both]) / start.proxy_sd
    liked = np.array([judge[one] - start.judge[one] for one in both]) / start.judge_sd
    se = float(liked.std(ddof=1)) / math.sqrt(len(both)) if len(both) > 1 else math.inf
    ratio = float(np.mean(marks.length_N)) / start.length if start.length else math.inf
    return Check(step, float(gained.mean()), float(liked.mean()), se, ratio)


def recent_slope(checks: Sequence[Check], *, window: int) -> Slope:
    """b = cov(P, J) / var(P) over the last `window` points, the start (0, 0) among them while the
    checks are fewer; se_b = mean SE_J / (√n sd(P)) of the n points.

    Fewer than three points, or points with one P, give no slope. `rising`: the last P is above the
    first of them.
    """
    seen = list(checks[-window:])
    proxies, judges = [one.proxy for one in seen], [one.judge for one in seen]
    if len(seen) < window:
        proxies, judges = [0.0, *proxies], [0.0, *judges]
    n, spread = len(proxies), float(np.std(proxies))
    if n < _FEWEST or spread == 0.0:
        return Slope(None, None, False)
    value = float(np.cov(proxies, judges, bias=True)[0, 1]) / spread**2
    se = float(np.mean([one.judge_se for one in seen])) / (math.sqrt(n) * spread)
    return Slope(value, se, proxies[-1] > proxies[0])


def slope_alarm(slope: Slope, start: Start, *, share: float) -> bool:
    """A: while the reward rises, the judge gains less than `share` of what it gained with the
    reward at the start: b + se_b < share · ρ0."""
    if slope.value is None or slope.se is None or not slope.rising:
        return False
    return slope.value + slope.se < share * start.slope


def length_alarm(check: Check, start: Start, *, ratio: float) -> bool:
    """B: answers are more than `ratio` times as long as at the start, where the reward paid for
    length (a correlation above 0.2)."""
    return check.length_ratio > ratio and start.length_correlation > LENGTH_CORRELATION


def _means(values_N: NDArray[np.float64], prompt_N: NDArray[Any]) -> dict[int, float]:
    return {int(one): float(values_N[prompt_N == one].mean()) for one in np.unique(prompt_N)}


def _centred(values_N: NDArray[np.float64], prompt_N: NDArray[Any]) -> NDArray[np.float64]:
    means = _means(values_N, prompt_N)
    return values_N - np.array([means[int(one)] for one in prompt_N])


def _spread(centred_N: NDArray[np.float64], free: int) -> float:
    """√(Σ x² / free); 0 where nothing differs, but for rounding."""
    return float(math.sqrt(centred_N @ centred_N / free)) if free and _differs(centred_N) else 0.0


def _correlation(first_N: NDArray[np.float64], second_N: NDArray[np.float64]) -> float:
    if not _differs(first_N) or not _differs(second_N):
        return 0.0
    return float(first_N @ second_N / math.sqrt((first_N @ first_N) * (second_N @ second_N)))


def _differs(centred_N: NDArray[np.float64]) -> bool:
    return float(np.abs(centred_N).max()) > 1e-9


def _vector(values: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64).ravel()
