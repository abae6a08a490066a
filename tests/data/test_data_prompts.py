from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.data.prompts import Stream, split_by_prompt, split_or_all
from burnish.errors import UserError
from burnish.records import Comparison, Demonstration, Message, PreferenceGroup, Prompt


def prompt(text: str, *more: str, name: str = "") -> Prompt:
    turns = [
        Message(role=("user", "assistant")[i % 2], content=said)
        for i, said in enumerate((text, *more))
    ]
    return Prompt(name or text, tuple(turns))


def many(count: int) -> list[Prompt]:
    return [prompt(f"question {i}") for i in range(count)]


# ------------------------------------------------------------------------------------------------------  # noqa: E501
# the stream


@given(
    count=st.integers(1, 12),
    size=st.integers(1, 15),
    epochs=st.integers(1, 4),
    seed=st.integers(0, 9),
)
def test_every_epoch_holds_each_prompt_once(count, size, epochs, seed):
    stream = Stream(many(count), seed=seed, batch_size=size)
    drawn = [p.id for step in range(-(-count * epochs // size)) for p in stream.batch(step)]
    for epoch in range(epochs):
        assert sorted(drawn[epoch * count : (epoch + 1) * count]) == sorted(
            p.id for p in stream.items
        )


@given(size=st.integers(1, 7), step=st.integers(0, 50), seed=st.integers(0, 9))
def test_a_batch_is_a_function_of_seed_and_step_alone(size, step, seed):
    used = Stream(many(10), seed=seed, batch_size=size)
    for earlier in range(step):
        used.batch(earlier)
    assert used.batch(step) == Stream(many(10), seed=seed, batch_size=size).batch(step)


def test_the_batch_size_does_not_change_the_order():
    orders = []
    for size in (1, 4, 6):
        stream = Stream(many(10), seed=3, batch_size=size)
        orders.append([p.id for step in range(60 // size) for p in stream.batch(step)])
    assert orders[0] == orders[1] == orders[2]


def test_epochs_and_seeds_differ_and_places_are_even():
    stream = Stream(many(20), seed=0, batch_size=20)
    orders = [tuple(p.id for p in stream.batch(step)) for step in range(400)]
    assert len(set(orders)) == 400
    assert orders[0] != tuple(p.id for p in Stream(many(20), seed=1, batch_size=20).batch(0))
    first = Counter(order[0] for order in orders)  # 20 expected each, standard deviation 4.4
    assert len(first) == 20
    assert max(abs(count - 20) for count in first.values()) < 18


def test_the_stream_is_the_same_on_every_machine():
    """A resumed run, on a newer Python or numpy, must see the prompts that it would have seen."""
    stream = Stream(many(6), seed=0, batch_size=6)
    assert "".join(p.id[-1] for p in stream.batch(0)) == "042351"


def test_errors():
    with pytest.raises(UserError, match="no data"):
        Stream([], seed=0, batch_size=1)
    with pytest.raises(UserError, match="batch_size"):
        Stream(many(1), seed=0, batch_size=0)
    with pytest.raises(ValueError, match="count from 0"):
        Stream(many(1), seed=0, batch_size=1).batch(-1)


# -------------------------------------------------------------------------------------------------------  # noqa: E501
# the split

words = st.lists(st.sampled_from(["a", "b", "c", "d e", " A", "D  E\n"]), min_size=1, max_size=25)


@given(
    openings=words,
    seed=st.integers(0, 5),
    heldout=st.one_of(st.integers(1, 3), st.sampled_from([0.2, 0.5, 0.8])),
)
def test_no_prompt_and_no_continuation_of_it_is_on_both_sides(openings, seed, heldout):
    items = [
        prompt(text, *["yes", "and"][: 2 * (i % 2)], name=str(i)) for i, text in enumerate(openings)
    ]
    folded = {" ".join(text.split()).casefold() for text in openings}
    try:
        training, out = split_by_prompt(items, heldout=heldout, seed=seed)
    except UserError:
        assert isinstance(heldout, float) or heldout >= len(folded)
        return
    sides = [
        {" ".join(p.messages[0]["content"].split()).casefold() for p in side}
        for side in (training, out)
    ]
    assert not sides[0] & sides[1]
    assert sides[0] | sides[1] == folded
    assert sorted(p.id for p in (*training, *out)) == sorted(p.id for p in items)
    assert isinstance(heldout, float) or len(sides[1]) == heldout


@given(st.permutations(range(30)))
def test_the_split_depends_on_no_rows_place(order):
    items = many(30)
    for heldout in (0.3, 7):
        expected = {p.id for p in split_by_prompt(items, heldout=heldout, seed=1)[1]}
        shuffled = [items[i] for i in order]
        assert {p.id for p in split_by_prompt(shuffled, heldout=heldout, seed=1)[1]} == expected


def test_rows_added_later_move_no_other_row():
    before, after = (split_by_prompt(many(n), heldout=0.25, seed=2) for n in (100, 300))
    assert set(p.id for p in before[1]) <= {p.id for p in after[1]}
    assert set(p.id for p in before[0]) <= {p.id for p in after[0]}


def test_a_share_is_met_on_average_and_seeds_differ():
    sizes = [len(split_by_prompt(many(1000), heldout=0.2, seed=seed)[1]) for seed in range(20)]
    assert abs(sum(sizes) / 20 - 200) < 12  # standard deviation of the mean 2.8
    assert len(set(sizes)) > 1


def test_demonstrations_and_groups_are_split_by_their_prompts():
    prompts = many(40)
    answer = Message(role="assistant", content="yes")
    demos = [Demonstration(p.id, (*p.messages, answer)) for p in prompts]
    groups = [PreferenceGroup(p, ("a", "b"), (Comparison(0, 1, 1.0),)) for p in prompts]
    out = {p.id for p in split_by_prompt(prompts, heldout=9, seed=0)[1]}
    assert {d.id for d in split_by_prompt(demos, heldout=9, seed=0)[1]} == out
    assert {g.prompt.id for g in split_by_prompt(groups, heldout=9, seed=0)[1]} == out


def test_what_was_split_once_can_be_split_again_by_another_hash():
    training, _ = split_by_prompt(many(200), heldout=0.2, seed=0)
    with pytest.raises(UserError, match="leaves one side without any"):
        split_by_prompt(training, heldout=0.2, seed=0)
    assert 10 < len(split_by_prompt(training, heldout=0.2, seed=0, salt="again/")[1]) < 60


@pytest.mark.parametrize("heldout", [0, -1, 5, 6, 0.0, 1.0, 1.5, float("nan"), True, "0.1"])
def test_a_share_or_number_out_of_range(heldout):
    with pytest.raises(UserError, match=r'^field "heldout": '):
        split_by_prompt(many(5), heldout=heldout, seed=0)


def test_a_share_that_leaves_a_side_empty():
    with pytest.raises(UserError, match="leaves one side without any"):
        split_by_prompt(many(3), heldout=0.0001, seed=0)


def test_a_share_of_one_holds_everything_out_and_of_nothing_nothing():
    items = many(5)
    assert split_or_all(items, heldout=1.0, seed=0) == ((), tuple(items), None)
    assert split_or_all(items, heldout=0.0, seed=0) == (tuple(items), (), "data.heldout is 0")
