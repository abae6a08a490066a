"""What a file of `burnish lab` says. Torch-free."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from burnish.config.bounds import Bounds, PositiveFinite, Probability, Seed
from burnish.config.sections import Section

Features = Literal["tokens", "groups", "pairs", "positions"]
Experiment = Literal["exact", "curves", "scaling", "noise", "length_bias", "mitigations", "alarms"]
Pairs = Annotated[int, Bounds(ge=10, le=200_000)]
Ns = Annotated[list[Annotated[int, Bounds(ge=1, le=65_536)]], Field(min_length=1, max_length=40)]
Kl = Annotated[float, Bounds(gt=0.0, le=60.0)]
Flipped = Annotated[float, Bounds(ge=0.0, lt=0.5)]
"""Half of the labels turned round say nothing at all."""
Bias = Annotated[float, Bounds(ge=-10.0, le=10.0)]


def _all_different(values: list[Any]) -> list[Any]:
    """A row a value: two rows of one name would be one."""
    twice = next((one for one in values if values.count(one) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice} is listed twice")
    return values


Different = AfterValidator(_all_different)


def _enough_answers(n: int, answers: int) -> None:
    if n > answers:
        raise ValueError(f"n is {n}, and answers is {answers}: raise answers, or lower n")


class World(Section):
    """How worlds are drawn: strings of tokens, and a gold taste that is a sum over their steps."""

    vocabulary: Annotated[int, Bounds(ge=2, le=32)] = 8
    """Tokens."""
    max_length: Annotated[int, Bounds(ge=2, le=128)] = 48
    """The longest answer."""
    end: Annotated[float, Bounds(ge=0.005, le=0.9)] = 0.0833
    """The chance that the policy before training ends after a token."""
    spread: Annotated[float, Bounds(ge=0.0, le=5.0)] = 1.0
    """How uneven its chances of the next token are: the standard deviation of their logarithms."""
    bigrams: Annotated[float, Bounds(ge=0.0, le=10.0)] = 1.5
    """How much of gold's liking is for pairs of neighbours; that for tokens has the weight 1."""
    length: Annotated[float, Bounds(ge=-20.0, le=20.0)] = 0.2
    """What gold gives for each token, whatever it is."""
    onset: Annotated[int, Bounds(ge=0, le=128)] = 8
    """The token from which on each further one costs more."""
    cost: Annotated[float, Bounds(ge=0.0, le=20.0)] = 0.6
    """How much more, over ten tokens."""


class Labels(Section):
    """What a reward model is fitted to."""

    pairs: Pairs = 500
    """Labelled pairs of answers."""
    features: Features = "pairs"
    """What the reward model counts: tokens; tokens and groups of pairs of neighbours; all pairs of
    neighbours; these and where tokens stand."""
    sharpness: PositiveFinite = 1.0
    """How sure annotators are: the log-odds that they prefer an answer that is one standard
    deviation of gold better."""
    flipped: Flipped = 0.0
    """The share of labels that is turned round."""
    length_bias: Bias = 0.0
    """Log-odds that annotators give an answer for each token that it is longer."""
    l2: Annotated[float, Bounds(gt=0.0, le=1e4)] = 0.1
    """The weight of |w|² / 2 in the fit."""


class Exact(Section):
    """Best-of-n by enumeration, in a world of few strings."""

    length: Annotated[int, Bounds(ge=1, le=5)] = 4
    """Tokens of every string."""
    pairs: Pairs = 100
    """Labelled pairs of the reward model."""
    n: Ns = Field(default=[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024])
    """Answers of which the best is taken."""


class Curves(Section):
    """Gao's curves: proxy and gold along √KL."""

    points: Annotated[int, Bounds(ge=4, le=200)] = 30
    """Policies along the way."""
    max_kl: Kl = 12.0
    """How far the last is from the first, in nats an answer."""
    n: Ns = Field(default=[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024])
    """Of best-of-n."""
    answers: Annotated[int, Bounds(ge=256, le=262_144)] = 65_536
    """Scored answers from which best-of-n is estimated."""

    @model_validator(mode="after")
    def _enough(self) -> Curves:
        _enough_answers(max(self.n), self.answers)
        return self


class Scaling(Section):
    """Gold at one distance, by the reward model's data and size."""

    pairs: Annotated[list[Pairs], Field(min_length=2, max_length=12), Different] = Field(
        default=[125, 500, 2000, 8000]
    )
    """Labelled pairs."""
    features: Annotated[list[Features], Field(min_length=1), Different] = Field(
        default=["tokens", "groups", "pairs", "positions"]
    )
    """What is counted."""
    kl: Kl = 12.0
    """The distance."""


class Noise(Section):
    """Labels turned round."""

    flipped: Annotated[list[Flipped], Field(min_length=1, max_length=12), Different] = Field(
        default=[0.0, 0.1, 0.25, 0.4]
    )
    """Shares."""
    pairs: Pairs = 2000
    """Labelled pairs."""


class LengthBias(Section):
    """Annotators who like longer answers."""

    strengths: Annotated[list[Bias], Field(min_length=1, max_length=12), Different] = Field(
        default=[0.0, 0.05, 0.1, 0.2]
    )
    """Log-odds a token."""
    pairs: Pairs = 2000
    """Labelled pairs."""


class Mitigations(Section):
    """Ensembles, the length taken off, and more labels, by best-of-n."""

    members: Annotated[int, Bounds(ge=2, le=20)] = 5
    """Reward models of an ensemble, each with labels of its own."""
    pairs: Pairs = 250
    """Labelled pairs of each."""
    flipped: Flipped = 0.25
    """In the case with noisy labels."""
    length_bias: Bias = 0.2
    """In the case with biased annotators."""
    n: Annotated[int, Bounds(ge=2, le=65_536)] = 1024
    """Of best-of-n."""
    answers: Annotated[int, Bounds(ge=256, le=262_144)] = 65_536
    """Scored answers from which it is estimated."""

    @model_validator(mode="after")
    def _enough(self) -> Mitigations:
        _enough_answers(self.n, self.answers)
        return self


class Alarms(Section):
    """Fresh answers judged while a policy is optimised."""

    pairs: Pairs = 500
    """Labelled pairs of the proxy, in the case of few."""
    biased_pairs: Pairs = 4000
    """In the case of annotators who like longer answers."""
    length_bias: Bias = 0.04
    """How much they do."""
    strong_bias: Bias = 0.1
    """In the case in which they like them so much that gold falls almost at once."""
    healthy_pairs: Pairs = 16_000
    """Where the proxy is good."""
    healthy_features: Features = "positions"
    """What it counts."""
    other_pairs: Pairs = 1600
    """Of the second reward models that are tried as judges."""
    checks: Annotated[int, Bounds(ge=3, le=200)] = 24
    """Evenly along √KL."""
    max_kl: Kl = 12.0
    """At the last."""
    answers: Annotated[int, Bounds(ge=8, le=4096)] = 128
    """Fresh ones a check."""
    start_answers: Annotated[int, Bounds(ge=16, le=65_536)] = 512
    """Of the policy before training."""
    judge_noise: Annotated[float, Bounds(ge=0.0, le=100.0)] = 0.5
    """The standard deviation of a fresh label's error, in that of gold."""
    window: Annotated[int, Bounds(ge=3, le=100)] = 6
    """Checks over which the slope is taken."""
    slope: Probability = 0.5
    """Alarm A: the share of the slope at the start below which it rings."""
    ratio: Annotated[float, Bounds(gt=1.0, le=100.0)] = 1.3
    """Alarm B: how much longer than at the start answers may be."""
    loss: Annotated[float, Bounds(gt=0.0, lt=1.0)] = 0.1
    """The share of its peak that gold may lose before an alarm is too late."""

    @model_validator(mode="after")
    def _four_a_prompt(self) -> Alarms:
        if self.start_answers < 4 * self.answers:
            raise ValueError(
                f"start_answers is {self.start_answers}, and answers is {self.answers}: the start"
                " needs four answers for each that a check has; raise start_answers, or lower"
                " answers"
            )
        return self


class Lab(Section):
    """A file of `burnish lab`."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$")] = "over-optimization"
    """Of the results' folder."""
    seed: Seed = 0
    """The first world; the others follow."""
    seeds: Annotated[int, Bounds(ge=2, le=1000)] = 20
    """Worlds, each with labels of its own."""
    processes: Annotated[int, Bounds(ge=1, le=512)] = 2
    """Worlds that are worked on at once."""
    experiments: Annotated[list[Experiment], Field(min_length=1)] = Field(
        default=["exact", "curves", "scaling", "noise", "length_bias", "mitigations", "alarms"]
    )
    """Which are done."""
    world: World = World()
    """What the worlds are like."""
    labels: Labels = Labels()
    """What the reward models are fitted to, where an experiment does not say otherwise."""
    exact: Exact = Exact()
    """Best-of-n by enumeration."""
    curves: Curves = Curves()
    """Proxy and gold along √KL."""
    scaling: Scaling = Scaling()
    """More labels, larger reward models."""
    noise: Noise = Noise()
    """Labels turned round."""
    length_bias: LengthBias = LengthBias()
    """Annotators who like longer answers."""
    mitigations: Mitigations = Mitigations()
    """What helps."""
    alarms: Alarms = Alarms()
    """What warns."""

    @model_validator(mode="after")
    def _enumerable(self) -> Lab:
        strings = self.world.vocabulary**self.exact.length
        if "exact" in self.experiments and strings > 100_000:
            raise ValueError(
                f"exact.length {self.exact.length} with world.vocabulary {self.world.vocabulary}"
                f" makes {strings} strings, too many to enumerate: lower exact.length"
            )
        return self
