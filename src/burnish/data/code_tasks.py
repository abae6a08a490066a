"""Code tasks as prompts: a problem, and hidden tests in the row's columns, for the code reward.

The layouts are those of published sets; `burnish.sandbox.tasks.code_tests` says which columns hold
tests. Nothing is run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from burnish.data.columns import Loaded, prompts
from burnish.data.sources import Row
from burnish.errors import UserError, listed
from burnish.records import Prompt
from burnish.sandbox.tasks import CodeTests, Unsupported, code_tests

PROBLEM_COLUMNS = ("prompt", "text", "question", "problem", "description", "question_content")
# left out: no reward may see them
SOLUTION_COLUMNS = (
    "code",
    "canonical_solution",
    "solution",
    "solutions",
)
_FENCE = "```"


def code_tasks(
    rows: Sequence[Row], *, shown: int = 1, instruction: str | None = None
) -> Loaded[Prompt]:
    """Prompts that ask for a Python program, with the tests in their columns.

    The problem is the first of the columns `prompt`, `text`, `question`, `problem` and
    `description` that is there: text, to which a sentence is added that asks for the program in one
    fenced block, or messages, which are taken as they stand. Of assertions (`test_list`) the first
    `shown` are shown, because they alone tell the function's name. In HumanEval's layout the
    problem is the start of the program; the column `given` keeps it. `instruction` is put behind
    every prompt.

    Dropped and counted: "duplicate", and "the tests need a class of the program's" (set-up code
    that builds objects of classes which the program is to define cannot run apart from it). Raises
    UserError for rows with a mistake.
    """
    if shown < 0:
        raise UserError(f"must be at least 0, not {shown}.", field="shown")
    kept: list[Row] = []
    dropped: Counter[str] = Counter()
    for row in rows:
        try:
            tests = code_tests(row.values)
        except Unsupported:
            dropped["the tests need a class of the program's"] += 1
            continue
        except UserError as error:
            raise UserError(
                error.problem, file=row.file, row=row.number, field=error.field, hint=error.hint
            ) from error
        kept.append(replace(row, values=_as_prompt(row, tests, shown)))
    if not kept:
        raise UserError("holds no code task that can be run.", file=rows[0].file if rows else None)
    loaded = prompts(kept, instruction=instruction)
    return Loaded(loaded.items, {**dropped, **loaded.dropped}, loaded.origins)


def holds_code_tasks(rows: Sequence[Row]) -> bool:
    """Whether the first row has the columns of a code task: `test_list`; `test` and `entry_point`;
    `input_output`; `public_test_cases`; `public_tests`; `verification_info`; or `tests` with an
    "output" in its first entry."""
    values = rows[0].values if rows else {}
    names = ("test_list", "input_output", "public_test_cases", "public_tests", "verification_info")
    if any(values.get(name) is not None for name in names):
        return True
    if values.get("test") is not None and values.get("entry_point") is not None:
        return True
    tests = values.get("tests")
    if isinstance(tests, str):
        return tests.lstrip().startswith("[") and '"output"' in tests
    return (
        isinstance(tests, list | tuple)
        and bool(tests)
        and isinstance(tests[0], dict)
        and "output" in tests[0]
    )


def _as_prompt(row: Row, tests: CodeTests, shown: int) -> dict[str, Any]:
    """The row as `columns.prompts` reads it."""
    column = next((name for name in PROBLEM_COLUMNS if row.values.get(name) is not None), None)
    if column is None:
        problem = (
            f"is missing. The row has the columns {listed(row.values)}; expected"
            f" {' or '.join(PROBLEM_COLUMNS)}."
        )
        raise UserError(problem, file=row.file, row=row.number, field="prompt")
    rest = {
        name: value
        for name, value in row.values.items()
        if name not in (*PROBLEM_COLUMNS, *SOLUTION_COLUMNS)
    }
    if (
        rest.get("id") is None
        and isinstance(rest.get("task_id"), str | int)
        and row.values.get("task_id") != ""
    ):
        rest["id"] = rest["task_id"]
    text = row.values[column]
    if not isinstance(text, str):
        return {**rest, "prompt": text}
    if tests.given:
        return {**rest, "prompt": _complete(tests.given), "given": tests.given}
    if tests.stdio:
        return {**rest, "prompt": f"{text.strip()}\n\n{_STDIN}"}
    return {**rest, "prompt": f"{text.strip()}\n\n{_function(tests, row.values, shown)}"}


_STDIN = (
    "Write a Python program that reads standard input and prints the answer. "
    f"Put the whole program into one {_FENCE}python block."
)


def _complete(given: str) -> str:
    body = given if given.endswith("\n") else f"{given}\n"
    return (
        f"Complete this Python function. Put the whole of it into one {_FENCE}python"
        f" block.\n\n{_FENCE}python\n{body}{_FENCE}"
    )


def _function(tests: CodeTests, values: Any, shown: int) -> str:
    ask = f"Write it as Python, in one {_FENCE}python block."
    if values.get("test_list") is None:
        return f"Name the function `{tests.functions[0]}`. {ask}"
    examples = "\n".join(tests.checks[:shown])
    if not examples:
        return f"Name the function `{tests.functions[-1]}`. {ask}"
    return f"{ask} It has to pass tests like this:\n\n{_FENCE}python\n{examples}\n{_FENCE}"
