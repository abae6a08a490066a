"""A reward that a server computes.

Request (POST, JSON): {"prompts": [text], "completions": [text], NAME: [value] for each of the
prompts' columns}. Answer (JSON): a list of numbers or nulls, or an object that holds it as
`rewards`, `scores` or `predictions`.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
from collections.abc import Sequence
from typing import Any

import httpx

from burnish.errors import UserError
from burnish.rewards.columns import values_at

_AGAIN = frozenset({408, 425, 429})
_LONGEST_WAIT = 30.0
_HOST = re.compile(r"[\w.:-]+")
_OWN = frozenset({"completion_ids", "trainer_state", "log_extra", "log_metric"})


class HttpReward:
    """Batches posted to `url`, some at once, each sent again with doubled waits where the failure
    may pass."""

    name = "http"

    def __init__(
        self,
        url: str,
        *,
        batch_size: int = 64,
        timeout: float = 30.0,
        retries: int = 4,
        backoff: float = 0.5,
        columns: Sequence[str] | None = None,
        concurrency: int = 4,
        token_variable: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        if not _is_address(url):
            hint = "Write it out, for instance http://127.0.0.1:8000/score."
            raise UserError(
                f'"{_without_secrets(url)}" is no http or https address.',
                field="rewards.url",
                hint=hint,
            )
        token = os.environ.get(token_variable) if token_variable else None
        if token_variable and not token:
            raise UserError(
                f"the environment variable {token_variable} is not set.",
                field="rewards.token_variable",
            )
        self._url, self._shown = url, _without_secrets(url)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._batch_size, self._timeout, self._concurrency = batch_size, timeout, concurrency
        self._retries, self._backoff, self._columns, self._transport = (
            retries,
            backoff,
            columns,
            transport,
        )

    async def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> list[float | None]:
        """The server's values, in order."""
        own = {n: v for n, v in columns.items() if n not in _OWN}
        found = (
            own
            if self._columns is None
            else {n: values_at(own, n, len(completions)) for n in self._columns}
        )
        sent = {name: values for name, values in found.items() if values is not None}
        missing = [n for n in self._columns or () if n not in sent]
        if missing:
            raise UserError(f'the prompts have no column "{missing[0]}".', field="rewards.columns")
        whole = {**sent, "prompts": list(prompts), "completions": list(completions)}
        starts = range(0, len(completions), self._batch_size)
        batches = [{n: v[i : i + self._batch_size] for n, v in whole.items()} for i in starts]
        at_once = asyncio.Semaphore(self._concurrency)
        async with httpx.AsyncClient(
            timeout=self._timeout, headers=self._headers, transport=self._transport
        ) as client:

            async def one(batch: dict[str, Any]) -> list[float | None]:
                async with at_once:
                    return self._values(await self._post(client, batch), len(batch["completions"]))

            answers = await asyncio.gather(*(one(batch) for batch in batches))
        return [value for answer in answers for value in answer]

    async def _post(self, client: httpx.AsyncClient, batch: dict[str, Any]) -> Any:
        problem, tries = "", self._retries + 1
        for attempt in range(tries):
            wait = min(_LONGEST_WAIT, self._backoff * 2.0**attempt)
            try:
                response = await client.post(self._url, json=batch)
            except httpx.TimeoutException:
                problem = f"gave no answer within {self._timeout:g} s"
            except httpx.TransportError as error:
                problem = f"cannot be reached ({type(error).__name__}: {error})"
            except (TypeError, ValueError) as error:
                raise UserError(
                    f"the columns cannot be sent to {self._shown} as JSON ({error})."
                ) from error
            else:
                if response.is_success:
                    return self._json(response)
                problem = (
                    f"answered with status {response.status_code} ({response.text.strip()[:200]!r})"
                )
                if response.status_code not in _AGAIN and response.status_code < 500:
                    raise UserError(
                        f"the reward server {self._shown} {problem}.",
                        hint="Mend the request or the server.",
                    )
                wait = max(wait, _retry_after(response))
            if attempt + 1 < tries:
                await asyncio.sleep(wait)
        raise UserError(
            f"the reward server {self._shown} {problem}, {tries} time{'s' if tries > 1 else ''}."
        )

    def _json(self, response: httpx.Response) -> Any:
        try:
            return response.json()
        except ValueError as error:
            problem = (
                f"the reward server {self._shown} answered with status {response.status_code} and"
                " no JSON"
            )
            raise UserError(f"{problem} ({response.text.strip()[:80]!r}).") from error

    def _values(self, answer: Any, count: int) -> list[float | None]:
        if isinstance(answer, dict):
            answer = next(
                (answer[name] for name in ("rewards", "scores", "predictions") if name in answer),
                None,
            )
        sound = isinstance(answer, list) and all(
            v is None
            or (isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v))
            for v in answer
        )
        if not sound:
            raise UserError(
                f"the reward server {self._shown} sent no list of finite numbers or nulls."
            )
        if len(answer) != count:
            raise UserError(
                f"the reward server {self._shown} sent {len(answer)} values for {count}"
                " completions."
            )
        return [None if v is None else float(v) for v in answer]


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the server asks to wait, where it says so in seconds."""
    text = response.headers.get("retry-after", "")
    return min(_LONGEST_WAIT, float(text)) if text.isdigit() else 0.0


def _is_address(url: str) -> bool:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return parsed.scheme in ("http", "https") and _HOST.fullmatch(parsed.host) is not None


def _without_secrets(url: str) -> str:
    """The address as it may be shown: no user, password or query."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return url.rpartition("@")[2].partition("?")[0]
    return str(parsed.copy_with(username=None, password=None, query=None))
