"""The stage `preference` on the tiny model: losses by command, rounds, and kill -9 at random instants."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import burnish
from burnish.errors import UserError
from burnish.runs.metrics import read_metrics

RECIPE = """
name: loop
threads: 1
model: {name: tiny, max_length: 512}
stages: [sft, collect, preference, evaluate, report]
data: {demonstrations: DEMOS, prompts: PROMPTS, heldout: 0.3}
sft: {epochs: 0.4, batch_size: 8, lora: {r: 4, alpha: 8}, eval_every: 100}
collect: {prompts: 16, responses_per_prompt: 3, sampling: {max_new_tokens: 8}}
reward: {batch_size: 4, lora: {r: 4, alpha: 8}, eval_every: 100}
preference: {loss: {name: dpo}, batch_size: 2, lora: {r: 4, alpha: 8}, optimiser: {learning_rate: 1e-3}, eval_every: 2,
  online: {prompts: 6, responses_per_prompt: 3, sampling: {max_new_tokens: 8}}, checkpoint: {every: 2}}
evaluate: {prompts: 6, sampling: {max_new_tokens: 8}, samples: 2}
"""


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    demos = [{"prompt": f"What is {i} plus {i}?", "completion": f"It is {2 * i}."} for i in range(24)]
    prompts = [
        {"id": f"p{i}", "prompt": f"What is {i} plus {i + 1}?", "split": "heldout" if i % 3 == 0 else "train"}
        for i in range(30)
    ]
    for name, rows in (("demos", demos), ("prompts", prompts)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "recipe.yaml"
    path.write_text(
        RECIPE.replace("DEMOS", str(folder / "demos.jsonl")).replace("PROMPTS", str(folder / "prompts.jsonl"))
    )
    return path


@pytest.fixture(scope="module")
def base(recipe_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SFT and collecting, which every run here takes over."""
    return burnish.run(burnish.load(recipe_file), out=tmp_path_factory.mktemp("runs") / "base", until="collect")


def _start(recipe: Path, base: Path, out: Path, cache: Path, *arguments: str) -> subprocess.Popen[str]:
    fork = ["--fork", str(base)] if not out.exists() else []
    command = [sys.executable, "-m", "burnish", "run", str(recipe), *arguments, "--out", str(out), "--quiet", *fork]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "BURNISH_CACHE": str(cache)},
    )  # fmt: skip


def _outcome(folder: Path) -> dict[str, object]:
    stage = folder / "preference"
    found: dict[str, object] = {
        str(p.relative_to(stage)): p.read_bytes()
        for p in (*stage.rglob("metrics.jsonl"), *stage.rglob("model.safetensors"))
    }
    return found | {"result": json.loads((stage / "result.json").read_text())}


def test_a_run_leaves_a_policy_called_by_its_loss(recipe_file: Path, base: Path, tmp_path: Path):
    out = burnish.run(burnish.load(recipe_file), out=tmp_path / "dpo", fork=base)
    rows = read_metrics(out / "preference" / "metrics.jsonl")
    for name in ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen", "logps/rejected",
                 "falls/chosen", "kl_from_reference"):  # fmt: skip
        assert name in rows[0], name
    assert rows[0]["rewards/margins"] == pytest.approx(0.0, abs=1e-5)
    assert "eval_rewards/accuracies_before" in rows[0]
    result = json.loads((out / "preference" / "result.json").read_text())
    for name in ("accuracy", "chosen_falls", "both_fall", "rise_chosen", "margin", "longer_wins", "gold_accuracy"):
        assert result[name]["low"] <= result[name]["value"] <= result[name]["high"], name
    evaluated = json.loads((out / "evaluate" / "result.json").read_text())
    assert [m["name"] for m in evaluated["models"]] == ["base", "sft", "dpo"]
    assert evaluated["models"][2]["kl_ref"]["value"] != 0.0
    page = (out / "report.html").read_text()
    assert "DPO policy" in page
    assert "Held-out pairs ranked as the annotators did" in page


@pytest.mark.parametrize("loss", ["simpo", "kto", "ipo"])
def test_the_loss_is_a_command(
    recipe_file: Path, base: Path, tmp_path: Path, loss: str, capsys: pytest.CaptureFixture[str]
):
    from burnish.cli.main import main

    out = burnish.run(burnish.load(recipe_file), out=tmp_path / loss, fork=base, until="collect")
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([loss, "preference.epochs=0.5", "--config", str(recipe_file), "--out", str(out), "--quiet"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.strip() == str(out / "preference")
    assert json.loads((out / "preference" / "result.json").read_text())["loss"] == loss
    assert (out / "preference" / "model" / "adapter" / "adapter_config.json").is_file()


def test_every_weight_can_be_trained(recipe_file: Path, base: Path, tmp_path: Path):
    recipe = burnish.load(
        recipe_file, "preference.lora=null", "preference.loss.name=orpo", "stages=[sft,collect,preference]"
    )
    out = burnish.run(recipe, out=tmp_path / "full", fork=base)
    assert not (out / "preference" / "model" / "adapter").exists()
    assert (out / "preference" / "model" / "model.safetensors").is_file()


ROUNDS = ("preference.rounds=3", "preference.pairs=extremes", "stages=[sft,collect,preference]")


@pytest.fixture(scope="module")
def three_rounds(recipe_file: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What three rounds leave that nobody kills, with a cache of their own."""
    folder = tmp_path_factory.mktemp("rounds")
    whole = _start(recipe_file, base, folder / "whole", folder / "cache", *ROUNDS)
    output = whole.communicate(timeout=300)[0]
    assert whole.returncode == 0, output
    expected = _outcome(folder / "whole")
    assert sum(name.endswith("metrics.jsonl") for name in expected) == 3
    assert expected["model/model.safetensors"] == expected["round-3/model/model.safetensors"]
    assert expected["round-1/model/model.safetensors"] != expected["round-2/model/model.safetensors"]
    return expected


@pytest.mark.parametrize("seed", [1, 2])
def test_kill_9_between_and_inside_rounds_changes_nothing(
    recipe_file: Path, base: Path, three_rounds: dict[str, object], tmp_path: Path, seed: int
):
    """Killed in every round, with another cache than that of the run that was left alone."""
    expected = three_rounds
    rng, out = random.Random(seed), tmp_path / "killed"
    for number in (1, 2, 3):
        process = _start(recipe_file, base, out, tmp_path / "cache", *ROUNDS)
        watched = out / "preference" / f"round-{number}"
        signs = (
            [watched / "metrics.jsonl", watched / "annotations.sqlite"] if number > 1 else [watched / "metrics.jsonl"]
        )
        sign = rng.choice(signs)
        while process.poll() is None and not (sign.is_file() and sign.stat().st_size > 0):
            time.sleep(0.005)
        time.sleep(rng.uniform(0.0, 0.1))
        assert process.poll() is None, process.communicate()[0]
        process.send_signal(signal.SIGKILL)
        process.communicate()
    last = _start(recipe_file, base, out, tmp_path / "cache", *ROUNDS)
    output = last.communicate(timeout=300)[0]
    assert last.returncode == 0, output
    found = _outcome(out)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []


def test_the_reward_model_can_compare(recipe_file: Path, base: Path, tmp_path: Path):
    changes = ("preference.rounds=2", "preference.online.judge=reward_model", "preference.online.reference=previous")
    with pytest.raises(UserError, match="needs the stage reward"):
        burnish.load(recipe_file, *changes)
    recipe = burnish.load(recipe_file, *changes, "stages=[sft,collect,reward,preference]")
    out = burnish.run(recipe, out=tmp_path / "judged", fork=base)
    second = read_metrics(out / "preference" / "round-2" / "metrics.jsonl")
    assert second[0]["rewards/margins"] == pytest.approx(0.0, abs=1e-5)  # the reference is where the round began


def test_single_judgements_teach_kto_alone(recipe_file: Path, tmp_path: Path):
    rows = [
        {"prompt": f"Add {i} and 1.", "completion": f"{i + 1}." if good else "I will not.", "label": good}
        for i in range(24)
        for good in ((True,) if i % 2 else (False,))
    ]
    source = tmp_path / "judged.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = (f"data.comparisons={source}", "data.prompts=null", "stages=[preference]", "data.demonstrations=null")
    with pytest.raises(UserError, match="has an answer that is preferred to another"):
        burnish.run(burnish.load(recipe_file, *changes), out=tmp_path / "dpo")
    recipe = burnish.load(recipe_file, *changes, "preference.loss.name=kto")
    out = burnish.run(recipe, out=tmp_path / "kto")
    told = read_metrics(out / "preference" / "metrics.jsonl")
    assert told[0]["loss"] == pytest.approx(0.5, abs=1e-4)
    names = {name for row in told for name in row}
    assert {"rewards/chosen", "rewards/rejected"} <= names  # a single step may have answers of one kind only
    assert "rewards/accuracies" not in names  # there are no pairs
