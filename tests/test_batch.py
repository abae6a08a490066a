"""Alignment, packing, sharing and cutting of batches."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from burnish.batch import Batch, TokenSequence, cut

A = TokenSequence((1, 2, 3), (4, 5))
B = TokenSequence((1, 2, 3), (6,))
C = TokenSequence((7,), (8, 9, 10), (True, False, True))


def test_layout_of_a_shared_prompt_by_hand():
    layout = Batch((A, B, C)).layout
    #                     prompt   A     B  C's prompt and response
    assert layout.tokens_T.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert layout.positions_T.tolist() == [0, 1, 2, 3, 4, 3, 0, 1, 2, 3]
    assert [(s.start, s.stop, s.parent) for s in layout.segments] == [
        (0, 3, None),
        (3, 5, 0),
        (5, 6, 0),
        (6, 10, None),
    ]
    assert layout.targets_P.tolist() == [4, 5, 6, 8, 10]
    assert layout.predecessors_P.tolist() == [2, 3, 2, 6, 8]
    assert layout.last_N.tolist() == [4, 5, 9]


def test_unshared_layout_repeats_the_prompt():
    layout = Batch((A, B), share_prompts=False).layout
    assert layout.tokens_T.tolist() == [1, 2, 3, 4, 5, 1, 2, 3, 6]
    assert layout.predecessors_P.tolist() == [2, 3, 7]
    assert layout.last_N.tolist() == [4, 8]


def test_an_empty_response_ends_at_its_prompt():
    layout = Batch((A, TokenSequence((1, 2, 3), ()))).layout
    assert layout.last_N.tolist() == [4, 2]


def test_select_takes_the_columns_along():
    batch = Batch((A, B, C), {"x": torch.arange(5.0)})
    assert batch.select([2, 0])["x"].tolist() == [3.0, 4.0, 0.0, 1.0]


def test_padded_puts_values_in_rows():
    values, mask = Batch((A, B, C)).padded(torch.arange(1.0, 6.0))
    assert values.tolist() == [[1, 2], [3, 0], [4, 5]]
    assert mask.tolist() == [[True, True], [True, False], [True, True]]


def test_a_column_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match="column 'x'"):
        Batch((A,), {"x": torch.zeros(3)})


def test_a_sequence_without_a_prompt_is_refused():
    with pytest.raises(ValueError, match="at least one prompt token"):
        TokenSequence((), (1,))


@given(st.lists(st.integers(1, 20)), st.integers(1, 30))
def test_cut_keeps_order_and_limit(costs: list[int], limit: int):
    runs = cut(costs, limit)
    assert [i for run in runs for i in run] == list(range(len(costs)))
    assert all(len(run) == 1 or sum(costs[i] for i in run) <= limit for run in runs)


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3)), min_size=1, max_size=7),
    st.integers(1, 20),
)
def test_cut_makes_the_fewest_runs_and_of_those_the_most_even(
    items: list[tuple[int, int]], limit: int
):
    # an item that opens a run never costs more than a run that holds the one before it as well: a
    # prompt is there already
    costs = [cost for cost, _ in items]
    opening = [
        cost + min(more, costs[i - 1] if i else more) for i, (cost, more) in enumerate(items)
    ]

    def cost_of(run: list[int]) -> int:
        return opening[run[0]] + sum(costs[i] for i in run[1:])

    def ways(start: int):
        if start == len(costs):
            yield []
        for stop in range(start + 1, len(costs) + 1):
            cost = cost_of(list(range(start, stop)))
            if stop == start + 1 or cost <= limit:
                for rest in ways(stop):
                    yield [cost, *rest]

    best = min((len(way), max(way)) for way in ways(0))
    runs = cut(costs, limit, opening=opening)
    assert (len(runs), max(cost_of(run) for run in runs)) == best


def test_micro_batches_count_a_shared_prompt_once():
    assert Batch((A, B, C)).micro_batches(6) == [[0, 1], [2]]
    assert Batch((A, B, C), share_prompts=False).micro_batches(6) == [[0], [1], [2]]
