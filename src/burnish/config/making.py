"""Stages that make data and weights without training: answers, comparisons, demonstrations,
averages. Torch-free."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import model_validator

from burnish.config.bounds import (
    Annotators,
    Bounds,
    NonNegativeFinite,
    PositiveProbability,
    Threads,
)
from burnish.config.sections import Reference, Section


class Taste(Section):
    """The gold taste of the simulated panel: weights of measurable properties, which are in [0, 1].
    The others count half in an answer beside the point, and nothing in one that makes no sense."""

    direct: NonNegativeFinite = 1.0
    """Begins with the answer: no preamble, no restating of the question."""
    concise: NonNegativeFinite = 1.0
    """About 8 to 40 words; falls off beyond."""
    courteous: NonNegativeFinite = 1.0
    """One warm word or phrase; a second adds nothing, gushing costs."""
    relevant: NonNegativeFinite = 1.0
    """Speaks of what the prompt asks about."""
    fresh: NonNegativeFinite = 1.0
    """Does not repeat itself."""
    finished: NonNegativeFinite = 1.0
    """Ends as a sentence ends."""

    @model_validator(mode="after")
    def _likes_something(self) -> Taste:
        if not any(self.model_dump().values()):
            raise ValueError(
                "every weight is 0, so no answer would be preferred: set one of them above 0"
            )
        return self


class Panel(Section):
    """The simulated annotators: each has the gold taste with personal deviations, noise, a position
    bias and lapses."""

    size: Annotators = 5
    """How many annotators there are."""
    annotators_per_item: Annotators = 3
    """How many of them rank each prompt's responses."""
    taste: Taste | None = None
    """What they like. None: the recipe's `taste`."""

    @model_validator(mode="after")
    def _enough(self) -> Panel:
        if self.annotators_per_item > self.size:
            raise ValueError(
                f"annotators_per_item is {self.annotators_per_item}, and the panel's size is"
                f" {self.size}: raise size, or lower annotators_per_item"
            )
        return self


class PeopleJudge(Section):
    """Annotators of a project, whom the annotation service asks (`burnish annotate serve`)."""

    store: str
    """The annotation store: a file, or an SQLAlchemy URL."""
    project: str
    """Its project; made if there is none of this name."""
    overlap: Annotated[int, Bounds(ge=1, le=100)] = 1
    """People who compare each prompt's answers, in a project that is made."""
    enough: PositiveProbability = 1.0
    """The share of the prompts whose answers at least one person must have compared before the
    recipe goes on."""
    strength: Literal["ignore", "probability", "margin"] = "probability"
    """What a stated strength of preference becomes, as in `data.strength`."""


class ModelJudge(Section):
    """A model that compares by a written constitution, each pair both ways round."""

    model: Reference
    """A policy of this recipe, a folder or a hub id; with `endpoint` its name there."""
    endpoint: str | None = None
    """An OpenAI-compatible API, such as http://127.0.0.1:8000/v1; the key is read from
    BURNISH_API_KEY or OPENAI_API_KEY."""
    constitution: str | None = None
    """A text file with one principle a line, after a dash. None: be helpful, honest, harmless and
    to the point."""
    parallel: Threads = 4
    """Requests to an endpoint that are under way at once."""
    logprobs: bool = False
    """Use the endpoint's probabilities of A, B and C."""


class Judges(Section):
    """Who compares: one of them."""

    panel: Panel | None = None
    """Simulated annotators compare."""
    people: PeopleJudge | None = None
    """Annotators. Until they have compared enough, the command ends with exit code 75 and goes on
    when it is typed again."""
    judge: ModelJudge | None = None
    """A language model compares, by a constitution."""
    reward: Reference | None = None
    """A reward model compares: p = σ of the difference of two answers' scores."""
    share: PositiveProbability | None = None
    """Of several who compare: the share of the prompts that these get. None: what the others leave,
    equally."""

    @model_validator(mode="after")
    def _one(self) -> Judges:
        given = [
            name
            for name in ("panel", "people", "judge", "reward")
            if getattr(self, name) is not None
        ]
        if len(given) != 1:
            raise ValueError(
                f"{' and '.join(given) or 'nobody'} would compare: name one of panel, people, judge"
                " and reward"
            )
        return self

    @property
    def called(self) -> str:
        """Which of them it is."""
        return next(
            name
            for name in ("panel", "people", "judge", "reward")
            if getattr(self, name) is not None
        )
