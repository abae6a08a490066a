"""A step's rollouts: prompts drawn, completions sampled and rewarded, groups that teach nothing
sampled anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from burnish.data.curriculum import PromptSource
from burnish.errors import UserError
from burnish.models.roles import View
from burnish.models.weights import led
from burnish.ranks import told
from burnish.records import LARGEST_REWARD, Prompt, Reward, Rollout
from burnish.trainers.online_settings import OnlineSettings


class Sampler(Protocol):
    """Writes completions with the policy's weights."""

    def generate(self, prompts: Sequence[Prompt], *, samples: int, round: int) -> list[Rollout]:
        """`samples` completions of each prompt, those of one prompt side by side; `round` varies
        the random numbers."""
        ...

    def load(self, view: View, *, version: int) -> None:
        """Take over new weights."""
        ...

    def sleep(self) -> None:
        """Give back what it holds of them: nothing is sampled before the next `load`."""
        ...


class FirstSampler:
    """The sampler that `make` gives on rank 0, asked there alone; in one process it is that one.

    Weights reach it from all ranks, each of which holds a part of them.
    """

    def __init__(self, view: View, make: Callable[[], Sampler]) -> None:
        self._sampler = led(view, make)

    def load(self, view: View, *, version: int) -> None:
        """Take over new weights."""
        led(view, lambda: self._own.load(view, version=version))

    def sleep(self) -> None:
        """Give back what it holds of them."""
        if self._sampler is not None:
            self._sampler.sleep()

    def generate(self, prompts: Sequence[Prompt], *, samples: int, round: int = 0) -> list[Rollout]:
        """`samples` completions of each prompt, on every rank the same."""
        return told(lambda: self._own.generate(prompts, samples=samples, round=round))

    @property
    def _own(self) -> Sampler:
        assert self._sampler is not None  # asked on rank 0 only
        return self._sampler


class Scorer(Protocol):
    """Rewards rollouts."""

    def score(self, rollouts: Sequence[Rollout]) -> list[Reward]:
        """One reward for each."""
        ...


@dataclass(frozen=True)
class Gathered:
    """What is trained on, group after group, everything that was sampled for it, and counts of what
    was dropped."""

    rollouts: list[Rollout]
    rewards: list[Reward]
    sampled: list[Rollout]
    sampled_rewards: list[Reward]
    metrics: dict[str, float]


def gather(
    source: PromptSource, sampler: Sampler, scorer: Scorer, *, settings: OnlineSettings, step: int
) -> Gathered:
    """`prompts_per_step` groups of `responses_per_prompt`; with the filter mixed, only such as
    differ in their rewards.

    Dynamic sampling (Yu et al., arXiv:2503.14476, section 3.2): a group whose rewards are all equal
    has advantages of zero, so others are drawn in its place, at most `resample_rounds` times. What
    is missing then is done without and counted.

    Raises UserError where a reward is no number that can be learnt from, naming the part of it that
    is to blame.
    """
    size, filtering = settings.responses_per_prompt, settings.algorithm.filter == "mixed"
    found = Gathered([], [], [], [], {})
    dropped: Counter[str] = Counter()
    missing, rounds = settings.prompts_per_step, 0
    for attempt in range(1 + settings.resample_rounds):
        rounds += 1
        rollouts = sampler.generate(
            source.take(missing), samples=size, round=step + attempt * settings.steps
        )
        rewards = scorer.score(rollouts)
        _refuse_no_number(rewards)
        found.sampled.extend(rollouts)
        found.sampled_rewards.extend(rewards)
        for start in range(0, len(rollouts), size):
            group = rewards[start : start + size]
            values = [reward.value for reward in group if reward.counted]
            passed = sum(value >= settings.pass_at for value in values)
            if values:
                source.learn(rollouts[start].prompt.id, tried=len(values), passed=passed)
            reason = _why_dropped(values, passed) if filtering else None
            if reason is not None:
                dropped[reason] += 1
                continue
            missing -= 1
            found.rollouts.extend(rollouts[start : start + size])
            found.rewards.extend(group)
        if missing == 0:
            break
    if filtering:
        found.metrics.update({f"filter/{reason}": float(dropped[reason]) for reason in _REASONS})
        found.metrics.update({"filter/rounds": float(rounds), "filter/missing": float(missing)})
    if settings.curriculum is not None:
        found.metrics["curriculum/passed_over"] = float(source.passed_over)
    return found


def _refuse_no_number(rewards: Sequence[Reward]) -> None:
    values_B = torch.tensor(
        [reward.value for reward in rewards if reward.counted], dtype=torch.float64
    )
    if bool((values_B.abs() <= LARGEST_REWARD).all()):  # False for NaN
        return
    place, reward = next(
        (place, reward)
        for place, reward in enumerate(rewards)
        if reward.counted and not abs(reward.value) <= LARGEST_REWARD
    )
    to_blame = [
        f"{name}: {value}"
        for name, value in reward.components.items()
        if not abs(value) <= LARGEST_REWARD
    ]
    parts = to_blame or [f"{name}: {value}" for name, value in reward.components.items()]
    raise UserError(
        f"the reward of completion {place} is {reward.value} ({', '.join(parts)}), which cannot be"
        " learnt from.",
        hint=f"Rewards, times their weights, are numbers of at most {LARGEST_REWARD:g} in size.",
    )


_REASONS = ("all_right", "all_wrong", "uncounted")


def _why_dropped(values: Sequence[float], passed: int) -> str | None:
    """None for a group whose rewards differ."""
    if not values:
        return "uncounted"
    if min(values) != max(values):
        return None
    return "all_right" if passed else "all_wrong"
