"""Data that is small, or whose held-out part is its own: every stage trains, and says where it could not be evaluated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import burnish
from burnish.pipeline.report import closing_table

SMALL = (
    "model.name=tiny", "model.max_length=512", "threads=1", "sft.epochs=1", "sft.lora={r: 2, alpha: 4}",
    "reward.lora={r: 2, alpha: 4}", "preference.lora={r: 2, alpha: 4}", "ppo.lora={r: 2, alpha: 4}",
    "ppo.steps=1", "ppo.prompts_per_step=2", "ppo.sampling.max_new_tokens=4", "collect.sampling.max_new_tokens=6",
    "evaluate.sampling.max_new_tokens=4", "online.steps=1", "online.prompts_per_step=2", "online.responses_per_prompt=2",
    "online.sampling.max_new_tokens=4",
)  # fmt: skip
PAIRS = [{"prompt": f"q{i}", "chosen": f"yes {i}", "rejected": "no"} for i in range(12)]


def _rows(path: Path, rows: list[dict[str, Any]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def _run(tmp_path: Path, *changes: str) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The results by stage, and what was said."""
    said: list[str] = []
    folder = burnish.run(burnish.load(None, *SMALL, *changes), out=tmp_path / "run", say=said.append)
    return {path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/result.json")}, said


@pytest.mark.parametrize("count", [1, 2])
def test_every_stage_trains_on_one_or_two_rows_and_says_that_it_was_not_evaluated(tmp_path: Path, count: int):
    source = _rows(tmp_path / "pairs.jsonl", PAIRS[:count])
    stages = "stages=[sft,reward,preference,ppo,evaluate,report]"
    results, said = _run(tmp_path, f"data.comparisons={source}", "data.heldout=0.001", stages)
    for stage in ("sft", "reward", "preference", "evaluate"):
        assert "holds none out" in results[stage]["not_evaluated"], stage
        assert any(line.startswith(f"{stage}: not evaluated: ") for line in said), stage
    assert results["sft"]["examples_train"] == results["reward"]["pairs_train"] == count
    assert results["sft"]["eval_loss_after"] is None
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert page.count("holds none out") >= 4  # in words, of the verdict and of each stage that trains
    assert closing_table(tmp_path / "run").startswith("nothing was evaluated: a share of 0.001")


def test_what_was_collected_on_two_prompts_can_be_trained_on(tmp_path: Path):
    source = _rows(tmp_path / "p.jsonl", [{"prompt": "one"}, {"prompt": "two"}])
    results, _ = _run(tmp_path, f"data.prompts={source}", "data.heldout=0", "stages=[collect,reward,evaluate,report]")
    assert results["reward"]["prompts_train"] >= 1
    assert results["reward"]["not_evaluated"] == results["evaluate"]["not_evaluated"] == "data.heldout is 0"


def test_comparisons_alone_are_enough_for_preference_optimisation_and_its_evaluation(tmp_path: Path):
    source = _rows(tmp_path / "train.jsonl", PAIRS[:9])
    _rows(tmp_path / "test.jsonl", PAIRS[9:])
    assert source
    changes = (f"data.comparisons={tmp_path}", "stages=[preference,evaluate,report]", "preference.batch_size=65536")
    results, said = _run(tmp_path, *changes)
    assert results["preference"]["pairs_train"] == 9
    assert results["preference"]["pairs_heldout"] == results["evaluate"]["prompts"] == 3
    assert results["preference"]["steps"] == 1
    assert "preference: batches of 9, not 65536: there are no more prompts" in said


def test_a_limit_on_a_first_try_needs_no_held_out_prompts(tmp_path: Path):
    rows = [{"prompt": f"q{i}", "completion": f"a{i}"} for i in range(80)]
    source = _rows(tmp_path / "d.jsonl", rows)
    changes = (f"data.demonstrations={source}", "data.prompts=builtin:quickstart/prompts", "data.limit=50")
    results, _ = _run(tmp_path, *changes, "stages=[sft,evaluate]", "sft.batch_size=65536", "evaluate.prompts=2")
    assert results["sft"]["examples_train"] + results["sft"]["examples_heldout"] == 50
    assert results["sft"]["steps"] == 1
    assert results["evaluate"]["prompts"] == 2


def test_supervised_fine_tuning_is_evaluated_on_the_prompts_it_held_out(tmp_path: Path):
    rows = [{"prompt": f"q{i}", "completion": "a", "split": "test" if i > 7 else "train"} for i in range(10)]
    source = _rows(tmp_path / "d.jsonl", rows)
    results, _ = _run(tmp_path, f"data.demonstrations={source}", "stages=[sft,evaluate,report]")
    assert (results["sft"]["examples_train"], results["sft"]["examples_heldout"]) == (8, 2)
    assert results["evaluate"]["prompts"] == 2
    assert results["sft"]["not_evaluated"] is None


def test_a_held_out_part_in_which_nothing_fits_leaves_evaluation_out(tmp_path: Path):
    rows = [{"prompt": f"q{i}", "chosen": "yes" * (1 + 300 * (i > 7)), "rejected": "no", "split": "test" if i > 7 else "train"}
            for i in range(10)]  # fmt: skip
    source = _rows(tmp_path / "pairs.jsonl", rows)
    changes = (f"data.comparisons={source}", "data.too_long=drop", "stages=[sft,reward,preference]")
    results, said = _run(tmp_path, *changes)
    assert {stage: result["not_evaluated"] for stage, result in results.items()} == dict.fromkeys(
        ("sft", "reward", "preference"), "no held-out row fits"
    )
    assert any("2 (too long)" in line for line in said)


def test_training_where_everything_is_held_out_is_an_error_of_one_line(tmp_path: Path):
    source = _rows(tmp_path / "d.jsonl", [{"prompt": "q", "completion": "a", "split": "test"}])
    with pytest.raises(burnish.UserError, match=r"^there are no demonstrations to train on: every row .* is held out"):
        _run(tmp_path, f"data.demonstrations={source}", "stages=[sft]")


def test_one_prompt_for_many_places_in_a_step_comes_again(tmp_path: Path):
    source = _rows(tmp_path / "p.jsonl", [{"prompt": "one", "answer": "1"}])
    changes = (f"data.prompts={source}", "stages=[online]", "rewards=[{name: length}]", "online.prompts_per_step=4")
    results, said = _run(tmp_path, *changes)
    assert results["online"]["steps"] == 1
    assert "online: 4 prompts a step of 1: each comes several times in a step" in said
