"""A figure with its interval: what every estimator of this room gives."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimate and its confidence interval.

    `n` counts independent units (prompts, items). `low` and `high` are infinite where the data set
    no bound: the mean of a single unit has a value and no interval. A figure that the data do not
    give is NaN throughout. `method` says how the bounds were found.
    """

    value: float
    low: float
    high: float
    n: int
    method: str

    def to_dict(self) -> dict[str, Any]:
        """For JSON: an infinite bound becomes None."""
        return {
            name: None if isinstance(x, float) and math.isinf(x) else x
            for name, x in asdict(self).items()
        }


UNKNOWN = Estimate(float("nan"), float("nan"), float("nan"), 0, "unknown")
"""What the data do not give."""
