"""The tests of a code task, from the columns that published data sets have. Pure: the AST is read, nothing is run."""

from __future__ import annotations

import ast
import builtins
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from burnish.errors import UserError

COLUMNS = ("tests", "input_output", "test_list", "test")  # any of these makes a row a code task


class Unsupported(UserError):
    """Tests that are sound but cannot be run with the program in a sandbox of its own."""


@dataclass(frozen=True, slots=True)
class CodeTests:
    """Hidden tests in one of two forms.

    The stdin form: `stdio`, pairs of standard input and the whole standard output expected.
    The function form: `checks`, pieces of test code, each passed if it raises nothing. They run behind `preamble`, trusted
    code that may define helpers. `functions` are the program's functions whose results the checks see; `makers` are
    called only for arguments of those, and hand over opaque objects. `given` is code that stands in front of the program.
    """

    stdio: tuple[tuple[str, str], ...] = ()
    checks: tuple[str, ...] = ()
    preamble: str = ""
    functions: tuple[str, ...] = ()
    makers: tuple[str, ...] = ()
    given: str = ""

    @property
    def count(self) -> int:
        """How many tests there are, a `check` function counted as one."""
        return len(self.stdio) or len(self.checks)


def code_tests(columns: Mapping[str, Any]) -> CodeTests:
    """The tests in a row's columns. The forms, tried in this order:

    - `tests`: a list of {"input", "output"} (stdin form);
    - `input_output`: {"inputs", "outputs"} or that as JSON text; with "fn_name" the inputs are lists of arguments
      (function form, compared as JSON), otherwise text (stdin form): the layout of APPS;
    - `test_list`, with `test_setup_code`: assertions (MBPP);
    - `test` and `entry_point`, with the start of the program in `prompt` or `given`: a function `check` (HumanEval).

    Raises UserError with the field that is wrong.
    """
    if columns.get("tests") is not None:
        return CodeTests(stdio=tuple(_pair(pair, n) for n, pair in enumerate(_list(columns, "tests"), start=1)))
    if columns.get("input_output") is not None:
        return _input_output(columns["input_output"])
    if columns.get("test_list") is not None:
        return _assertions(columns)
    if columns.get("test") is not None:
        return _check_function(columns)
    raise UserError(f"is missing. A code task needs one of {', '.join(COLUMNS)}.", field="test")


def preamble_of(given: str, entry_point: str) -> str:
    """What stands before `def entry_point` in the given code: imports and helpers. All of it when there is no such def."""
    lines = given.splitlines(keepends=True)
    starts = [
        n for n, line in enumerate(lines) if line.startswith((f"def {entry_point}(", f"async def {entry_point}("))
    ]
    if not starts:
        return given
    start = starts[-1]
    while start and lines[start - 1].startswith("@"):
        start -= 1
    return "".join(lines[:start])


def _pair(pair: Any, number: int) -> tuple[str, str]:
    if not isinstance(pair, Mapping) or not isinstance(pair.get("output"), str):
        raise UserError(f'entry {number} must be an object with the texts "input" and "output".', field="tests")
    given = pair.get("input") or ""
    if not isinstance(given, str):
        raise UserError(f'"input" of entry {number} must be text.', field="tests")
    return given, pair["output"]


def _input_output(value: Any) -> CodeTests:
    field = "input_output"
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise UserError(f"is not JSON ({error}).", field=field) from error
    inputs, outputs = (value.get("inputs"), value.get("outputs")) if isinstance(value, Mapping) else (None, None)
    if not isinstance(inputs, Sequence) or not isinstance(outputs, Sequence) or len(inputs) != len(outputs):
        raise UserError('must hold the lists "inputs" and "outputs", equally long.', field=field)
    if not inputs:
        raise UserError("holds no tests. Give at least one.", field=field)
    name = value.get("fn_name")
    if name is None:
        pairs = []
        for given, expected in zip(inputs, outputs, strict=True):
            lines = ["\n".join(side) if _texts(side) else side for side in (given, expected)]
            if not all(isinstance(side, str) for side in lines):
                raise UserError('"inputs" and "outputs" must be texts, or name the function in "fn_name".', field=field)
            pairs.append((lines[0], lines[1]))
        return CodeTests(stdio=tuple(pairs))
    _identifier(name, "input_output", '"fn_name"')
    checks = []
    for given, expected in zip(inputs, outputs, strict=True):
        if not isinstance(given, list):
            raise UserError('with "fn_name", every entry of "inputs" must be a list of arguments.', field=field)
        checks.append(f"assert _same({name}(*{given!r}), {expected!r})")
    return CodeTests(checks=tuple(checks), functions=(name,))


def _assertions(columns: Mapping[str, Any]) -> CodeTests:
    checks = tuple(_list(columns, "test_list"))
    setup = columns.get("test_setup_code") or ""
    if isinstance(imports := columns.get("test_imports"), list) and _texts(imports):
        setup = "\n".join([*imports, setup])
    if not _texts(checks):
        raise UserError("must be a list of texts.", field="test_list")
    bound = set(dir(builtins)) | _bound(_parsed(setup, "test_setup_code"))
    if unknown := sorted(_loaded(_parsed(setup, "test_setup_code")) - bound):
        raise Unsupported(f"needs {unknown[0]}, which only the program defines.", field="test_setup_code")
    # Tests that lean on the reference solution's imports: `sys.getsizeof` without an import of their own.
    trees = [_parsed(check, "test_list") for check in checks]
    modules = sorted(({n for tree in trees for n in _based(tree)} & set(sys.stdlib_module_names)) - bound)
    setup = "\n".join([*(f"import {name}" for name in modules), setup])
    known = bound | set(modules)
    functions: dict[str, None] = {}
    makers: dict[str, None] = {}
    for check, tree in zip(checks, trees, strict=True):
        _called(tree, known | _bound(tree), functions, makers, inside=False)
        if not any(isinstance(node, ast.Assert) for node in ast.walk(tree)):
            raise UserError(f"{_shown(check)} asserts nothing.", field="test_list")
    if not functions:
        raise UserError(f"{_shown(checks[0])} calls no function of the program.", field="test_list")
    rest = tuple(name for name in makers if name not in functions)
    return CodeTests(checks=checks, preamble=setup, functions=tuple(functions), makers=rest)


def _check_function(columns: Mapping[str, Any]) -> CodeTests:
    test, entry = columns["test"], columns.get("entry_point")
    if not isinstance(test, str):
        raise UserError("must be text: the code of the tests.", field="test")
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
    return CodeTests(checks=(f"{test}\n\ncheck({entry})\n",), preamble=given, functions=(str(entry),), given=given)


def _called(
    node: ast.AST, known: set[str], functions: dict[str, None], makers: dict[str, None], *, inside: bool
) -> None:
    """Sort the unknown names that are called: outermost into `functions`, those in arguments of such calls into `makers`."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id not in known:
        (makers if inside else functions)[node.func.id] = None
        inside = True
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id not in known and inside:
        makers[node.id] = None
    for child in ast.iter_child_nodes(node):
        if not (isinstance(node, ast.Call) and child is node.func and isinstance(child, ast.Name)):
            _called(child, known, functions, makers, inside=inside)


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
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def _based(tree: ast.AST) -> set[str]:
    """The names in front of a dot."""
    return {n.value.id for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)}


def _parsed(text: Any, field: str) -> ast.Module:
    if not isinstance(text, str):
        raise UserError("must be text.", field=field)
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{_shown(text)} is not Python ({error}).", field=field) from error


def _list(columns: Mapping[str, Any], field: str) -> list[Any]:
    value = columns[field]
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
