"""A chat model behind an OpenAI-compatible endpoint: text out, and the probabilities of a few words
where it tells them."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx

from burnish.errors import UserError
from burnish.records import Message

KEY_VARIABLES = ("BURNISH_API_KEY", "OPENAI_API_KEY")
_SIDE_BY_SIDE = 8
_RETRIED = (408, 409, 429, 500, 502, 503, 504)


class ChatModel(Protocol):
    """A model that answers: an endpoint, or one in this process. `name` goes into labels and
    caches."""

    name: str

    def complete(self, messages: Sequence[Message]) -> str:
        """The answer to a conversation."""
        ...

    def choose(
        self, messages: Sequence[Message], options: Sequence[str]
    ) -> tuple[float, ...] | None:
        """The probability of each option as the answer's first word, adding up to 1; None if it
        gives none of them."""
        ...


@dataclass
class Endpoint:
    """`url` is the base, such as http://127.0.0.1:8000/v1; the key is read from BURNISH_API_KEY or
    OPENAI_API_KEY.

    Args:
        url: of the API, without /chat/completions.
        model: its name there.
        temperature: 0 is greedy.
        top_p: nucleus; 1 is not sent.
        max_tokens: longest answer.
        logprobs: ask for the probabilities of first words, and use them in `choose`.
        timeout: seconds for one request.
        retries: how often a request is sent again after a failed connection, a 429 or a 5xx.
    """

    url: str
    model: str
    temperature: float = 0.0
    max_tokens: int = 512
    logprobs: bool = False
    timeout: float = 120.0
    retries: int = 4
    wait: float = 1.0
    top_p: float = 1.0
    client: httpx.Client = field(default_factory=httpx.Client, repr=False)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model

    def complete(self, messages: Sequence[Message]) -> str:
        """The first choice's text. Raises UserError for an endpoint that cannot be reached or
        refuses."""
        return _text(self._ask(messages, self.max_tokens, {}), self.url)

    def answer(self, messages: Sequence[Message], *, seed: int) -> tuple[str, str]:
        """(text, why it ended: "stop" or "length") of an answer; `seed` is sent, and whether it is
        heeded the server knows."""
        more: dict[str, Any] = {"seed": seed} | ({"top_p": self.top_p} if self.top_p < 1 else {})
        found = self._ask(messages, self.max_tokens, more)
        text = _text(found, self.url)
        return text, "length" if found["choices"][0].get("finish_reason") == "length" else "stop"

    def complete_all(
        self, conversations: Sequence[Sequence[Message]], *, samples: int = 1
    ) -> list[list[str]]:
        """`samples` answers to each conversation, some requests side by side: not every endpoint
        knows `n`."""
        asked = [messages for messages in conversations for _ in range(samples)]
        with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            texts = list(pool.map(self.complete, asked))
        return [texts[i : i + samples] for i in range(0, len(texts), samples)]

    def choose(
        self, messages: Sequence[Message], options: Sequence[str]
    ) -> tuple[float, ...] | None:
        """From the first word's probabilities, or the option that the answer names: (1, 0), say."""
        if not self.logprobs:
            return _named(self.complete(messages), options)
        found = self._ask(messages, 8, {"logprobs": True, "top_logprobs": 20})
        first = ((found["choices"][0].get("logprobs") or {}).get("content") or [{}])[0]
        mass = dict.fromkeys(options, 0.0)
        for one in first.get("top_logprobs", ()):
            word = str(one["token"]).strip()
            if word in mass:
                mass[word] += math.exp(one["logprob"])
        total = sum(mass.values())
        return (
            tuple(mass[o] / total for o in options)
            if total > 0
            else _named(_text(found, self.url), options)
        )

    def _ask(
        self, messages: Sequence[Message], max_tokens: int, more: Mapping[str, Any]
    ) -> dict[str, Any]:
        body = {
            "model": self.model, "messages": [dict(m) for m in messages],
            "temperature": self.temperature,
            "max_tokens": max_tokens, **more,
        }  # fmt: skip
        key = next((os.environ[name] for name in KEY_VARIABLES if os.environ.get(name)), None)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        problem = "does not answer"
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(self.wait * 2 ** (attempt - 1))
            try:
                reply = self.client.post(
                    f"{self.url.rstrip('/')}/chat/completions",
                    json=body,
                    headers=headers,
                    timeout=self.timeout,
                )
            except httpx.HTTPError as error:
                problem = f"cannot be reached ({type(error).__name__})"
                continue
            if reply.status_code in _RETRIED:
                problem = f"answers {reply.status_code}"
                continue
            if reply.status_code != 200:
                said = " ".join(reply.text.split())[:150]
                raise UserError(
                    f"the endpoint refuses with {reply.status_code} ({said}).", file=self.url
                )
            try:
                return reply.json()
            except ValueError as error:
                raise UserError("the endpoint's answer is not JSON.", file=self.url) from error
        hint = (
            f"It was tried {self.retries + 1} times. Check the address, and that the server runs."
        )
        raise UserError(f"the endpoint {problem}.", file=self.url, hint=hint)


def _text(found: Mapping[str, Any], url: str) -> str:
    try:
        return str(found["choices"][0]["message"]["content"] or "")
    except (KeyError, IndexError, TypeError) as error:
        raise UserError(
            "the endpoint's answer holds no choices[0].message.content.", file=url
        ) from error


def _named(text: str, options: Sequence[str]) -> tuple[float, ...] | None:
    """One for the option that stands first in the text as a word of its own, or last if the text
    gives reasons first."""
    words = [word.strip(".,:;()[]*\"'`") for word in text.split()]
    said = [word for word in words if word in options]
    if not said:
        return None
    chosen = said[0] if words[0] in options else said[-1]
    return tuple(float(option == chosen) for option in options)
