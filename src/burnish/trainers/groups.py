"""What the reward model and preference optimisation share: a prompt's answers as tokens, and the
comparisons among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.batch import TokenSequence
from burnish.records import Comparison


@dataclass(frozen=True, slots=True)
class RankedGroup:
    """A prompt's responses as tokens (the same prompt in each), the comparisons among them by
    index, and, where responses were judged singly, the probability that each is desirable."""

    sequences: tuple[TokenSequence, ...]
    comparisons: tuple[Comparison, ...]
    labels: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.comparisons and not self.labels:
            raise ValueError("a group without comparisons teaches nothing")

    @property
    def cost(self) -> int:
        """Tokens run: the prompt once, then every response."""
        return len(self.sequences[0].prompt) + sum(len(s.response) for s in self.sequences)


@dataclass(frozen=True, slots=True)
class Pairs:
    """The comparisons of several groups over the rows of one batch, [N] each, turned so that the
    better answer comes first.

    `probability` ≥ ½ is that of the better one being better; `weight` makes the comparisons of each
    prompt a mean; `strength` is |2p − 1| of the label as it came.
    """

    better: Tensor
    worse: Tensor
    probability: Tensor
    margin: Tensor
    weight: Tensor
    strength: Tensor

    @property
    def decided(self) -> Tensor:
        """Where one answer is preferred at all."""
        return self.probability != 0.5


def pairs_of(groups: Sequence[RankedGroup], *, soft: bool, margin: float) -> Pairs:
    """Every comparison of `groups`, whose sequences stand one after another in a batch.

    Not `soft`: the preferred answer is better with certainty. A pair's margin is its own, and
    `margin` times its strength.
    """
    better: list[int] = []
    worse: list[int] = []
    numbers: list[tuple[float, float, float, float]] = []
    row = 0
    for group in groups:
        for pair in group.comparisons:
            sides = (row + pair.first, row + pair.second)
            first, second = sides if pair.probability >= 0.5 else sides[::-1]
            p = max(pair.probability, 1.0 - pair.probability)
            strength = 2.0 * p - 1.0
            certain = float(p > 0.5) if p != 0.5 else 0.5
            better.append(first)
            worse.append(second)
            numbers.append(
                (
                    p if soft else certain,
                    pair.margin + margin * strength,
                    1.0 / len(group.comparisons),
                    strength,
                )
            )
        row += len(group.sequences)
    probability, margins, weight, strengths = (
        torch.tensor(numbers, dtype=torch.float32).reshape(-1, 4).unbind(1)
    )
    return Pairs(
        torch.tensor(better, dtype=torch.long),
        torch.tensor(worse, dtype=torch.long),
        probability,
        margins,
        weight,
        strengths,
    )
