"""What the report says of stages that make answers, demonstrations and averages: a sentence each,
and samples. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from burnish.config.kinds import KINDS
from burnish.evaluation.stages import ReportData, Told, finished


@dataclass(frozen=True, slots=True)
class Made:
    """What one stage made."""

    name: str
    told: Told


def made(data: ReportData) -> list[Made]:
    """Of every stage that says something of itself and trains no policy, in the order in which they
    ran."""
    rows = [(stage, KINDS[stage.kind]) for stage in finished(data)]
    return [
        Made(stage.name, row.report(stage))
        for stage, row in rows
        if row.report is not None and not (row.trains and row.makes == "Policy")
    ]
