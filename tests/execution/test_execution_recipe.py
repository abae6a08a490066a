"""A whole recipe with two trainers: the metrics of one process, through every kind of stage that
trains, and whatever is killed on the way."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

import burnish
from burnish.runs.metrics import read_metrics

RECIPE = Path(__file__).parents[2] / "recipes" / "tiny.yaml"
DPO = "dpo={start: sft, epochs: 1, batch_size: 8, lora: {r: 4, alpha: 8}}"
GRPO = (
    "grpo={start: sft, prompts: 'task:arithmetic?digits=1&train=20&heldout=5', steps: 2,"
    " prompts_per_step: 3, responses_per_prompt: 4, lora: {r: 4, alpha: 8}, sampling:"
    " {max_new_tokens: 8}, rewards: [{name: model, model: reward}, {name: length, free: 2, limit:"
    " 9}]}"
)
CHANGES = [
    "threads=1", "model.date=2026-01-31", "ppo.steps=2", "sft.epochs=0.3", "sft.batch_size=8",
    f"stages.{DPO}", f"stages.{GRPO}",
    "sft.optimizer.micro_batch_tokens=400",
]  # fmt: skip
TRAINED = ("sft", "reward", "ppo", "dpo", "grpo")

pytestmark = pytest.mark.scale


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same recipe with one trainer and with two."""
    folder = tmp_path_factory.mktemp("recipes")
    one = burnish.run(burnish.load(RECIPE, *CHANGES), out=folder / "one")
    two = burnish.run(burnish.load(RECIPE, *CHANGES, "scale.trainers=2"), out=folder / "two")
    return Path(one), Path(two)


@pytest.mark.parametrize("stage", TRAINED)
def test_two_trainers_leave_the_metrics_of_one(runs: tuple[Path, Path], stage: str):
    one, two = (read_metrics(run / stage / "metrics.jsonl") for run in runs)
    assert len(one) == len(two) > 0
    for row, there in zip(one, two, strict=True):
        assert row.keys() == there.keys()
        for name, value in row.items():
            assert math.isclose(value, there[name], rel_tol=1e-4, abs_tol=1e-5), name


def test_the_folder_looks_as_it_does_with_one(runs: tuple[Path, Path]):
    def names(run: Path) -> set[str]:
        files = (path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file())
        return {name for name in files if "/shard-" not in name}

    one, two = runs
    assert names(one) == names(two)
    assert json.loads((two / "manifest.json").read_text())["trainers"] == 2
    curve = json.loads((two / "sft" / "result.json").read_text())
    assert curve["steps"] == json.loads((one / "sft" / "result.json").read_text())["steps"]


def _start(out: Path) -> subprocess.Popen[bytes]:
    command = [
        sys.executable, "-m", "burnish", "run", str(RECIPE), *CHANGES, "scale.trainers=2", "--out",
        str(out), "--until", "sft", "--quiet",
    ]  # fmt: skip
    # a shell's background job ignores Ctrl-C, and so would what it starts
    listens = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, start_new_session=True, preexec_fn=listens)


def _trainers(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The processes under it that use the CPU for a model: all of its descendants."""
    return psutil.Process(process.pid).children(recursive=True)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_command_leaves_nobody_and_goes_on(
    runs: tuple[Path, Path], tmp_path: Path, how: signal.Signals
):
    process, log = _start(tmp_path / "run"), tmp_path / "run" / "sft" / "metrics.jsonl"
    until = time.monotonic() + 300
    while not (log.is_file() and read_metrics(log)):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    below = _trainers(process)
    os.kill(process.pid, how)
    code = process.wait(timeout=60)
    assert code == (130 if how == signal.SIGINT else -signal.SIGKILL)
    assert len(below) >= 2
    _, left = psutil.wait_procs(below, timeout=30)
    assert left == []
    assert _start(tmp_path / "run").wait(timeout=300) == 0
    assert log.read_bytes() == (runs[1] / "sft" / "metrics.jsonl").read_bytes()
