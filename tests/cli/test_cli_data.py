"""`burnish data`: a row as the model would see it, counts, overlaps, and rows under other
columns."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest

from burnish.cli.main import main
from burnish.data.columns import prompts
from burnish.data.overlap import overlap
from burnish.data.sources import Row


def run(*arguments: str) -> int:
    try:
        main(["data", *arguments])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.fixture
def alpaca(tmp_path: Path) -> str:
    path = tmp_path / "alpaca.json"
    rows = [{"instruction": f"Say {i}.", "input": "", "output": f"{i}!"} for i in range(10)]
    path.write_text(json.dumps([*rows, rows[0]]))
    return str(path)


def test_a_row_is_shown_with_what_is_trained(alpaca: str, capsys: pytest.CaptureFixture[str]):
    assert run("show", alpaca, "3", "--model", "tiny") == 0
    heading, counts, *text = capsys.readouterr().out.splitlines()
    assert heading.startswith(f"{alpaca}, row 3: demonstrations, ")
    whole = "\n".join(text)
    assert counts.endswith(" trained")
    assert "Say 2." in whole.split("«")[0]
    assert whole.split("«")[1].startswith("2!")


def test_comparisons_are_shown_side_by_side_and_prompts_with_nothing_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"prompt": "hi", "chosen": "yo", "rejected": "no"}) + "\n")
    assert run("show", str(path), "--model", "tiny") == 0
    shown = capsys.readouterr().out
    assert "sequence 1 of 2" in shown
    assert "«yo" in shown
    assert "«no" in shown
    assert run("show", str(path), "--model", "tiny", "--as", "prompts") == 0
    assert " 0 trained" in capsys.readouterr().out


def test_a_row_that_is_not_read_is_named(alpaca: str, capsys: pytest.CaptureFixture[str]):
    assert run("show", alpaca, "11", "--model", "tiny") == 2
    assert (
        "row 11 is not among the 10 that are read. Left out: {'duplicate': 1}"
        in capsys.readouterr().err
    )


def test_counts_lengths_and_overlap(
    alpaca: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    test = tmp_path / "test.jsonl"
    test.write_text(json.dumps({"prompt": "say  4."}) + "\n")
    assert (
        run("check", alpaca, "--model", "tiny", "--max-length", "20", "--against", str(test)) == 1
    )
    shown = capsys.readouterr().out
    assert "left out: 1 (duplicate)" in shown
    assert "longer than 20 (model.max_length): " in shown
    assert f"in {test}: 1 prompts that stand there, 0 more" in shown
    test.write_text(json.dumps({"prompt": "something else"}) + "\n")
    assert run("check", alpaca, "--model", "tiny", "--against", str(test)) == 0


def test_a_recipe_is_checked_source_by_source(
    alpaca: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"model: {{name: tiny}}\ndata: {{demonstrations: {alpaca}}}\n"
        'stages: {sft: {}, grpo: {prompts: "task:arithmetic?digits=1", rewards: [{name: maths}]}}\n'
    )
    assert run("check", str(recipe)) == 0
    shown = capsys.readouterr().out
    assert "demonstrations: " in shown
    assert "prompts: " in shown


def test_conversion_to_lines_and_to_parquet(
    alpaca: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert run("convert", alpaca, "--out", str(tmp_path / "o.jsonl")) == 0
    assert "10 rows (demonstrations) written" in capsys.readouterr().out
    first = json.loads((tmp_path / "o.jsonl").read_text().splitlines()[0])
    assert {"messages", "id", "split"} == set(first)
    assert run("convert", alpaca, "--out", str(tmp_path / "o.parquet")) == 0
    assert (
        datasets.Dataset.from_parquet(str(tmp_path / "o.parquet"), cache_dir=str(tmp_path)).num_rows
        == 10
    )
    assert {path.name for path in tmp_path.glob("o.*")} == {"o.jsonl", "o.parquet"}
    assert run("convert", alpaca, "--out", str(tmp_path / "o.txt")) == 2


def test_columns_by_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "q.csv"
    path.write_text("q,a\nhi,yo\n")
    options = ("--column", "prompt=q", "--column", "completion=a")
    assert run("show", str(path), "--model", "tiny", *options) == 0
    assert "«yo" in capsys.readouterr().out
    assert run("show", str(path), "--model", "tiny", "--column", "prompt") == 2
    assert "not of the form OURS=THEIRS" in capsys.readouterr().err


def test_overlap_counts_prompts_and_runs_of_words():
    def records(*texts: str):
        return prompts(
            [Row("f", n, {"prompt": text}, f"f:{n}") for n, text in enumerate(texts, 1)]
        ).items

    words = " ".join(f"w{i}" for i in range(13))
    others = records(f"Before, {words}; after.", "Hello there")
    found = overlap(
        records("hello  THERE", f"other {words.upper()} text", f"x {words[:-4]} y"), others
    )
    assert (found.same, found.alike, found.examples) == (1, 1, ("f:1", "f:2"))
