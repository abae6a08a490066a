"""The table of experiments: how one world is measured, and what is made of all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from burnish.lab import alarms, curves, exact, mitigations
from burnish.lab.results import Findings
from burnish.lab.settings import Experiment, Lab

Runs = Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Procedure:
    """`measure` gives one world's figures as JSON, `summarize` what all of them say; `reads` are
    the sections of the file that it depends on, beside the world and the labels."""

    measure: Callable[[Lab, int], dict[str, Any]]
    summarize: Callable[[Lab, Runs], Findings]
    reads: tuple[str, ...]


PROCEDURES: dict[Experiment, Procedure] = {
    "exact": Procedure(exact.measure, exact.summarize, ("exact",)),
    "curves": Procedure(curves.measure_curves, curves.summarize_curves, ("curves",)),
    "scaling": Procedure(
        partial(curves.measure_cases, experiment="scaling"), curves.summarize_scaling, ("scaling",)
    ),
    "noise": Procedure(
        partial(curves.measure_cases, experiment="noise"),
        curves.summarize_cases,
        ("noise", "scaling"),
    ),
    "length_bias": Procedure(
        partial(curves.measure_cases, experiment="length_bias"),
        curves.summarize_cases,
        ("length_bias", "scaling"),
    ),
    "mitigations": Procedure(mitigations.measure, mitigations.summarize, ("mitigations",)),
    "alarms": Procedure(alarms.measure, alarms.summarize, ("alarms",)),
}
