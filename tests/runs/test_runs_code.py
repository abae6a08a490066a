"""What code a stage reaches: each module of the package changed in turn, and what must not change a
hash."""

from __future__ import annotations

import ast
import re
import shutil
from collections import defaultdict
from pathlib import Path

import pytest

import burnish
from burnish.config.kinds import KINDS
from burnish.runs.code import Code

PACKAGE = Path(burnish.__file__).parent
TRAINING = [kind for kind in KINDS if kind != "report"]
_IMPORT = re.compile(
    r"^ *(?:from (burnish[\w.]*) import (?:\(([^)]*)\)|([^\n(]*))|import (burnish[\w.]+))",
    re.MULTILINE,
)
_NAMED = re.compile(r"""["'](burnish\.[\w.]+)["']""")
_FOR_CHECKERS = re.compile(
    r"^( *)if (?:typing\.)?TYPE_CHECKING:\n(?:\1 +[^\n]*\n|\n)+", re.MULTILINE
)


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Code:
    """The package's, read from a copy that nobody edits meanwhile."""
    folder = tmp_path_factory.mktemp("package") / "burnish"
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return Code(folder)


def copied(code: Code, folder: Path) -> Code:
    return Code(shutil.copytree(code.modules["_version"].parent, folder / "burnish"))


def importers(code: Code) -> dict[str, set[str]]:
    """By module, who imports it, found by other means than the code's own: patterns over the
    text."""
    found = defaultdict(set)
    for name, path in code.modules.items():
        text = _FOR_CHECKERS.sub("", path.read_text(encoding="utf-8"))
        mentioned = {match.removeprefix("burnish.") for match in _NAMED.findall(text)}
        for place, several, line, whole in _IMPORT.findall(text):
            mentioned.add(whole.removeprefix("burnish."))
            place = place.removeprefix("burnish").removeprefix(".")
            names = [
                one.split(" as ")[0].split("#")[0].strip() for one in (several or line).split(",")
            ]
            inner = [f"{place}.{one}".removeprefix(".") for one in names if one]
            mentioned |= {one if one in code.modules else place for one in inner}
        for module in mentioned & code.modules.keys():
            found[module].add(name)
    return found


def test_a_changed_line_in_any_module_changes_exactly_the_kinds_that_import_it(
    code: Code, tmp_path: Path
):
    upwards, before = importers(code), {kind: code.hashes(f"stages.{kind}") for kind in TRAINING}
    other = copied(code, tmp_path)
    for module, path in other.modules.items():
        path.write_text(path.read_text(encoding="utf-8") + "\n_changed = 1\n", encoding="utf-8")
        changed = other.hash_of(module)
        touched, waiting = {module}, [module]
        while waiting:
            new = upwards[waiting.pop()] - touched
            touched |= new
            waiting += new
        for kind in TRAINING:
            imported = f"stages.{kind}" in touched and module != "_version"
            after = {name: changed if name == module else old for name, old in before[kind].items()}
            assert (after != before[kind]) == imported, (module, kind)


def test_comments_docstrings_and_layout_change_no_hash(code: Code, tmp_path: Path):
    other = copied(code, tmp_path)
    for module, path in other.modules.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            for statement in (
                getattr(node, "body", None) or ()
                if not isinstance(node, ast.Lambda | ast.IfExp)
                else ()
            ):
                if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                    statement.value.value = (
                        "Other words." if isinstance(statement.value.value, str) else ...
                    )
        # what `unparse` writes has no comments and its own layout
        path.write_text("# a remark\n\n" + ast.unparse(tree), encoding="utf-8")
        assert other.hash_of(module) == code.hash_of(module), module


def written(folder: Path, **modules: str) -> Code:
    for name, text in modules.items():
        path = folder / "burnish" / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Code(folder / "burnish")


@pytest.mark.parametrize(
    ("text", "reached"),
    [
        ("import burnish.b", {"b"}),
        ("from burnish import b", {"b"}),
        ("from burnish.room import c", {"room.c"}),
        ("from burnish.room.c import thing", {"room.c"}),
        ("from . import b", {"b"}),
        ("from .room.c import thing", {"room.c"}),
        ("def lazy():\n    from burnish.room import c", {"room.c"}),
        ("try:\n    import burnish.b\nexcept ImportError: pass", {"b"}),
        ("command = ['-m', 'burnish.room.c']", {"room.c"}),
        ("import burnish.away", {"away", "b"}),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import burnish.b\nelse:\n    import burnish.room.c", {"room.c"}),  # noqa: E501
        ("'''It says burnish.b in words.'''\nimport json, burnish_other.b", set()),
        ("import burnish._version, burnish", set()),
    ],
)  # fmt: skip
def test_what_counts_as_reached(text: str, reached: set[str], tmp_path: Path):
    found = written(
        tmp_path,
        a=text,
        b="",
        room__c="",
        away="from burnish import b",
        _version="",
        __init__="import burnish.b",
    )
    assert found.reach("a") - {"a"} == reached
    assert set(found.hashes("a")) == {"a", *reached}


def test_of_strings_only_those_that_are_statements_are_left_out(tmp_path: Path):
    texts = {
        "a": '"""One."""\nx = "one"\n',
        "b": '"""Two."""\n# two\nx = \\\n  "one"\n"""Of x."""\n',
        "c": '"""One."""\nx = "two"\n',
    }
    hashes = [written(tmp_path, **texts).hash_of(name) for name in "abc"]
    assert hashes[0] == hashes[1] != hashes[2]


def test_modules_that_run_in_other_processes_are_reached(code: Code):
    reached = code.reach("stages.online")
    assert {
        "rewards.maths_worker",
        "rewards.expressions",
        "sandbox.judge",
        "sandbox.harness",
    } <= reached


def test_no_package_does_anything_by_being_imported(code: Code):
    """`import a.b` runs a's own module too, which is in no reach: it hands names on, and that is
    all."""
    for name, path in code.modules.items():
        if path.name == "__init__.py":
            tree = ast.parse(path.read_text(encoding="utf-8"))
            handed_on = (ast.Expr, ast.ImportFrom, ast.Assign)
            assert all(isinstance(one, handed_on) for one in tree.body), name
            assert [
                ast.unparse(one.targets[0]) for one in tree.body if isinstance(one, ast.Assign)
            ] in (
                [],
                ["__all__"],
            )


@pytest.mark.parametrize("kind", TRAINING)
def test_a_stage_reaches_no_command_no_plan_and_no_server(kind: str, code: Code):
    reached = code.reach(f"stages.{kind}")
    rooms = {name.split(".")[0] for name in reached}
    assert not rooms & {"cli", "planning"}
    assert not [
        name for name in reached if name.startswith(("annotation.app", "evaluation.report"))
    ]
