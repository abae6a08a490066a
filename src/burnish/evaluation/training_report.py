"""What the report says of each stage that trains a policy: a sentence or two, and its curves. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from burnish.evaluation.contests import model_name
from burnish.evaluation.figures import Figure, health_figures, online_figures, sft_figures
from burnish.evaluation.preference_report import preference_figures, preference_line
from burnish.evaluation.stages import Found, ReportData, focused, found_of
from burnish.evaluation.words import number, part, plain, rows_of, several

_TRAINERS = ("sft", "preference", "online")


@dataclass(frozen=True, slots=True)
class Training:
    """What is shown of one stage; `heading` is its name where several stages are shown, each by itself."""

    heading: str | None
    lines: tuple[str, ...]
    figures: tuple[Figure, ...] = ()
    more: tuple[Figure, ...] = ()


def trainings(data: ReportData) -> list[Training]:
    """Of every stage that trains a policy, in the order in which they ran; together where each kind occurs but once."""
    found = found_of(data, *_TRAINERS)
    if not found:
        return [Training(None, ("Training of a policy: not run yet.",))]
    if all(stage.alone for stage in found):
        every = [_training(data, stage) for stage in sorted(found, key=lambda stage: _TRAINERS.index(stage.kind))]
        lines, figures, more = (
            tuple(one for training in every for one in getattr(training, field))
            for field in ("lines", "figures", "more")
        )
        return [Training(None, lines, figures, more)]
    return [_training(data, stage) for stage in found]


def _training(data: ReportData, stage: Found) -> Training:
    view, prefix = focused(_without_others(data), stage), stage.prefix
    online = rows_of(part(view, "online"), "curve")
    figures = [
        *sft_figures(part(view, "sft"), prefix),
        *preference_figures(view, prefix),
        *online_figures(online, prefix),
    ]
    return Training(stage.name, (_line(view, stage),), tuple(figures), tuple(health_figures(online, prefix)))


def _without_others(data: ReportData) -> ReportData:
    return {key: value for key, value in data.items() if key not in _TRAINERS}


def _line(view: ReportData, stage: Found) -> str:
    """What the stage did, in a sentence."""
    if stage.kind == "sft":
        return _sft_line(stage.result)
    if stage.kind == "preference":
        return preference_line(view) or ""
    return _online_line(stage)


def _sft_line(sft: Mapping[str, Any]) -> str:
    examples, steps = (
        several(number(sft.get("examples_train")), "demonstration"),
        several(number(sft.get("steps")), "step"),
    )
    before, after = (plain(number(sft.get(key))) for key in ("eval_loss_before", "eval_loss_after"))
    unmeasured = sft.get("not_evaluated")
    if unmeasured is not None:
        return f"SFT learnt from {examples} in {steps}. It was not evaluated: {unmeasured}."
    return f"SFT learnt from {examples} in {steps}; the loss on held-out demonstrations went from {before} to {after} nats per token."


def _online_line(stage: Found) -> str:
    modes = {"adapters": ", with all its roles as adapters on one model", "copies": ", with a full model for each role"}
    how = modes.get(str(stage.result.get("mode")), "")
    name = model_name(str(part(stage.result, "algorithm").get("name", stage.kind))).removesuffix(" policy")
    return f"{name} made {several(number(stage.result.get('steps')), 'round')} of answers, scores and updates{how}."
