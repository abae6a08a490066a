"""Data that is small, or whose held-out part is its own: every stage trains, and says where it
could not be evaluated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import burnish
from burnish.stages.report import closing_table

SMALL = ("model.name=tiny", "model.max_length=512", "threads=1")
OF_STAGE = {
    "sft": "{epochs: 1, lora: {r: 2, alpha: 4}}",
    "sample": "{sampling: {max_new_tokens: 6}}",
    "compare": "{}",
    "reward": "{lora: {r: 2, alpha: 4}}",
    "dpo": "{lora: {r: 2, alpha: 4}}",
    "ppo": "{lora: {r: 2, alpha: 4}, steps: 1, prompts_per_step: 2, sampling: {max_new_tokens: 4}}",
    "grpo": (
        "{steps: 1, prompts_per_step: 2, responses_per_prompt: 2, sampling: {max_new_tokens: 4}}"
    ),
    "evaluate": "{sampling: {max_new_tokens: 4}}",
    "report": "{}",
}
PAIRS = [{"prompt": f"q{i}", "chosen": f"yes {i}", "rejected": "no"} for i in range(12)]


def _rows(path: Path, rows: list[dict[str, Any]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def _run(tmp_path: Path, stages: str, *changes: str) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The results by stage, and what was said."""
    said: list[str] = []
    small = [f"stages.{stage}={OF_STAGE[stage]}" for stage in stages.split()]
    folder = burnish.run(
        burnish.load(None, *SMALL, *small, *changes), out=tmp_path / "run", say=said.append
    )
    return {
        path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/result.json")
    }, said


@pytest.mark.parametrize("count", [1, 2])
def test_every_stage_trains_on_one_or_two_rows_and_says_that_it_was_not_evaluated(
    tmp_path: Path, count: int
):
    source = _rows(tmp_path / "pairs.jsonl", PAIRS[:count])
    stages = "sft reward dpo ppo evaluate report"
    results, said = _run(
        tmp_path, stages, f"data.comparisons={source}", "data.heldout=0.001", "ppo.start=sft"
    )
    for stage in ("sft", "reward", "dpo", "evaluate"):
        assert "holds none out" in results[stage]["not_evaluated"], stage
        assert any(line.startswith(f"{stage}: not evaluated: ") for line in said), stage
    assert results["sft"]["examples_train"] == results["reward"]["pairs_train"] == count
    assert results["sft"]["eval_loss_after"] is None
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    # in words, of the verdict and of each stage that trains
    assert page.count("holds none out") >= 4
    assert closing_table(tmp_path / "run").startswith("nothing was evaluated: a share of 0.001")


def test_what_was_sampled_on_two_prompts_can_be_trained_on(tmp_path: Path):
    source = _rows(tmp_path / "p.jsonl", [{"prompt": "one"}, {"prompt": "two"}])
    stages = "sample compare reward evaluate report"
    results, _ = _run(tmp_path, stages, f"data.prompts={source}", "data.heldout=0")
    assert results["reward"]["prompts_train"] >= 1
    assert (
        results["reward"]["not_evaluated"]
        == results["evaluate"]["not_evaluated"]
        == "data.heldout is 0"
    )


def test_comparisons_alone_are_enough_for_preference_optimisation_and_its_evaluation(
    tmp_path: Path,
):
    source = _rows(tmp_path / "train.jsonl", PAIRS[:9])
    _rows(tmp_path / "test.jsonl", PAIRS[9:])
    assert source
    changes = (f"data.comparisons={tmp_path}", "dpo.batch_size=65536")
    results, said = _run(tmp_path, "dpo evaluate report", *changes)
    assert results["dpo"]["pairs_train"] == 9
    assert results["dpo"]["pairs_heldout"] == results["evaluate"]["prompts"] == 3
    assert results["dpo"]["steps"] == 1
    assert "dpo: batches of 9, not 65536: there are no more prompts" in said


def test_a_limit_on_a_first_try_needs_no_held_out_prompts(tmp_path: Path):
    rows = [{"prompt": f"q{i}", "completion": f"a{i}"} for i in range(80)]
    source = _rows(tmp_path / "d.jsonl", rows)
    changes = (
        f"data.demonstrations={source}",
        "data.prompts=builtin:quickstart/prompts",
        "data.limit=50",
    )
    results, _ = _run(
        tmp_path, "sft evaluate", *changes, "sft.batch_size=65536", "evaluate.count=2"
    )
    assert results["sft"]["examples_train"] + results["sft"]["examples_heldout"] == 50
    assert results["sft"]["steps"] == 1
    assert results["evaluate"]["prompts"] == 2


def test_supervised_fine_tuning_is_evaluated_on_the_prompts_it_held_out(tmp_path: Path):
    rows = [
        {"prompt": f"q{i}", "completion": "a", "split": "test" if i > 7 else "train"}
        for i in range(10)
    ]
    source = _rows(tmp_path / "d.jsonl", rows)
    results, _ = _run(tmp_path, "sft evaluate report", f"data.demonstrations={source}")
    assert (results["sft"]["examples_train"], results["sft"]["examples_heldout"]) == (8, 2)
    assert results["evaluate"]["prompts"] == 2
    assert results["sft"]["not_evaluated"] is None


def test_a_held_out_part_in_which_nothing_fits_leaves_evaluation_out(tmp_path: Path):
    rows = [{"prompt": f"q{i}", "chosen": "yes" * (1 + 300 * (i > 7)), "rejected": "no",
        "split": "test" if i > 7 else "train"}
            for i in range(10)]  # fmt: skip
    source = _rows(tmp_path / "pairs.jsonl", rows)
    changes = (f"data.comparisons={source}", "data.drop=[duplicate, too_long]")
    results, said = _run(tmp_path, "sft reward dpo", *changes)
    assert {stage: result["not_evaluated"] for stage, result in results.items()} == dict.fromkeys(
        ("sft", "reward", "dpo"), "no held-out row fits"
    )
    assert any("2 (too long)" in line for line in said)


def test_training_where_everything_is_held_out_is_an_error_of_one_line(tmp_path: Path):
    source = _rows(tmp_path / "d.jsonl", [{"prompt": "q", "completion": "a", "split": "test"}])
    with pytest.raises(
        burnish.UserError,
        match=r"^there are no demonstrations to train on: every row .* is held out",
    ):
        _run(tmp_path, "sft", f"data.demonstrations={source}")


def test_one_prompt_for_many_places_in_a_step_comes_again(tmp_path: Path):
    source = _rows(tmp_path / "p.jsonl", [{"prompt": "one", "answer": "1"}])
    changes = (f"data.prompts={source}", "grpo.rewards=[{name: length}]", "grpo.prompts_per_step=4")
    results, said = _run(tmp_path, "grpo", *changes)
    assert results["grpo"]["steps"] == 1
    assert "grpo: 4 prompts a step of 1: each comes several times in a step" in said
