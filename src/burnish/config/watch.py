"""The watch over an online stage: a judge that training does not use, and what is done when it
disagrees. Torch-free."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from burnish.config.bounds import Bounds, Count, PositiveProbability, Threads
from burnish.config.making import PeopleJudge
from burnish.config.rewards import ModelReward, RewardSpec
from burnish.config.sections import Reference, Section

MOST_WAITING = 4
"""The newest checks that people have not judged yet keep their weights, at most so many."""


class TasteWatch(Section):
    """The recipe's `taste`, where simulated annotators made the comparisons, or nobody did."""

    kind: Literal["taste"]
    """The kind of judge."""


class RewardWatch(Section):
    """Another reward model: of another base model or size, or it makes the same mistakes."""

    kind: Literal["reward"]
    """The kind of judge."""
    model: Reference
    """A stage that makes one, or the folder of one."""


class EndpointWatch(Section):
    """A model that compares each answer with the starting policy's to the same prompt, both ways
    round."""

    kind: Literal["endpoint"]
    """The kind of judge."""
    endpoint: str
    """An OpenAI-compatible API, such as http://127.0.0.1:8000/v1; the key is read from
    BURNISH_API_KEY or OPENAI_API_KEY."""
    model: Annotated[str, Field(min_length=1, max_length=4096)]
    """Its name there."""
    constitution: str | None = None
    """A text file with one principle a line, after a dash. None: be helpful, honest, harmless and
    to the point."""
    parallel: Threads = 4
    """Requests at once."""
    logprobs: bool = False
    """Use the endpoint's probabilities of A, B and C."""


class VerifierWatch(Section):
    """Rewards that check answers, others than those that the policy earns."""

    kind: Literal["verifier"]
    """The kind of judge."""
    rewards: tuple[RewardSpec, ...]
    """Which, as in `rewards` (docs/rewards.md); a reward model is a judge of the kind reward."""

    @model_validator(mode="after")
    def _verifies(self) -> VerifierWatch:
        if not self.rewards:
            raise ValueError("rewards names none, so nothing would be judged")
        if any(isinstance(one, ModelReward) for one in self.rewards):
            raise ValueError("a reward model is no verifier: {kind: reward, model: ...}")
        if not any(one.weight for one in self.rewards):
            raise ValueError("every reward has the weight 0, so nothing would be judged")
        return self


class PeopleWatch(PeopleJudge):
    """Annotators, who compare each answer with the starting policy's to the same prompt and are not
    told which is which. Training goes on meanwhile: a check counts when they are done with it."""

    kind: Literal["people"]
    """The kind of judge."""
    enough: PositiveProbability = 1.0
    """The share of a check's answers that at least one person must have compared before it
    counts."""


WatchJudge = Annotated[
    TasteWatch | RewardWatch | EndpointWatch | VerifierWatch | PeopleWatch,
    Field(discriminator="kind"),
]


class Watch(Section):
    """Looks at fresh answers to held-out prompts now and then, has them judged by what training
    does not use, and says when the reward rises without them getting better (docs/watch.md)."""

    judge: WatchJudge
    """Who judges: {kind: taste}, {kind: reward, model: ...}, {kind: endpoint, endpoint: ..., model:
    ...}, {kind: verifier, rewards: [...]} or {kind: people, store: ..., project: ...}."""
    every: Count = 5
    """Steps between two checks."""
    prompts: Annotated[int, Bounds(ge=2, le=100_000)] = 64
    """Fresh answers in a check, one to each held-out prompt; where these are fewer, several."""
    action: Literal["stop", "warn", "raise_beta", "roll_back"] = "stop"
    """On an alarm. stop: end the training. warn: say so, and go on. raise_beta: double the
    penalty's weight. roll_back: the weights of the best check again, and β doubled where there is a
    penalty."""
    slope: Annotated[float, Bounds(gt=0.0, le=1.0)] = 0.5
    """Alarm where the judge gains with the reward less than this share of what it did among the
    starting policy's answers."""
    window: Annotated[int, Bounds(ge=3, le=1_000)] = 6
    """Checks that its slope is taken over."""
    length: Annotated[float, Bounds(gt=1.0, le=1_000.0)] = 1.3
    """Alarm where answers are this many times as long as at the start, and the reward paid for
    length there."""
    keep: Literal["best", "last"] = "best"
    """Which policy the stage makes: that of the check with the judge's best mean, or the last."""
