"""Have policies write answers to prompts.

Example: `burnish sample --config recipes/quickstart.yaml --out runs/quickstart`
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from burnish.config.bounds import Count, Responses
from burnish.config.kinds import Slot, Stage
from burnish.config.sections import Reference, Sampling, Section, Sources
from burnish.errors import UserError
from burnish.evaluation.stages import Found, Told
from burnish.evaluation.words import joined_by_and, number, plain, several

if TYPE_CHECKING:
    from burnish.planning.estimate import Forecast, StagePlan
    from burnish.stages.context import Step


class Sample(Section):
    """Answers of one policy or several, K to each training prompt."""

    kind: Literal["sample"] = "sample"
    """The kind of stage."""
    models: Annotated[tuple[Reference, ...], Field(min_length=1)] | None = None
    """The policies that answer. None: the newest before it, or base."""
    prompts: Sources | None = None
    """Prompts to answer, as in `data.prompts`. None: the newest that a stage before it names, or
    `data.prompts`."""
    count: Count | None = None
    """How many training prompts are answered; None: all."""
    responses: Responses = 4
    """K: answers of each policy to each prompt."""
    sampling: Sampling = Sampling()
    """How they are drawn."""


def _plan(how: Forecast) -> StagePlan:
    """Sampling K answers to each prompt."""
    config = how.settings
    prompts = min(config.count or how.data.prompts, how.data.prompts)
    count = prompts * config.responses
    parts = [how.program(), how.frozen("model"), how.engine(count, config.sampling)]
    seconds = len(how.node.inputs["models"]) * how.generate(count, config.sampling)
    return how.planned(parts, seconds)


def _check(step: Step, left: Sequence[Step]) -> None:
    """Greedy answers to one prompt are all the same: nothing can be compared."""
    greedy, graph = step.settings.sampling.greedy, step.run.graph
    comparing = {
        node.name for node in graph if node.makes == "Comparisons" and step.name in node.parents
    }
    learning = [other.name for other in left if comparing & set(other.node.parents)]
    if greedy is None or not learning or len(step.node.inputs["models"]) > 1:
        return
    key = greedy.split()[0]
    default = getattr(Sampling(), key)
    raise UserError(
        f"{greedy}, so the answers to a prompt are all the same, and the stage {learning[-1]}"
        " learns from their differences.",
        field=f"{step.name}.sampling.{key}",
        hint=f"Change it; {default:g} is the default.",
    )


def _report(stage: Found) -> Told:
    """Who wrote how many answers."""
    prompts, answers = (
        number(stage.result.get("prompts")),
        number(stage.result.get("responses_per_prompt")),
    )
    words = number(stage.result.get("words"))
    names = stage.result.get("models") or ()
    text = (
        f"{joined_by_and(names)}{' together' if len(names) > 1 else ''} wrote"
        f" {several(answers, 'answer')} to each of {several(prompts, 'prompt')}"
    )
    return Told(f"{text}, {plain(words, 1)} words on average." if words is not None else f"{text}.")


STAGE = Stage(
    section=Sample,
    run="burnish.stages.sample:run",
    plan=_plan,
    slots=(Slot("models", ("Policy",), "base", many=True),),
    makes="Answers",
    sources=("prompts",),
    needs=("prompts",),
    check=_check,
    report=_report,
)
