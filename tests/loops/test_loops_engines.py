"""Online stages whose answers engines in processes of their own write: the numbers of the run
without them, whoever is killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import burnish
from burnish.errors import UserError
from burnish.execution.orders import Event, Generate, Order, Started
from burnish.execution.processes import ProcessLine
from burnish.execution.publish import shared_folder
from burnish.execution.server import EngineServer, EngineSpec
from burnish.stages import engines as stage_engines
from burnish.stages import online as stage_online

RECIPE = (
    "model.name=tiny", "threads=1", "data.prompts=task:arithmetic?digits=1&train=16&heldout=4",
    "stages=[grpo]",
    "grpo.rewards=[{name: length, free: 2, limit: 8}]", "grpo.prompts_per_step=4",
    "grpo.responses_per_prompt=4",
    "grpo.sampling.max_new_tokens=8", "grpo.lora={r: 4, alpha: 8}", "grpo.steps=5",
    "grpo.checkpoint.every=2",
    "grpo.optimizer.learning_rate=3e-2",
)  # fmt: skip
TOLD = ("metrics.jsonl", "model/model.safetensors", "samples/step-00005.jsonl")


class InProcess:
    """A line to an engine in this process."""

    def __init__(self, spec: EngineSpec) -> None:
        self._server = EngineServer(spec)

    def started(self) -> Event:
        return Started()

    def ask(self, order: Order) -> Event:
        return self._server.answer(order)

    def end(self) -> None:
        pass

    def last_words(self, error: Exception) -> str:
        return repr(error)


def _run(folder: Path, *changes: str, say: Callable[[str], None] = lambda _: None) -> Path:
    recipe = burnish.load(None, *RECIPE, *changes)
    return burnish.run(recipe, out=folder, say=say, memory_check=False)


def _result(folder: Path) -> dict:
    return json.loads((folder / "grpo" / "result.json").read_text())


def _same(folder: Path, other: Path) -> None:
    for name in TOLD:
        assert (folder / "grpo" / name).read_bytes() == (other / "grpo" / name).read_bytes(), name
    left = {"engines", "dropped"}
    mine, theirs = _result(folder), _result(other)
    assert {k: v for k, v in mine.items() if k not in left} == {
        k: v for k, v in theirs.items() if k not in left
    }


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run without engines."""
    return _run(tmp_path_factory.mktemp("alone") / "run")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines in this process, which start at once."""
    monkeypatch.setattr(stage_engines, "process_fleet", lambda spec: lambda _: InProcess(spec))


@pytest.mark.usefixtures("here")
def test_engines_give_the_numbers_of_the_run_without_them(alone: Path, tmp_path: Path):
    folder = _run(tmp_path / "run", "scale.engines=2")
    _same(folder, alone)
    engines = _result(folder)["engines"]
    assert (engines["engines"], engines["restarted"], engines["resent"]) == (2, 0, 0)
    assert 0 < engines["largest_gap"] < 1e-4
    assert not (folder / "grpo" / "journal").exists()
    assert not list(shared_folder("").glob(f"burnish-*-{os.getpid()}"))


@pytest.mark.usefixtures("here")
def test_what_was_journalled_is_not_drawn_again(
    alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It stops in the fourth step, which the checkpoint of the second does not cover."""
    keep = stage_online._keep_samples

    def stop(folder: Path, step: int, *rest: object) -> None:
        keep(folder, step, *rest)
        if step == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage_online, "_keep_samples", stop)
        with pytest.raises(KeyboardInterrupt):
            _run(tmp_path / "run", "scale.engines=1")
    asked: list[int] = []
    answer = EngineServer.answer

    def counted(server: EngineServer, order: Order) -> Event:
        if isinstance(order, Generate):
            asked.append(order.number)
        return answer(server, order)

    monkeypatch.setattr(EngineServer, "answer", counted)
    lines: list[str] = []
    folder = _run(tmp_path / "run", "scale.engines=1", say=lines.append)
    _same(folder, alone)
    assert "grpo: 32 rollouts were taken from the journal, not drawn anew" in lines
    assert len(asked) == 1  # the fifth step


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (["grpo.sampling.quantization=auto"], r"grpo\.sampling\.quantization auto"),
        (["scale.engines=2000"], "from 0 to 1024"),
        (["scale.engine=vllm"], "native"),
        (["scale.stop_at_gap=0"], "stop_at_gap"),
        (["stages=[sft]", "data.demonstrations=builtin:quickstart/demonstrations"], "no stage"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path: Path, changes: list[str], problem: str):
    only = "sft" in str(changes)
    base = [line for line in RECIPE if not (only and line.startswith(("stages", "grpo")))]
    with pytest.raises(UserError, match=problem):
        burnish.run(burnish.load(None, *base, "scale.engines=1", *changes), out=tmp_path / "run")


@pytest.mark.usefixtures("here")
def test_a_gap_above_the_limit_stops_the_run(tmp_path: Path):
    with pytest.raises(UserError, match="engine 1 does not sample"):
        _run(tmp_path / "run", "scale.engines=1", "scale.stop_at_gap=1e-12")


# --- in processes of their own ---


@pytest.mark.scale
def test_engines_that_are_killed_or_stopped_while_they_write_change_nothing(
    alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[int] = []

    class Victim(ProcessLine):
        def ask(self, order: Order) -> Event:
            if isinstance(order, Generate):
                asked.append(self.pid)
                if len(asked) in (2, 5):  # one dies, one hangs until its deadline
                    how = signal.SIGKILL if len(asked) == 2 else signal.SIGSTOP
                    os.kill(self.pid, how)
            return super().ask(order)

    monkeypatch.setattr(stage_engines, "process_fleet", lambda spec: lambda _: Victim(spec))
    lines: list[str] = []
    folder = _run(
        tmp_path / "run", "scale.engines=2", "scale.deadline.generate=5", say=lines.append
    )
    _same(folder, alone)
    engines = _result(folder)["engines"]
    assert engines["restarted"] == 2
    assert engines["resent"] > 0
    assert any("is gone: its process was ended by signal 9" in line for line in lines)
    assert any("has not answered within scale.deadline.generate (5 s)" in line for line in lines)
    time.sleep(0.5)
    assert not [pid for pid in set(asked) if psutil.pid_exists(pid) and _alive(pid)]


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _start(folder: Path) -> subprocess.Popen[str]:
    changes = (*RECIPE, "scale.engines=1")
    code = (
        "import sys, burnish\n"
        "recipe = burnish.load(None, *sys.argv[2:])\n"
        "burnish.run(recipe, out=sys.argv[1], memory_check=False)\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder), *changes],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.scale
def test_a_trainer_that_is_killed_goes_on_bit_for_bit_and_leaves_nobody_behind(
    alone: Path, tmp_path: Path
):
    folder, dice = tmp_path / "run", random.Random(0)
    engines: list[psutil.Process] = []
    for _ in range(3):
        process = _start(folder)
        owner, before = psutil.Process(process.pid), _progress(folder)
        while process.poll() is None and (_progress(folder) <= before or not owner.children()):
            time.sleep(0.02)
        time.sleep(dice.random() * 0.3)
        if process.poll() is None:
            engines += owner.children()
        process.send_signal(signal.SIGKILL)
        process.communicate()
    gone, alive = psutil.wait_procs(engines, timeout=10)
    assert gone
    assert not alive
    last = _start(folder)
    output = last.communicate(timeout=600)[0]
    assert last.returncode == 0, output
    _same(folder, alone)
    assert not list(shared_folder("").glob(f"burnish-*-{last.pid}"))


def _progress(folder: Path) -> int:
    log = folder / "grpo" / stage_engines.LOG
    return len(log.read_text().splitlines()) if log.is_file() else 0
