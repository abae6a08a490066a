"""Frozen, torch-free records: what the rooms hand to one another.

Tokens are the record and text is derived: a `Completion` keeps the token ids that the sampler drew
and the log-probabilities it drew them with, so nothing downstream ever decodes and tokenises again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NotRequired, TypedDict

TEXT = "text"
"""The role of what is no turn of a chat: the one message of a demonstration that is trained as it
stands."""


class Message(TypedDict):
    """One turn of a chat: `role` is "system", "developer", "user", "assistant" or "tool"; or
    `TEXT`, and no turn.

    An assistant's turn may have `reasoning_content`, what it thought before it spoke; `tool_calls`,
    each `{"type": "function", "function": {"name", "arguments"}}` with the arguments as an object;
    and `trainable` False: it is shown and not trained. A tool's turn may have `name` and
    `tool_call_id`.
    """

    role: str
    content: str
    reasoning_content: NotRequired[str]
    tool_calls: NotRequired[Sequence[Mapping[str, Any]]]
    tool_call_id: NotRequired[str]
    name: NotRequired[str]
    trainable: NotRequired[bool]


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A conversation to imitate; every assistant turn in it is trained on, but for those marked
    `trainable: false`.

    `tools` and `chat_template_kwargs` are handed to the chat template.
    """

    id: str
    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation that waits for an assistant's turn. `columns` are the row's other fields,
    handed to rewards."""

    id: str
    messages: tuple[Message, ...]
    columns: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def tools(self) -> tuple[Mapping[str, Any], ...]:
        """The tools that the chat template describes: the column of that name."""
        return tuple(self.columns.get("tools") or ())

    @property
    def chat_template_kwargs(self) -> Mapping[str, Any]:
        """What the chat template is handed besides: the column of that name."""
        return self.columns.get("chat_template_kwargs") or {}


@dataclass(frozen=True, slots=True)
class Completion:
    """What a sampler wrote.

    `tokens` hold the end token when `finish_reason` is "stop"; `text` is what they say: marks of
    reasoning and of tool calls are in it, special tokens or not; the end token, padding and tokens
    that begin a text are not. `sampler_logprobs[t]` is the log-probability (nats) of `tokens[t]`
    under the distribution it was sampled from, `model_logprobs[t]` the raw model's: temperature 1,
    nothing truncated, penalised or forbidden. Empty if unknown.

    Of several turns, `tokens` are everything after the prompt, and `response_mask` is True at those
    that the sampler drew, the others being an environment's; log-probabilities are those of the
    drawn tokens. An empty mask: all were drawn.
    """

    text: str
    tokens: tuple[int, ...]
    sampler_logprobs: tuple[float, ...]
    finish_reason: Literal["stop", "length"]
    model_logprobs: tuple[float, ...] = ()
    response_mask: tuple[bool, ...] = ()

    @property
    def drawn(self) -> int:
        """How many tokens the sampler drew."""
        return sum(self.response_mask) if self.response_mask else len(self.tokens)


@dataclass(frozen=True, slots=True)
class Rollout:
    """One completion of one prompt, with the version of the weights that wrote it, and what an
    environment paid, by name."""

    prompt: Prompt
    prompt_tokens: tuple[int, ...]
    completion: Completion
    weight_version: int
    paid: Mapping[str, float] = field(default_factory=dict[str, float])


LARGEST_REWARD = 1e18
"""In size. Squares of rewards and sums of them are taken in float32, which ends at 3.4e38."""


@dataclass(frozen=True, slots=True)
class Reward:
    """The reward of one rollout. `components` are what it was made of, by name; `verdicts` what
    verifiers said, by reward; `notes` the texts that rewards logged, by column.

    `counted` False: no verdict could be had, through no fault of the completion; it takes no part
    in any loss or mean.
    """

    value: float
    components: Mapping[str, float] = field(default_factory=dict[str, float])
    verdicts: Mapping[str, str] = field(default_factory=dict[str, str])
    counted: bool = True
    notes: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Comparison:
    """Responses `first` and `second` (indices into a group) and the probability in [0, 1] that
    `first` is better.

    A probability strictly between 0 and 1 is a soft label (the share of annotators). `margin` goes
    inside the sigmoid.
    """

    first: int
    second: int
    probability: float
    margin: float = 0.0


@dataclass(frozen=True, slots=True)
class PreferenceGroup:
    """A prompt, the responses to it, and every comparison made among them: one batch element of a
    reward model.

    `labels`, where responses were judged singly: for each of them the probability in [0, 1] that it
    is desirable. `traces` has, by the response's text, the turns of those that are more than a text
    (calls of tools and what came of them).
    """

    prompt: Prompt
    responses: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    labels: tuple[float, ...] = ()
    traces: Mapping[str, tuple[Message, ...]] = field(
        default_factory=dict[str, tuple[Message, ...]]
    )


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one annotator said of an item, as it comes from another tool. Candidates go by their
    position in the item.

    `kind` is a kind of task ("pairwise", "ranking", "likert", ...) and `payload` holds what that
    kind has besides `ranks`, under the names of `burnish.annotation.records.Answer`.
    `annotator_kind` is "person", "simulated" or "ai"; `presented` the order of showing, where
    known; `source` "adjudication" marks a reviewer's decision. `scale` is k where strengths ran
    from −k to k, `reliability` what the annotator's was where the opinion comes from; None: not
    known.
    """

    kind: str
    annotator: str
    ranks: tuple[int, ...] | None = None
    payload: Mapping[str, Any] = field(default_factory=dict[str, Any])
    annotator_kind: str = "person"
    seconds: float | None = None
    created_at: datetime | None = None
    presented: tuple[int, ...] | None = None
    source: str = "label"
    scale: int | None = None
    reliability: float | None = None


@dataclass(frozen=True, slots=True)
class LabelledItem:
    """A prompt with candidates, where known who wrote each (`sources`), and what was said of them
    already.

    `traces` has, by the candidate's text, the turns of those that are more than a text.
    """

    prompt: Prompt
    candidates: tuple[str, ...]
    sources: tuple[str, ...] = ()
    opinions: tuple[Opinion, ...] = ()
    kind: str = ""
    traces: Mapping[str, tuple[Message, ...]] = field(
        default_factory=dict[str, tuple[Message, ...]]
    )
