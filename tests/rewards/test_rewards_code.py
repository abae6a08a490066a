"""The code reward: which program is taken from an answer, what is put in front, verdicts and
values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from burnish.data.code_tasks import code_tasks
from burnish.data.sources import Row
from burnish.errors import UserError
from burnish.records import Completion, Rollout
from burnish.rewards.base import Judgement
from burnish.rewards.code_verifier import CodeReward, program_in, whole_program
from burnish.rewards.compose import Part
from burnish.rewards.scorer import CompositeScorer, Source
from burnish.sandbox import CodeTests, Limits, code_tests

GIVEN = (
    "from math import floor\n\ndef helper(x):\n    return x + 1\n\ndef next_one(x: float) -> int:\n"
    '    """The next."""\n'
)
HUMANEVAL = {
    "entry_point": "next_one",
    "test": (
        "def check(candidate):\n    assert candidate(1.5) == 2\n    assert candidate(-1) == 0\n"
    ),
}
STDIN = {"tests": [{"input": "3\n", "output": "1\n2\n3\n"}, {"input": "1\n", "output": "1\n"}]}


def fenced(code: str, label: str = "python") -> str:
    return f"Here it is:\n\n```{label}\n{code}\n```\nThat is all."


@pytest.fixture(scope="module")
def verifier() -> Iterator[CodeReward]:
    try:
        opened = CodeReward(limits=Limits(seconds=20, cpu_seconds=2), workers=2)
    except UserError as error:
        pytest.skip(str(error))
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("answer", "program"),
    [
        ("no code at all", None),
        ("x = 1", None),
        ("```python\nx = 1\n```", "x = 1\n"),
        ("```\nx = 1\n```", "x = 1\n"),
        ("```Python3 title=a\nx = 1\n```", "x = 1\n"),
        ("```python\nfirst\n```\nor better\n```py\nsecond\n```", "second\n"),
        ("```python\ncode\n```\nIt prints:\n```\n42\n```", "code\n"),
        ("```python\ncode\n```\nRun it:\n```bash\npython x.py\n```", "code\n"),
        ("```bash\nls\n```", None),
        ("```python\ncut o", None),
        ("```python\ndone\n```\nand then\n```python\ncut o", "done\n"),
        ("<think>```python\ndraft\n```</think>```python\nfinal\n```", "final\n"),
        ("<think>\n```python\ndraft\n```\n</think>\nI do not know.", None),
        ("~~~python\nx = '''\n```\n'''\n~~~", "x = '''\n```\n'''\n"),
        ("````python\n```\n````", "```\n"),
        ("```python\n    indented\n```", "    indented\n"),
        ("```python\nx\n```python\ny\n```", "x\n```python\ny\n"),
        ("```python\n```", ""),
        ("", None),
    ],
)
def test_the_program_in_an_answer(answer: str, program: str | None) -> None:
    assert program_in(answer) == program


def test_imports_and_helpers_of_the_task_come_in_front() -> None:
    tests = code_tests({**HUMANEVAL, "prompt": GIVEN})
    whole = "def next_one(x):\n    return floor(helper(x))\n"
    front = "from math import floor\n\ndef helper(x):\n    return x + 1\n\n"
    assert whole_program(whole, tests) == f"{front}\n{whole}"
    body = "    return floor(helper(x))\n"
    assert whole_program(body, tests) == f"{GIVEN}{body}"
    assert whole_program("next_one = floor", tests) == f"{front}\nnext_one = floor"
    assert whole_program("print(1)", CodeTests(stdio=(("", "1"),))) == "print(1)"


def verdicts_of(verifier: CodeReward, answers: list[str], *rows: dict[str, Any]) -> list[Judgement]:
    """The rows as the columns that a trainer hands over."""
    given = rows if len(rows) > 1 else rows * len(answers)
    return verifier.judge(answers, **{name: [row[name] for row in given] for name in rows[0]})


def test_verdicts_and_values(verifier: CodeReward) -> None:
    row = {**HUMANEVAL, "prompt": GIVEN}
    answers = [
        fenced("def next_one(x):\n    return floor(helper(x))"),
        fenced("    return floor(helper(x))"),  # only the body
        fenced("def next_one(x):\n    return 2"),
        fenced("def next_one(x):\n    while True: pass"),
        "I cannot do this.",
        fenced("def next_one(x) return"),
        fenced("def next_one(x):\n    import sys; sys.exit(0)"),
    ]
    verdicts = verdicts_of(verifier, answers, row)
    assert [(v.verdict, v.value) for v in verdicts] == [
        ("correct", 1.0),
        ("correct", 1.0),
        ("wrong", 0.0),
        ("timeout", 0.0),
        ("unparsed", 0.0),
        ("wrong", 0.0),
        ("wrong", 0.0),
    ]


def test_a_helper_redefined_by_the_program_does_not_serve_the_tests(verifier: CodeReward) -> None:
    """The test measures with `distance`, which the task gives; the program brings one that is
    always 0."""
    given = "def distance(a, b):\n    return abs(a - b)\n\ndef half(x):\n    pass\n"
    row = {
        "entry_point": "half",
        "given": given,
        "test": "def check(c):\n    assert distance(c(3), 1.5) < 1e-9\n",
    }
    cheat = "def distance(a, b):\n    return 0\n\ndef half(x):\n    return 7"
    honest = "def half(x):\n    return x / 2"
    verdicts = verdicts_of(verifier, [fenced(cheat), fenced(honest)], row)
    assert [v.verdict for v in verdicts] == ["wrong", "correct"]


def test_tests_that_cannot_run_mask_the_answer(verifier: CodeReward) -> None:
    row = {"test_list": ["assert f(1) == no_such_name.x"]}
    with pytest.warns(UserWarning, match="no_such_name"):
        (verdict,) = verdicts_of(verifier, [fenced("def f(x): return x")], row)
    assert (verdict.verdict, verdict.counted) == ("infrastructure", False)
    with pytest.warns(UserWarning, match="no verdict"):
        assert verifier(
            ["p"], [fenced("def f(x): return x")], [[1]], test_list=[row["test_list"]]
        ) == [None]


def test_called_with_the_ecosystems_signature(verifier: CodeReward) -> None:
    """Columns arrive as lists; a row without tests is none of this reward's business; chat
    completions are read."""
    good, first_line = "for k in range(int(input())): print(k + 1)", "print(1)"
    values = verifier(
        prompts=["count", "count", [{"role": "user", "content": "count"}], "a poem"],
        completions=[
            fenced(good),
            fenced(first_line),
            [{"role": "assistant", "content": fenced(good)}],
            "roses",
        ],
        completion_ids=[[1], [2], [3], [4]],
        tests=[STDIN["tests"]] * 3 + [None],
        trainer_state=None,  # some trainers pass more than columns
    )
    assert values == [1.0, 0.0, 1.0, None]


def test_the_prompt_column_of_humaneval_is_read_from_the_prompts(verifier: CodeReward) -> None:
    columns = {name: [value] for name, value in HUMANEVAL.items()}
    assert verifier([GIVEN], [fenced("    return floor(helper(x))")], [[0]], **columns) == [1.0]


def test_partial_credit_is_the_share_of_tests(verifier: CodeReward) -> None:
    """Of the two tests, printing 1 passes the second alone; the off switch is the default."""
    answers = [fenced("print(1)"), fenced("for k in range(int(input())): print(k + 1)")]
    assert [v.value for v in verdicts_of(verifier, answers, STDIN)] == [0.0, 1.0]
    verifier.partial = True
    try:
        assert [(v.verdict, v.value) for v in verdicts_of(verifier, answers, STDIN)] == [
            ("wrong", 0.5),
            ("correct", 1.0),
        ]
    finally:
        verifier.partial = False


def test_duplicates_run_once(verifier: CodeReward, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    run = verifier.sandbox.run
    monkeypatch.setattr(
        verifier.sandbox, "run", lambda jobs: (seen.append(len(jobs)), run(jobs))[1]
    )
    answer = fenced("for k in range(int(input())): print(k + 1)")
    other = fenced("print(1)")
    assert [v.verdict for v in verdicts_of(verifier, [answer, other, answer], STDIN)] == [
        "correct",
        "wrong",
        "correct",
    ]
    assert seen == [2]


def test_a_bad_row_is_an_error_that_names_its_field(verifier: CodeReward) -> None:
    with pytest.raises(UserError, match='field "entry_point": it must be the name of a function'):
        verifier.judge([fenced("x")], test=["def check(c):\n    assert c(1)\n"])


def test_from_rows_to_rewards(verifier: CodeReward) -> None:
    """Rows of two layouts become prompts, rollouts, and composed rewards with components, verdicts
    and masks."""
    rows = [
        Row("t", 1, {"id": "add", "text": "Add.", "test_list": ["assert add(1, 2) == 3"]}, "t:1"),
        Row("t", 2, {"id": "next", **HUMANEVAL, "prompt": GIVEN}, "t:2"),
        Row(
            "t",
            3,
            {"id": "broken", "text": "x", "test_list": ["assert f(1) == no_such_name.x"]},
            "t:3",
        ),
    ]
    add, following, broken = code_tasks(rows).items
    texts = [
        (
            add,
            (
                f"<think>{fenced('def add(a, b): return 3')}</think>{fenced('def add(a, b): return a + b')}"  # noqa: E501
            ),
        ),
        (add, fenced("def add(a, b): return a - b")),
        (following, fenced("    return floor(helper(x))")),
        (following, "?"),
        (broken, fenced("def f(x): return x")),
    ]
    rollouts = [Rollout(p, (1,), Completion(text, (1,), (0.0,), "stop"), 0) for p, text in texts]
    scorer = CompositeScorer([Source(Part(name="code"), verifier, "answer")])
    with pytest.warns(UserWarning, match="no_such_name"):
        rewards = scorer.score(rollouts)
    assert [r.verdicts["code"] for r in rewards] == [
        "correct",
        "wrong",
        "correct",
        "unparsed",
        "infrastructure",
    ]
    assert [r.value for r in rewards[:4]] == [1.0, 0.0, 1.0, 0.0]
    assert [r.counted for r in rewards] == [True, True, True, True, False]


NINE = {"input_output": '{"inputs": ["3"], "outputs": ["9"]}'}


@pytest.mark.parametrize(
    ("answer", "columns"),
    [
        (fenced("print(int(input()) ** 2)\nexit()"), NINE),
        ("1. The program:\n\n   ```python\n   print(int(input()) ** 2)\n   ```\n", NINE),
        ("- ```python\n  print(int(input()) ** 2)\n  ```\n", NINE),
        (
            fenced("def less(a, b):\n    return a - b"),
            {"input_output": '{"inputs": [[5, 2]], "outputs": [[3]], "fn_name": "less"}'},
        ),
        (
            fenced("def less(a, b):\n    return a - b")
            + "\nFor example:\n```python\nprint(less(5, 2))\n```\n",
            {"test_list": ["assert less(5, 2) == 3"]},
        ),
    ],
)
def test_right_programs_as_models_write_them_pass(
    verifier: CodeReward, answer: str, columns: dict[str, Any]
) -> None:
    wrong = answer.replace("** 2", "** 3").replace("a - b", "b - a")
    judged = verifier.judge(
        [answer, wrong], **{name: [value] * 2 for name, value in columns.items()}
    )
    assert [one.verdict for one in judged] == ["correct", "wrong"]
