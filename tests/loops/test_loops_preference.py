"""Preference optimisation on the tiny model: losses by command, rounds, and kill -9 at random
instants."""

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
data: {demonstrations: DEMOS, prompts: PROMPTS, heldout: 0.3}
stages:
  sft: {epochs: 0.4, batch_size: 8, lora: {r: 4, alpha: 8}, eval_every: 100}
  sample: {count: 16, responses: 3, sampling: {max_new_tokens: 8}}
  compare: {by: panel}
  dpo: DPO
  evaluate: {count: 6, sampling: {max_new_tokens: 8, temperature: 1, top_p: 1}, samples: 2}
  report: {}
"""
DPO = (
    "{batch_size: 2, lora: {r: 4, alpha: 8}, optimizer: {learning_rate: 1e-3}, eval_every: 2,"
    " checkpoint: {every: 2}}"
)
ROUNDS = f"""
  dpo: {DPO.replace("{batch", "{pairs: extremes, batch", 1)}
  rounds:
    repeat: 2
    stages:
      sample: {{count: 6, responses: 3, sampling: {{max_new_tokens: 8}}}}
      compare: {{by: panel}}
      dpo: {DPO.replace("{batch", "{reference: sft, pairs: extremes, batch", 1)}
"""
REWARDED = f"""
  reward: {{batch_size: 4, lora: {{r: 4, alpha: 8}}, eval_every: 100}}
  dpo: {DPO}
  rounds:
    repeat: 1
    stages:
      sample: {{count: 6, responses: 3, sampling: {{max_new_tokens: 8}}}}
      compare: {{by: {{reward: reward}}}}
      dpo: {DPO}
"""


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    demos = [
        {"prompt": f"What is {i} plus {i}?", "completion": f"It is {2 * i}."} for i in range(24)
    ]
    prompts = [
        {
            "id": f"p{i}",
            "prompt": f"What is {i} plus {i + 1}?",
            "split": "heldout" if i % 3 == 0 else "train",
        }
        for i in range(30)
    ]
    for name, rows in (("demos", demos), ("prompts", prompts)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "recipe.yaml"
    text = RECIPE.replace("DEMOS", str(folder / "demos.jsonl")).replace(
        "PROMPTS", str(folder / "prompts.jsonl")
    )
    path.write_text(text.replace("DPO", DPO))
    before = text[: text.index("  dpo: DPO")]
    (folder / "rounds.yaml").write_text(before + ROUNDS)
    (folder / "rewarded.yaml").write_text(before + REWARDED)
    return path


@pytest.fixture(scope="module")
def base(recipe_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SFT, answers and comparisons, which every run here takes over."""
    return burnish.run(
        burnish.load(recipe_file), out=tmp_path_factory.mktemp("runs") / "base", until="compare"
    )


def _start(
    recipe: Path, base: Path, out: Path, cache: Path, *arguments: str
) -> subprocess.Popen[str]:
    fork = ["--fork", str(base)] if not out.exists() else []
    command = [
        sys.executable,
        "-m",
        "burnish",
        "run",
        str(recipe),
        *arguments,
        "--out",
        str(out),
        "--quiet",
        *fork,
    ]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "BURNISH_CACHE": str(cache)},
    )  # fmt: skip


def _outcome(folder: Path) -> dict[str, object]:
    names = (
        "metrics.jsonl",
        "model.safetensors",
        "answers.jsonl",
        "comparisons.jsonl",
        "result.json",
    )
    return {
        str(p.relative_to(folder)): p.read_bytes() for name in names for p in folder.rglob(name)
    }


def test_a_run_leaves_a_policy_called_by_its_loss(recipe_file: Path, base: Path, tmp_path: Path):
    out = burnish.run(burnish.load(recipe_file), out=tmp_path / "dpo", fork=base)
    rows = read_metrics(out / "dpo" / "metrics.jsonl")
    for name in (
        "rewards/chosen",
        "rewards/rejected",
        "rewards/margins",
        "rewards/accuracies",
        "logps/chosen",
        "logps/rejected",
        "falls/chosen",
        "kl_from_reference",
    ):
        assert name in rows[0], name
    assert rows[0]["rewards/margins"] == pytest.approx(0.0, abs=1e-5)
    assert "eval_rewards/accuracies_before" in rows[0]
    result = json.loads((out / "dpo" / "result.json").read_text())
    for name in (
        "accuracy",
        "chosen_falls",
        "both_fall",
        "rise_chosen",
        "margin",
        "longer_wins",
        "gold_accuracy",
    ):
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

    out = burnish.run(burnish.load(recipe_file), out=tmp_path / loss, fork=base, until="compare")
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(
            [
                loss,
                f"{loss}.start=sft",
                f"{loss}.epochs=0.5",
                "--config",
                str(recipe_file),
                "--out",
                str(out),
                "--quiet",
            ]
        )
    assert ended.value.code == 0
    assert capsys.readouterr().out.strip() == str(out / loss)
    assert json.loads((out / loss / "result.json").read_text())["loss"] == loss
    assert (out / loss / "model" / "adapter" / "adapter_config.json").is_file()


def test_every_weight_can_be_trained(recipe_file: Path, base: Path, tmp_path: Path):
    recipe = burnish.load(recipe_file, "dpo.lora=null", "dpo.loss.name=orpo")
    out = burnish.run(recipe, out=tmp_path / "full", fork=base, until="dpo")
    assert not (out / "dpo" / "model" / "adapter").exists()
    assert (out / "dpo" / "model" / "model.safetensors").is_file()


@pytest.fixture(scope="module")
def three_rounds(
    recipe_file: Path, base: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """What a round on the comparisons there are and two on its policies' answers leave that nobody
    kills."""
    folder = tmp_path_factory.mktemp("rounds")
    whole = _start(recipe_file.with_name("rounds.yaml"), base, folder / "whole", folder / "cache")
    output = whole.communicate(timeout=300)[0]
    assert whole.returncode == 0, output
    expected = _outcome(folder / "whole")
    learnt = ("dpo", "rounds.1.dpo", "rounds.2.dpo")
    assert all(f"{stage}/metrics.jsonl" in expected for stage in learnt)
    assert len({expected[f"{stage}/model/model.safetensors"] for stage in learnt}) == 3
    return expected


@pytest.mark.parametrize("seed", [1, 2])
def test_kill_9_between_and_inside_rounds_changes_nothing(
    recipe_file: Path, base: Path, three_rounds: dict[str, bytes], tmp_path: Path, seed: int
):
    """Killed in every round, with another cache than that of the run that was left alone."""
    rounds, expected = recipe_file.with_name("rounds.yaml"), three_rounds
    rng, out = random.Random(seed), tmp_path / "killed"
    signs = [
        ["dpo/metrics.jsonl"],
        [
            "rounds.1.sample/begun.json",
            "rounds.1.compare/annotations.sqlite",
            "rounds.1.dpo/metrics.jsonl",
        ],
        [
            "rounds.2.sample/begun.json",
            "rounds.2.compare/annotations.sqlite",
            "rounds.2.dpo/metrics.jsonl",
        ],
    ]
    for names in signs:
        process = _start(rounds, base, out, tmp_path / "cache")
        sign = out / rng.choice(names)
        while process.poll() is None and not (sign.is_file() and sign.stat().st_size > 0):
            time.sleep(0.005)
        time.sleep(rng.uniform(0.0, 0.1))
        assert process.poll() is None, process.communicate()[0]
        process.send_signal(signal.SIGKILL)
        process.communicate()
    last = _start(rounds, base, out, tmp_path / "cache")
    output = last.communicate(timeout=300)[0]
    assert last.returncode == 0, output
    found = _outcome(out)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []


def test_the_reward_model_can_compare(recipe_file: Path, base: Path, tmp_path: Path):
    rewarded = recipe_file.with_name("rewarded.yaml")
    with pytest.raises(UserError, match="needs a reward model here, and sft makes a policy"):
        burnish.load(rewarded, "rounds.compare.by.reward=sft")
    out = burnish.run(burnish.load(rewarded), out=tmp_path / "judged", fork=base)
    second = read_metrics(out / "rounds.1.dpo" / "metrics.jsonl")
    # the reference is where the round began
    assert second[0]["rewards/margins"] == pytest.approx(0.0, abs=1e-5)
    result = json.loads((out / "rounds.1.compare" / "result.json").read_text())
    assert [judge["by"] for judge in result["judges"]] == ["reward"]
    assert result["judges"][0]["comparisons"] > 0


def test_single_judgements_teach_kto_alone(recipe_file: Path, tmp_path: Path):
    rows = [
        {
            "prompt": f"Add {i} and 1.",
            "completion": f"{i + 1}." if good else "I will not.",
            "label": good,
        }
        for i in range(24)
        for good in ((True,) if i % 2 else (False,))
    ]
    source = tmp_path / "judged.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = ("model.name=tiny", "threads=1", "data.heldout=0.3", f"data.comparisons={source}")
    with pytest.raises(UserError, match="has an answer that is preferred to another"):
        burnish.run(burnish.load(None, *changes, "stages=[dpo]"), out=tmp_path / "dpo")
    recipe = burnish.load(
        None, *changes, "stages=[kto]", "kto.batch_size=2", "kto.lora={r: 4, alpha: 8}"
    )
    out = burnish.run(recipe, out=tmp_path / "kto")
    told = read_metrics(out / "kto" / "metrics.jsonl")
    assert told[0]["loss"] == pytest.approx(0.5, abs=1e-4)
    names = {name for row in told for name in row}
    assert {
        "rewards/chosen",
        "rewards/rejected",
    } <= names  # a single step may have answers of one kind only
    assert "rewards/accuracies" not in names  # there are no pairs
