"""Procedural tasks: right answers (by another way of computing them), disjoint splits, streams that
resume."""

from __future__ import annotations

import re
from itertools import islice

import pytest

from burnish.data.columns import demonstrations, prompts
from burnish.data.sources import Row, read_rows
from burnish.data.tasks import ASK, KINDS, parse_task, split_of
from burnish.errors import UserError
from burnish.rewards.task import TaskReward

REFS = {
    "arithmetic": ["task:arithmetic?level=2", "task:arithmetic?digits=2&terms=4&operations=+-*",
        "task:arithmetic?operations=/&digits=3"],
    "countdown": ["task:countdown?numbers=3&largest=20", "task:countdown?level=4"],
    "sorting": ["task:sorting?level=3", "task:sorting?order=both"],
    "edits": ["task:edits?level=3", "task:edits?length=1&steps=8"],
}  # fmt: skip


@pytest.mark.parametrize("ref", [ref for kind in KINDS for ref in REFS[kind]])
def test_the_answer_solves_the_problem_as_the_judge_sees_it(ref):
    rows = [row.values for row in read_rows(f"{ref}&train=60&heldout=20")]
    columns = {name: [row.get(name) for row in rows] for name in rows[0]}
    found = TaskReward().judge([f"<answer>{row['answer']}</answer>" for row in rows], **columns)
    assert [j.verdict for j in found] == ["correct"] * 80
    wrong = TaskReward().judge(["<answer>1234567</answer>" for _ in rows], **columns)
    assert {j.verdict for j in wrong} == {"wrong"}


def test_arithmetic_by_pythons_own_evaluation():
    for ref in REFS["arithmetic"]:
        for row in read_rows(f"{ref}&train=200&heldout=50"):
            match = re.fullmatch(r"What is (.*)\?", row.values["prompt"])
            assert match
            expression = match[1].replace("×", "*").replace("÷", "/").replace("−", "-")
            value = eval(expression)
            assert value == int(value) == int(row.values["answer"]), expression


def test_sorting_by_pythons_own_sort():
    for row in read_rows("task:sorting?order=both&items=6"):
        given = [int(n) for n in re.findall(r"\d+", row.values["prompt"])]
        backwards = "from largest" in row.values["prompt"]
        assert row.values["answer"] == ", ".join(map(str, sorted(given, reverse=backwards)))


@pytest.mark.parametrize("kind", KINDS)
def test_no_problem_is_on_both_sides_whatever_the_seeds(kind):
    sides = {}
    for seed in range(3):
        task, _ = parse_task(f"task:{kind}?seed={seed}")
        for split in ("train", "heldout"):
            for problem in islice(task.stream(split), 150):
                assert sides.setdefault(problem.canonical, split) == split
                assert split_of(f"{kind}/{problem.canonical}") == split


def test_what_commutes_is_one_problem():
    task, _ = parse_task("task:arithmetic?digits=1&operations=+")
    problems = [p for split in ("train", "heldout") for p in task.stream(split)]
    pairs = [tuple(sorted(map(int, re.findall(r"\d", p.text)))) for p in problems]
    assert len(pairs) == len(set(pairs))
    assert len(pairs) > 45  # of the 55 there are


def test_a_small_task_ends_and_a_large_one_resumes_from_its_index():
    assert len(read_rows("task:arithmetic?digits=1&operations=+&train=5000&heldout=5000")) <= 55
    task, _ = parse_task("task:countdown?level=5")
    assert [task.item("train", i) for i in range(5, 9)] == [
        task.item("train", i) for i in range(9)
    ][5:]
    assert task.item("train", 10**9).text
    other, _ = parse_task("task:countdown?level=5&seed=1")
    assert other.item("train", 0) != task.item("train", 0)


def test_level_makes_it_harder():
    def longest(kind: str, level: int) -> int:
        return max(
            len(row.values["prompt"])
            for row in read_rows(f"task:{kind}?level={level}&train=50&heldout=10")
        )

    for kind in KINDS:
        assert longest(kind, 1) < longest(kind, 3) < longest(kind, 5)


def test_how_the_answer_is_asked_for():
    row = read_rows("task:arithmetic?ask=boxed&train=1&heldout=1")[0]
    assert row.values["prompt"].endswith(ASK["boxed"])
    assert row.values["tags"] == ["arithmetic", "reasoning"]


@pytest.mark.parametrize(
    ("ref", "says"),
    [
        ("task:chess", "there is no task \"chess\"; there are arithmetic, countdown, sorting, edits"),  # noqa: E501
        ("task:sorting?digits=2", 'has no option "digits"'),
        ("task:arithmetic?digits=99", "must be a whole number from 1 to 12, not '99'"),
        ("task:arithmetic?ask=nicely", "is no way to ask"),
        ("task:arithmetic?operations=^", "are some of + - * /"),
    ],
)  # fmt: skip
def test_mistakes_in_a_reference_are_named(ref, says):
    with pytest.raises(UserError, match=re.escape(says)):
        read_rows(ref)


def test_gsm8k_as_it_is_published():
    row = Row(
        "g.jsonl",
        1,
        {"question": "Ann has 2 bags of 4. How many?", "answer": "2 * 4 = <<2*4=8>>8\n#### 8"},
        "g:1",
    )
    prompt = prompts([row], instruction="Box it.").items[0]
    assert prompt.messages[-1]["content"] == "Ann has 2 bags of 4. How many?\n\nBox it."
    assert prompt.columns == {
        "answer": "8",
        "solution": row.values["answer"],
        "tags": ["maths", "reasoning"],
    }
    demo = demonstrations([row]).items[0]
    assert [m["role"] for m in demo.messages] == ["user", "assistant"]
    with pytest.raises(UserError, match='must end with "#### RESULT"'):
        prompts([Row("g.jsonl", 1, {"question": "Two?", "answer": "2"}, "g:1")])
