"""The table of model types, as the terminal and the docs show it."""

from __future__ import annotations

from pathlib import Path

import pytest

from burnish.cli.main import main
from burnish.cli.supported import markdown
from burnish.models.supported import SUPPORTED

DOCS = Path(__file__).parents[2] / "docs" / "models.md"


def test_the_docs_show_the_table_of_the_code():
    """To mend it: paste what `burnish.cli.supported.markdown()` returns between the two marks."""
    page = DOCS.read_text()
    table = page.split("<!-- table: burnish models supported -->\n")[1].split(
        "<!-- end of table -->"
    )[0]
    assert table == markdown()


def test_the_docs_say_what_was_measured_for_every_type():
    page = DOCS.read_text()
    table = page.split("<!-- table: measured -->\n")[1].split("<!-- end of table -->")[0]
    cells = [
        cell.strip(" `") for line in table.splitlines()[2:] for cell in line.strip("|").split("|")
    ]
    measured = {
        name: float(value) for name, value in zip(cells[::2], cells[1::2], strict=True) if name
    }
    assert measured.keys() == {name for name, row in SUPPORTED.items() if not row.text_part}
    assert all(0 < value < 2e-5 for value in measured.values())


def test_every_type_is_listed_within_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stopped:
        main(["models", "supported"])
    assert stopped.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 80
    named = {line.split()[0] for line in lines if line.strip()}
    assert named >= SUPPORTED.keys()  # each on a line of its own, not broken
