"""The section `scale`: how many processes and devices a recipe's stages are trained on.
Torch-free."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from burnish.config.bounds import Bounds, CountOrNone, PositiveFinite
from burnish.config.sections import Section

Seconds = Annotated[float, Bounds(gt=0.0, le=1e7)]


class Deadlines(Section):
    """How long one part of a run may wait for another before it is given up, in seconds."""

    start: Seconds = 900.0
    """Until all trainers have come together, or an engine is there."""
    publish: Seconds = 600.0
    """Until an engine has taken over new weights."""
    generate: Seconds = 3600.0
    """Until an engine has written its share of a step's completions."""
    train: Seconds = 3600.0
    """A trainer for the others: longer than a step's answers and rewards take, for the others wait
    while the first trainer samples."""


class Restarts(Section):
    """How often what has died is started again."""

    trainers: CountOrNone = 3
    """Times in a row, without a new checkpoint in between, that the group of trainers is made anew
    when one of them dies. 0: never."""
    engines: CountOrNone = 3
    """Times that an engine is replaced, in all, while a stage runs. 0: never; the others then go on
    alone."""


class Scale(Section):
    """How many processes train, and how many sample for them. Batch sizes and steps stay what they
    are; `optimizer.micro_batch_tokens` is of each trainer."""

    trainers: Annotated[int, Bounds(ge=1, le=1024)] = 1
    """Processes that train together, each holding its share of the weights (FSDP2): one on each
    GPU, or sharing the CPU's cores."""
    engines: Annotated[int, Bounds(ge=0, le=1024)] = 0
    """Processes that do nothing but write the completions of online stages. 0: the stage samples in
    its own."""
    engine: Literal["native"] = "native"
    """What they are: native, Burnish's own."""
    address: Annotated[str, Field(min_length=1, max_length=300)] | None = None
    """A Ray cluster whose nodes the engines run on: its HOST:PORT, auto (the one that this machine
    belongs to) or local (one that is started here); the run's folder must be visible from all of
    its nodes. None: they are processes of this machine, and Ray is not needed."""
    stop_at_gap: PositiveFinite | None = None
    """The run stops where an engine's log-probabilities are further than this from the trainer's
    (mean of the absolute difference of a token, in nats), for then it samples other weights. None:
    5 times the first gap of the process, at least 1e-3."""
    journal: bool = True
    """Write rollouts of engines to disk before they are trained on: a run that was killed takes
    them from there and draws nothing twice."""
    deadline: Deadlines = Deadlines()
    """Deadlines."""
    restarts: Restarts = Restarts()
    """Restarts."""
