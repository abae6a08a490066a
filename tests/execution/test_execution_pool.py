"""The pool of engines with engines that die, stall, answer twice or answer wrongly, on a clock that
is made up."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    Started,
    Written,
)
from burnish.execution.pool import Patience, Pool, split
from burnish.generation.base import Request, SamplingParams
from burnish.records import Completion

PARAMS = SamplingParams(8)
PATIENCE = Patience(start=10.0, publish=5.0, generate=20.0)


def _written(request: Request, version: int) -> Completion:
    """What any engine writes for a request with weights of a version."""
    tokens = (request.seed % 97, version, len(request.prompt_tokens))
    return Completion(str(tokens), tokens, (-0.5,) * 3, "stop")


class FakeFleet:
    """Engines by a script: what each does with its orders, one word an order, then "well"."""

    def __init__(self, scripts: Sequence[Sequence[str]]) -> None:
        self.clock, self._count = 0.0, 0
        self._scripts, self._mine = list(scripts), dict[str, list[str]]()
        self._events: list[tuple[float, int, str, Event]] = []
        self._holds: dict[str, Publication] = {}
        self.sent: list[tuple[str, Order]] = []
        self.started: list[str] = []

    def start(self, name: str) -> None:
        self._mine[name] = list(self._scripts.pop(0)) if self._scripts else []
        self.started.append(name)
        self._does(name, Started())

    def send(self, name: str, order: Order) -> None:
        assert name in self._mine
        self.sent.append((name, order))
        if isinstance(order, Load):
            self._holds[name] = order.publication
            answer: Event = Loaded(order.publication.version, order.publication.checksum)
        else:
            version = self._holds[name].version
            completions = tuple(_written(request, version) for request in order.requests)
            answer = Written(order.number, version, completions)
        self._does(name, answer)

    def _does(self, name: str, answer: Event) -> None:
        how = self._mine[name].pop(0) if self._mine[name] else "well"
        after = {"late": 1000.0, "slow": 3.0}.get(how, 1.0)
        if how == "die":
            answer = Died("killed")
        elif how == "stale" and isinstance(answer, Written | Loaded):
            answer = _stale(answer)
        elif how == "short" and isinstance(answer, Written):
            answer = Written(answer.number, answer.version, answer.completions[:-1])
        if how != "stall":
            for _ in range(2 if how == "twice" else 1):
                self._count += 1
                heapq.heappush(self._events, (self.clock + after, self._count, name, answer))

    def next(self, seconds: float) -> tuple[str, Event] | None:
        if not self._events or self._events[0][0] > self.clock + seconds:
            self.clock += seconds
            return None
        self.clock, _, name, event = heapq.heappop(self._events)
        return name, event

    def end(self, name: str) -> None:
        self._mine.pop(name)

    def now(self) -> float:
        return self.clock


def _stale(answer: Written | Loaded) -> Event:
    if isinstance(answer, Loaded):
        return Loaded(answer.version, "other")
    return Written(answer.number, answer.version - 1, answer.completions)


def _pool(fleet: FakeFleet, engines: int, restarts: int = 100) -> Pool:
    return Pool(fleet, engines=engines, patience=PATIENCE, restarts=restarts)


def _requests(count: int, version: int = 0) -> list[Request]:
    return [Request((1,) * (1 + place % 3), 1000 * version + place) for place in range(count)]


def _step(pool: Pool, version: int, requests: Sequence[Request]) -> list[Completion]:
    pool.load(Publication(version, "", f"sum {version}"))
    return [answer.completion for answer in pool.generate(requests, PARAMS)]


HARMLESS = st.sampled_from(["well", "die", "stall", "late", "slow", "twice"])


@settings(max_examples=300, deadline=None)
@given(
    scripts=st.lists(st.lists(HARMLESS, max_size=8), max_size=8),
    engines=st.integers(1, 4),
    counts=st.lists(st.integers(0, 20), min_size=1, max_size=4),
)
def test_whatever_happens_the_same_completions_come_each_once(
    scripts: list[list[str]], engines: int, counts: list[int]
):
    fleet = FakeFleet(scripts)
    pool = _pool(fleet, engines)
    for version, count in enumerate(counts):
        requests = _requests(count, version)
        assert _step(pool, version, requests) == [_written(r, version) for r in requests]
        assert pool.engines == engines
    assert pool.restarted == len(fleet.started) - engines


@settings(max_examples=300, deadline=None)
@given(
    scripts=st.lists(
        st.lists(st.one_of(HARMLESS, st.sampled_from(["stale", "short"])), max_size=8), max_size=8
    ),
    engines=st.integers(1, 3),
)
def test_a_wrong_answer_is_never_taken(scripts: list[list[str]], engines: int):
    pool = _pool(FakeFleet(scripts), engines)
    for version in range(3):
        requests = _requests(9, version)
        try:
            completions = _step(pool, version, requests)
        except UserError as error:
            stopped = str(error)
            break
        assert completions == [_written(r, version) for r in requests]
    else:
        return
    assert "nothing of it is trained on" in stopped
    assert any("stale" in script or "short" in script for script in scripts)


def test_a_request_of_a_dead_engine_goes_to_the_others_with_the_same_seed():
    fleet = FakeFleet([["well", "well", "die"]])
    pool = _pool(fleet, 2)
    requests = _requests(6)
    assert _step(pool, 0, requests) == [_written(r, 0) for r in requests]
    orders = [(name, order) for name, order in fleet.sent if isinstance(order, Generate)]
    lost = next(order for name, order in orders if name == "engine 1")
    # whole, as it was: rows that are multiplied together round alike
    assert [order for name, order in orders if name != "engine 1"].count(lost) == 1
    assert (pool.restarted, pool.resent) == (1, len(lost.requests))
    # whoever comes later takes over the weights before it writes anything
    later = [order for name, order in fleet.sent if name == "engine 3"]
    assert not later or isinstance(later[0], Load)


def test_the_next_step_does_not_wait_for_a_replacement_that_is_still_starting():
    fleet = FakeFleet([["well", "well", "die"], [], ["late"]])
    pool = _pool(fleet, 2)
    _step(pool, 0, _requests(6))
    before = fleet.clock
    _step(pool, 1, _requests(6, 1))
    assert fleet.clock - before < PATIENCE.start


def test_the_first_step_waits_for_every_engine():
    fleet = FakeFleet([["slow"], []])
    pool = _pool(fleet, 2)
    _step(pool, 0, _requests(6))
    assert {name for name, order in fleet.sent if isinstance(order, Generate)} == {
        "engine 1", "engine 2",
    }  # fmt: skip


def test_when_no_engine_is_left_it_is_said_which_wait_it_was():
    pool = _pool(FakeFleet([["stall"], ["stall"]]), 1, restarts=1)
    with pytest.raises(UserError, match=r"1 have been replaced.*scale\.deadline\.start \(10 s\)"):
        pool.load(Publication(0, "", ""))


def test_fewer_engines_go_on_when_restarts_are_used_up():
    pool = _pool(FakeFleet([["well", "well", "die"]]), 2, restarts=0)
    requests = _requests(6)
    assert _step(pool, 0, requests) == [_written(r, 0) for r in requests]
    assert (pool.engines, pool.restarted) == (1, 0)


def test_a_mistake_of_the_users_stops_the_run_as_it_would_here():
    class Refusing(FakeFleet):
        def _does(self, name: str, answer: Event) -> None:
            super()._does(name, Failed("no.") if isinstance(answer, Written) else answer)

    with pytest.raises(UserError, match=r"^no\."):
        _step(_pool(Refusing([]), 2), 0, _requests(3))


def test_what_nobody_asked_for_is_no_answer():
    class Inventing(FakeFleet):
        def _does(self, name: str, answer: Event) -> None:
            made = Written(77, 0, answer.completions) if isinstance(answer, Written) else answer
            super()._does(name, made)

    with pytest.raises(UserError, match="order 77, which nobody gave"):
        _step(_pool(Inventing([]), 1), 0, _requests(3))


# --- shares ---


@settings(max_examples=200, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 9)), min_size=1, max_size=12),
    count=st.integers(1, 5),
    expected=st.integers(1, 50),
)
def test_shares_hold_every_request_once_and_are_even(
    lengths: list[tuple[int, int]], count: int, expected: int
):
    requests = [
        Request((number,) * length, sample)
        for number, (length, samples) in enumerate(lengths)
        for sample in range(samples)
    ]
    shares = split(requests, count, expected=expected)
    assert sorted(place for share in shares for place in share) == list(range(len(requests)))
    assert all(share and share == sorted(share) for share in shares)
    tokens = [
        sum(map(len, {requests[i].prompt_tokens for i in share})) + expected * len(share)
        for share in shares
    ]
    # a piece is at most a fair share, and one request, and goes where there is least
    fair = (sum(length + samples * expected for length, samples in lengths)) / count
    assert max(tokens) <= 2 * (fair + 40 + expected)


def test_groups_of_a_prompt_stay_together():
    requests = [Request((prompt,) * 5, sample) for prompt in range(4) for sample in range(4)]
    assert split(requests, 2, expected=10) == [
        [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15],
    ]  # fmt: skip
