"""Steps of answers, and what verdicts on them come to, by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.labels.soft import vote_weight
from burnish.labels.steps import MOST_STEPS, Rating, ratings_in, steps_of, turns_of
from burnish.records import Message, Opinion


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("", ()),
        (" \n\n ", ()),
        ("one", ("one",)),
        ("one\n\ntwo\n\n\n  three\n", ("one", "two", "  three")),
        ("one\nstill one\n\ntwo", ("one\nstill one", "two")),
        ("one\ntwo\nthree", ("one", "two", "three")),
        ("so:\n```py\na = 1\n\nb = 2\n```\nthen", ("so:", "```py\na = 1\n\nb = 2\n```", "then")),
        ("a\n\n~~~\nx\n```\n\ny\n~~~\n\nb", ("a", "~~~\nx\n```\n\ny\n~~~", "b")),
        ("a\n\n$$\nx\n\n= y\n$$\n\nb", ("a", "$$\nx\n\n= y\n$$", "b")),
        ("a\n\n\\[ x\n\n= y \\]\n\nb", ("a", "\\[ x\n\n= y \\]", "b")),
        ("$$x$$\n$$y$$", ("$$x$$", "$$y$$")),
        ("open\n\n```\nnever\n\nclosed", ("open", "```\nnever\n\nclosed")),
        ("a\u2028b\r\n\r\nc", ("a\nb", "c")),
    ],
)
def test_steps_are_paragraphs_or_lines_and_code_stays_whole(text: str, steps: tuple[str, ...]):
    assert steps_of(text) == steps


@given(st.text(alphabet="ab \n`$\\[]~", max_size=60))
def test_no_step_is_empty_and_nothing_that_is_written_is_lost(text: str):
    steps = steps_of(text)
    assert all(step.strip() for step in steps)
    assert "".join("".join(steps).split()) == "".join(text.split())


@given(st.lists(st.sampled_from(["a", "b c", "d\ne"]), min_size=2, max_size=5))
def test_steps_that_are_joined_are_found_again(steps: list[str]):
    assert steps_of("\n\n".join(steps)) == tuple(steps)


def test_the_last_of_very_many_holds_the_rest():
    text = "\n\n".join(f"s{n}" for n in range(MOST_STEPS + 7))
    steps = steps_of(text)
    assert len(steps) == MOST_STEPS
    assert steps[-1].split("\n\n") == [f"s{n}" for n in range(MOST_STEPS - 1, MOST_STEPS + 7)]
    turns = [Message(role="assistant", content=f"s{n}") for n in range(MOST_STEPS + 7)]
    assert len(turns_of(turns)) == len(steps_of("", turns)) == MOST_STEPS


def test_a_turn_with_what_its_tools_returned_is_a_step():
    turns = [
        Message(
            role="assistant",
            content="",
            tool_calls=[{"function": {"name": "sum", "arguments": {"a": 1}}}],
        ),
        Message(role="tool", content="3", name="sum"),
        Message(role="assistant", content="It is\n\n3."),
    ]
    assert steps_of("whatever", turns) == ('→ sum({"a": 1})\n\n← sum: 3', "It is\n\n3.")


def _said(who: str, *rows: list[int | None], source: str = "label") -> Opinion:
    return Opinion("likert", who, None, {"step_verdicts": list(rows)}, source=source)


def test_ratings_by_hand():
    said = [_said("a", [1, 1, None, 0, -1]), _said("b", [1, -1, None, 0, 0])]
    assert ratings_in(said, 0) == (
        Rating(1.0, True), Rating(0.0, False), Rating(0.0, False), Rating(0.0, True),
        Rating(-0.5, True),
    )  # fmt: skip
    assert ratings_in(said, 1) is None
    assert ratings_in([Opinion("likert", "a", None, {})], 0) is None
    assert ratings_in([_said("a", [None, None])], 0) is None
    assert ratings_in([_said("a", [1]), _said("b", [1, 1])], 0) is None


def test_reliable_annotators_weigh_more_and_a_decision_counts_alone():
    said = [_said("a", [1, -1]), _said("b", [-1, -1])]
    first, second = ratings_in(said, 0, {"a": 0.9, "b": 0.6}) or ()
    strong, weak = vote_weight(0.9), vote_weight(0.6)
    assert first.mean == pytest.approx((strong - weak) / (strong + weak))
    assert first.decided
    assert second == Rating(-1.0, True)
    decided = [*said, _said("r", [1, 1], source="adjudication")]
    assert [one.mean for one in ratings_in(decided, 0) or ()] == [1.0, 1.0]
    silent = Opinion("likert", "r", None, {}, source="adjudication")
    assert ratings_in([*said, silent], 0) == ratings_in(said, 0)
