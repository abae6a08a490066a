"""The report, on one page."""

from __future__ import annotations

from typing import Literal

from burnish.config.kinds import Stage
from burnish.config.sections import Section


class Report(Section):
    """The report, on one page; whatever has been found out by then."""

    kind: Literal["report"] = "report"
    """The kind of stage."""


STAGE = Stage(
    section=Report,
    run="burnish.stages.report:run",
    always=True,
)
