"""Several engines as one: who holds which weights, who writes what, and who takes over.

It is pure: processes and clocks are the fleet's, so that every order of deaths, stalls and answers
can be tried without any. A request has its own random numbers, and what is written together follows
from the requests and from how many engines were asked for, not from which of them live: so whoever
writes a share, and however often it is asked for anew, its tokens and log-probabilities are the
same, bit for bit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from burnish.errors import UserError
from burnish.execution.orders import (
    Died,
    Event,
    Failed,
    Generate,
    Load,
    Loaded,
    Order,
    Publication,
    Written,
)
from burnish.generation.base import Request, SamplingParams
from burnish.records import Completion


class Fleet(Protocol):
    """Starts engines, carries orders to them and events back. An engine has at most one order at a
    time."""

    def start(self, name: str) -> None:
        """Begin an engine; its first event is `Started` or `Died`."""
        ...

    def send(self, name: str, order: Order) -> None:
        """Hand an engine an order, without waiting."""
        ...

    def next(self, seconds: float) -> tuple[str, Event] | None:
        """The next event of any engine; None where there is none within this time."""
        ...

    def end(self, name: str) -> None:
        """Kill an engine."""
        ...

    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        ...


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that an engine may take to start, to take over weights, and to write its share of a
    step's completions."""

    start: float
    publish: float
    generate: float


@dataclass(frozen=True, slots=True)
class Answer:
    """A completion and who wrote it."""

    completion: Completion
    engine: str


@dataclass
class _Share:
    """Requests that one engine writes together; `places` are theirs in the whole."""

    number: int
    places: list[int]


@dataclass
class _Seat:
    """One engine. `doing` names the deadline of what it is at; None: it is idle. `asked` are the
    weights that it is taking over."""

    name: str
    doing: str | None
    since: float
    holds: Publication | None = None
    asked: Publication | None = None
    share: _Share | None = None


class Pool:
    """`engines` engines of a fleet.

    Args:
        fleet: starts them and carries messages.
        engines: how many.
        patience: deadlines.
        restarts: how many that died may be replaced.
        say: told of each death, as one line.

    Whatever an engine answers that cannot be (weights of another version, another checksum, an
    order that nobody gave) is a UserError: nothing is trained on it. Attributes `restarted` and
    `resent` count engines replaced and requests asked for again.
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        engines: int,
        patience: Patience,
        restarts: int,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._fleet, self._patience, self._restarts, self._say = fleet, patience, restarts, say
        self._shares = engines
        self._seats: dict[str, _Seat] = {}
        self._publication: Publication | None = None
        self._requests: Sequence[Request] = ()
        self._params: SamplingParams | None = None
        self._answers: list[Answer | None] = []
        self._waiting: deque[_Share] = deque()
        self._named = self._numbered = 0
        self._complete = False  # whether all engines have been there once
        self.restarted = self.resent = 0
        for _ in range(engines):
            self._start()

    @property
    def version(self) -> int:
        """Of the weights that are sampled; −1 before the first."""
        return -1 if self._publication is None else self._publication.version

    @property
    def engines(self) -> int:
        """How many are there or on their way."""
        return len(self._seats)

    def load(self, publication: Publication) -> None:
        """Have every engine take over these weights; one that starts later does so before it
        serves. Raises UserError if an engine holds other ones, or none is left."""
        self._publication = publication
        self._run_until(self._refitted)
        self._complete = True

    def generate(self, requests: Sequence[Request], params: SamplingParams) -> list[Answer]:
        """An answer for each request, in their order. Raises UserError if no engine is left."""
        self._requests, self._params = requests, params
        self._answers = [None] * len(requests)
        for places in split(requests, self._shares, expected=params.max_new_tokens):
            self._waiting.append(_Share(self._numbered, places))
            self._numbered += 1
        self._run_until(lambda: None not in self._answers)
        return [answer for answer in self._answers if answer is not None]

    def close(self) -> None:
        """End every engine."""
        for name in self._seats:
            self._fleet.end(name)
        self._seats = {}

    def _refitted(self) -> bool:
        """Whether all that are there hold the weights, and at the first time all are there."""
        busy = [seat.doing for seat in self._seats.values() if seat.holds != self._publication]
        late = {"start"} if self._complete else set[str]()
        return len(busy) < len(self._seats) and set(busy) <= late

    def _run_until(self, done: Callable[[], bool]) -> None:
        while not done():
            self._give_orders()
            now = self._fleet.now()
            due = [self._due(seat) for seat in self._seats.values() if seat.doing is not None]
            event = self._fleet.next(max(0.0, min(due, default=now) - now))
            if event is not None:
                self._take(*event)
            else:
                self._give_up_the_late()

    def _give_orders(self) -> None:
        """Every idle engine takes over the weights, or writes what waits."""
        for seat in self._seats.values():
            if seat.doing is not None or self._publication is None:
                continue
            if seat.holds != self._publication:
                seat.asked = self._publication
                self._send(seat, "publish", Load(seat.asked))
            elif self._waiting:
                assert self._params is not None
                seat.share = share = self._waiting.popleft()
                requests = tuple(self._requests[place] for place in share.places)
                self._send(seat, "generate", Generate(share.number, requests, self._params))

    def _send(self, seat: _Seat, doing: str, order: Order) -> None:
        seat.doing, seat.since = doing, self._fleet.now()
        self._fleet.send(seat.name, order)

    def _due(self, seat: _Seat) -> float:
        assert seat.doing is not None
        return seat.since + getattr(self._patience, seat.doing)

    def _give_up_the_late(self) -> None:
        for seat in list(self._seats.values()):
            if seat.doing is not None and self._due(seat) <= self._fleet.now():
                seconds = getattr(self._patience, seat.doing)
                reason = f"it has not answered within scale.deadline.{seat.doing} ({seconds:g} s)"
                self._lose(seat, reason)

    def _take(self, name: str, event: Event) -> None:
        seat = self._seats.get(name)
        if seat is None:  # it was given up
            return
        if isinstance(event, Failed):
            raise UserError(event.problem, hint=event.hint)
        if isinstance(event, Died):
            self._lose(seat, event.reason)
        elif isinstance(event, Loaded):
            self._take_loaded(seat, event)
        elif isinstance(event, Written):
            self._take_written(seat, event)
        elif seat.doing == "start":
            seat.doing = None

    def _take_loaded(self, seat: _Seat, event: Loaded) -> None:
        asked = seat.asked
        said = (event.version, event.checksum)
        if asked is not None and said == (asked.version, asked.checksum):
            seat.doing, seat.holds, seat.asked = None, asked, None
        elif seat.holds is None or said != (seat.holds.version, seat.holds.checksum):
            ordered = asked or seat.holds
            raise wrong(
                f"{seat.name} says that it holds version {event.version} of the weights, checksum "
                f"{event.checksum[:12]}, and was given {ordered and ordered.version}, "
                f"{ordered and ordered.checksum[:12]}"
            )

    def _take_written(self, seat: _Seat, event: Written) -> None:
        share = seat.share
        if share is None or event.number != share.number:
            if event.number >= self._numbered:
                raise wrong(f"{seat.name} answers the order {event.number}, which nobody gave")
            return  # it has been answered before
        if event.version != self.version:
            raise wrong(
                f"{seat.name} wrote with version {event.version} of the weights, "
                f"and version {self.version} was published"
            )
        if len(event.completions) != len(share.places):
            count = f"{len(event.completions)} completions for {len(share.places)} requests"
            raise wrong(f"{seat.name} wrote {count}")
        for place, completion in zip(share.places, event.completions, strict=True):
            self._answers[place] = Answer(completion, seat.name)
        seat.doing = seat.share = None

    def _lose(self, seat: _Seat, reason: str) -> None:
        """Without this engine: what it had to write goes to the others, and another is started."""
        self._fleet.end(seat.name)
        del self._seats[seat.name]
        self._say(f"{seat.name} is gone: {reason}")
        if self.restarted < self._restarts:
            self.restarted += 1
            self._start()
        if not self._seats:
            raise UserError(
                f"no engine is left, and {self.restarted} have been replaced; the last one:"
                f" {reason}.",
                field="scale.restarts.engines",
                hint=(
                    "Checkpoints are as they were: run the same command again to go on, "
                    "with more restarts if engines may well die that often."
                ),
            )
        if seat.share is not None:
            self.resent += len(seat.share.places)
            self._waiting.appendleft(seat.share)

    def _start(self) -> None:
        self._named += 1
        name = f"engine {self._named}"
        self._seats[name] = _Seat(name, "start", self._fleet.now())
        self._fleet.start(name)


def wrong(problem: str) -> UserError:
    """What an engine answers cannot be trained on."""
    return UserError(
        f"{problem}: nothing of it is trained on.",
        hint=(
            "Checkpoints are as they were: run the same command again. "
            "If it comes again, run without scale.engines and report it."
        ),
    )


def split(requests: Sequence[Request], count: int, *, expected: int) -> list[list[int]]:
    """At most `count` shares of about as many tokens, as lists of the requests' places.

    A prompt is run once for all of its requests in a share, so they stay together where they can.
    Pieces go to the smallest share, the largest first (Graham 1969, "longest processing time").

    Args:
        requests: what is to be written.
        count: how many engines there are.
        expected: tokens that each request is taken to have written for it.
    """
    places_of: dict[tuple[int, ...], list[int]] = {}
    for place, request in enumerate(requests):
        places_of.setdefault(request.prompt_tokens, []).append(place)

    def cost(places: Sequence[int]) -> int:
        return len(requests[places[0]].prompt_tokens) + len(places) * expected

    fair = sum(map(cost, places_of.values())) / count
    pieces: list[list[int]] = []
    for places in places_of.values():
        most = max(1, int(len(places) * fair / max(cost(places), fair)))
        pieces += [places[start : start + most] for start in range(0, len(places), most)]
    shares: list[list[int]] = [[] for _ in range(count)]
    costs = [0] * count
    for piece in sorted(pieces, key=cost, reverse=True):
        smallest = costs.index(min(costs))
        shares[smallest] += piece
        costs[smallest] += cost(piece)
    return [sorted(share) for share in shares if share]
