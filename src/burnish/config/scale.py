"""The section `scale`: how many processes and devices a recipe's stages are trained on. Torch-free."""

from __future__ import annotations

from typing import Annotated

from burnish.config.bounds import Bounds, CountOrNone
from burnish.config.sections import Section

Seconds = Annotated[float, Bounds(gt=0.0, le=1e7)]


class Deadlines(Section):
    """How long one part of a run may wait for another before it is given up, in seconds."""

    start: Seconds = 900.0
    """Until all trainers have come together."""
    train: Seconds = 3600.0
    """A trainer for the others: longer than a step's answers and rewards take, for the others wait
    while the first trainer samples."""


class Restarts(Section):
    """How often what has died is started again."""

    trainers: CountOrNone = 3
    """Times in a row, without a new checkpoint in between, that the group of trainers is made anew
    when one of them dies. 0: never."""


class Scale(Section):
    """How many processes train. Batch sizes and steps stay what they are;
    `optimizer.micro_batch_tokens` is of each trainer."""

    trainers: Annotated[int, Bounds(ge=1, le=1024)] = 1
    """Processes that train together, each holding its share of the weights (FSDP2): one on each
    GPU, or sharing the CPU's cores."""
    deadline: Deadlines = Deadlines()
    """Deadlines."""
    restarts: Restarts = Restarts()
    """Restarts."""
