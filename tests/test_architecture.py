"""docs/architecture.md says what the code is: its rooms and what they import, and the table of
kinds."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

from burnish.config.kinds import KINDS, Stage

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "burnish"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def _rows(heading: str) -> list[list[str]]:
    """The cells of the table in a section."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def _names(cell: str) -> set[str]:
    return set(re.findall(r"`(\w+)/?`", cell))


ROOMS = {row[0].strip("`/"): row[2] for row in _rows("Rooms")}
GROUND = {path.stem for path in SOURCE.glob("*.py")} - {"__init__", "__main__", "_version"}


@cache
def _imports(room: str) -> set[str]:
    """The rooms that a room's modules import, anywhere in them, and `batch`."""
    modules = set[str]()
    for path in (SOURCE / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "burnish":
                modules |= {f"burnish.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                modules.add(node.module or "")
            elif isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
    ours = {name.split(".")[1] for name in modules if name.startswith("burnish.")}
    return ours & {*ROOMS, "batch"} - {room}


def _may_import(room: str) -> set[str]:
    above = {"batch", *list(ROOMS)[: list(ROOMS).index(room)]}
    return above if ROOMS[room] == "all of them" else _names(ROOMS[room])


def _forbidden(room: str) -> set[str]:
    """The rooms that the import contracts forbid to a room: those beside it and above it in the one
    order, and what a contract of its own names."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
        "importlinter"
    ]["contracts"]
    name, forbidden = f"burnish.{room}", set[str]()
    for contract in contracts:
        if name in contract.get("source_modules", ()):
            forbidden |= set(contract["forbidden_modules"])
    order = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    lines = [{f"burnish.{module}" for module in line.split(" | ")} for line in order]
    own = next(number for number, line in enumerate(lines) if name in line)
    forbidden |= set[str]().union(*lines[: own + 1]) - {name}
    return {module.removeprefix("burnish.") for module in forbidden}


def test_every_room_is_named_and_every_room_named_is_there():
    assert set(ROOMS) == {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    ground = PAGE.split("The ground is")[1].split("\n\n")[0]
    assert _names(ground) - {"algorithms"} == GROUND


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_what_the_page_says_and_no_contract_forbids_it(room: str):
    told = _may_import(room)
    assert told <= {"batch", *list(ROOMS)[: list(ROOMS).index(room)]}  # only what stands above
    assert not told & _forbidden(room)
    if ROOMS[room] == "all of them":
        assert _imports(room) <= told
    else:
        assert _imports(room) == told


def _reads(kind: Stage) -> str:
    return "; ".join(
        f"`{slot.key}`: {'several ' * slot.many}{' or '.join(slot.takes)}" for slot in kind.slots
    )


def test_the_table_of_kinds_is_that_of_the_code():
    assert _rows("Kinds of stages") == [
        [f"`{name}`", _reads(kind), kind.makes or ""] for name, kind in KINDS.items()
    ]
    for name, kind in KINDS.items():
        assert kind.section.model_fields["kind"].default == name
        assert isinstance(kind.run, str)
        module, _, function = kind.run.partition(":")
        path = SOURCE.joinpath(*module.split(".")[1:]).with_suffix(".py")
        assert f"\ndef {function}(" in path.read_text(encoding="utf-8")


def test_asking_for_every_kind_loads_no_torch():
    asked = (
        "import sys; from burnish.config.kinds import KINDS; list(KINDS.values()); assert 'torch'"
        " not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", asked], check=True)


@pytest.mark.parametrize("place", sorted(set(re.findall(r"`([\w/]+/[\w.]+)`", PAGE))))
def test_places_in_the_code_are_there(place: str):
    """`room/module.name`, `room/module.py` or a folder."""
    if place in ("kinds/KIND.py", "tests/ROOM"):
        return
    path, _, name = place.partition(".")
    if (ROOT / path).is_dir() or (SOURCE / path).is_dir():
        return
    assert name, place
    module = (SOURCE / f"{path}.py").read_text(encoding="utf-8")
    assert name == "py" or re.search(
        rf"^(?:def {name}\(|class {name}\b|{name}\b.*=)", module, re.MULTILINE
    ), place


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_newcomers_find_it(page: str):
    assert "docs/architecture.md" in (ROOT / page).read_text(encoding="utf-8")
