"""Stages that make data and weights without training: answers, comparisons, demonstrations, averages. Torch-free."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from burnish.config.bounds import (
    Annotators,
    Bounds,
    Count,
    Finite,
    PositiveProbability,
    Repeats,
    Responses,
    Threads,
)
from burnish.config.rewards import RewardSpec
from burnish.config.sections import Reference, Sampling, Section, Sources


class Taste(Section):
    """The gold taste of the simulated panel: weights of measurable properties, which are in [0, 1]; below 0: it is disliked."""

    direct: Finite = 1.0
    """Begins with the answer: no preamble, no restating of the question."""
    concise: Finite = 1.0
    """About 8 to 40 words; falls off beyond."""
    courteous: Finite = 1.0
    """One warm word or phrase; a second adds nothing, gushing costs."""
    relevant: Finite = 1.0
    """Speaks of what the prompt asks about."""
    fresh: Finite = 1.0
    """Does not repeat itself."""
    finished: Finite = 1.0
    """Ends as a sentence ends."""


class Panel(Section):
    """The simulated annotators: each has the gold taste with personal deviations, noise, a position bias and lapses."""

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
                f"annotators_per_item is {self.annotators_per_item}, and the panel's size is {self.size}: raise size, or "
                "lower annotators_per_item"
            )
        return self


class Sample(Section):
    """Answers of one policy or several, K to each training prompt."""

    kind: Literal["sample"] = "sample"
    """The kind of stage."""
    models: Annotated[tuple[Reference, ...], Field(min_length=1)] | None = None
    """The policies that answer. None: the newest before it, or base."""
    prompts: Sources | None = None
    """Prompts to answer, as in `data.prompts`. None: the newest that a stage before it names, or `data.prompts`."""
    count: Count | None = None
    """How many training prompts are answered; None: all."""
    responses: Responses = 4
    """K: answers of each policy to each prompt."""
    sampling: Sampling = Sampling()
    """How they are drawn."""


class PeopleJudge(Section):
    """Annotators of a project, whom the annotation service asks (`burnish annotate serve`)."""

    store: str
    """The annotation store: a file, or an SQLAlchemy URL."""
    project: str
    """Its project; made if there is none of this name."""
    overlap: Annotated[int, Bounds(ge=1, le=100)] = 1
    """People who compare each prompt's answers, in a project that is made."""
    enough: PositiveProbability = 1.0
    """The share of the prompts whose answers at least one person must have compared before the recipe goes on."""
    strength: Literal["ignore", "probability", "margin"] = "probability"
    """What a stated strength of preference becomes, as in `data.strength`."""


class ModelJudge(Section):
    """A model that compares by a written constitution, each pair both ways round."""

    model: Reference
    """A policy of this recipe, a folder or a hub id; with `endpoint` its name there."""
    endpoint: str | None = None
    """An OpenAI-compatible API, such as http://127.0.0.1:8000/v1; the key is read from BURNISH_API_KEY or OPENAI_API_KEY."""
    constitution: str
    """A text file with one principle a line, after a dash."""
    parallel: Threads = 4
    """Requests at once (endpoints)."""
    logprobs: bool = False
    """Use the endpoint's probabilities of A, B and C."""


class Judges(Section):
    """Who compares: one of them."""

    panel: Panel | None = None
    """Simulated annotators."""
    people: PeopleJudge | None = None
    """Annotators. Until they have compared enough, the command ends with exit code 75 and goes on when it is typed again."""
    judge: ModelJudge | None = None
    """A model with a constitution."""
    reward: Reference | None = None
    """A reward model: p = σ of the difference of two answers' scores."""
    share: PositiveProbability | None = None
    """Of several who compare: the share of the prompts that these get. None: what the others leave, equally."""

    @model_validator(mode="after")
    def _one(self) -> Judges:
        given = [name for name in ("panel", "people", "judge", "reward") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"{' and '.join(given) or 'nobody'} would compare: name one of panel, people, judge and reward"
            )
        return self

    @property
    def called(self) -> str:
        """Which of them it is."""
        return next(name for name in ("panel", "people", "judge", "reward") if getattr(self, name) is not None)


class Compare(Section):
    """Comparisons of the answers to each prompt, as soft labels."""

    kind: Literal["compare"] = "compare"
    """The kind of stage."""
    answers: Reference | None = None
    """The stage whose answers are compared. None: the newest before it."""
    by: tuple[Judges, ...] = (Judges(panel=Panel()),)
    """Who compares them: `panel`, {panel: {size: 5}}, {people: {store: ..., project: ...}}, {judge: {...}}, {reward: STAGE}; or a
    list of these, each with its `share` of the prompts."""
    reliability_weighted: bool = True
    """Weight each vote by its annotator's estimated reliability; off: every vote counts the same."""

    @field_validator("by", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        several = value if isinstance(value, list | tuple) else [value]
        return tuple({one: {}} if one == "panel" else one for one in several)

    @model_validator(mode="after")
    def _shares_fit(self) -> Compare:
        if not self.by:
            raise ValueError("by is empty, so nobody compares")
        stated = sum(one.share or 0.0 for one in self.by)
        left = any(one.share is None for one in self.by)
        if stated > 1 + 1e-9 or (not left and stated < 1 - 1e-9):
            raise ValueError(f"the shares of those who compare add up to {stated:g}, which should be 1")
        return self

    def shares(self) -> tuple[float, ...]:
        """Of each who compares; what is not stated is divided equally."""
        open_ = [one for one in self.by if one.share is None]
        rest = 1.0 - sum(one.share or 0.0 for one in self.by)
        return tuple(rest / len(open_) if one.share is None else one.share for one in self.by)


class Select(Section):
    """The best of several answers to each prompt: rejection sampling, RAFT (arXiv:2304.06767), expert iteration."""

    kind: Literal["select"] = "select"
    """The kind of stage."""
    answers: Reference | None = None
    """The stage whose answers are chosen from. None: the newest before it."""
    reward: Reference | None = None
    """The reward model whose score counts. None: the newest before it, unless `rewards` is given."""
    rewards: tuple[RewardSpec, ...] = ()
    """Choose by these rewards instead (docs/rewards.md)."""
    top: Count = 1
    """Answers that are kept of each prompt, the best ones; equal texts count once."""
    threshold: Finite | None = None
    """Keep only answers that score at least this. None: no bound."""
    make: Literal["demonstrations", "pairs"] = "demonstrations"
    """demonstrations: the kept answers, to be imitated. pairs: the best answer of each prompt against its worst."""


class Revise(Section):
    """Critique and revision by a model's own lights (Constitutional AI, arXiv:2212.08073, section 3): demonstrations."""

    kind: Literal["revise"] = "revise"
    """The kind of stage."""
    model: Reference | None = None
    """The policy that answers, criticises and revises. None: the newest before it, or base; with `endpoint` its name there."""
    endpoint: str | None = None
    """An OpenAI-compatible API instead of a model in this process."""
    prompts: Sources | None = None
    """Prompts to answer, as in `data.prompts`. None: the newest that a stage before it names, or `data.prompts`."""
    constitution: str
    """A text file with one principle a line, after a dash."""
    rounds: Repeats = 1
    """Critiques and revisions of each answer, each by another principle."""
    count: Count | None = None
    """How many training prompts; None: all."""
    sampling: Sampling = Sampling(temperature=0.7)
    """How answers, critiques and revisions are drawn."""


class Merge(Section):
    """The average of several models' weights: model soups (arXiv:2203.05482), WARM (arXiv:2401.12187), a moving average with the start."""

    kind: Literal["merge"] = "merge"
    """The kind of stage."""
    models: Annotated[tuple[Reference, ...], Field(min_length=2)]
    """Policies, or reward models, of one architecture."""
    weights: tuple[Annotated[float, Bounds(ge=-10.0, le=10.0)], ...] | None = None
    """What each counts for; they should add up to 1. None: all the same."""

    @model_validator(mode="after")
    def _one_weight_each(self) -> Merge:
        if self.weights is not None and len(self.weights) != len(self.models):
            raise ValueError(f"weights has {len(self.weights)} numbers for {len(self.models)} models")
        if self.weights is not None and abs(sum(self.weights) - 1.0) > 1e-6:
            raise ValueError(f"the weights add up to {sum(self.weights):g}, which should be 1")
        return self
