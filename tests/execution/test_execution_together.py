"""Several trainers with engines of their own beside them, and watched over: the numbers of the run
without, whoever is killed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

import burnish
from burnish.execution.publish import shared_folder
from burnish.runs.metrics import read_metrics

RECIPE = (
    "model.name=tiny", "threads=1", "data.prompts=task:arithmetic?digits=1&train=16&heldout=16",
    "stages=[grpo]",
    "grpo.rewards=[{name: length, free: 2, limit: 8}]", "grpo.prompts_per_step=4",
    "grpo.responses_per_prompt=4",
    "grpo.sampling.max_new_tokens=8", "grpo.lora={r: 4, alpha: 8}", "grpo.steps=4",
    "grpo.checkpoint.every=2",
    "grpo.optimizer.learning_rate=3e-2", "scale.trainers=2",
)  # fmt: skip
TOLD = ("metrics.jsonl", "model/model.safetensors", "samples/step-00004.jsonl")
WATCH = (
    "grpo.watch={judge: {kind: verifier, rewards: [{name: maths}]}, every: 2, prompts: 16,"
    " action: warn}"
)

pytestmark = pytest.mark.scale


def _run(folder: Path, *changes: str) -> Path:
    recipe = burnish.load(None, *RECIPE, *changes)
    return Path(burnish.run(recipe, out=folder, memory_check=False))


def _result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "grpo" / "result.json").read_text())


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trainers without engines."""
    return _run(tmp_path_factory.mktemp("alone") / "run", WATCH)


def _same(folder: Path, other: Path) -> None:
    for name in TOLD:
        assert (folder / "grpo" / name).read_bytes() == (other / "grpo" / name).read_bytes(), name


def test_trainers_with_an_engine_give_the_numbers_of_those_without(alone: Path, tmp_path: Path):
    folder = _run(tmp_path / "run", WATCH, "scale.engines=1")
    _same(folder, alone)
    found = _result(folder)
    assert found["watch"] == _result(alone)["watch"]
    assert (found["engines"]["engines"], found["engines"]["restarted"]) == (1, 0)
    assert 0 <= found["engines"]["largest_gap"] < 1e-4
    assert not (folder / "grpo" / "journal").exists()
    assert _published(folder) == []


def test_a_watch_over_two_trainers_sees_what_it_sees_over_one(alone: Path, tmp_path: Path):
    one = _run(tmp_path / "run", WATCH, "scale.trainers=1")
    mine, theirs = (_result(run)["watch"] for run in (alone, one))
    assert [row["step"] for row in mine["curve"]] == [2, 4]
    for row, there in zip(mine["curve"], theirs["curve"], strict=True):
        assert row == pytest.approx(there, rel=1e-4, abs=1e-5)
    assert (mine["kept_step"], mine["alarms"]) == (theirs["kept_step"], theirs["alarms"])


def test_a_killed_trainer_goes_on_with_its_engine_and_leaves_nobody(alone: Path, tmp_path: Path):
    """The trainer that asks the engine dies in the third step; the group starts again from the
    checkpoint of the second, and takes what was drawn from the journal."""
    out = tmp_path / "run"
    command = [
        sys.executable, "-m", "burnish", "run", *_as_file(tmp_path), "--out", str(out), "--quiet",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    log, until = out / "grpo" / "metrics.jsonl", time.monotonic() + 300
    while not (log.is_file() and len(read_metrics(log)) >= 2):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    everybody = psutil.Process(process.pid).children(recursive=True)
    engines = [one for one in everybody if "burnish.execution.processes" in one.cmdline()]
    assert len(engines) == 1
    os.kill(engines[0].ppid(), signal.SIGKILL)
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    assert "all trainers start again from the last checkpoint" in text
    _same(out, alone)
    _, left = psutil.wait_procs(everybody, timeout=30)
    assert left == []
    assert _published(out) == []


def _published(run: Path) -> list[Path]:
    """The weights of the run's stage that lie in shared memory still, whoever put them there."""
    name = hashlib.sha256(str((run / "grpo").resolve()).encode()).hexdigest()[:16]
    return list(shared_folder("").glob(f"burnish-{name}-*"))


def _as_file(folder: Path) -> list[str]:
    path = folder / "recipe.yaml"
    path.write_text("name: together\n")
    return [str(path), *RECIPE, WATCH, "scale.engines=1"]
