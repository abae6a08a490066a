"""Every recipe that ships, whole, on the tiny model: as its file has it, only smaller; two of them
killed and resumed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import burnish
from burnish.config.graph import graph_of

ROOT = Path(__file__).parents[2]
STACKS = (
    "constitutional", "expert-iteration", "instructgpt", "llama2", "online-dpo", "r1", "r1-zero",
    "tulu3",
)  # fmt: skip
LORA = "{r: 2, alpha: 4}"


def smaller(path: Path) -> list[str]:
    """Overrides with which a recipe runs in seconds on the tiny model; its graph stays as it is."""
    recipe = burnish.load(path)
    changes = [
        "model.name=tiny",
        "model.max_length=600",
        "threads=1",
        "data.limit=24",
        "data.drop=[duplicate, too_long]",
    ]
    for name, settings in recipe.stages.items():
        changes += [f"{name}.{change}" for change in _of(settings)]
    return changes


def _of(settings: Any) -> list[str]:
    passes = ["epochs=0.1", f"lora={LORA}", "batch_size=4"]
    short = ["sampling.max_new_tokens=6", "sampling.quantization=none"]
    online = [
        "steps=2",
        "prompts_per_step=2",
        "responses_per_prompt=2",
        "num_mini_batches=1",
        "epochs=1",
        f"lora={LORA}",
    ]
    critic = ["critic_epochs=1"] if getattr(settings, "critic_epochs", None) is not None else []
    return {
        "sft": passes, "reward": passes, "preference": passes, "compare": [], "merge": [],
        "report": [],
        "sample": ["count=6", "responses=3", *short],
        "revise": ["count=4", *short],
        "select": ["threshold=null"],
        # a random model is never right: the best of its answers is kept all the same
        "online": [*online, *short, *critic],
        "evaluate": ["count=2", "responses_per_prompt=1", "items=2", *short],
    }[settings.kind]  # fmt: skip


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("name", STACKS)
def test_a_whole_stack_runs(name: str, tmp_path: Path):
    path = ROOT / "recipes" / f"{name}.yaml"
    recipe = burnish.load(path, *smaller(path))
    assert list(recipe.stages) == list(burnish.load(path).stages)
    folder = burnish.run(recipe, out=tmp_path / "run")
    for node in graph_of(recipe):
        assert (folder / node.name / "stage.json").is_file(), node.name
        if node.makes in ("Policy", "RewardModel"):
            assert (folder / node.name / "model" / "model.safetensors").is_file(), node.name
    assert (folder / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize("name", ["expert-iteration", "llama2"])
def test_a_stack_that_is_killed_ends_with_the_same_bytes(name: str, tmp_path: Path):
    path = ROOT / "recipes" / f"{name}.yaml"
    whole = burnish.run(burnish.load(path, *smaller(path)), out=tmp_path / "whole")
    command = [
        sys.executable,
        "-m",
        "burnish",
        "run",
        str(path),
        *smaller(path),
        "--out",
        str(tmp_path / "killed"),
        "-q",
    ]
    killed = 0
    for wanted in (
        "rounds.1.select",
        "rounds.2.sample",
    ):  # each killed as soon as this stage has begun
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while (
                process.poll() is None
                and not (tmp_path / "killed" / wanted / "begun.json").exists()
            ):
                time.sleep(0.02)
        finally:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                killed += 1
            process.wait()
    assert killed == 2
    folder = burnish.run(burnish.load(path, *smaller(path)), out=tmp_path / "killed")
    for node in graph_of(burnish.load(path, *smaller(path))):
        for kept in (
            "model/model.safetensors",
            "answers.jsonl",
            "comparisons.jsonl",
            "demonstrations.jsonl",
        ):
            if (whole / node.name / kept).exists():
                assert (folder / node.name / kept).read_bytes() == (
                    whole / node.name / kept
                ).read_bytes(), (node, kept)
    results = [
        json.loads((place / "evaluate" / "result.json").read_text()) for place in (whole, folder)
    ]
    assert results[0] == results[1]
    shutil.rmtree(tmp_path / "killed")


LONGER = (
    "model.name=tiny", "threads=1", "data.demonstrations=builtin:quickstart/demonstrations",
    "data.limit=32",
    "data.prompts=task:arithmetic?digits=1&train=16&heldout=4", "stages=[sft, grpo]",
    "sft.epochs=1", f"sft.lora={LORA}",
    "grpo.rewards=[{name: length, free: 2, limit: 8}]", "grpo.prompts_per_step=2",
    "grpo.responses_per_prompt=2",
    "grpo.sampling.max_new_tokens=6", f"grpo.lora={LORA}", "grpo.optimizer.warmup=0",
)  # fmt: skip


def test_more_steps_go_on_from_the_last_checkpoint(tmp_path: Path):
    whole = burnish.run(burnish.load(None, *LONGER, "grpo.steps=4"), out=tmp_path / "whole")
    folder = burnish.run(burnish.load(None, *LONGER, "grpo.steps=2"), out=tmp_path / "run")
    lines: list[str] = []
    burnish.run(burnish.load(None, *LONGER, "grpo.steps=4"), out=folder, say=lines.append)
    assert "sft: done already" in lines
    for kept in ("model/model.safetensors", "metrics.jsonl"):
        assert (folder / "grpo" / kept).read_bytes() == (whole / "grpo" / kept).read_bytes()
    record = json.loads((folder / "grpo" / "stage.json").read_text())
    assert any("steps" in change for change in record["accepted"])


def test_a_rate_that_followed_the_length_asks_for_extend(tmp_path: Path):
    only = ("stages=[sft]",)
    base = [change for change in LONGER if not change.startswith(("grpo", "stages"))]
    folder = burnish.run(burnish.load(None, *base, *only), out=tmp_path / "run")
    longer = burnish.load(None, *base, *only, "sft.epochs=3")
    with pytest.raises(
        burnish.UserError, match=r"its learning rate followed the former length.*--extend"
    ):
        burnish.run(longer, out=folder)
    burnish.run(longer, out=folder, extend=True)
    rows = [
        json.loads(line) for line in (folder / "sft" / "metrics.jsonl").read_text().splitlines()
    ]
    assert len(rows) == json.loads((folder / "sft" / "result.json").read_text())["steps"] == 6
    with pytest.raises(burnish.UserError, match="was run with other settings"):
        burnish.run(burnish.load(None, *base, *only, "sft.epochs=2"), out=folder)


def test_what_refuses_a_later_stage_leaves_the_longer_one_as_it_was(tmp_path: Path):
    base = [change for change in LONGER if not change.startswith(("grpo", "stages"))]
    settings = (
        "sft.optimizer={schedule: constant, warmup: 0}", "stages=[sft, sample]", "sample.count=2",
        "sample.responses=1",
        "sample.sampling.max_new_tokens=2",
    )  # fmt: skip
    folder = burnish.run(burnish.load(None, *base, *settings), out=tmp_path / "run")
    before = {path: path.read_bytes() for path in (folder / "sft").rglob("*") if path.is_file()}
    with pytest.raises(burnish.UserError, match="the stage sample was run with other settings"):
        burnish.run(burnish.load(None, *base, *settings, "sft.epochs=2"), out=folder)
    assert {
        path: path.read_bytes() for path in (folder / "sft").rglob("*") if path.is_file()
    } == before
