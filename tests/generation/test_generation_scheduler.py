"""Which requests run when: rows are filled in order, several at a time; a finished row is closed by
the last one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from burnish.generation.base import Request, SamplingParams
from burnish.generation.finish import Finisher
from burnish.generation.in_flight import InFlight
from burnish.generation.scheduler import Move, Scheduler

END = 9
PARAMS = SamplingParams(50)
TOKENIZER: Any = SimpleNamespace(
    pad_token_id=None, bos_token_id=None, decode=lambda tokens: str(tokens)
)
FINISHER = Finisher(TOKENIZER, frozenset({END}))


def scheduler(
    prompts: list[tuple[int, ...]], *, rows: int, prefill_tokens: int = 100, refill: int = 1
) -> Scheduler:
    plan = Scheduler(rows=rows, prefill_tokens=prefill_tokens, refill=refill)
    for index, prompt in enumerate(prompts):
        plan.add(InFlight(Request(prompt, index), PARAMS))
    return plan


def write(scheduler: Scheduler, tokens: list[int]) -> list[Move]:
    """A token for every active row, then those that ended leave."""
    for sequence, token in zip(scheduler.active, tokens, strict=True):
        sequence.tokens.append(token)
        sequence.logprobs.append(0.0)
        sequence.model_logprobs.append(0.0)
    return scheduler.retire(FINISHER)


def test_a_shared_prompt_costs_its_prefill_once():
    plan = scheduler([(1, 2, 3)] * 3 + [(4,)], rows=4, prefill_tokens=3)
    assert [s.request.seed for s in plan.admit()] == [0, 1, 2]


def test_a_prompt_beyond_the_budget_is_taken_alone():
    plan = scheduler([(1,) * 10, (2,)], rows=2, prefill_tokens=4)
    fresh = plan.admit()
    assert [s.request.seed for s in fresh] == [0]
    plan.start(fresh)
    assert [s.request.seed for s in plan.admit()] == [1]


def test_rows_are_filled_once_several_are_free():
    plan = scheduler([(n,) for n in range(1, 9)], rows=4, refill=2)
    plan.start(plan.admit())
    write(plan, [END, 1, 1, 1])
    assert plan.admit() == []
    write(plan, [END, 1, 1])
    assert [s.request.seed for s in plan.admit()] == [4, 5]


def test_the_last_row_moves_into_the_gap():
    plan = scheduler([(1, 2), (3,), (4, 5, 6)], rows=3)
    plan.start(plan.admit())
    assert write(plan, [1, END, 1]) == [
        Move(2, 1, 3)
    ]  # a prompt of three, and one token whose keys are not there yet
    assert [s.request.seed for s in plan.active] == [0, 2]
    assert write(plan, [1, END]) == []
    assert [s.request.seed for s in plan.active] == [0]


@given(
    lengths=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 5)), min_size=1, max_size=20),
    rows=st.integers(1, 8),
    refill=st.integers(1, 4),
)
def test_every_request_is_written_once_in_order_and_its_row_is_its_own(
    lengths: list[tuple[int, int]], rows: int, refill: int
):
    """A cache of names stands for the real one: what a row holds is always the sequence that is
    thought to be there."""
    plan = scheduler(
        [(n + 1,) * size for n, (size, _) in enumerate(lengths)],
        rows=rows,
        refill=min(refill, rows),
    )
    cache: list[int | None] = [None] * rows
    written: dict[int, int] = {}
    while plan.unfinished:
        fresh = plan.admit()
        assert fresh or plan.active
        for offset, sequence in enumerate(fresh):
            cache[len(plan.active) + offset] = sequence.request.seed
        plan.start(fresh)
        assert [cache[row] for row in range(len(plan.active))] == [
            s.request.seed for s in plan.active
        ]
        tokens = [
            END if len(s.tokens) + 1 == lengths[s.request.seed][1] else 1 for s in plan.active
        ]
        running = list(plan.active)
        for move in write(plan, tokens):
            cache[move.target] = cache[move.source]
        written |= {s.request.seed: len(s.completion.tokens) for s in running if s.completion}
    assert [written[index] for index in range(len(lengths))] == [count for _, count in lengths]


def test_what_is_cancelled_leaves_its_row_or_the_queue_and_nothing_else_changes():
    plan = scheduler([(1, 2), (3,), (4, 5, 6), (7,)], rows=3)
    plan.start(plan.admit())
    write(plan, [1, 1, 1])
    first, waiting = plan.active[0], plan._waiting[0]
    assert plan.cancel(first) == [Move(2, 0, 3)]
    assert plan.cancel(waiting) == []
    assert plan.cancel(first) == []
    assert [s.request.seed for s in plan.active] == [2, 1]
    assert plan.admit() == []
