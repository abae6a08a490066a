"""Data that does not fit a recipe: one line that names the row, or a count of what was left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import burnish
from burnish.errors import UserError
from burnish.stages.context import Run
from burnish.stages.report import closing_table, gather


def _rows(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    demos = [{"prompt": f"Say {i}.", "completion": f"{i}, with pleasure."} for i in range(30)]
    prompts = [
        {"prompt": f"Say {i} twice.", "split": "heldout" if i % 3 else "train"} for i in range(12)
    ]
    return [
        "model.name=tiny", "threads=1", f"data.demonstrations={_rows(tmp_path / 'd.jsonl', demos)}",
        f"data.prompts={_rows(tmp_path / 'p.jsonl', prompts)}", "data.heldout=0.3",
    ]  # fmt: skip


SFT, SAMPLE, EVALUATE = (
    "stages.sft={epochs: 0.1}",
    "stages.sample={sampling: {max_new_tokens: 4}}",
    "stages.evaluate={sampling: {max_new_tokens: 4}, samples: 0}",
)


def test_a_demonstration_that_is_too_long_names_its_row(options: list[str], tmp_path: Path):
    path = tmp_path / "long.jsonl"
    source = _rows(
        path,
        [{"prompt": f"Say {i}.", "completion": "x" * (500 if i == 7 else 5)} for i in range(20)],
    )
    recipe = burnish.load(
        None, *options, SFT, f"data.demonstrations={source}", "model.max_length=200"
    )
    what_to_do = (
        r"Set data\.drop=\[duplicate, too_long\] .* or raise model\.max_length \(200; this model"
        r" reads up to \d+\)"
    )
    with pytest.raises(UserError, match=rf"long\.jsonl, row 8, .*{what_to_do}"):
        burnish.run(recipe, out=tmp_path / "run")
    assert not (tmp_path / "run" / "sft" / "stage.json").exists()
    assert not (tmp_path / "run" / "sft" / "model").exists()


def test_dropped_rows_are_counted_and_said(options: list[str], tmp_path: Path):
    source = _rows(
        tmp_path / "long.jsonl",
        [
            {"prompt": f"Say {i}.", "completion": "x" * (500 if i % 5 == 0 else 5)}
            for i in range(40)
        ],
    )
    changes = (
        f"data.demonstrations={source}",
        "model.max_length=200",
        "data.drop=[duplicate, too_long]",
    )
    recipe = burnish.load(None, *options, SFT, *changes)
    lines: list[str] = []
    out = burnish.run(recipe, out=tmp_path / "run", say=lines.append)
    assert any("too long" in line for line in lines)
    dropped = json.loads((out / "sft" / "result.json").read_text())["dropped"]
    assert sum(count["too long"] for count in dropped.values()) == 8


def test_what_was_left_out_stands_with_the_stage_that_read_it_however_often_the_run_was_started(
    options: list[str], tmp_path: Path
):
    """Preflight reads every stage's prompts before the first stage: their dropped rows are none of
    that stage's."""
    source = _rows(tmp_path / "q.jsonl", [{"prompt": f"Say {i}."} for i in (*range(12), 3, 4)])
    recipe = burnish.load(None, *options, SFT, SAMPLE, f"data.prompts={source}")
    whole = burnish.run(recipe, out=tmp_path / "whole")
    burnish.run(recipe, out=tmp_path / "parts", until="sft")
    parts = burnish.run(recipe, out=tmp_path / "parts")
    found = {
        name: json.loads((whole / name / "result.json").read_text())["dropped"]
        for name in ("sft", "sample")
    }
    assert found["sft"] == {}
    assert sum(found["sample"]["prompts"].values()) == 2
    for name in found:
        assert (parts / name / "result.json").read_bytes() == (
            whole / name / "result.json"
        ).read_bytes()


def test_a_prompt_that_leaves_no_room_names_its_row(options: list[str], tmp_path: Path):
    source = _rows(
        tmp_path / "p2.jsonl",
        [
            {
                "prompt": "a" * (300 if i == 4 else 5) + str(i),
                "split": "heldout" if i % 2 else "train",
            }
            for i in range(12)
        ],
    )
    recipe = burnish.load(None, *options, SAMPLE, f"data.prompts={source}", "model.max_length=200")
    what_to_do = (
        r"raise model\.max_length \(200, of which sampling\.max_new_tokens keeps 4 for the answer; "
    )
    with pytest.raises(UserError, match=rf"p2\.jsonl, row 5, .*{what_to_do}"):
        burnish.run(recipe, out=tmp_path / "run")


def _prompts_of_two_lengths(tmp_path: Path) -> str:
    """12 prompts; of the 6 to train on, 2 fit where 4 tokens are written and not where 160 are."""
    rows = [
        {
            "prompt": "a" * (90 if i in (4, 8) else 5) + str(i),
            "split": "heldout" if i % 2 else "train",
        }
        for i in range(12)
    ]
    return _rows(tmp_path / "two.jsonl", rows)


def test_ppo_leaves_out_prompts_that_leave_no_room(options: list[str], tmp_path: Path):
    recipe = burnish.load(
        None,
        *options,
        SFT,
        SAMPLE,
        "stages.compare={}",
        "stages.reward={}",
        f"data.prompts={_prompts_of_two_lengths(tmp_path)}",
        "model.max_length=240",
        "data.drop=[duplicate, too_long]",
        "sample.count=6",
        "stages.ppo={steps: 1, prompts_per_step: 4, sampling: {max_new_tokens: 160}}",
    )
    out = burnish.run(recipe, out=tmp_path / "run")
    assert json.loads((out / "ppo" / "result.json").read_text())["dropped"]["prompts"] == {
        "too long": 2
    }


def test_no_room_for_any_prompt(options: list[str], tmp_path: Path):
    recipe = burnish.load(
        None, *options, SAMPLE, "model.max_length=120", "sample.sampling.max_new_tokens=120"
    )
    with pytest.raises(UserError, match="leaves no room for a prompt"):
        burnish.run(recipe, out=tmp_path / "run")


def test_prompts_that_are_all_to_train_on_are_split_by_hash(options: list[str], tmp_path: Path):
    source = _rows(
        tmp_path / "p3.jsonl", [{"prompt": f"Say {i}.", "split": "train"} for i in range(50)]
    )
    prompts = (
        Run(burnish.load(None, *options, SAMPLE, f"data.prompts={source}"), tmp_path)
        .step("sample")
        .prompts
    )
    assert len(prompts.train) > len(prompts.heldout) > 0


def test_prompts_that_are_all_held_out_can_be_evaluated_on_and_not_trained_on(
    options: list[str], tmp_path: Path
):
    source = _rows(
        tmp_path / "p3.jsonl", [{"prompt": f"Say {i}.", "split": "test"} for i in range(5)]
    )
    changes = [*options, f"data.prompts={source}"]
    sample, evaluate = (burnish.load(None, *changes, stage) for stage in (SAMPLE, EVALUATE))
    prompts = Run(sample, tmp_path).step("sample").prompts
    assert (len(prompts.train), len(prompts.heldout)) == (0, 5)
    with pytest.raises(UserError, match="there are no prompts to train on"):
        burnish.run(sample, out=tmp_path / "run")
    out = burnish.run(evaluate, out=tmp_path / "other")
    assert json.loads((out / "evaluate" / "result.json").read_text())["prompts"] == 5


def test_prompts_without_a_split_column_are_split_by_hash(options: list[str], tmp_path: Path):
    source = _rows(tmp_path / "p4.jsonl", [{"prompt": f"Say {i} once."} for i in range(60)])
    prompts = (
        Run(burnish.load(None, *options, SAMPLE, f"data.prompts={source}"), tmp_path)
        .step("sample")
        .prompts
    )
    assert len(prompts.train) + len(prompts.heldout) == 60
    assert 5 <= len(prompts.heldout) <= 35


def test_comparisons_are_held_out_where_prompts_were_split_by_hash_before(
    options: list[str], tmp_path: Path
):
    source = _rows(tmp_path / "p5.jsonl", [{"prompt": f"Say {i} once."} for i in range(60)])
    stages = (SAMPLE, "stages.compare={}", "stages.reward={}", "sample.responses=2")
    recipe = burnish.load(None, *options, *stages, f"data.prompts={source}")
    out = burnish.run(recipe, out=tmp_path / "run", until="compare")
    step = Run(recipe, out).step("reward")
    split = step.comparisons
    train, heldout = ({group.prompt.id for group in part} for part in (split.train, split.heldout))
    assert len(train) > len(heldout) > 0
    assert not train & heldout
    assert not (train | heldout) & {prompt.id for prompt in step.prompts.heldout}


def test_demonstrations_may_be_the_preferred_answers(tmp_path: Path):
    source = _rows(
        tmp_path / "c.jsonl",
        [{"prompt": f"Say {i}.", "chosen": "Gladly.", "rejected": "No."} for i in range(30)],
    )
    recipe = burnish.load(
        None,
        SFT,
        f"data.comparisons={source}",
        "data.demonstrations=null",
        "data.prompts=null",
        "data.heldout=0.3",
    )
    demonstrations = Run(recipe, tmp_path).step("sft").demonstrations
    assert {d.messages[-1]["content"] for d in demonstrations.train} == {"Gladly."}


def test_a_report_of_a_run_that_has_hardly_begun(options: list[str], tmp_path: Path):
    out = burnish.run(
        burnish.load(None, *options, SFT, EVALUATE), out=tmp_path / "run", until="sft"
    )
    assert "sft" in gather(out)
    assert closing_table(out)
    with pytest.raises(UserError, match="holds no run"):
        gather(tmp_path)


def test_data_that_does_not_ship_is_named_with_what_does(tmp_path: Path):
    recipe = burnish.load(
        Path(__file__).parents[2] / "recipes" / "tiny.yaml", "data.demonstrations=builtin:nope"
    )
    with pytest.raises(
        UserError,
        match="builtin:nope: no such data ships with Burnish; there are builtin:quickstart/",
    ):
        burnish.run(recipe, out=tmp_path / "run")
