"""Several runs of one recipe: every combination, every seed, and what their figures say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import burnish
from burnish.api.sweep import figures_of, spread
from burnish.cli.main import main
from burnish.errors import UserError

ROWS = [{"prompt": f"Say {i}.", "completion": f"{i}, with pleasure."} for i in range(12)]
PAIRS = [{"prompt": f"Say {i}.", "chosen": f"{i}!", "rejected": "No."} for i in range(12)]


def _ended(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert not ended.value.code


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    for name, rows in (("rows", ROWS), ("pairs", PAIRS)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "r.yaml"
    small = "batch_size: 6, lora: {r: 2, alpha: 4}"
    path.write_text(
        "name: swept\nthreads: 1\nmodel: {name: tiny}\ndata: {demonstrations:"
        f" {tmp_path}/rows.jsonl, comparisons: {tmp_path}/pairs.jsonl, heldout: 0.25}}\nstages:"
        f" {{sft: {{epochs: 1, {small}}}, dpo: {{start: sft, {small}}}}}\n"
    )
    return path


def test_the_interval_is_students(recwarn: pytest.WarningsRecorder):
    values = [0.2, 0.5, 0.8, 0.1]
    found = spread(values)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx(np.mean(values))
    assert str(spread([0.5])) == "0.5"


def test_every_combination_with_every_seed_and_common_stages_once(recipe: Path, tmp_path: Path):
    lines: list[str] = []
    over: dict[str, Any] = {"dpo.loss.beta": [0.1, 0.5]}
    done = burnish.sweep(
        recipe, over=over, seeds=[0, 1], out=tmp_path / "s", say=lines.append, quiet=True
    )
    assert list(done.results) == ["beta=0.1", "beta=0.5"]
    assert [line.split(":")[0] for line in lines] == [
        f"beta={b}, seed {s}" for b in (0.1, 0.5) for s in (0, 1)
    ]
    for seed in (0, 1):
        first, second = (done.results[name][seed] for name in done.results)
        assert (first.recipe.seed, second.recipe.stages["dpo"].loss.beta) == (seed, 0.5)
        records = [json.loads((one / "sft" / "stage.json").read_text()) for one in (first, second)]
        assert records[0] == records[1]  # taken over, not done again
        assert (first / "dpo" / "metrics.jsonl").read_text() != (
            second / "dpo" / "metrics.jsonl"
        ).read_text()
    name = "dpo/eval_loss"
    by_hand = [figures_of(done.results["beta=0.1"][seed])[name] for seed in (0, 1)]
    assert done.figures["beta=0.1"][name] == spread(by_hand)
    assert (
        by_hand[0]
        == done.results["beta=0.1"][0]
        .metrics.query("stage == 'dpo'")["eval_loss"]
        .dropna()
        .iloc[-1]
    )
    assert list(done.table["variant"]) == ["beta=0.1", "beta=0.5"]
    kept = json.loads((tmp_path / "s" / "sweep.json").read_text())
    assert kept["beta=0.5"]["changes"] == {"dpo.loss.beta": 0.5}
    again = burnish.sweep(recipe, over=over, seeds=[0, 1], out=tmp_path / "s", quiet=True)
    assert again.figures == done.figures


def test_seeds_of_a_recipe_by_the_command(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    _ended(
        [
            "run",
            str(recipe),
            "--out",
            str(tmp_path / "s"),
            "--quiet",
            "seeds=[3, 4]",
            "stages=[sft]",
        ]
    )
    table = capsys.readouterr().out
    assert "sft/eval_loss" in table
    assert " to " in table
    assert {path.name for path in (tmp_path / "s" / "all").iterdir()} == {"seed-3", "seed-4"}
    with pytest.raises(UserError, match="a run has one seed"):
        burnish.run(recipe, "seeds=[3, 4]", out=tmp_path / "t")


def test_combinations_by_the_command(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    options = ["--variant", "{sft.lora.r: 2}", "--variant", "{sft.lora.r: 4, sft.lora.alpha: 8}"]
    _ended(
        ["sweep", str(recipe), *options, "--out", str(tmp_path / "s"), "--quiet", "stages=[sft]"]
    )
    assert capsys.readouterr().out.splitlines()[0].split() == ["r=2", "r=4,alpha=8"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--over", "sft.epochs=3"], "gives no list of values"),
        (["--over", "sft.nonsense=[1]"], "there is no such key"),
        (["--seeds", "a"], "no list of seeds"),
        (["--variant", "[1]"], "is no mapping"),
        (["--variant", "{a: 1}", "--over", "sft.epochs=[1]"], "choose one"),
    ],
)
def test_what_cannot_be_meant_is_said_before_anything_runs(
    options: list[str], words: str, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as ended:
        main(["sweep", str(recipe), *options, "--out", str(tmp_path / "s")])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_objects_are_written_once_for_all_runs(tmp_path: Path):
    small = {"batch_size": 6, "lora": {"r": 2, "alpha": 4}}
    recipe = {
        "model": "tiny",
        "data": {"demonstrations": ROWS},
        "stages": {"sft": small},
        "threads": 1,
    }
    done = burnish.sweep(
        recipe, over={"sft.epochs": [1, 2]}, seeds=[0], out=tmp_path / "s", quiet=True
    )
    (written,) = (tmp_path / "s" / "inputs").glob("*.jsonl")
    assert {result[0].recipe.data.demonstrations for result in done.results.values()} == {
        str(written)
    }
    assert [len(result[0].metrics) for result in done.results.values()] == [2, 4]


def test_rounds_are_swept_by_their_own_names(tmp_path: Path):
    recipe = {
        "model": "tiny",
        "data": {"comparisons": PAIRS, "demonstrations": ROWS},
        "stages": {
            "rounds": {
                "repeat": 2,
                "stages": {"sft": {"batch_size": 6, "lora": {"r": 2, "alpha": 4}}},
            }
        },
    }
    over = {"rounds.sft.epochs": [1.0]}
    done = burnish.sweep(recipe, "threads=1", over=over, seeds=[0], out=tmp_path / "s", quiet=True)
    stages = done.results["epochs=1.0"][0].recipe.stages
    assert {name: one.epochs for name, one in stages.items()} == {
        "rounds.1.sft": 1.0,
        "rounds.2.sft": 1.0,
    }
