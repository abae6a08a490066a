"""The recipe: a graph of stages over typed artifacts. Torch-free.

`stages` names each stage and says what it starts from; what it leaves out is the newest artifact of the right type before it
(`config.graph`). The sections of the kinds stand in `schema`, `preference` and `online`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from burnish.config.bounds import Seed, Threads
from burnish.config.making import Compare, Merge, Revise, Sample, Select, Taste
from burnish.config.online import Online
from burnish.config.preference import Preference
from burnish.config.schema import Data, Evaluate, Model, Report, RewardModel, Sft
from burnish.config.sections import Section

_NAME = r"[A-Za-z][A-Za-z0-9_+-]*"
NAME_OF_A_STAGE = rf"^{_NAME}(\.[0-9]+\.{_NAME})*$"
StageName = Annotated[str, Field(pattern=NAME_OF_A_STAGE, max_length=100)]
"""A stage's folder is called by it; `rounds.2.reward` is the stage reward of the second of the rounds."""
AnyStage = Annotated[
    Sft | Sample | Compare | Select | Revise | Merge | RewardModel | Preference | Online | Evaluate | Report,
    Field(discriminator="kind"),
]
"""One of the kinds of stages, as its `kind` says."""


class Recipe(Section):
    """One run, from what it starts with to a report."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)] = "run"
    """Names the run's folder."""
    seed: Seed = 0
    """Everything random follows from it."""
    threads: Threads | None = None
    """CPU threads; None: as many as there are cores. A run resumes bit for bit with the same number."""
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Where metrics go besides metrics.jsonl."""
    model: Model = Model()
    """The pretrained model: `base`."""
    data: Data = Data()
    """How data is read, and the sources of stages that name none."""
    taste: Taste = Taste()
    """What simulated annotators like."""
    stages: dict[StageName, AnyStage] = Field(default={})
    """What is done, in this order: names and settings. The kind is the name where that is one; `repeat: N` around `stages` does
    them N times."""

    @model_validator(mode="after")
    def _something_to_do(self) -> Recipe:
        if not self.stages:
            raise ValueError("stages is empty, so there is nothing to run")
        return self
