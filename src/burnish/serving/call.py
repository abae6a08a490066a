"""One client's request from its body to its answer: prompts, completions being written, and what
becomes of them where the client goes away."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Response
from fastapi.responses import JSONResponse

from burnish.data.render import TooLong, quotable, render_prompt
from burnish.errors import UserError
from burnish.generation.base import Request, SamplingParams, request_seed
from burnish.jsonio import dumps, undefined_as_null
from burnish.listening import Receive, Scope, Send
from burnish.records import Completion, Prompt
from burnish.serving.answers import Form, Json, Told, usage
from burnish.serving.errors import RefusedError
from burnish.serving.protocol import ChatRequest, CompletionRequest
from burnish.serving.worker import Ended, Event, Ticket, Worker

TOO_LONG = "context_length_exceeded"


class ClientGoneError(Exception):
    """The client has closed its connection: nobody reads the answer."""


@dataclass(frozen=True)
class Served:
    """What is served: the worker, the model's names (the first is told), its tokenizer, how many
    tokens its vocabulary has, and the key that clients must have (None: none)."""

    worker: Worker
    names: tuple[str, ...]
    tokenizer: Any
    vocabulary: int
    key: str | None = None


def prompt_tokens(body: ChatRequest | CompletionRequest, served: Served) -> list[tuple[int, ...]]:
    """Each prompt's tokens. Raises RefusedError for what the chat template, the vocabulary or the
    model's context does not take."""
    try:
        if isinstance(body, ChatRequest):
            return [_chat_tokens(body, served)]
        prompts = [_tokens(prompt, served) for prompt in body.prompts]
    except TooLong as error:
        text = (
            f"This model's maximum context length is {served.worker.max_length} tokens:"
            f" {error.problem}"
        )
        raise RefusedError(text, code=TOO_LONG, param="messages") from error
    except UserError as error:
        raise RefusedError(str(error), param="messages") from error
    if not prompts or not all(prompts):
        raise RefusedError("there is no token in it to go on from.", param="prompt")
    return prompts


def _chat_tokens(body: ChatRequest, served: Served) -> tuple[int, ...]:
    messages = quotable(served.tokenizer, [message.message() for message in body.messages])
    kwargs = body.chat_template_kwargs
    columns = {} if kwargs is None else {"chat_template_kwargs": kwargs}
    return render_prompt(
        served.tokenizer,
        Prompt("request", messages, columns),
        max_tokens=served.worker.max_length - 1,
    )


def _tokens(prompt: str | list[int], served: Served) -> tuple[int, ...]:
    if isinstance(prompt, str):
        return tuple(served.tokenizer(prompt)["input_ids"])
    _check_vocabulary(prompt, "prompt", served)
    return tuple(prompt)


def _check_vocabulary(tokens: Sequence[int], param: str, served: Served) -> None:
    unknown = next((token for token in tokens if not 0 <= token < served.vocabulary), None)
    if unknown is not None:
        raise RefusedError(f"the vocabulary has no token {unknown}.", param=param)


class Call:
    """A request that has been read, and its completions.

    Args:
        body: what is asked for.
        prompts: the prompts' tokens.
        served: what answers.
        receive: of the connection, whose body has been read.

    Raises RefusedError for what does not fit the model's context or the server's queue.
    """

    def __init__(
        self, body: ChatRequest | CompletionRequest, prompts: list[tuple[int, ...]], served: Served,
        receive: Receive,
    ) -> None:  # fmt: skip
        self.body, self._served = body, served
        chat = isinstance(body, ChatRequest)
        alternatives = body.alternatives()
        self.form = Form(
            chat, f"{'chatcmpl' if chat else 'cmpl'}-{secrets.token_hex(12)}", int(time.time()),
            served.names[0], served.tokenizer, alternatives is not None,
        )  # fmt: skip
        _check_vocabulary(body.stop_token_ids or (), "stop_token_ids", served)
        params = body.params(_max_new_tokens(body, prompts, served.worker.max_length))
        self._prompt_tokens = sum(map(len, prompts))
        self._events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self.tickets = self._submit(prompts, params, min(alternatives or 0, served.vocabulary))
        self._gone = asyncio.ensure_future(_gone(receive))

    def _submit(
        self, prompts: list[tuple[int, ...]], params: SamplingParams, top_logprobs: int
    ) -> list[Ticket]:
        seed = secrets.randbits(62) if self.body.seed is None else self.body.seed
        prompts = [prompt for prompt in prompts for _ in range(self.body.n or 1)]
        loop = asyncio.get_running_loop()

        def deliver(index: int, event: Event) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._events.put_nowait, (index, event))

        jobs = [
            (Request(prompt, request_seed(seed, index)), lambda event, i=index: deliver(i, event))
            for index, prompt in enumerate(prompts)
        ]
        return self._served.worker.submit(
            jobs, params, streams=bool(self.body.stream), top_logprobs=top_logprobs
        )

    async def event(self) -> tuple[int, Event]:
        """The next event and the number of its completion. Raises RefusedError where that is one,
        ClientGoneError where nobody waits for it any more."""
        waiting = asyncio.ensure_future(self._events.get())
        await asyncio.wait({waiting, self._gone}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            waiting.cancel()
            raise ClientGoneError
        index, event = waiting.result()
        if isinstance(event, RefusedError):
            raise event
        return index, event

    def close(self) -> None:
        """Write no more for it."""
        self._served.worker.cancel(self.tickets)
        self._gone.cancel()

    async def whole(self) -> Response:
        """The answer, once everything is written."""
        done: dict[int, Completion] = {}
        try:
            while len(done) < len(self.tickets):
                index, event = await self.event()
                if isinstance(event, Ended):
                    done[index] = event.completion
        except ClientGoneError:
            return Response(status_code=499)  # nobody reads it
        finally:
            self.close()
        choices = [self._choice(index, done[index]) for index in range(len(self.tickets))]
        return JSONResponse(self.form.whole(choices, self.usage))

    def _choice(self, index: int, completion: Completion) -> Json:
        sequence = self.tickets[index].sequence
        assert sequence is not None
        return self.form.choice(index, completion, sequence)

    @property
    def usage(self) -> Json:
        """Tokens read, and drawn by now."""
        sequences = [ticket.sequence for ticket in self.tickets]
        drawn = sum(len(sequence.tokens) for sequence in sequences if sequence is not None)
        return usage(self._prompt_tokens, drawn)


class EventStream(Response):
    """An answer as server-sent events, as the words come.

    Args:
        call: whose answer it is.
        first: its first event; what is refused before that has a status of HTTP.
    """

    media_type = "text/event-stream"

    def __init__(self, call: Call, first: tuple[int, Event]) -> None:
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._call, self._first = call, first
        self._told = [Told() for _ in call.tickets]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until all is written or the client is gone."""
        head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(head)
        try:
            await self._send_all(send)
        except ClientGoneError:
            return
        except RefusedError as error:
            await _send(send, error.body)
        finally:
            self._call.close()
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    async def _send_all(self, send: Send) -> None:
        call = self._call
        options = call.body.stream_options
        counts = {"usage": None} if options and options.include_usage else {}
        if call.form.chat:
            for index in range(len(call.tickets)):
                await _send(send, call.form.chunk([call.form.opening(index)]) | counts)
        ended, event = 0, self._first
        while True:
            for choice in self._choices(*event):
                await _send(send, call.form.chunk([choice]) | counts)
            ended += isinstance(event[1], Ended)
            if ended == len(call.tickets):
                break
            event = await call.event()
        if counts:
            await _send(send, call.form.chunk([]) | {"usage": call.usage})

    def _choices(self, index: int, event: Event) -> list[Json]:
        """What is sent of an event: its words with their log-probabilities, and then how it
        ended."""
        assert not isinstance(event, RefusedError)
        form, sequence = self._call.form, self._call.tickets[index].sequence
        assert sequence is not None
        drawn = len(event.completion.tokens) if isinstance(event, Ended) else event.tokens
        told = self._told[index].tokens
        logprobs = form.logprobs_of(sequence, self._told[index], drawn)
        news = bool(event.text) or (logprobs is not None and drawn > told)
        choices = [form.piece(index, event.text, logprobs)] if news else []
        if isinstance(event, Ended):
            choices.append(form.piece(index, "", None, event.completion.finish_reason))
        return choices


def _max_new_tokens(
    body: ChatRequest | CompletionRequest, prompts: list[tuple[int, ...]], most: int
) -> int:
    """How long a completion may become. Raises RefusedError where that and a prompt are longer than
    the model reads."""
    longest = max(map(len, prompts))
    asked = body.max_tokens
    if isinstance(body, ChatRequest):
        asked = body.max_completion_tokens or asked
    tokens = most - longest if asked is None else asked
    if tokens < 1 or longest + tokens > most:
        raise RefusedError(
            f"This model's maximum context length is {most} tokens. However, you requested"
            f" {longest + max(tokens, 1)} ({longest} in the prompt, {max(tokens, 1)} in the"
            " completion).",
            code=TOO_LONG,
            param="messages" if isinstance(body, ChatRequest) else "prompt",
        )
    return tokens


async def _gone(receive: Receive) -> None:
    """Comes back when the client has closed its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send(send: Send, data: Json) -> None:
    body = f"data: {dumps(undefined_as_null(data))}\n\n".encode()
    await send({"type": "http.response.body", "body": body, "more_body": True})
