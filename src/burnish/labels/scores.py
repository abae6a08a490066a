"""What a candidate earns by the verdicts on a rubric's criteria."""

from __future__ import annotations

import math
from collections.abc import Sequence

from burnish.records import Opinion


def score(verdicts: Sequence[Sequence[bool]], weights: Sequence[float], candidate: int) -> float:
    """What a candidate earns: Σ_c w_c · met_c / Σ_{c: w_c > 0} w_c, at most 1.

    Criteria with a negative weight take away where they are met, so that less than 0 can come out
    (the scores of HealthBench, arXiv:2505.08775, before they are clipped). `verdicts[c][candidate]`
    says whether criterion c is met. At least one weight must be positive.
    """
    gained = math.fsum(
        weight for weight, met in zip(weights, verdicts, strict=True) if met[candidate]
    )
    return gained / math.fsum(weight for weight in weights if weight > 0)


def scores_in(said: Opinion) -> tuple[float, ...] | None:
    """The score of each candidate by an opinion's verdicts; None where it has none."""
    verdicts, weights = said.payload.get("verdicts"), said.payload.get("weights")
    if not verdicts or not weights:
        return None
    return tuple(score(verdicts, weights, at) for at in range(len(verdicts[0])))
