"""Runs killed at random times, again and again, until they are done: every file as that of a run
that was left alone."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

TINY = Path(__file__).parents[2] / "recipes" / "tiny.yaml"
LORA = {"r": 4, "alpha": 8, "dropout": 0.1}
DPO = {"lora": LORA, "checkpoint": {"every": 2}}
GRPO = {
    "prompts": "task:arithmetic?digits=1&train=40&heldout=10",
    "rewards": [{"name": "maths"}, {"name": "length", "free": 2, "limit": 9, "weight": 0.3}],
    "steps": 8, "prompts_per_step": 4, "responses_per_prompt": 4, "lora": LORA,
    "sampling": {"max_new_tokens": 12}, "checkpoint": {"every": 2},
}  # fmt: skip
RECIPES = {
    "ppo": ("sft", "sample", "compare", "reward", "ppo", "evaluate", "report"),
    "dpo": ("sft", "sample", "compare", "dpo", "evaluate", "report"),
    "grpo": ("grpo", "evaluate", "report"),
}
ALWAYS = ("threads=1", "model.date=2026-01-31")
SERIES = int(os.environ.get("BURNISH_KILLS", "2"))
MOST_KILLS = 4

BELOW = "base_model_name_or_path"
TIMES = (".lock", "timing.jsonl", "begun.json", "stage.json", "report.html", "annotations.sqlite")
"""Files in which a time or a process stands; what was labelled shows in the result beside it."""


def _recipe(name: str, place: Path) -> Path:
    """The recipe tiny.yaml with the stages of this name."""
    plain = yaml.safe_load(TINY.read_text())
    known = {**plain["stages"], "dpo": DPO, "grpo": GRPO}
    for stage in ("sft", "reward", "ppo"):
        known[stage] = {**known[stage], "lora": LORA}
    plain["stages"] = {stage: known[stage] for stage in RECIPES[name]}
    place.write_text(yaml.safe_dump(plain, sort_keys=False))
    return place


def _start(name: str, out: Path) -> subprocess.Popen[bytes]:
    recipe = _recipe(name, out.with_name(f"{name}.yaml"))
    command = [
        sys.executable,
        "-m",
        "burnish",
        "run",
        str(recipe),
        *ALWAYS,
        "--out",
        str(out),
        "--quiet",
    ]
    with out.with_name(f"{out.name}.txt").open("ab") as output:
        return subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )


def _finish(process: subprocess.Popen[bytes], out: Path) -> None:
    assert process.wait(timeout=600) == 0, out.with_name(f"{out.name}.txt").read_text()[-2000:]


def _contents(run: Path) -> dict[str, object]:
    """Every file of a run by its name, and its bytes but for what times stand in; checkpoints hold
    random states that nothing reads."""
    found: dict[str, object] = {}
    for path in sorted(path for path in run.rglob("*") if path.is_file()):
        name = path.relative_to(run).as_posix()
        unlike = path.name in TIMES or name == "report/result.json" or "/checkpoints/" in name
        found[name] = None if unlike else path.read_bytes()
        if path.name == "adapter_config.json":  # names the folder of the model below
            found[name] = {
                key: value for key, value in json.loads(path.read_text()).items() if key != BELOW
            }
    return found


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], tuple[dict[str, object], float]]:
    """What a run that nobody kills leaves, and the seconds it takes."""
    done: dict[str, tuple[dict[str, object], float]] = {}

    def run(name: str) -> tuple[dict[str, object], float]:
        if name not in done:
            out, began = tmp_path_factory.mktemp("whole") / name, time.monotonic()
            _finish(_start(name, out), out)
            done[name] = _contents(out), time.monotonic() - began
        return done[name]

    return run


def _kill_until_done(name: str, out: Path, rng: random.Random, seconds: float) -> list[float]:
    """After how many seconds each process of the series was killed; the last one was not."""
    kills: list[float] = []
    while len(kills) < MOST_KILLS:
        process, after = _start(name, out), rng.uniform(0.0, 0.7) * seconds
        try:
            process.wait(timeout=after)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills.append(round(after, 3))
            continue
        _finish(process, out)
        if kills:
            return kills
        shutil.rmtree(out)  # nothing was killed: the machine is faster than it was
        seconds /= 2
    _finish(_start(name, out), out)
    return kills


@pytest.mark.slow
@pytest.mark.skipif(
    "BURNISH_SLOW" not in os.environ,
    reason="a minute a series: set BURNISH_SLOW=1, BURNISH_KILLS=7",
)
@pytest.mark.parametrize("seed", range(SERIES))
@pytest.mark.parametrize("name", list(RECIPES))
def test_kill_9_at_random_times_until_done_changes_nothing(
    name: str,
    seed: int,
    undisturbed: Callable[[str], tuple[dict[str, object], float]],
    tmp_path: Path,
):
    expected, seconds = undisturbed(name)
    out = tmp_path / name  # the same name as the undisturbed run's
    kills = _kill_until_done(name, out, random.Random(f"{name} {seed}"), seconds)
    print(f"\n{name}, seed {seed}: killed after {kills} s")
    found = _contents(out)
    assert sorted(found) == sorted(expected)
    assert [file for file in expected if found[file] != expected[file]] == []


OTHER_DAY = """
import datetime, os

SHIFT = datetime.timedelta(days=int(os.environ["BURNISH_TEST_DAYS"]))

class Kind(type):
    def __instancecheck__(cls, value):
        return isinstance(value, cls.__base__)

class Date(datetime.date, metaclass=Kind):
    @classmethod
    def today(cls):
        return cls.__base__.today() + SHIFT

class Datetime(datetime.datetime, metaclass=Kind):
    @classmethod
    def now(cls, tz=None):
        return cls.__base__.now(tz) + SHIFT

datetime.date, datetime.datetime = Date, Datetime
"""
DYING = """
import os, signal, sys
from burnish.trainers.learner import Learner

update, left = Learner.update, int(sys.argv.pop(1))

def dying(learner, terms):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return update(learner, terms)

Learner.update = dying
from burnish.cli.main import main
main()
"""
DATED = (
    "{{- 'Today: ' + strftime_now('%d %b %Y') + '\\n' -}}{%- for message in messages -%}{{-"
    " message['role'] + ': ' + message['content'] + '<|im_end|>' + '\\n' -}}{%- endfor -%}{%- if"
    " add_generation_prompt -%}{{- 'assistant: ' -}}{%- endif -%}"
)
DAYS = """
name: days
threads: 1
model: {name: tiny, max_length: 256, chat_template: TEMPLATE}
data: {demonstrations: DEMOS, prompts: "task:arithmetic?digits=1&train=20&heldout=10"}
stages:
  sft: {epochs: 2, batch_size: 8, lora: {r: 2, alpha: 4}, optimizer: {learning_rate: 1e-2}, checkpoint: {every: 2}}
  sample: {count: 6, responses: 2, sampling: {max_new_tokens: 4}}
  compare: {}
  dpo: {batch_size: 4, lora: {r: 2, alpha: 4}, checkpoint: {every: 2}}
  grpo: {start: sft, rewards: [{name: maths}, {name: length, free: 2, limit: 9, weight: 0.3}], steps: 3, prompts_per_step: 2,
         responses_per_prompt: 2, lora: {r: 2, alpha: 4}, sampling: {max_new_tokens: 4}, checkpoint: {every: 1}}
  evaluate: {count: 3, sampling: {max_new_tokens: 4}, samples: 1}
  report: {}
"""  # noqa: E501


def test_a_run_resumed_on_other_days_prints_the_day_it_was_begun(tmp_path: Path):
    """The clock stands a day later in each process, and the chat template prints the date in every
    conversation."""
    rows = [
        {"prompt": f"What is {i} plus {i}?", "completion": f"It is {2 * i}."} for i in range(20)
    ]
    files = {
        "demos.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        "dated.jinja": DATED,
        "sitecustomize.py": OTHER_DAY,
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    recipe = DAYS.replace("DEMOS", str(tmp_path / "demos.jsonl")).replace(
        "TEMPLATE", str(tmp_path / "dated.jinja")
    )
    (tmp_path / "recipe.yaml").write_text(recipe)

    def run(out: str, *settings: str, day: int, dies_at_update: int = 0) -> dict[str, object]:
        command = [
            "-c",
            DYING,
            str(dies_at_update),
            "run",
            str(tmp_path / "recipe.yaml"),
            "--out",
            str(tmp_path / out),
            "--quiet",
            *settings,
        ]
        paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
        done = subprocess.run(
            [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths,
                "BURNISH_TEST_DAYS": str(day)},
        )  # fmt: skip
        assert done.returncode == (-signal.SIGKILL if dies_at_update else 0), done.stdout
        return _contents(tmp_path / out)

    expected = run("whole/run", day=0)
    for day, update in enumerate((3, 4, 2)):  # in sft, in dpo and in grpo
        run("killed/run", day=day, dies_at_update=update)
    found = run("killed/run", day=3)
    assert sorted(found) == sorted(expected)
    assert [file for file in expected if found[file] != expected[file]] == []
    other = run("other/run", "--until", "sft", day=3)
    assert other["sft/model/model.safetensors"] != expected["sft/model/model.safetensors"]
