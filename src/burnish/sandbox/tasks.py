"""The tests of a code task, from the columns that published data sets have. Pure: the AST is read,
nothing is run."""

from __future__ import annotations

import ast
import builtins
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from burnish.errors import UserError

COLUMNS = (
    "tests", "input_output", "test_list", "test", "public_test_cases", "public_tests",
    "private_tests", "generated_tests",
    "verification_info",
)  # fmt: skip
"""Any of these makes a row a code task."""
_WRAPPERS = frozenset(
    [
        "abs",
        "all",
        "any",
        "bool",
        "dict",
        "float",
        "frozenset",
        "getattr",
        "hasattr",
        "int",
        "isinstance",
        "iter",
        "len",
        "list",
        "next",
        "range",
        "repr",
        "reversed",
        "round",
        "set",
        "sorted",
        "str",
        "tuple",
        "type",
        "zip",
        "enumerate",
        "map",
        "filter",
    ]
)
_USUAL = """
import bisect, collections, copy, datetime, functools, heapq, itertools, json, math, operator, random, re, string, sys, typing
from bisect import bisect_left, bisect_right, insort
from collections import *
from functools import *
from heapq import *
from itertools import *
from math import ceil, comb, factorial, floor, gcd, inf, log, log2, sqrt
from typing import *

class ListNode:
    def __init__(self, val=0, next=None):
        self.val, self.next = val, next

class TreeNode:
    def __init__(self, val=0, left=None, right=None):
        self.val, self.left, self.right = val, left, right
"""  # noqa: E501


class Unsupported(UserError):
    """Tests that are sound but cannot be run with the program in a sandbox of its own."""


@dataclass(frozen=True, slots=True)
class CodeTests:
    """Hidden tests in one of two forms.

    The stdin form: `stdio`, pairs of standard input and the whole standard output expected.
    The function form: `checks`, pieces of test code, each passed if it raises nothing. They run
    behind `preamble`, trusted code that may define helpers. `functions` are the program's functions
    whose results the checks see; `makers` are called only for arguments of those, and hand over
    opaque objects. `given` is code that stands in front of the program; `imports` stand there too,
    where the sites that the tasks come from supply them (LeetCode's `List`, `deque`, `ListNode`).
    """

    stdio: tuple[tuple[str, str], ...] = ()
    checks: tuple[str, ...] = ()
    preamble: str = ""
    functions: tuple[str, ...] = ()
    makers: tuple[str, ...] = ()
    given: str = ""
    imports: str = ""

    @property
    def count(self) -> int:
        """How many tests there are, a `check` function counted as one."""
        return len(self.stdio) or len(self.checks)


def code_tests(columns: Mapping[str, Any]) -> CodeTests:
    """The tests in a row's columns. The forms, tried in this order:

    - `tests`: a list of {"input", "output"} (stdin form), or that as JSON text; entries with
      `testtype: functional` hold arguments and result as JSON (function form), the name in
      `metadata.func_name`, `fn_name` or `starter_code`;
    - `input_output`: {"inputs", "outputs"} or that as JSON text; with "fn_name" the inputs are
      lists of arguments (function form, compared as JSON), otherwise text (stdin form): the layout
      of APPS;
    - `public_test_cases`, with `private_test_cases` where that is JSON too (LiveCodeBench);
    - `public_tests`, `private_tests`, `generated_tests`: {"input": [...], "output": [...]}
      (CodeContests; all of them);
    - `verification_info`: {"test_cases": [{"input", "output", "fn_name"}]} (verifiable coding
      problems);
    - `test_list`, with `test_setup_code`: assertions (MBPP);
    - `test` and `entry_point`, with the start of the program in `prompt` or `given`: a function
      `check` (HumanEval); an entry point `Solution().name` is a method (LeetCode).

    Raises UserError with the field that is wrong.
    """
    if columns.get("tests") is not None:
        return _pairs(_list(columns, "tests"), columns, "tests")
    if columns.get("public_test_cases") is not None:
        return _pairs(_judge_cases(columns), columns, "public_test_cases")
    if any(columns.get(name) is not None for name in _CONTESTS):
        return _contests(columns)
    if columns.get("verification_info") is not None:
        info = _as_json(columns["verification_info"], "verification_info")
        cases = info.get("test_cases") if isinstance(info, Mapping) else None
        return _pairs(
            _list({"verification_info": cases}, "verification_info"), columns, "verification_info"
        )
    if columns.get("input_output") is not None:
        return _input_output(columns["input_output"])
    if columns.get("test_list") is not None:
        return _assertions(columns)
    if columns.get("test") is not None:
        return _check_function(columns)
    raise UserError(f"is missing. A code task needs one of {', '.join(COLUMNS)}.", field="test")


def preamble_of(given: str, entry_point: str) -> str:
    """What stands before `def entry_point` in the given code: imports and helpers. All of it when
    there is no such def."""
    lines = given.splitlines(keepends=True)
    starts = [
        n
        for n, line in enumerate(lines)
        if line.startswith((f"def {entry_point}(", f"async def {entry_point}("))
    ]
    if not starts:
        return given
    start = starts[-1]
    while start and lines[start - 1].startswith("@"):
        start -= 1
    return "".join(lines[:start])


def tests_in(value: Any) -> dict[str, Any]:
    """The columns that one object, or JSON text, of tests stands for: what some sets keep under
    `reward_model.ground_truth`.

    {"inputs", "outputs"} is `input_output`; a list of objects `tests`; a list of texts, or
    {"functional": text}, assertions; an object with columns of its own is taken as it is. Raises
    UserError for anything else.
    """
    value = (
        _as_json(value, "tests")
        if isinstance(value, str) and value.lstrip()[:1] in ("{", "[")
        else value
    )
    if isinstance(value, Mapping):
        if "inputs" in value:
            return {"input_output": value}
        if isinstance(value.get("functional"), str):
            return {"test_list": [value["functional"]]}
        if any(value.get(name) is not None for name in COLUMNS):
            return dict(value)
    if isinstance(value, list | tuple) and value:
        return {"test_list": list(value)} if _texts(value) else {"tests": list(value)}
    if isinstance(value, str) and "assert" in value:
        return {"test_list": [value]}
    raise UserError(
        f"holds no tests that are known: {_shown(value)}.",
        hint="docs/sandbox.md lists the layouts.",
    )


_CONTESTS = ("public_tests", "private_tests", "generated_tests")
_FUNCTIONAL = ("functional", "function_call", "call_based")


def _pairs(pairs: Sequence[Any], columns: Mapping[str, Any], field: str) -> CodeTests:
    """A list of {"input", "output"}, all of one form."""
    forms = {_is_functional(pair) for pair in pairs}
    if forms == {True}:
        return _functional(pairs, columns, field)
    if len(forms) > 1:
        raise UserError("mixes tests of standard input with tests of a function.", field=field)
    return CodeTests(stdio=tuple(_pair(pair, n, field) for n, pair in enumerate(pairs, start=1)))


def _is_functional(pair: Any) -> bool:
    if not isinstance(pair, Mapping):
        return False
    kind = pair.get("testtype") or pair.get("type")
    return kind in _FUNCTIONAL or (kind is None and bool(pair.get("fn_name")))


def _functional(pairs: Sequence[Any], columns: Mapping[str, Any], field: str) -> CodeTests:
    """Arguments, one JSON value a line, and a result as JSON."""
    name = _function_name(pairs, columns)
    if name is None:
        hint = "Name it in `metadata.func_name`, `fn_name` or `starter_code`."
        raise UserError("tests a function and does not name it.", field=field, hint=hint)
    _identifier(name, field, "the function")
    inputs, outputs = [], []
    for number, pair in enumerate(pairs, start=1):
        arguments, result = pair.get("input"), pair.get("output")
        try:
            if isinstance(arguments, str):
                arguments = [json.loads(line) for line in arguments.split("\n") if line.strip()]
            inputs.append(list(arguments))
            outputs.append(json.loads(result) if isinstance(result, str) else result)
        except (ValueError, TypeError) as error:
            raise UserError(f"entry {number} must hold JSON ({error}).", field=field) from error
    return CodeTests(checks=tuple(_calls(name, inputs, outputs)), functions=(name,), imports=_USUAL)


def _function_name(pairs: Sequence[Any], columns: Mapping[str, Any]) -> Any:
    places = [*pairs, *(pair.get("metadata") for pair in pairs), columns.get("metadata"), columns]
    for place in places:
        if isinstance(place, str) and place.lstrip().startswith("{"):
            place = _as_json(place, "metadata")
        for key in ("func_name", "fn_name"):
            if isinstance(place, Mapping) and place.get(key):
                return place[key]
    starter = columns.get("starter_code")
    found = re.findall(r"def\s+(\w+)\s*\(\s*self", starter) if isinstance(starter, str) else []
    return found[-1] if found else None


def _calls(name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> list[str]:
    """Checks that a call gives a result, compared as JSON. Where every result stands in a list of
    one, as some sets write it, the result itself will do."""
    wrapped = all(isinstance(expected, list) and len(expected) == 1 for expected in outputs)
    compare = "_same_or_only" if wrapped else "_same"
    return [
        f"assert {compare}({name}(*{given!r}), {expected!r})"
        for given, expected in zip(inputs, outputs, strict=True)
    ]


def _judge_cases(columns: Mapping[str, Any]) -> list[Any]:
    cases = list(
        _list(
            {"public_test_cases": _as_json(columns["public_test_cases"], "public_test_cases")},
            "public_test_cases",
        )
    )
    private = columns.get("private_test_cases")
    if private:
        if isinstance(private, str) and not private.lstrip().startswith("["):
            problem = "is packed (a compressed pickle), and unpacking it would run what is in it."
            raise UserError(
                problem,
                field="private_test_cases",
                hint="Write the cases as JSON, or leave the column out.",
            )
        cases += _as_json(private, "private_test_cases")
    return cases


def _contests(columns: Mapping[str, Any]) -> CodeTests:
    pairs: list[tuple[str, str]] = []
    for field in _CONTESTS:
        value = _as_json(columns.get(field) or {}, field)
        inputs, outputs = (
            (value.get(key) or [] for key in ("input", "output"))
            if isinstance(value, Mapping)
            else ([], [])
        )
        if not _texts(inputs) or not _texts(outputs) or len(inputs) != len(outputs):
            raise UserError(
                'must hold the lists of texts "input" and "output", equally long.', field=field
            )
        pairs += zip(inputs, outputs, strict=True)
    if not pairs:
        raise UserError("holds no tests. Give at least one.", field=_CONTESTS[0])
    return CodeTests(stdio=tuple(pairs))


def _as_json(value: Any, field: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise UserError(f"is not JSON ({error}).", field=field) from error


def _pair(pair: Any, number: int, field: str) -> tuple[str, str]:
    if not isinstance(pair, Mapping) or not isinstance(pair.get("output"), str):
        raise UserError(
            f'entry {number} must be an object with the texts "input" and "output".', field=field
        )
    given = pair.get("input") or ""
    if not isinstance(given, str):
        raise UserError(f'"input" of entry {number} must be text.', field=field)
    return given, pair["output"]


def _input_output(value: Any) -> CodeTests:
    field = "input_output"
    value = _as_json(value, field)
    inputs, outputs = (
        (value.get("inputs"), value.get("outputs")) if isinstance(value, Mapping) else (None, None)
    )
    if (
        not isinstance(inputs, Sequence)
        or not isinstance(outputs, Sequence)
        or len(inputs) != len(outputs)
    ):
        raise UserError('must hold the lists "inputs" and "outputs", equally long.', field=field)
    if not inputs:
        raise UserError("holds no tests. Give at least one.", field=field)
    name = value.get("fn_name")
    if name is None:
        pairs = []
        for given, expected in zip(inputs, outputs, strict=True):
            lines = ["\n".join(side) if _texts(side) else side for side in (given, expected)]
            if not all(isinstance(side, str) for side in lines):
                raise UserError(
                    '"inputs" and "outputs" must be texts, or name the function in "fn_name".',
                    field=field,
                )
            pairs.append((lines[0], lines[1]))
        return CodeTests(stdio=tuple(pairs))
    _identifier(name, "input_output", '"fn_name"')
    if not all(isinstance(given, list) for given in inputs):
        raise UserError(
            'with "fn_name", every entry of "inputs" must be a list of arguments.', field=field
        )
    return CodeTests(checks=tuple(_calls(name, inputs, outputs)), functions=(name,), imports=_USUAL)


def _assertions(columns: Mapping[str, Any]) -> CodeTests:
    checks = tuple(_list(columns, "test_list"))
    setup = columns.get("test_setup_code") or ""
    if isinstance(imports := columns.get("test_imports"), list) and _texts(imports):
        setup = "\n".join([*imports, setup])
    if not _texts(checks):
        raise UserError("must be a list of texts.", field="test_list")
    bound = set(dir(builtins)) | _bound(_parsed(setup, "test_setup_code"))
    if unknown := sorted(_loaded(_parsed(setup, "test_setup_code")) - bound):
        raise Unsupported(
            f"needs {unknown[0]}, which only the program defines.", field="test_setup_code"
        )
    # Tests that lean on the reference solution's imports: `sys.getsizeof` without an import of
    # their own.
    trees = [_parsed(check, "test_list") for check in checks]
    modules = sorted(
        ({n for tree in trees for n in _based(tree)} & set(sys.stdlib_module_names)) - bound
    )
    setup = "\n".join([*(f"import {name}" for name in modules), setup])
    known = bound | set(modules)
    functions: dict[str, None] = {}
    makers: dict[str, None] = {}
    for check, tree in zip(checks, trees, strict=True):
        _called(tree, known | _bound(tree), functions, makers, inside=False)
        if not any(isinstance(node, ast.Assert) for node in ast.walk(tree)):
            raise UserError(f"{_shown(check)} asserts nothing.", field="test_list")
    if not functions:  # the program's function has the name of a built-in one: `sum`
        functions = dict.fromkeys(n for tree in trees for n in _outermost(tree, set(dir(builtins))))
    if not functions:
        raise UserError(f"{_shown(checks[0])} calls no function of the program.", field="test_list")
    rest = tuple(name for name in makers if name not in functions)
    return CodeTests(checks=checks, preamble=setup, functions=tuple(functions), makers=rest)


def _check_function(columns: Mapping[str, Any]) -> CodeTests:
    test, entry = columns["test"], columns.get("entry_point")
    if not isinstance(test, str):
        raise UserError("must be text: the code of the tests.", field="test")
    method = re.fullmatch(r"\s*Solution\(\)\.(\w+)\s*", entry) if isinstance(entry, str) else None
    entry = method[1] if method else entry
    _identifier(entry, "entry_point", "it")
    given = columns.get("given") or columns.get("prompt") or ""
    if not isinstance(given, str):
        given = ""  # a chat prompt: the task's text, not the program's start
    tree = _parsed(test, "test")
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    if "check" not in names:
        raise UserError("defines no function `check(candidate)`.", field="test")
    if not any(isinstance(node, ast.Assert) for node in ast.walk(tree)):
        raise UserError("asserts nothing.", field="test")
    try:
        starts = {getattr(node, "name", None) for node in ast.parse(given).body}
    except (SyntaxError, ValueError):
        starts = set()
    if entry not in starts:
        given = ""  # prose
    imports = _USUAL if method else ""
    checks = (f"{test}\n\ncheck({entry})\n",)
    return CodeTests(
        checks=checks, preamble=given, functions=(str(entry),), given=given, imports=imports
    )


def _called(
    node: ast.AST,
    known: set[str],
    functions: dict[str, None],
    makers: dict[str, None],
    *,
    inside: bool,
) -> None:
    """Sort the unknown names that are called: outermost into `functions`, those in arguments of
    such calls into `makers`."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id not in known:
        (makers if inside else functions)[node.func.id] = None
        inside = True
    elif (
        isinstance(node, ast.Name)
        and isinstance(node.ctx, ast.Load)
        and node.id not in known
        and inside
    ):
        makers[node.id] = None
    for child in ast.iter_child_nodes(node):
        if not (isinstance(node, ast.Call) and child is node.func and isinstance(child, ast.Name)):
            _called(child, known, functions, makers, inside=inside)


def _outermost(node: ast.AST, known: set[str]) -> list[str]:
    """The known names that are called in a check, outside of one another and of what only wraps a
    result."""
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in known - _WRAPPERS
    ):
        return [node.func.id]
    return [name for child in ast.iter_child_nodes(node) for name in _outermost(child, known)]


def _bound(tree: ast.AST) -> set[str]:
    """The names that a piece of code gives a meaning to."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.alias):
            found.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            found.add(node.name)
    return found


def _loaded(tree: ast.AST) -> set[str]:
    """The names that a piece of code reads."""
    return {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


def _based(tree: ast.AST) -> set[str]:
    """The names in front of a dot."""
    return {
        n.value.id
        for n in ast.walk(tree)
        if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)
    }


def _parsed(text: Any, field: str) -> ast.Module:
    if not isinstance(text, str):
        raise UserError("must be text.", field=field)
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{_shown(text)} is not Python ({error}).", field=field) from error


def _list(columns: Mapping[str, Any], field: str) -> list[Any]:
    value = columns[field]
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = _as_json(value, field)
    if not isinstance(value, list | tuple) or not value:
        raise UserError("must be a list with at least one test.", field=field)
    return list(value)


def _identifier(name: Any, field: str, what: str) -> None:
    if not isinstance(name, str) or not name.isidentifier():
        raise UserError(f"{what} must be the name of a function, not {_shown(name)}.", field=field)


def _texts(values: Any) -> bool:
    return isinstance(values, list | tuple) and all(isinstance(value, str) for value in values)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
