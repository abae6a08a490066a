"""The judge of procedural tasks."""

from __future__ import annotations

import pytest

from burnish.errors import UserError
from burnish.rewards.task import TaskReward, countdown_value, given_text, text_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("(3 + 5) * 2", 1.0),
        ("2*(5+3)", 1.0),
        ("(3 + 5) × 2 = 16", 1.0),
        ("3 + 5 + 2", 0.0),  # another value
        ("16", 0.0),  # not the numbers
        ("(3 + 5) * 2 + 3 - 3", 0.0),  # one of them twice
        ("8 * 2", 0.0),
        ("3 ** 2 + 5 + 2", None),
        ("35 // 2", None),
        ("__import__('os')", None),
        ("(3 + 5", None),
        ("3 / (5 - 5) * 2", 0.0),
        ("", None),
        ("+" * 500, None),
    ],
)
def test_countdown_uses_each_number_once(text, value):
    assert countdown_value(text, numbers=[3, 5, 2], target=16) == value


def test_countdown_divides_exactly():
    # 8 / (3 − 8/3) = 24, which rounding would miss or only nearly meet
    assert countdown_value("8 / (3 - 8 / 3)", numbers=[8, 3, 8, 3], target=24) == 1.0
    assert countdown_value("7 / 2 * 2", numbers=[7, 2, 2], target=6) == 0.0


@pytest.mark.parametrize(
    ("given", "listed", "partial", "value"),
    [
        ("1, 2, 3", True, False, 1.0),
        ("[1 2 3]", True, False, 1.0),
        ("1, 3, 2", True, False, 0.0),
        ("1, 3, 2", True, True, 1 / 3),
        ("1, 2", True, True, 2 / 3),
        ("1, 2, 3, 4", True, True, 3 / 4),
        ('"1, 2, 3"', False, False, 1.0),
        ("1, 2, 4", False, True, 6 / 7),
    ],
)
def test_lists_and_texts(given, listed, partial, value):
    assert text_value(given, "1, 2, 3", listed=listed, partial=partial) == pytest.approx(value)


def test_where_the_answer_of_a_task_stands():
    assert given_text(r"no <answer>x</answer> \boxed{ab}") == "ab"
    assert given_text("<answer>x</answer><answer> y </answer>") == "y"
    assert given_text("so\nAnswer: abc") == "abc"
    assert given_text("so\nabc\n\n") == "abc"
    assert given_text("") == ""


def test_reasoning_is_not_looked_at_and_other_prompts_are_left_alone():
    columns = {"task": ["arithmetic", "arithmetic", None], "answer": ["4", "4", None]}
    found = TaskReward().judge(["<think>5</think>4", "<think>4", "x"], **columns)
    assert [(j.value, j.verdict) for j in found] == [
        (1.0, "correct"),
        (0.0, "unparsed"),
        (None, None),
    ]


def test_an_unknown_task_is_named():
    with pytest.raises(UserError, match='does not know the task "chess"'):
        TaskReward()(["x"], task=["chess"], answer=["y"])
    with pytest.raises(UserError, match='needs the column "task"'):
        TaskReward()(["x"])
