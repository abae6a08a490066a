"""What other processes do for a lab: light to import, for each of them imports it."""

from __future__ import annotations

from typing import Any

from burnish.lab.experiments import PROCEDURES
from burnish.lab.settings import Experiment, Lab


def measure(lab: Lab, name: Experiment, seed: int) -> dict[str, Any]:
    """One experiment in one world."""
    return PROCEDURES[name].measure(lab, seed)
