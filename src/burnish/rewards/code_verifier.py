"""Code as a verifiable reward: the program in an answer, run in the sandbox against hidden tests.
Torch-free.

Verdicts: correct (every test passed), wrong (not every one), timeout (the program hit a limit of
time: scored as wrong, since masking it would reward endless loops), unparsed (no program in the
answer) and infrastructure (the sandbox or the tests failed, not the answer), which is not counted.
"""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from burnish.records import Prompt
from burnish.rewards.base import Judgement
from burnish.rewards.columns import missing_column, nearest_paths, value_at
from burnish.sandbox import CodeTests, Job, Limits, Outcome, Sandbox, Tier, code_tests
from burnish.sandbox.tasks import COLUMNS, preamble_of, tests_in

CORRECT, WRONG, TIMEOUT, UNPARSED = "correct", "wrong", "timeout", "unparsed"
INFRASTRUCTURE = "infrastructure"

_FENCE = re.compile(
    r"^(?P<margin>[ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)*)(?P<fence>`{3,}|~{3,})["
    r" \t]*(?P<label>[^\s`]*)[^\n`]*$"
)
_FUTURE = re.compile(r"^from __future__ import .*\n?", re.MULTILINE)
_LABELS = ("python", "py", "python3")


class CodeReward:
    """The reward of a program: 1 if it passes all its hidden tests, else 0, or with `partial` the
    share that it passes.

    The columns must hold tests, as `sandbox.tasks.code_tests` reads them; a completion whose row
    has none is none of this reward's business. Duplicates in a batch are run once.

    Args:
        tier: the isolation; where it cannot be had, UserError at once. There is no weaker one
            behind it.
        partial: count every test instead of stopping at the first that fails.
        seconds: of one test in the stdin form, of loading and all calls in the function form:
            processor time and time asleep, whatever else the machine does meanwhile; processor time
            is limited to as many whole seconds.
        memory_mb: memory of a program.
        workers: programs run at once (None: the usable cores).
        limits: all limits, in place of `seconds` and `memory_mb`.
        python: the interpreter for the programs (None: Burnish's own, else the system's).
        column: where the tests stand together in one object or JSON text, by a dotted path
            (`reward_model.ground_truth`);
            None: in columns of their own.
    """

    name = "code"
    scope = "answer"

    def __init__(
        self,
        tier: Tier = "bubblewrap",
        *,
        partial: bool = False,
        seconds: float = 6.0,
        memory_mb: int = 512,
        workers: int | None = None,
        limits: Limits | None = None,
        python: str | None = None,
        column: str | None = None,
    ) -> None:
        self.partial, self._column = partial, column
        limits = limits or Limits(
            seconds=seconds, cpu_seconds=math.ceil(seconds), memory_mb=memory_mb
        )
        self.sandbox = Sandbox(tier, limits=limits, parallel=workers, python=python)

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """One number for each completion; None: masked, or no code task. Columns are lists as long
        as `completions`."""
        return [v.value if v.counted else None for v in self.judge(completions, prompts, **columns)]

    def judge(
        self, completions: Sequence[Any], prompts: Sequence[Any] | None = None, **columns: Any
    ) -> list[Judgement]:
        """The verdict on each completion, in order. Arguments as for the call; text or chat
        messages."""
        lists = {
            name: values for name, values in columns.items() if _is_column(values, len(completions))
        }
        rows = [
            {name: values[n] for name, values in lists.items()} for n in range(len(completions))
        ]
        for row, prompt in zip(rows, prompts or [None] * len(rows), strict=True):
            row.setdefault("prompt", prompt)
        wanted = [
            self._job(_text(completion), row)
            for completion, row in zip(completions, rows, strict=True)
        ]
        jobs = list(dict.fromkeys(each for each in wanted if isinstance(each, Job)))
        outcomes = dict(zip(jobs, self.sandbox.run(jobs), strict=True))
        return [self._verdict(outcomes[each]) if isinstance(each, Job) else each for each in wanted]

    def close(self) -> None:
        """End the sandbox."""
        self.sandbox.close()

    def applies_to(self, prompt: Prompt) -> bool:
        """Whether the prompt has tests. Raises UserError, naming the column, where they cannot be
        read."""
        return self._tests(prompt.columns) is not None

    def why_not(self, prompts: Sequence[Prompt]) -> str:
        """Why it applies to none of these."""
        if self._column is not None:
            return str(missing_column(self.name, self._column, prompts))
        known = ", ".join(nearest_paths(prompts)[:12]) or "none"
        return f"no prompt has a column with tests ({', '.join(COLUMNS)}); their columns: {known}."

    def _tests(self, columns: Mapping[str, Any]) -> CodeTests | None:
        if self._column is not None:
            value = value_at(columns, self._column)
            if value is None:
                return None
            columns = {**columns, **dict.fromkeys(COLUMNS), **tests_in(value)}
        return None if all(columns.get(name) is None for name in COLUMNS) else code_tests(columns)

    def _job(self, answer: str, row: Mapping[str, Any]) -> Job | Judgement:
        tests = self._tests(row)
        if tests is None:
            return Judgement(None)
        program = program_in(answer, tests.functions)
        if program is None:
            return Judgement(0.0, UNPARSED)
        return Job(whole_program(program, tests), tests, partial=self.partial)

    def _verdict(self, outcome: Outcome) -> Judgement:
        if outcome.kind == "infrastructure":
            # The count alone would not say what to mend. Python shows each text once.
            warnings.warn(
                f"the code reward has no verdict on a program: {outcome.detail}", stacklevel=3
            )
            return Judgement(0.0, INFRASTRUCTURE, counted=False)
        if outcome.kind == "passed":
            return Judgement(1.0, CORRECT)
        share = outcome.passed / outcome.total if self.partial else 0.0
        return Judgement(share, TIMEOUT if outcome.kind == "timeout" else WRONG)


def program_in(answer: str, functions: Sequence[str] = ()) -> str | None:
    """The program in a Markdown answer, or None.

    The rule: what stands before the last `</think>` is not looked at. Of the fenced blocks (``` or
    ~~~, as CommonMark closes them, also inside lists) those labelled python, py or python3 count;
    without any, those without a label. Of them the last that defines one of `functions` is taken (a
    function, or a method of a class Solution), else the last. A block that is never closed was cut
    off, and does not count.
    """
    labelled: list[str] = []
    unlabelled: list[str] = []
    fence, label, margin, lines = "", "", 0, []
    for line in answer.rpartition("</think>")[2].splitlines(keepends=True):
        if not fence:
            if opening := _FENCE.match(line.rstrip("\r\n")):
                fence, label, lines = opening["fence"], opening["label"].lower().strip("{}."), []
                margin = len(opening["margin"].expandtabs(4))
            continue
        bare = line.strip()
        indent = len(line) - len(line.lstrip(" "))
        if len(bare) >= len(fence) and set(bare) == {fence[0]} and indent <= margin + 3:
            if label in _LABELS:
                labelled.append("".join(lines))
            elif not label:
                unlabelled.append("".join(lines))
            fence = ""
        else:
            lines.append(_without_margin(line, margin))
    blocks = labelled or unlabelled
    if not blocks:
        return None
    return next(
        (block for block in reversed(blocks) if any(_defines(block, name) for name in functions)),
        blocks[-1],
    )


def _without_margin(line: str, margin: int) -> str:
    """A line of a block without the spaces that stand in front of its fence."""
    spaces = len(line) - len(line.lstrip(" "))
    return line[min(margin, spaces) :]


def whole_program(program: str, tests: CodeTests) -> str:
    """The program with what the task gave: its imports and helpers in front, or all of it if only
    the body was written."""
    front = tests.imports
    if tests.given:
        name = tests.functions[0]
        front += preamble_of(tests.given, name) if _defines(program, name) else tests.given.rstrip()
    if not front:
        return program
    future = "".join(
        match if match.endswith("\n") else f"{match}\n" for match in _FUTURE.findall(program)
    )
    return f"{future}{front}\n{_FUTURE.sub('', program) if future else program}"


def _defines(program: str, name: str) -> bool:
    try:
        body = ast.parse(program).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return re.search(rf"^(async +)?def +{re.escape(name)}\b", program, re.MULTILINE) is not None
    for node in body:
        if (
            isinstance(node, ast.ClassDef)
            and node.name == "Solution"
            and _defines_inside(node, name)
        ):
            return True
        if (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and node.name == name
        ):
            return True
        targets = (
            node.targets
            if isinstance(node, ast.Assign)
            else [node.target]
            if isinstance(node, ast.AnnAssign)
            else []
        )
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return True
        if isinstance(node, ast.ImportFrom | ast.Import) and any(
            (a.asname or a.name) == name for a in node.names
        ):
            return True
    return False


def _defines_inside(node: ast.ClassDef, name: str) -> bool:
    return any(
        isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) and each.name == name
        for each in node.body
    )


def _text(completion: Any) -> str:
    """A completion as text: itself, or the last of its messages."""
    if isinstance(completion, str):
        return completion
    return str(completion[-1].get("content") or "") if completion else ""


def _is_column(values: Any, length: int) -> bool:
    return isinstance(values, Sequence) and not isinstance(values, str) and len(values) == length
