"""The recipes of verifiable rewards as they stand, with a model small enough for a test."""

from __future__ import annotations

import json
from pathlib import Path

import burnish

RECIPES = Path(__file__).parents[2] / "recipes"
SMALL = ("model.name=tiny", "model.max_length=900", "threads=1", "grpo.steps=1",
    "grpo.sampling.max_new_tokens=8",
         "evaluate.sampling.max_new_tokens=8", "evaluate.count=6")  # fmt: skip
PANEL = ("sample.count=16", "sample.sampling.max_new_tokens=8")


def test_gsm8k_in_its_published_form(tmp_path: Path):
    rows = [
        {
            "question": f"Bo has {n} boxes of 4 pens. How many pens?",
            "answer": f"{n} * 4 = <<{n}*4={4 * n}>>{4 * n}\n#### {4 * n}",
        }
        for n in range(2, 90)
    ]
    source = tmp_path / "train.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = burnish.run(
        burnish.load(RECIPES / "gsm8k.yaml", f"data.prompts={source}", *SMALL), out=tmp_path / "out"
    )
    found = json.loads((folder / "evaluate" / "result.json").read_text())["verifiable"]
    assert found["verifiers"] == ["maths"]
    assert set(found["models"][1]["components"]) == {"maths", "format", "repetition"}
    assert (folder / "report.html").is_file()


def test_the_hybrid_stage_reads_the_answer_with_one_model_and_everything_with_the_other(
    tmp_path: Path,
):
    first = burnish.load(RECIPES / "r1-harmlessness.yaml", *SMALL[:3], *PANEL)
    harmless = burnish.run(first, out=tmp_path / "harmless") / "reward" / "model"
    recipe = burnish.load(
        RECIPES / "r1-hybrid.yaml", f"grpo.rewards.4.model={harmless}", *SMALL, *PANEL
    )
    folder = burnish.run(recipe, out=tmp_path / "out")
    found = json.loads((folder / "evaluate" / "result.json").read_text())["verifiable"]
    assert set(found["models"][1]["components"]) >= {"language", "harmless"}
    [row] = [
        json.loads(line) for line in (folder / "grpo" / "metrics.jsonl").read_text().splitlines()
    ]
    assert "rewards/harmless/mean" in row
    assert "rewards/right/mean" in row or "rewards/helpful/mean" in row
