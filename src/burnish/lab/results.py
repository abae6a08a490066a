"""What experiments give: typed records, written as JSON and read by the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from burnish.jsonio import undefined_as_null
from burnish.lab.chains import Floats
from burnish.statistics.estimate import Estimate
from burnish.statistics.uncertainty import bootstrap_mean

VERSION = 1
"""Of the form in which results are written."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Gao's curve: `form` "best_of_n" is R(d) = d (α − β d), "rl" d (α − β log d); `peak` is the d
    where it is highest, `rms` what is left."""

    form: str
    alpha: Estimate
    beta: Estimate
    peak: Estimate
    rms: float


@dataclass(frozen=True, slots=True)
class Curve:
    """Figures along a way: `x` is KL in nats, or n; `lines` are by name, one Estimate a point."""

    name: str
    x: Sequence[float]
    lines: Mapping[str, Sequence[Estimate]]
    fit: Fit | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table: its name, and figures by column; counts and single numbers have no
    interval."""

    name: str
    figures: Mapping[str, Estimate | float | None]


@dataclass(frozen=True, slots=True)
class Findings:
    """What one experiment gives over its seeds."""

    curves: Sequence[Curve] = ()
    rows: Sequence[Row] = ()
    facts: Mapping[str, Estimate | float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that `burnish lab` writes into results.json."""

    name: str
    burnish: str
    seeds: Sequence[int]
    settings: Mapping[str, Any]
    experiments: Mapping[str, Findings]
    version: int = VERSION

    def to_dict(self) -> dict[str, Any]:
        """For JSON; what is not finite becomes None."""
        return undefined_as_null(asdict(self))


def over_seeds(values: Floats | Sequence[float]) -> Estimate:
    """The mean over seeds with its 95 % bootstrap interval; seeds are independent worlds."""
    known = np.asarray(values, dtype=np.float64)
    estimate = bootstrap_mean(known, resamples=4000)
    return replace(estimate, method=estimate.method.replace("prompts", "seeds"))


def along(values_KP: Floats) -> list[Estimate]:
    """An Estimate for each point of K seeds' curves."""
    return [over_seeds(column) for column in np.asarray(values_KP).T]
