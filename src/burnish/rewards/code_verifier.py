"""Code as a verifiable reward: the program in an answer, run in the sandbox against hidden tests. Torch-free.

Verdicts: correct (every test passed), wrong (not every one), timeout (the program hit a limit of time: scored as wrong, since
masking it would reward endless loops), unparsed (no program in the answer) and infrastructure (the sandbox or the tests
failed, not the answer), which is not counted.
"""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from burnish.rewards.base import Judgement
from burnish.sandbox import CodeTests, Job, Limits, Outcome, Sandbox, Tier, code_tests
from burnish.sandbox.tasks import COLUMNS, preamble_of

CORRECT, WRONG, TIMEOUT, UNPARSED = "correct", "wrong", "timeout", "unparsed"
INFRASTRUCTURE = "infrastructure"

_FENCE = re.compile(r"^ {0,3}(?P<fence>`{3,}|~{3,})[ \t]*(?P<label>[^\s`]*)[^\n`]*$")
_LABELS = ("python", "py", "python3")


class CodeReward:
    """The reward of a program: 1 if it passes all its hidden tests, else 0, or with `partial` the share that it passes.

    The columns must hold tests, as `sandbox.tasks.code_tests` reads them; a completion whose row has none is none of this
    reward's business. Duplicates in a batch are run once.

    Args:
        tier: the isolation; where it cannot be had, UserError at once. There is no weaker one behind it.
        partial: count every test instead of stopping at the first that fails.
        seconds: wall clock of one test in the stdin form, of loading and all calls in the function form; processor time
            is limited to as many whole seconds.
        memory_mb: memory of a program.
        workers: programs run at once (None: the usable cores).
        limits: all limits, in place of `seconds` and `memory_mb`.
        python: the interpreter for the programs (None: Burnish's own, else the system's).
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
    ) -> None:
        self.partial = partial
        limits = limits or Limits(seconds=seconds, cpu_seconds=math.ceil(seconds), memory_mb=memory_mb)
        self.sandbox = Sandbox(tier, limits=limits, parallel=workers, python=python)

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """One number for each completion; None: masked, or no code task. Columns are lists as long as `completions`."""
        return [v.value if v.counted else None for v in self.judge(completions, prompts, **columns)]

    def judge(
        self, completions: Sequence[Any], prompts: Sequence[Any] | None = None, **columns: Any
    ) -> list[Judgement]:
        """The verdict on each completion, in order. Arguments as for the call; text or chat messages."""
        lists = {name: values for name, values in columns.items() if _is_column(values, len(completions))}
        rows = [{name: values[n] for name, values in lists.items()} for n in range(len(completions))]
        for row, prompt in zip(rows, prompts or [None] * len(rows), strict=True):
            row.setdefault("prompt", prompt)
        wanted = [self._job(_text(completion), row) for completion, row in zip(completions, rows, strict=True)]
        jobs = list(dict.fromkeys(each for each in wanted if isinstance(each, Job)))
        outcomes = dict(zip(jobs, self.sandbox.run(jobs), strict=True))
        return [self._verdict(outcomes[each]) if isinstance(each, Job) else each for each in wanted]

    def close(self) -> None:
        """End the sandbox."""
        self.sandbox.close()

    def _job(self, answer: str, row: Mapping[str, Any]) -> Job | Judgement:
        if all(row.get(name) is None for name in COLUMNS):
            return Judgement(None)
        tests = code_tests(row)
        program = program_in(answer)
        if program is None:
            return Judgement(0.0, UNPARSED)
        return Job(whole_program(program, tests), tests, partial=self.partial)

    def _verdict(self, outcome: Outcome) -> Judgement:
        if outcome.kind == "infrastructure":
            # The count alone would not say what to mend. Python shows each text once.
            warnings.warn(f"the code reward has no verdict on a program: {outcome.detail}", stacklevel=3)
            return Judgement(0.0, INFRASTRUCTURE, counted=False)
        if outcome.kind == "passed":
            return Judgement(1.0, CORRECT)
        share = outcome.passed / outcome.total if self.partial else 0.0
        return Judgement(share, TIMEOUT if outcome.kind == "timeout" else WRONG)


def program_in(answer: str) -> str | None:
    """The program in a Markdown answer, or None.

    The rule: what stands before the last `</think>` is not looked at. Of the fenced blocks (``` or ~~~, as CommonMark
    closes them) the last one labelled python, py or python3 counts; without any, the last one without a label. A block
    that is never closed was cut off, and does not count.
    """
    labelled, unlabelled = None, None
    fence, label, lines = "", "", []
    for line in answer.rpartition("</think>")[2].splitlines(keepends=True):
        if not fence:
            if opening := _FENCE.match(line.rstrip("\n")):
                fence, label, lines = opening["fence"], opening["label"].lower(), []
            continue
        bare = line.strip()
        if len(bare) >= len(fence) and set(bare) == {fence[0]} and len(line) - len(line.lstrip(" ")) <= 3:
            if label in _LABELS:
                labelled = "".join(lines)
            elif not label:
                unlabelled = "".join(lines)
            fence = ""
        else:
            lines.append(line)
    return labelled if labelled is not None else unlabelled


def whole_program(program: str, tests: CodeTests) -> str:
    """The program with what the task gave: its imports and helpers in front, or all of it if only the body was written."""
    if not tests.given:
        return program
    name = tests.functions[0]
    if _defines(program, name):
        return f"{preamble_of(tests.given, name)}\n{program}"
    return f"{tests.given.rstrip()}\n{program}"


def _defines(program: str, name: str) -> bool:
    try:
        body = ast.parse(program).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return re.search(rf"^(async +)?def +{re.escape(name)}\b", program, re.MULTILINE) is not None
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == name:
            return True
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return True
        if isinstance(node, ast.ImportFrom | ast.Import) and any((a.asname or a.name) == name for a in node.names):
            return True
    return False


def _text(completion: Any) -> str:
    """A completion as text: itself, or the last of its messages."""
    if isinstance(completion, str):
        return completion
    return str(completion[-1].get("content") or "") if completion else ""


def _is_column(values: Any, length: int) -> bool:
    return isinstance(values, Sequence) and not isinstance(values, str) and len(values) == length
