"""The recipe's rewards: a list of sections, each of the kind that its `name` says. Torch-free."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from burnish.config.bounds import (
    BatchSize,
    Bounds,
    Finite,
    Repeats,
    Seconds,
    Threads,
    Tokens,
    TokensOrNone,
)
from burnish.config.sections import Section


class RewardBase(Section):
    """What every reward has."""

    label: str | None = None
    """What its component is called in metrics and the report. None: its name. Needed where two
    rewards share a name."""
    weight: Finite = 1.0
    """What it counts for in the sum of rewards. 0: it is measured and shown only."""
    scope: Literal["answer", "full"] = "full"
    """answer: it sees what follows the reasoning (after the last </think>; the content of <answer>
    if there is one). full: all."""
    tags: tuple[str, ...] = ()
    """It applies to prompts that have one of these in their column `tags`; empty: to all. untagged:
    to those without any."""
    gate: Finite | None = None
    """If its value is below this, other rewards can only subtract. None: no gate."""
    normalize: Literal["none", "group", "batch"] = "none"
    """Subtract the mean and divide by the standard deviation, over the prompt's completions (group)
    or all of a step (batch)."""
    clip: tuple[Finite, Finite] | None = None
    """[low, high]: bounds of its value, after normalizing."""

    @property
    def called(self) -> str:
        """The component's name."""
        return self.label or str(getattr(self, "name", ""))

    @model_validator(mode="after")
    def _bounds_in_order(self) -> RewardBase:
        if self.clip is not None and self.clip[0] >= self.clip[1]:
            raise ValueError("clip is [low, high], and low must be less than high")
        return self


class MathsReward(RewardBase):
    """1 if the answer behind the reasoning equals the prompt's, else 0 (docs/rewards.md: how it is
    found and compared)."""

    name: Literal["maths"]
    """Which reward."""
    column: str = "answer"
    """The prompts' column with the right answer; a dotted path reaches into objects:
    reward_model.ground_truth."""
    correct: Finite = 1.0
    """The value of a correct answer."""
    wrong: Finite = 0.0
    """The value of a wrong answer."""
    unparsed: Finite = 0.0
    """The value of a completion in which no answer is found."""
    timeout: Seconds = 3.0
    """Seconds of computing that the comparison of one answer may take; beyond, the verdict is
    verifier-timeout."""
    workers: Threads = 1
    """Worker processes. Plain numbers need none."""


class TaskReward(RewardBase):
    """1 if the answer behind the reasoning solves the prompt's procedural task (data `task:...`),
    else 0."""

    name: Literal["task"]
    """Which reward."""
    partial: bool = False
    """Give sorting and string edits the share of places that are right instead of 0 or 1."""


class CodeReward(RewardBase):
    """The prompt's hidden tests, run against the program behind the reasoning, in the sandbox
    (docs/sandbox.md)."""

    name: Literal["code"]
    """Which reward."""
    tier: Literal["bubblewrap", "landlock"] = "bubblewrap"
    """How programs are confined. Where it cannot be had the run stops; it is never lowered
    unasked."""
    partial: bool = False
    """The share of the tests that pass instead of 1 for all and 0 otherwise."""
    column: str | None = None
    """The prompts' column, or dotted path, that holds all tests as one object or JSON text. None:
    the layouts of docs/sandbox.md."""
    seconds: Seconds = 6.0
    """Seconds of its own (computing or asleep) that one test may take (all calls together, for
    functions); longer is wrong."""
    memory_mb: Annotated[int, Bounds(ge=128, le=1_048_576)] = 512
    """Megabytes of memory that one program may have; more is wrong."""
    workers: Threads | None = None
    """Programs run at once. None: as many as there are cores."""


class FormatReward(RewardBase):
    """1 if the whole completion matches, else 0."""

    name: Literal["format"]
    """Which reward."""
    form: Literal["think-answer", "think", "answer", "boxed"] | None = "think-answer"
    """think-answer: <think>...</think><answer>...</answer> and nothing else. think: a reasoning
    block, then text. answer: one <answer> block. boxed: a \\boxed{} that is not empty."""
    pattern: str | None = None
    """A regular expression of your own, matched against the whole text (a dot matches line breaks),
    in place of `form`."""


class LengthReward(RewardBase):
    """1 up to `free` tokens, then falling in a straight line to 0 at `limit`."""

    name: Literal["length"]
    """Which reward."""
    least: TokensOrNone = 0
    """Below this many tokens (with `unit`: words) it rises from 0 to 1 in a straight line."""
    free: TokensOrNone = 64
    """Up to this many tokens (with `unit`: words) cost nothing."""
    limit: Tokens = 256
    """From this many tokens (with `unit`: words) on it is 0."""
    unit: Literal["tokens", "words"] = "tokens"
    """What is counted. With `scope: answer` it must be words."""

    @model_validator(mode="after")
    def _in_order(self) -> LengthReward:
        if not self.least <= self.free < self.limit:
            raise ValueError("length needs least ≤ free < limit")
        if self.scope == "answer" and self.unit == "tokens":
            raise ValueError("length with scope: answer counts words: set unit: words")
        return self


class RepetitionReward(RewardBase):
    """Minus the share of n-grams of words that were there before: 0 where nothing repeats, towards
    −1."""

    name: Literal["repetition"]
    """Which reward."""
    n: Repeats = 3
    """Words in an n-gram."""


class LanguageReward(RewardBase):
    """The share of words written in the language: by its script, and for languages in Latin letters
    by common words as well."""

    name: Literal["language"]
    """Which reward."""
    language: str = "en"
    """Its two-letter code; docs/rewards.md lists those known."""
    column: str | None = None
    """A column of the prompts with the language's code, which goes before `language`."""


class ConstraintsReward(RewardBase):
    """The share of the prompt's instructions that a program can check (IFEval's 25 kinds) and that
    the completion follows; columns `instruction_id_list` and `kwargs`."""

    name: Literal["constraints"]
    """The kind."""
    partial: bool = True
    """The share that is followed instead of 1 for all and 0 otherwise."""
    loose: bool = False
    """Judge the text also without its first line, its last line and asterisks."""


class ModelReward(RewardBase):
    """A reward model's score."""

    name: Literal["model"]
    """Which reward."""
    model: str | None = None
    """A folder with a reward model that Burnish has trained. None: that of this run's reward
    stage."""


class HttpReward(RewardBase):
    """A reward that a server computes: it is sent prompts, completions and columns as JSON and
    returns a list of numbers."""

    name: Literal["http"]
    """Which reward."""
    url: str
    """Where batches are posted to."""
    batch_size: BatchSize = 64
    """Completions in one request."""
    timeout: Seconds = 30.0
    """Seconds to wait for one answer."""
    retries: Annotated[int, Bounds(ge=0, le=100)] = 4
    """How often a request that failed (no connection, time-out, status 408, 425, 429 or 5xx) is
    sent again."""
    backoff: Annotated[float, Bounds(ge=0.0, le=3_600.0)] = 0.5
    """Seconds before the first repetition; doubled for each further one, at most 30."""
    columns: tuple[str, ...] | None = None
    """The prompts' columns that are sent; None: all."""
    concurrency: Threads = 4
    """Requests under way at once."""
    token_variable: str | None = None
    """The name of an environment variable whose value is sent as a bearer token."""


class PythonReward(RewardBase):
    """A Python function with the ecosystem's signature, sync or async."""

    name: Literal["python"]
    """Which reward."""
    function: str
    """package.module:function, package.module.function, or path/to/file.py:function. A class is
    called without arguments first."""
    messages: bool = False
    """Hand prompts and completions over as lists of messages instead of text."""


RewardSpec = Annotated[
    MathsReward
    | TaskReward
    | CodeReward
    | FormatReward
    | LengthReward
    | RepetitionReward
    | LanguageReward
    | ConstraintsReward
    | ModelReward
    | HttpReward
    | PythonReward,
    Field(discriminator="name"),
]
"""One of the rewards, as its `name` says."""
