"""Critique and revision: demonstrations by a model's own lights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from burnish.config.bounds import Count, Repeats
from burnish.config.kinds import Slot, Stage
from burnish.config.sections import Reference, Sampling, Section, Sources
from burnish.evaluation.stages import Found, Text, Told
from burnish.evaluation.words import count, number, rows_of, several

if TYPE_CHECKING:
    from burnish.planning.estimate import Forecast, StagePlan


class Revise(Section):
    """Critique and revision by a model's own lights (Constitutional AI, arXiv:2212.08073, section
    3): demonstrations."""

    kind: Literal["revise"] = "revise"
    """The kind of stage."""
    model: Reference | None = None
    """The policy that answers, criticises and revises. None: the newest before it, or base; with
    `endpoint` its name there."""
    endpoint: str | None = None
    """An OpenAI-compatible API instead of a model in this process."""
    prompts: Sources | None = None
    """Prompts to answer, as in `data.prompts`. None: the newest that a stage before it names, or
    `data.prompts`."""
    constitution: str
    """A text file with one principle a line, after a dash."""
    rounds: Repeats = 1
    """Critiques and revisions of each answer, each by another principle."""
    count: Count | None = None
    """How many training prompts; None: all."""
    sampling: Sampling = Sampling(temperature=0.7)
    """How answers, critiques and revisions are drawn."""


def _elsewhere(settings: Revise) -> bool:
    """Whether `model` is its name at an endpoint."""
    return settings.endpoint is not None


def _plan(how: Forecast) -> StagePlan:
    """An answer, and for each round a critique and a revision."""
    config = how.settings
    prompts = min(config.count or how.data.prompts, how.data.prompts)
    count = prompts * (1 + 2 * config.rounds)
    parts = [how.program()]
    if config.endpoint is None:
        parts += [how.frozen("model"), how.engine(prompts, config.sampling)]
    return how.planned(parts, how.generate(count, config.sampling))


def _report(stage: Found) -> Told:
    """How many answers came out different, and a few of them."""
    result = stage.result
    prompts, changed = number(result.get("prompts")), number(result.get("changed"))
    rounds, principles = number(result.get("rounds")), number(result.get("principles"))
    text = (
        f"Answers to {several(prompts, 'prompt')} were criticised and rewritten by"
        f" {several(principles, 'principle')}"
    )
    if rounds is not None and rounds > 1:
        text += f", {count(rounds)} times each"
    sentence = (
        f"{text}: {count(changed)} of them came out different, and all became demonstrations."
    )
    return Told(sentence, tuple(_revision(row) for row in rows_of(result, "samples")))


def _revision(row: Mapping[str, Any]) -> tuple[str, tuple[Text, ...]]:
    critiques = [
        Text("Critique", str(one.get("critique", "")), f"by: {one.get('principle', '')}")
        for one in rows_of(row, "revisions")
    ]
    before, after = (
        Text("Before", str(row.get("initial", ""))),
        Text("After", str(row.get("revised", ""))),
    )
    return str(row.get("prompt", "")), (before, *critiques, after)


STAGE = Stage(
    section=Revise,
    run="burnish.stages.revise:run",
    plan=_plan,
    slots=(Slot("model", ("Policy",), "base", unless=_elsewhere),),
    makes="Demonstrations",
    sources=("prompts",),
    needs=("prompts",),
    texts=lambda settings: (settings.constitution,),
    report=_report,
)
