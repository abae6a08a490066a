"""What is answered: OpenAI's objects, whole or in chunks of a stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from burnish.generation.in_flight import InFlight
from burnish.records import Completion

Json = dict[str, Any]


@dataclass
class Told:
    """How much of a completion a client has: tokens, and the characters that they spell one by
    one."""

    tokens: int = 0
    characters: int = 0


@dataclass(frozen=True)
class Form:
    """Of one request: how its answers are called and whether they hold log-probabilities.

    Args:
        chat: of /v1/chat/completions, or else of /v1/completions.
        id: of the answer.
        created: seconds since 1970.
        model: as the client called it.
        tokenizer: spells single tokens.
        logprobs: whether log-probabilities are told.
    """

    chat: bool
    id: str
    created: int
    model: str
    tokenizer: Any
    logprobs: bool

    def whole(self, choices: Sequence[Json], usage: Json) -> Json:
        """The answer to a request that does not stream."""
        kind = "chat.completion" if self.chat else "text_completion"
        return self._object(kind, choices) | {"usage": usage}

    def chunk(self, choices: Sequence[Json]) -> Json:
        """A chunk of a stream."""
        return self._object("chat.completion.chunk" if self.chat else "text_completion", choices)

    def choice(self, index: int, completion: Completion, sequence: InFlight) -> Json:
        """One of the completions, whole."""
        logprobs = self.logprobs_of(sequence, Told(), len(sequence.tokens))
        said = (
            {"message": {"role": "assistant", "content": completion.text, "refusal": None}}
            if self.chat
            else {"text": completion.text}
        )
        end = {"logprobs": logprobs, "finish_reason": completion.finish_reason}
        return {"index": index, **said, **end}

    def opening(self, index: int) -> Json:
        """The first chunk's choice of a chat: whose words follow."""
        delta = {"role": "assistant", "content": ""}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

    def piece(
        self, index: int, text: str, logprobs: Json | None, finish_reason: str | None = None
    ) -> Json:
        """A later chunk's choice."""
        said: Json = {"text": text}
        if self.chat:
            said = {"delta": {"content": text} if text else {}}
        return {"index": index, **said, "logprobs": logprobs, "finish_reason": finish_reason}

    def logprobs_of(self, sequence: InFlight, told: Told, stop: int) -> Json | None:
        """Those of the tokens before `stop` that are not told yet, and `told` moves on: the model's
        own, at temperature 1 and with nothing truncated, the end token's included. None where they
        are not asked for."""
        start, told.tokens = told.tokens, stop
        if not self.logprobs:
            return None
        tokens = [self._spelled(token) for token in sequence.tokens[start:stop]]
        values = sequence.model_logprobs[start:stop]
        others = sequence.alternatives[start:stop] or [()] * len(tokens)
        best = [[(self._spelled(token), value) for token, value in row] for row in others]
        if self.chat:
            rows = zip(tokens, values, best, strict=True)
            content = [
                {**_entry(token, value), "top_logprobs": [_entry(*pair) for pair in row]}
                for token, value, row in rows
            ]
            return {"content": content, "refusal": None}
        *offsets, told.characters = accumulate(map(len, tokens), initial=told.characters)
        return {
            "tokens": tokens,
            "token_logprobs": values,
            "top_logprobs": [dict(row) for row in best],
            "text_offset": offsets,
        }

    def _object(self, kind: str, choices: Sequence[Json]) -> Json:
        head = {"id": self.id, "object": kind, "created": self.created, "model": self.model}
        return {**head, "choices": list(choices), "system_fingerprint": None}

    def _spelled(self, token: int) -> str:
        return self.tokenizer.decode([token])


def usage(prompt_tokens: int, completion_tokens: int) -> Json:
    """How many tokens were read and drawn."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def _entry(token: str, logprob: float) -> Json:
    """A token with its bytes, where it is made of whole characters."""
    spelled = None if "\ufffd" in token else list(token.encode())
    return {"token": token, "logprob": logprob, "bytes": spelled}
