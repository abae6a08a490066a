"""Average the weights of several models.

Example: `burnish merge --config recipes/dpo.yaml --out runs/dpo "merge.models=[sft, dpo]"`
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from burnish.config.bounds import Bounds
from burnish.config.kinds import Artifact, Inputs, Slot, Stage
from burnish.config.sections import Reference, Section
from burnish.evaluation.stages import Found, Told
from burnish.evaluation.words import joined_by_and, number, percent, rows_of

if TYPE_CHECKING:
    from burnish.planning.estimate import Forecast, StagePlan


class Merge(Section):
    """The average of several models' weights: model soups (arXiv:2203.05482), WARM
    (arXiv:2401.12187), a moving average with the start."""

    kind: Literal["merge"] = "merge"
    """The kind of stage."""
    models: Annotated[tuple[Reference, ...], Field(min_length=2)]
    """Policies, or reward models, of one architecture."""
    weights: tuple[Annotated[float, Bounds(ge=-10.0, le=10.0)], ...] | None = None
    """What each counts for; they should add up to 1. None: all the same."""

    @model_validator(mode="after")
    def _one_weight_each(self) -> Merge:
        if self.weights is not None and len(self.weights) != len(self.models):
            raise ValueError(
                f"weights has {len(self.weights)} numbers for {len(self.models)} models"
            )
        if self.weights is not None and abs(sum(self.weights) - 1.0) > 1e-6:
            raise ValueError(f"the weights add up to {sum(self.weights):g}, which should be 1")
        return self


def _made(
    _settings: Merge, inputs: Inputs, types: Callable[[str], Artifact | None]
) -> Artifact | None:
    """What its models are, the first of them speaking for all."""
    first = inputs["models"][0]
    if first.stage is not None:
        return types(first.stage)
    return "RewardModel" if (Path(first.outside or "") / "head.safetensors").is_file() else "Policy"


def _plan(how: Forecast) -> StagePlan:
    """One model beside the sum, which is in double precision."""
    parts = [
        how.program(),
        how.frozen("model", exact=True),
        how.part("sum", 8.0 * how.shape.parameters),
    ]
    return how.planned(parts, how.loading(len(how.node.inputs["models"]) - 1))


def _report(stage: Found) -> Told:
    """What was averaged."""
    models = [
        f"{row.get('name')} ({percent(number(row.get('weight')))})"
        for row in rows_of(stage.result, "models")
    ]
    return Told(
        f"The weights of the {stage.result.get('of')} {joined_by_and(models)} were averaged."
    )


STAGE = Stage(
    section=Merge,
    run="burnish.stages.merge:run",
    plan=_plan,
    slots=(Slot("models", ("Policy", "RewardModel"), many=True),),
    makes="Policy",
    made=_made,
    report=_report,
)
