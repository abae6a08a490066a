"""docs/algorithms.md has an entry for every row of the tables, with their facts."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

from burnish.algorithms.preference_losses import LOSSES
from burnish.algorithms.recipes import ROWS
from scripts import load_script

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "algorithms.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return load_script(ROOT / "tools" / "algorithms_page.py")


def test_the_facts_are_those_of_the_tables(tool: ModuleType) -> None:
    assert tool.page(PAGE) == PAGE, "run python tools/algorithms_page.py"
    assert re.findall(r"<!-- facts: ([\w+-]+) -->", PAGE) == [*ROWS, *LOSSES]


@pytest.mark.parametrize("name", [*ROWS, *LOSSES])
def test_every_row_has_an_equation_its_facts_and_when_to_take_it(name: str) -> None:
    entry = PAGE.split(f"\n### {name}\n")[1].split("\n## ")[0].split("\n### ")[0]
    equation, facts, words = (
        part.strip("\n") for part in re.split(r"<!-- facts: .* -->\n\n(\*Facts:\* .*)", entry)
    )
    assert all(line.startswith("    ") for line in equation.splitlines())
    assert any(sign in equation for sign in ("L =", "L as"))
    assert "arxiv.org" in facts or "Mitchell" in facts
    assert len(words.split()) > 15


def test_numbers_in_the_facts_are_the_rows_own() -> None:
    assert "β 0.04" in PAGE.split("facts: grpo -->")[1].splitlines()[2]
    assert "ratio in 0.8 to 1.28" in PAGE.split("facts: dapo -->")[1].splitlines()[2]
    assert "A step: 32 prompts × 1;" in PAGE.split("facts: ppo -->")[1].splitlines()[2]
