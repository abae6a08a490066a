"""docs/options.md is what tools/options_page.py writes, and every option stands in it."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

from burnish.config.describe import describe_fields
from burnish.config.kinds import KINDS
from burnish.config.options import in_yaml
from scripts import load_script

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return load_script(ROOT / "tools/options_page.py")


@pytest.fixture(scope="module")
def page() -> str:
    return (ROOT / "docs" / "options.md").read_text(encoding="utf-8")


def test_the_page_is_what_the_schema_says(tool: ModuleType, page: str) -> None:
    assert tool.page() == page, "run python tools/options_page.py"


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_option_of_a_kind_stands_in_the_page(kind: str, tool: ModuleType, page: str) -> None:
    assert kind in tool.KINDS_IN_ORDER
    lines = [re.split(r" (?<!\\)\| ", line) for line in page.splitlines() if line.startswith("| `")]
    rows = {(cells[0].strip("| `"), cells[-1].removesuffix(" |")) for cells in lines}
    for option in describe_fields(KINDS[kind].section):
        name = option.key.rpartition(".")[2]
        assert (name, tool._cell(in_yaml(option.description))) in rows, option.key


def test_every_link_within_the_page_leads_to_a_heading(tool: ModuleType, page: str) -> None:
    anchors = {tool._anchor(title) for title in re.findall(r"^#+ (.*)$", page, re.MULTILINE)}
    links = set(re.findall(r"\]\(#([^)]*)\)", page))
    assert len(links) > 30
    assert links <= anchors
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    assert len(headings) == len(set(headings))
