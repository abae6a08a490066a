"""The shipped recipes as they stand: tiny.yaml whole, hh.yaml on real comparisons with a model
small enough for a test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import burnish

ROOT = Path(__file__).parents[2]
HH = ROOT.parent / "shared" / "data" / "hh-rlhf" / "helpful.jsonl.gz"


def test_tiny_recipe_from_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    recipe = burnish.load("recipes/tiny.yaml", "ppo.steps=2", "seed=1", "threads=1")
    folder = burnish.run(recipe, out=tmp_path / "notebook")
    assert (folder / "report.html").is_file()
    assert json.loads((folder / "sft" / "result.json").read_text())["examples_train"] > 200


@pytest.mark.skipif(
    not HH.is_file(),
    reason="Anthropic's HH (../shared/data beside the repository) is not on this machine",
)
def test_hh_recipe_on_real_comparisons(tmp_path: Path):
    recipe = burnish.load(
        ROOT / "recipes" / "hh.yaml",
        f"data.comparisons={HH}",
        "model.name=tiny",
        "model.max_length=900",
        "data.limit=150",
        "threads=1",
        "ppo.steps=1",
        "ppo.prompts_per_step=4",
        "ppo.sampling.max_new_tokens=8",
        "evaluate.sampling.max_new_tokens=8",
        "evaluate.count=6",
    )
    folder = burnish.run(recipe, out=tmp_path / "hh")
    reward = json.loads((folder / "reward" / "result.json").read_text())
    assert reward["pairs_heldout"] >= 5
    assert reward["accuracy"]["low"] <= reward["accuracy"]["value"] <= reward["accuracy"]["high"]
    assert reward["dropped"]["comparisons"]["too long"] > 0
    assert not (folder / "compare").exists()
    shown = (
        (folder / "report.html").read_text().split("</style>")[1].split("The resolved recipe")[0]
    )
    assert "Not judged yet" in shown
    assert "taste" not in shown.lower()


@pytest.mark.parametrize("name", ["hh", "people"])
def test_recipes_on_peoples_data_never_name_the_taste_of_simulated_annotators(name: str):
    assert "taste" not in (ROOT / "recipes" / f"{name}.yaml").read_text().lower()


@pytest.mark.parametrize("name", ["dpo", "simpo", "kto", "dpo-rounds"])
def test_preference_recipes_take_over_the_quickstart(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As shipped but for the model and the sizes: SFT and the comparisons are those of
    quickstart.yaml, so that a fork keeps them."""
    from burnish.stages.context import Run
    from burnish.stages.inputs import inputs_of

    monkeypatch.chdir(ROOT)
    quickstart, recipe = (
        burnish.load("recipes/quickstart.yaml"),
        burnish.load(f"recipes/{name}.yaml"),
    )
    loss = name.split("-")[0]
    parents = {"sft": "a", "sample": "b"}
    for stage in ("sft", "sample", "compare"):
        here, there = (Run(one, tmp_path).step(stage) for one in (recipe, quickstart))
        assert inputs_of(here, parents) == inputs_of(there, parents)
    assert recipe.stages[loss].loss.name == loss
    if name in ("simpo", "kto"):
        return  # what they do besides is run by test_loops_preference.py
    small = [
        "model.name=tiny", "model.max_length=900", "threads=1", "data.heldout=0.4",
        "sft.epochs=0.05", "sample.count=12",
        "sample.sampling.max_new_tokens=8", "dpo.epochs=0.5", "evaluate.count=4",
        "evaluate.sampling.max_new_tokens=8",
    ]  # fmt: skip
    rounds = name == "dpo-rounds"
    if rounds:
        small += [
            "rounds.dpo.epochs=0.5",
            "rounds.sample.count=4",
            "rounds.sample.sampling.max_new_tokens=8",
        ]
    folder = burnish.run(burnish.load(f"recipes/{name}.yaml", *small), out=tmp_path / name)
    found = {
        path.parent.name: json.loads(path.read_text())["loss"]
        for path in folder.glob("*dpo/result.json")
    }
    learnt = ["dpo", "rounds.1.dpo", "rounds.2.dpo"] if rounds else ["dpo"]
    assert found == dict.fromkeys(learnt, loss)
    assert (folder / "report.html").is_file()


@pytest.mark.parametrize("name", ["rlvr-arithmetic", "calculator"])
def test_recipes_of_the_online_stage(name: str, tmp_path: Path):
    stage = {"calculator": "dr-grpo", "rlvr-arithmetic": "grpo"}[name]
    recipe = burnish.load(
        ROOT / "recipes" / f"{name}.yaml",
        "model.name=tiny",
        "model.max_length=900",
        "threads=1",
        f"{stage}.steps=1",
        f"{stage}.prompts_per_step=2",
        f"{stage}.responses_per_prompt=2",
        f"{stage}.sampling.quantization=none",
        "evaluate={count: 4, responses_per_prompt: 2, sampling: {max_new_tokens: 8}}",
    )
    folder = burnish.run(recipe, out=tmp_path / name)
    assert (folder / "report.html").is_file()
    (row,) = json.loads((folder / stage / "result.json").read_text())["curve"]
    assert row["reward"] == 0.0  # a random model has no right answer
    evaluated = json.loads((folder / "evaluate" / "result.json").read_text())["verifiable"]
    components = {"calculator": {"environment"}, "rlvr-arithmetic": {"maths"}}[
        name
    ]  # judged as it was trained
    assert all(set(model["components"]) == components for model in evaluated["models"])
