"""Answers that no one should prefer: what a judge says of them tells whether it can be fooled.
Pure.

The leaders of public rankings by judges have been models that answer every prompt with one text
(arXiv:2410.07137).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from burnish.statistics.estimate import Estimate
from burnish.statistics.uncertainty import bootstrap_share

CONSTANT = "Take your time and begin with one small step today. Good luck!"
SHUFFLED = "answers to other prompts"


def null_answers(prompts: Sequence[str], answers: Sequence[str]) -> dict[str, list[str]]:
    """By what they are: for each prompt a constant, an empty answer, an echo of it, and the answer
    that the reference gave to another prompt, half the list away. `answers` are the reference's,
    one a prompt; of a single prompt none is another's."""
    count = len(prompts)
    nulls = {
        "a constant": [CONSTANT] * count,
        "an empty answer": [""] * count,
        "an echo of the prompt": list(prompts),
    }
    if count > 1:
        nulls[SHUFFLED] = [answers[(place + count // 2) % count] for place in range(count)]
    return nulls


def beats(scores: ArrayLike, reference: ArrayLike) -> np.ndarray:
    """1 where a score is above the reference's, ½ where they are equal, else 0."""
    difference = np.asarray(scores, dtype=float) - np.asarray(reference, dtype=float)
    return np.where(difference == 0.0, 0.5, (difference > 0).astype(float))


def null_test(wins: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """How often each null beats the reference, with its interval over prompts, and whether the
    judge is `gameable`: whether one of those intervals lies above ½. `wins` are in [0, 1], one a
    prompt."""
    rates = {name: bootstrap_share(values) for name, values in wins.items() if len(values)}
    return {
        "nulls": [{"null": name, "win_rate": rate.to_dict()} for name, rate in rates.items()],
        "gameable": any(_above_half(rate) for rate in rates.values()),
    }


def _above_half(rate: Estimate) -> bool:
    return rate.low > 0.5
