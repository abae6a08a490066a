"""The bodies of requests, as OpenAI's API has them, with the parameters of sampling that it lacks.

What is not known is refused, and what is known and cannot be done is refused by name: a client that
asks for tools or penalties must not get an answer that is silently without.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from burnish.config.bounds import (
    PositiveCoefficient,
    PositiveProbability,
    Probability,
    Responses,
    Seed,
    Temperature,
    Tokens,
    TokensOrNone,
)
from burnish.errors import shown
from burnish.generation.base import SamplingParams
from burnish.records import Message
from burnish.serving.errors import RefusedError

MOST_ALTERNATIVES = 20
_MOST_STOPS = 16
_Role = Literal["system", "developer", "user", "assistant"]
_Stop = Annotated[str, Field(min_length=1, max_length=1000)]

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "audio": (), "best_of": (1,), "echo": (False,), "frequency_penalty": (0,),
    "function_call": ("none",),
    "functions": ([],), "logit_bias": ({},), "modalities": (["text"],),
    "parallel_tool_calls": (True, False),
    "prediction": (), "presence_penalty": (0,), "reasoning_effort": ("none",),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"), "store": (False,), "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],), "verbosity": (), "web_search_options": (),
}  # fmt: skip
"""Fields of OpenAI's that nothing here does, with the values (beside null) that ask for nothing."""
_IGNORED = {"user", "metadata", "safety_identifier", "prompt_cache_key"}
"""Fields that describe who asks, and change no answer."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class StreamOptions(_Strict):
    """Of a stream: whether its last chunk has the usage."""

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class TextPart(_Strict):
    """A part of a message; text is the only kind that is read."""

    type: Literal["text"]
    text: str


class ChatMessage(_Strict):
    """One message of a conversation."""

    role: _Role
    content: str | list[TextPart] | None
    name: None = None
    refusal: None = None
    reasoning_content: str | None = None

    def message(self) -> Message:
        """As it is rendered: parts are put together, a developer is the system."""
        content = self.content
        if not isinstance(content, str):
            content = "".join(part.text for part in content or ())
        role = "system" if self.role == "developer" else self.role
        said = Message(role=role, content=content)
        if self.reasoning_content is not None:
            said["reasoning_content"] = self.reasoning_content
        return said


class Common(_Strict):
    """What both kinds of request have."""

    model: str
    temperature: Temperature | None = None
    top_p: PositiveProbability | None = None
    n: Responses | None = None
    stop: _Stop | Annotated[list[_Stop], Field(max_length=_MOST_STOPS)] | None = None
    seed: Seed | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    top_k: TokensOrNone | None = None
    min_p: Probability | None = None
    repetition_penalty: PositiveCoefficient | None = None
    min_tokens: TokensOrNone | None = None
    stop_token_ids: list[TokensOrNone] | None = None

    def alternatives(self) -> int | None:
        """How many other tokens are told at each place; None: no log-probabilities at all."""
        raise NotImplementedError

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    def params(self, max_new_tokens: int) -> SamplingParams:
        """How to sample, with OpenAI's defaults. Raises RefusedError for what does not go
        together."""
        try:
            return SamplingParams(
                max_new_tokens,
                temperature=1.0 if self.temperature is None else self.temperature,
                top_k=self.top_k or 0,
                top_p=1.0 if self.top_p is None else self.top_p,
                min_p=self.min_p or 0.0,
                repetition_penalty=self.repetition_penalty or 1.0,
                min_new_tokens=self.min_tokens or 0,
                stop=self.stops,
                stop_token_ids=tuple(self.stop_token_ids or ()),
            )
        except ValueError as error:
            raise RefusedError(f"{error}.") from error


class ChatRequest(Common):
    """The body of /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_ALTERNATIVES)] | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    def alternatives(self) -> int | None:
        """See `Common`."""
        return (self.top_logprobs or 0) if self.logprobs else None


class CompletionRequest(Common):
    """The body of /v1/completions."""

    prompt: str | list[str] | list[int] | list[list[int]]
    max_tokens: Tokens | None = 16
    logprobs: Annotated[int, Field(ge=0, le=MOST_ALTERNATIVES)] | None = None

    def alternatives(self) -> int | None:
        """See `Common`."""
        return self.logprobs

    @property
    def prompts(self) -> list[str | list[int]]:
        """Each of them, text or tokens."""
        prompt: Any = self.prompt
        whole = isinstance(prompt, str) or (bool(prompt) and isinstance(prompt[0], int))
        return [prompt] if whole else list(prompt)


Body = TypeVar("Body", ChatRequest, CompletionRequest)


def read_body(kind: type[Body], raw: bytes) -> Body:
    """A request's body. Raises RefusedError, naming the field, for what is wrong in it."""
    try:
        given = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise RefusedError("the body is not JSON.") from error
    if not isinstance(given, dict):
        raise RefusedError("the body is not a JSON object.")
    fields = {key: value for key, value in given.items() if key not in _IGNORED}
    for name in _NEUTRAL.keys() & fields.keys():
        value = fields.pop(name)
        if value is not None and value not in _NEUTRAL[name]:
            raise RefusedError(
                f"{name} is not supported by this server: leave it out.", param=name,
                code="unsupported_parameter",
            )  # fmt: skip
    try:
        body = kind.model_validate(fields)
    except ValidationError as error:
        raise _refusal(error) from error
    if body.stream_options is not None and not body.stream:
        raise RefusedError("goes with stream: true only.", param="stream_options")
    if isinstance(body, ChatRequest) and body.top_logprobs is not None and not body.logprobs:
        raise RefusedError("goes with logprobs: true only.", param="top_logprobs")
    return body


def _refusal(error: ValidationError) -> RefusedError:
    """The first of pydantic's findings, in OpenAI's words where it has them."""
    first = error.errors()[0]
    loc = [str(part) for part in first["loc"]]
    field = loc[0] if loc else None
    if first["type"] == "extra_forbidden":
        return RefusedError(
            f"Unrecognized request argument supplied: {shown('.'.join(loc))}", param=loc[0]
        )
    if first["type"] == "missing":
        return RefusedError(f"Missing required parameter: '{'.'.join(loc)}'.", param=loc[0])
    where = ".".join(part for part in loc if part.isidentifier() or part.isdigit())
    return RefusedError(f"{shown(where)}: {first['msg']}", param=field)
