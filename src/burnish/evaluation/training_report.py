"""What the report says of each stage that trains a policy: a sentence or two, and its curves.
Pure."""

from __future__ import annotations

from dataclasses import dataclass

from burnish.config.kinds import KINDS
from burnish.evaluation.figures import Figure, health_figures, online_figures, sft_figures
from burnish.evaluation.preference_report import preference_figures
from burnish.evaluation.stages import Found, ReportData, finished, focused
from burnish.evaluation.words import part, rows_of


@dataclass(frozen=True, slots=True)
class Training:
    """What is shown of one stage; `heading` is its name where several stages are shown, each by
    itself."""

    heading: str | None
    lines: tuple[str, ...]
    figures: tuple[Figure, ...] = ()
    more: tuple[Figure, ...] = ()


def trainings(data: ReportData) -> list[Training]:
    """Of every stage that trains a policy, in the order in which they ran; together where each kind
    occurs but once."""
    found = [stage for stage in finished(data) if _trains_policies(stage.kind)]
    if not found:
        return [Training(None, ("Training of a policy: not run yet.",))]
    if all(stage.alone for stage in found):
        every = [_training(data, stage) for stage in found]
        lines, figures, more = (
            tuple(one for training in every for one in getattr(training, field))
            for field in ("lines", "figures", "more")
        )
        return [Training(None, lines, figures, more)]
    return [_training(data, stage) for stage in found]


def _training(data: ReportData, stage: Found) -> Training:
    view, prefix = focused(_without_others(data), stage), stage.prefix
    report = KINDS[stage.kind].report
    told = None if report is None else report(stage)
    online = rows_of(part(view, "online"), "curve")
    figures = [
        *sft_figures(part(view, "sft"), prefix),
        *preference_figures(view, prefix),
        *online_figures(online, prefix),
    ]
    lines, own = ((), ()) if told is None else ((told.sentence,), told.figures)
    return Training(stage.name, lines, (*figures, *own), tuple(health_figures(online, prefix)))


def _without_others(data: ReportData) -> ReportData:
    return {key: value for key, value in data.items() if not _trains_policies(key)}


def _trains_policies(kind: str) -> bool:
    row = KINDS.get(kind)
    return row is not None and row.trains and row.makes == "Policy"
