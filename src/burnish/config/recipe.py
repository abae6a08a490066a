"""The recipe: a graph of stages over typed artifacts. Torch-free.

`stages` names each stage and says what it starts from; what it leaves out is the newest artifact of
the right type before it (`config.graph`). Every kind has a section of its own (`config.kinds`).
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler, ValidationInfo, WrapValidator, model_validator
from pydantic_core import core_schema

from burnish.config.bounds import Seed, Threads
from burnish.config.kinds import KINDS
from burnish.config.making import Taste
from burnish.config.narrow import is_section
from burnish.config.scale import Scale
from burnish.config.schema import Data, Model
from burnish.config.sections import Section

_NAME = r"[A-Za-z][A-Za-z0-9_+-]*"
NAME_OF_A_STAGE = rf"^{_NAME}(\.[0-9]+\.{_NAME})*$"
StageName = Annotated[str, Field(pattern=NAME_OF_A_STAGE, max_length=100)]
"""A stage's folder is called by it; `rounds.2.reward` is the stage reward of the second of the
rounds."""


def _of_its_kind(value: Any, _: Any, info: ValidationInfo) -> Section:
    """A stage's settings by the section of the kind that they name."""
    if isinstance(value, Section):
        return value
    kind = value.get("kind") if is_section(value) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"a stage is a section with a kind, one of {', '.join(KINDS)}")
    section = KINDS[kind].section
    if info.mode == "json":  # only there strictness lets a list be a tuple
        return section.model_validate_json(json.dumps(value), strict=True)
    return section.model_validate(value)


class _OfEveryKind:
    """The schema for editors: a section of any kind."""

    def __get_pydantic_json_schema__(self, _: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        sections = {kind: stage.section.__pydantic_core_schema__ for kind, stage in KINDS.items()}
        return handler(core_schema.tagged_union_schema(sections, discriminator="kind"))


AnyStage = Annotated[Any, WrapValidator(_of_its_kind), _OfEveryKind()]
"""A section of one of the kinds of stages, as its `kind` says."""


class Recipe(Section):
    """One run, from what it starts with to a report."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)] = "run"
    """Names the run's folder."""
    seed: Seed = 0
    """Everything random follows from it: the same seed gives the same run."""
    seeds: Annotated[tuple[Seed, ...], Field(max_length=1000)] = ()
    """Several seeds: the recipe is run once with each, in folders of their own, and one table says
    how far they are apart."""
    threads: Threads | None = None
    """CPU threads; None: as many as there are cores. A run resumes bit for bit with the same
    number."""
    report_to: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Trackers that metrics go to besides the run's metrics.jsonl."""
    model: Model = Model()
    """The pretrained model that the run starts from, which stages call `base`."""
    data: Data = Data()
    """How data is read, and the sources of stages that name none."""
    taste: Taste = Taste()
    """What simulated annotators like."""
    scale: Scale = Scale()
    """How many processes train, and how many sample for them."""
    stages: dict[StageName, AnyStage] = Field(default={})
    """What is done, in this order: names and settings. The kind is the name where that is one;
    `repeat: N` around `stages` does them N times."""

    @model_validator(mode="after")
    def _something_to_do(self) -> Recipe:
        if not self.stages:
            raise ValueError("stages is empty, so there is nothing to run")
        return self
