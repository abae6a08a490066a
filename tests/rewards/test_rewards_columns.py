"""Columns by path, and which prompts a reward applies to: told before anything is sampled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from burnish.errors import UserError
from burnish.records import Completion, Prompt, Rollout
from burnish.rewards.code_verifier import CodeReward
from burnish.rewards.columns import value_at, values_at
from burnish.rewards.compose import Part
from burnish.rewards.maths import MathsReward, gold_answer
from burnish.rewards.scorer import CompositeScorer, Source, check_prompts


def prompt(name: str, **columns: Any) -> Prompt:
    return Prompt(name, ({"role": "user", "content": name},), columns)


@dataclass
class Origin:
    file: str
    row: int


@pytest.mark.parametrize(
    ("columns", "path", "value"),
    [
        ({"answer": "4"}, "answer", "4"),
        ({"a": {"b": "4"}}, "a.b", "4"),
        ({"a": {"b": {"c": 4}}}, "a.b.c", 4),
        ({"a.b": "4", "a": {"b": "5"}}, "a.b", "4"),
        ({"a.b": {"c": "4"}}, "a.b.c", "4"),
        ({"a": '{"b": "4"}'}, "a.b", "4"),
        ({"a": {"b.c": 4}}, "a.b.c", 4),
        ({"a": {"b": None}}, "a.b", None),
        ({"a": "4"}, "a.b", None),
        ({"a": "{broken"}, "a.b", None),
        ({"a": [1]}, "a.b", None),
        ({}, "a.b", None),
        ({"a": {}}, "a", {}),
    ],
)
def test_paths_reach_into_objects(columns, path, value):
    assert value_at(columns, path) == value
    lists = {name: [column, None] for name, column in columns.items()}
    found = values_at(lists, path, 2)
    assert (found[0] if found is not None else None) == value


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"ground_truth": "4"}, r'field "answer": .* is an object.* `answer.ground_truth`'),
        (["4", "5"], "is a list, not text"),
        (float("nan"), "is nan, which no answer equals"),
        (float("inf"), "is inf"),
        ("", "is empty"),
        ("  ", "is empty"),
        ("nan", "it is no number"),
        (r"\frac{1}{2", "its braces do not close"),
        (r"\frac{1}", "a fraction without its two parts"),
        (r"\sqrt{}", "an argument is missing"),
        (r"x^", "an argument is missing"),
        (r"\begin{pmatrix}1&2", r"\\begin without \\end"),
        (r"\left(1, 2)", r"\\left without \\right"),
        ("1/0", "it divides by 0"),
        (r"\frac{3}{0}", "it divides by 0"),
        (b"4", "is bytes"),
        (1j, "is complex"),
        ("9" * 5000, "more than 4000 characters"),
    ],
)
def test_right_answers_that_nothing_could_equal_are_errors(value, says):
    with pytest.raises(UserError, match=says):
        gold_answer(value)


@pytest.mark.parametrize(
    "value",
    ["4", 4, 4.5, True, "-1/2", r"\frac12", r"\frac{\pi}{2}", r"\sqrt2", "[1, 2)", "(1, 2]", r"\{1, 2\}", "a) 5", "C++", "$5",  # noqa: E501
     r"\triangle ABC", "no solution", r"\left(1, 2\right]", r"\dfrac{\sqrt{3}}{2}", r"\frac{a}b", r"\leftarrow", "7 \\text{ cm}",  # noqa: E501
     r"so \boxed{4}", "2+2=4\n#### 4", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\binom{5}{2}", r"x_1"],  # noqa: E501
)  # fmt: skip
def test_sound_right_answers_are_taken(value):
    assert gold_answer(value)


def test_a_path_reaches_the_answer_and_a_column_that_is_not_there_is_told_with_those_that_are():
    reward = MathsReward(column="reward_model.ground_truth")
    rows = [{"ground_truth": "4", "style": "rule"}, {"ground_truth": "5"}]
    assert [j.verdict for j in reward.judge(["4", "6"], reward_model=rows)] == ["correct", "wrong"]
    prompts = [prompt("p", reward_model=rows[0])]
    assert check_prompts(Part(name="maths"), reward, prompts) is None
    with pytest.raises(
        UserError,
        match=(
            r"applies to none of 1 prompts: .*they have reward_model.ground_truth,"
            r" reward_model.style"
        ),
    ):
        check_prompts(Part(name="maths"), MathsReward(), prompts)


def test_the_file_and_row_of_a_right_answer_that_cannot_be_read_are_named():
    prompts = [prompt("a", answer="4"), prompt("b", answer={"x": 1})]
    with pytest.raises(UserError, match=r'data.jsonl, row 2, field "answer": .* is an object'):
        check_prompts(Part(name="maths"), MathsReward(), prompts, {"b": Origin("data.jsonl", 2)})


def test_prompts_passed_over_are_counted():
    prompts = [prompt("a", answer="4"), prompt("b", answer=None), prompt("c")]
    assert "applies to 1 of 3 prompts; 2 have nothing" in str(
        check_prompts(Part(name="maths"), MathsReward(), prompts)
    )


def test_a_reward_whose_tags_no_prompt_has_is_an_error():
    prompts = [prompt("a", answer="4", tags=["sums"])]
    with pytest.raises(
        UserError, match="applies to none of 1 prompts: it asks for the tag proofs; they have sums"
    ):
        check_prompts(Part(name="maths", tags=frozenset({"proofs"})), MathsReward(), prompts)


def test_prompts_passed_over_for_their_tags_are_no_lack_and_are_told_with_those_that_are():
    prompts = [
        prompt("a", answer="4", tags=["sums"]),
        prompt("b", tags=["sums"]),
        prompt("c", answer="4"),
    ]
    part = Part(name="maths", tags=frozenset({"sums"}))
    found = check_prompts(part, MathsReward(), prompts)
    assert str(found).endswith(
        "1 of 3 prompts; 1 have nothing for it to compare with, 1 have none of its tags"
    )
    assert check_prompts(part, MathsReward(), [prompts[0], prompts[2]]) is None  # what tags are for
    assert "applies to 0 of 1 prompts; 1 have none of its tags" in str(
        check_prompts(part, MathsReward(), prompts[2:], needed=False)
    )
    with pytest.raises(UserError, match=r'field "answer": .* is an object'):
        check_prompts(
            Part(name="maths"), MathsReward(), [prompt("d", answer={"x": 1})], needed=False
        )


def test_a_run_in_which_no_reward_ever_applies_stops():
    scorer = CompositeScorer(
        [Source(Part(name="mine"), lambda completions, **_: [None] * len(completions))]
    )
    rollouts = [Rollout(prompt("a"), (1,), Completion("x", (1,), (0.0,), "stop"), 0)] * 2
    for _ in range(2):
        assert [r.verdicts["rewards"] for r in scorer.score(rollouts)] == ["not-applicable"] * 2
    with pytest.raises(
        UserError, match=r'in 3 batches no reward \("mine"\) applied to any of 2 completions'
    ):
        scorer.score(rollouts)


def test_code_tests_in_one_object_are_reached_by_path():
    reward = object.__new__(CodeReward)
    reward.partial, reward._column = False, "reward_model.ground_truth"
    for text in (
        '{"inputs": ["1\\n"], "outputs": ["2\\n"]}',
        '[{"input": "1\\n", "output": "2\\n"}]',
        '["assert f(1) == 2"]',
        '{"functional": "assert f(1) == 2"}',
        "assert f(1) == 2",
    ):
        tests = reward._tests({"reward_model": {"ground_truth": text}})
        assert tests is not None
        assert tests.count == 1
    assert reward._tests({"reward_model": {"style": "rule"}}) is None
    with pytest.raises(UserError, match="holds no tests that are known"):
        reward._tests({"reward_model": {"ground_truth": "42"}})
