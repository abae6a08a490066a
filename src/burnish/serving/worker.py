"""The thread that writes: requests of all clients in one open call of the engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from burnish.errors import UserError
from burnish.generation.base import Request, SamplingParams
from burnish.generation.finish import Finisher
from burnish.generation.in_flight import InFlight
from burnish.generation.text_stream import TextStream
from burnish.records import Completion
from burnish.serving.errors import RefusedError


class Session(Protocol):
    """An open call of an engine (`NativeEngine.open`, `TransformersEngine.open`)."""

    max_length: int

    @property
    def unfinished(self) -> bool: ...  # noqa: D102

    def add(  # noqa: D102
        self, request: Request, params: SamplingParams, *, top_logprobs: int = 0
    ) -> InFlight: ...

    def cancel(self, sequence: InFlight) -> None: ...  # noqa: D102

    def step(self) -> list[InFlight]: ...  # noqa: D102

    def close(self) -> None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Piece:
    """What was written since the piece before: text, and how many tokens are drawn by now."""

    text: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The last event of a completion: the rest of its text, and all of it."""

    text: str
    completion: Completion


Event = Piece | Ended | RefusedError


@dataclass(eq=False)
class Ticket:
    """One completion that a client waits for.

    `deliver` is called in the worker's thread: with each piece where `streams`, and once at the
    end. `sequence` is there from the moment at which the engine knows of it.
    """

    request: Request
    params: SamplingParams
    deliver: Callable[[Event], None]
    streams: bool
    top_logprobs: int
    until: float
    text: TextStream
    sequence: InFlight | None = None


@dataclass
class _Inbox:
    """What other threads have left for the worker."""

    joining: list[Ticket] = field(default_factory=list)
    leaving: list[Ticket] = field(default_factory=list)


class Worker:
    """Runs an engine for many clients.

    Args:
        open_session: opens a call of the engine; done anew after a step has failed.
        finisher: says what tokens mean.
        queue: completions that may wait or be written at once; further ones are refused.
        timeout: seconds within which a completion must be whole, counted from its arrival.
        say: hears of what failed.
    """

    def __init__(
        self, open_session: Callable[[], Session], finisher: Finisher, *, queue: int,
        timeout: float, say: Callable[[str], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self._open, self._finisher, self._say = open_session, finisher, say
        self._queue, self._timeout = queue, timeout
        self._session = open_session()
        self.max_length = self._session.max_length
        self._changed = threading.Condition()
        self._inbox = _Inbox()
        self._tickets: dict[InFlight, Ticket] = {}
        self._count, self._closing = 0, False
        self._thread = threading.Thread(target=self._run, name="burnish-engine", daemon=True)
        self._thread.start()

    @property
    def load(self) -> int:
        """Completions that wait or are being written."""
        return self._count

    @property
    def ended(self) -> bool:
        """Whether nothing is written any more: it was closed, or the engine cannot go on."""
        return self._closing

    def submit(
        self, jobs: Sequence[tuple[Request, Callable[[Event], None]]], params: SamplingParams, *,
        streams: bool = False, top_logprobs: int = 0,
    ) -> list[Ticket]:  # fmt: skip
        """Have completions written, all or none of them. Raises RefusedError where there are too
        many already, or more of them than the queue ever takes."""
        until = time.monotonic() + self._timeout
        tickets = [
            Ticket(
                request, params, deliver, streams, top_logprobs, until,
                TextStream(self._finisher, params),
            )
            for request, deliver in jobs
        ]  # fmt: skip
        with self._changed:
            if self._closing:
                raise RefusedError("the server is shutting down.", status=503)
            if len(tickets) > self._queue:
                text = f"at most {self._queue} completions can be asked for at once."
                raise RefusedError(text, param="n")
            if self._count + len(tickets) > self._queue:
                raise RefusedError(
                    f"{self._count} completions wait or are being written already, of at most"
                    f" {self._queue}: try again later.",
                    status=429,
                    code="rate_limit_exceeded",
                )
            self._count += len(tickets)
            self._inbox.joining += tickets
            self._changed.notify()
        return tickets

    def cancel(self, tickets: Sequence[Ticket]) -> None:
        """Write no more of these; nothing is delivered for them any more, once the thread has
        noticed."""
        with self._changed:
            self._inbox.leaving += tickets
            self._changed.notify()

    def close(self) -> None:
        """End the thread; whoever waits is told."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        """The thread: serves until it is closed or the engine cannot go on, and tells whoever still
        waits."""
        try:
            self._serve()
        except Exception as error:  # no thread is left to write: nobody shall wait for it
            self._say(f"the engine cannot go on: {type(error).__name__}: {error}")
        finally:
            with self._changed:
                self._closing = True
            for ticket in [*self._tickets.values(), *self._inbox.joining]:
                ticket.deliver(RefusedError("the server is shutting down.", status=503))
            self._session.close()

    def _serve(self) -> None:
        while True:
            inbox = self._next_inbox()
            if inbox is None:
                return
            for ticket in inbox.joining:
                self._join(ticket)
            for ticket in inbox.leaving:
                self._leave(ticket)
            self._expire()
            self._step()

    def _next_inbox(self) -> _Inbox | None:
        """What has come in; waits for it while there is nothing to write. None: it is over."""
        with self._changed:
            while not (self._closing or self._inbox.joining or self._tickets):
                self._inbox.leaving.clear()
                self._changed.wait()
            if self._closing:
                return None
            inbox, self._inbox = self._inbox, _Inbox()
            return inbox

    def _join(self, ticket: Ticket) -> None:
        try:
            ticket.sequence = self._session.add(
                ticket.request, ticket.params, top_logprobs=ticket.top_logprobs
            )
        except (UserError, ValueError) as error:
            self._end(ticket, RefusedError(str(error)))
            return
        except Exception as error:  # of one request: the others are written on
            self._say(f"the engine failed: {type(error).__name__}: {error}")
            self._end(ticket, RefusedError(f"the engine failed: {error}", status=500))
            return
        self._tickets[ticket.sequence] = ticket

    def _leave(self, ticket: Ticket) -> None:
        if ticket.sequence in self._tickets:
            self._session.cancel(ticket.sequence)
            self._end(ticket, None)

    def _expire(self) -> None:
        now = time.monotonic()
        for ticket in [ticket for ticket in self._tickets.values() if ticket.until < now]:
            assert ticket.sequence is not None
            self._session.cancel(ticket.sequence)
            text = (
                f"the answer was not whole within {self._timeout:g} seconds; ask for fewer tokens."
            )
            self._end(ticket, RefusedError(text, status=504, code="timeout"))

    def _step(self) -> None:
        try:
            drawn = self._session.step() if self._session.unfinished else []
        except Exception as error:  # of one step: the server goes on, and every client is told
            self._say(f"the engine failed: {type(error).__name__}: {error}")
            for ticket in list(self._tickets.values()):
                self._end(ticket, RefusedError(f"the engine failed: {error}", status=500))
            self._session.close()
            self._session = self._open()
            return
        for sequence in drawn:
            self._tell(self._tickets[sequence], sequence)

    def _tell(self, ticket: Ticket, sequence: InFlight) -> None:
        completion = sequence.completion
        if completion is not None:
            self._end(ticket, Ended(ticket.text.close(completion.text), completion))
        elif ticket.streams:
            text = ticket.text.push(sequence.tokens)
            if text:
                ticket.deliver(Piece(text, len(sequence.tokens)))

    def _end(self, ticket: Ticket, event: Event | None) -> None:
        if ticket.sequence is not None:
            self._tickets.pop(ticket.sequence, None)
        with self._changed:
            self._count -= 1
        if event is not None:
            ticket.deliver(event)
