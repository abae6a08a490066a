"""Code tasks: every layout, what the prompt shows and hides, and one-line errors."""

from __future__ import annotations

from typing import Any

import pytest

from burnish.data.code_tasks import code_tasks, holds_code_tasks
from burnish.data.sources import Row
from burnish.errors import UserError
from burnish.sandbox import code_tests

HUMANEVAL = {
    "task_id": "Own/1",
    "prompt": 'import math\n\ndef half(x):\n    """Half of x.\n    """\n',
    "canonical_solution": "    return x / 2\n",
    "test": "def check(candidate):\n    assert candidate(3) == 1.5\n",
    "entry_point": "half",
}
MBPP = {
    "task_id": 7,
    "text": "Write a function that adds.",
    "code": "def add(a, b): return a + b",
    "test_list": ["assert add(1, 2) == 3", "assert add(0, 0) == 0"],
    "test_setup_code": "",
}
STDIN = {"question": "Print the sum.", "tests": [{"input": "1 2", "output": "3"}]}


def rows(*values: dict[str, Any]) -> list[Row]:
    return [
        Row("tasks.jsonl", n, value, f"tasks.jsonl:{n}") for n, value in enumerate(values, start=1)
    ]


def test_layouts() -> None:
    loaded = code_tasks(rows(HUMANEVAL, MBPP, STDIN))
    half, add, total = loaded.items
    assert (half.id, add.id, total.id) == ("Own/1", "7", "tasks.jsonl:3")
    text = half.messages[0]["content"]
    assert text.endswith(f"```python\n{HUMANEVAL['prompt']}```")
    assert "1.5" not in text
    assert half.columns["given"] == HUMANEVAL["prompt"]
    assert half.columns["entry_point"] == "half"
    text = add.messages[0]["content"]
    assert text.startswith("Write a function that adds.\n\n")
    assert MBPP["test_list"][0] in text
    assert MBPP["test_list"][1] not in text
    assert "standard input" in total.messages[0]["content"]
    for prompt in loaded.items:
        assert code_tests(prompt.columns).count in (1, 2)
        assert not {"canonical_solution", "code"} & set(prompt.columns)
    assert dict(loaded.dropped) == {}


def test_how_many_assertions_are_shown() -> None:
    none, both = (code_tasks(rows(MBPP), shown=n).items[0].messages[0]["content"] for n in (0, 2))
    assert "assert" not in none
    assert "`add`" in none
    assert all(check in both for check in MBPP["test_list"])


def test_tests_as_read() -> None:
    assert code_tests(HUMANEVAL).checks == (HUMANEVAL["test"] + "\n\ncheck(half)\n",)
    assert code_tests(HUMANEVAL).functions == ("half",)
    mbpp = code_tests(
        {
            "test_list": ["assert longest([Pair(1, 2)]) == max(3, helper(1))"],
            "test_setup_code": "def helper(x): return x",
        }
    )
    assert (mbpp.functions, mbpp.makers) == (("longest",), ("Pair",))
    assert (
        code_tests({"test_list": ["import math\nassert math.isclose(f(1), sys.maxsize)"]}).preamble
        == "import math\nimport sys\n"
    )
    apps = code_tests({"input_output": {"inputs": ["1\n", ["2", "3"]], "outputs": ["1", ["5"]]}})
    assert apps.stdio == (("1\n", "1"), ("2\n3", "5"))
    named = code_tests(
        {"input_output": '{"fn_name": "f", "inputs": [[[1], 2]], "outputs": [{"a": null}]}'}
    )
    assert named.checks == ("assert _same(f(*[[1], 2]), {'a': None})",)


def test_dropped_and_counted() -> None:
    needs_class = {
        **MBPP,
        "task_id": 8,
        "test_setup_code": "root = Node(1)",
        "test_list": ["assert depth(root) == 1"],
    }
    loaded = code_tasks(rows(MBPP, needs_class, {**MBPP, "task_id": 9}))
    assert len(loaded.items) + sum(loaded.dropped.values()) == 3
    assert loaded.dropped["the tests need a class of the program's"] == 1


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (
            {"prompt": "x"},
            (
                'field "test": is missing. A code task needs one of tests, input_output, test_list,'
                " test, public"
            ),
        ),
        (
            {"tests": [{"input": "", "output": ""}]},
            'field "prompt": is missing. The row has the columns tests',
        ),
        ({**STDIN, "tests": []}, 'field "tests": must be a list with at least one test.'),
        (
            {**STDIN, "tests": [{"input": "1"}]},
            'field "tests": entry 1 must be an object with the texts "input" and "output".',
        ),
        (
            {**STDIN, "tests": [{"input": 1, "output": "1"}]},
            'field "tests": "input" of entry 1 must be text.',
        ),
        (
            {**MBPP, "test_list": ["assert add(1,"]},
            "field \"test_list\": 'assert add(1,' is not Python",
        ),
        ({**MBPP, "test_list": ["add(1, 2)"]}, "field \"test_list\": 'add(1, 2)' asserts nothing."),
        (
            {**MBPP, "test_list": ["assert sorted([2, 1]) == [1, 2]"]},
            "calls no function of the program.",
        ),
        ({**MBPP, "test_list": [3]}, 'field "test_list": must be a list of texts.'),
        (
            {**HUMANEVAL, "entry_point": "a b"},
            "field \"entry_point\": it must be the name of a function, not 'a b'.",
        ),
        (
            {**HUMANEVAL, "test": "assert half(2) == 1"},
            'field "test": defines no function `check(candidate)`.',
        ),
        ({**HUMANEVAL, "test": "def check(candidate): pass"}, 'field "test": asserts nothing.'),
        ({"text": "x", "input_output": "{"}, 'field "input_output": is not JSON'),
        (
            {"text": "x", "input_output": {"inputs": ["1"], "outputs": []}},
            'must hold the lists "inputs" and "outputs"',
        ),
        ({"text": "x", "input_output": {"inputs": [], "outputs": []}}, "holds no tests."),
        (
            {"text": "x", "input_output": {"inputs": [1], "outputs": [1]}},
            'must be texts, or name the function in "fn_name".',
        ),
        (
            {"text": "x", "input_output": {"fn_name": "f", "inputs": [1], "outputs": [1]}},
            "must be a list of arguments.",
        ),
    ],
)
def test_one_line_errors(row: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as caught:
        code_tasks(rows({**MBPP, "task_id": 1}, row))
    assert str(caught.value).startswith("tasks.jsonl, row 2, field ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_shown_must_be_a_count() -> None:
    with pytest.raises(UserError, match='field "shown": must be at least 0, not -1'):
        code_tasks(rows(MBPP), shown=-1)


def test_rows_are_told_apart_by_their_columns() -> None:
    apps = {"question": "x", "input_output": '{"inputs": ["1"], "outputs": ["1"]}'}
    assert all(holds_code_tasks(rows(row)) for row in (HUMANEVAL, MBPP, STDIN, apps))
    others = (
        {"prompt": "x"},
        {"prompt": "x", "test": "a"},
        {"prompt": "x", "tests": ["a"]},
        {"prompt": "x", "tests": []},
    )
    assert not any(holds_code_tasks(rows(row)) for row in others)
