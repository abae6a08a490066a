"""Stages side by side: which may start, that they make the same numbers, how they end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from burnish.config.graph import graph_of
from burnish.config.recipe_file import load_recipe
from burnish.errors import UserError
from burnish.stages.run import run
from burnish.stages.side_by_side import Room, ready

RECIPE = """
name: two
seed: 0
threads: 1
model: {name: tiny, max_length: 512, device: cpu}
data: {demonstrations: builtin:quickstart/demonstrations, prompts: builtin:quickstart/prompts, heldout: 0.2}
stages:
  sft: {epochs: 0.1, lora: {r: 4, alpha: 8}, eval_every: 1000}
  sample: {count: 12, responses: 3, sampling: {max_new_tokens: 8}}
  compare: {by: panel}
  helpful: {kind: reward, lora: {r: 4, alpha: 8}, eval_every: 1000}
  harmless: {kind: reward, lora: {r: 4, alpha: 8}, eval_every: 1000, optimizer: {learning_rate: 2e-4}}
  preferred: {kind: dpo, start: sft, comparisons: compare, lora: {r: 4, alpha: 8}, eval_every: 1000}
  report: {}
"""  # noqa: E501
TRAINED = ("helpful", "harmless", "preferred")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("recipe") / "two.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return load_recipe(path)


def test_what_may_start_rests_on_nothing_that_is_left(recipe):
    graph = graph_of(recipe)
    room = Room(jobs=9, memory=10.0, planned={})
    names = list(graph.nodes)
    assert ready(graph, names, [], room) == ("sft",)
    assert ready(graph, names[1:], ["sft"], room) == ()
    assert ready(graph, names[3:], [], room) == TRAINED
    assert ready(graph, ["preferred", "report"], ["helpful", "harmless"], room) == ("preferred",)
    assert ready(graph, ["report"], ["harmless"], room) == ()
    assert ready(graph, ["report"], [], room) == ("report",)


@pytest.mark.parametrize(
    ("jobs", "memory", "started"),
    [(2, 10.0, TRAINED[:2]), (3, 10.0, TRAINED), (3, 7.0, TRAINED[:2]), (3, 1.0, TRAINED[:1])],
)
def test_jobs_and_memory_bound_what_starts(recipe, jobs, memory, started):
    graph = graph_of(recipe)
    room = Room(jobs, memory, dict.fromkeys(TRAINED, 3.0))
    assert ready(graph, [*TRAINED, "report"], [], room) == started


@pytest.fixture(scope="module")
def compared(recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run up to where its stages part."""
    return run(recipe, out=tmp_path_factory.mktemp("compared") / "run", until="compare")


def metrics(folder: Path, stage: str):
    rows = map(json.loads, (folder / stage / "metrics.jsonl").read_text().splitlines())
    clock = ("seconds", "tokens_per_second", "time")
    return [{k: v for k, v in row.items() if not any(c in k for c in clock)} for row in rows]


def test_numbers_are_those_of_one_after_the_other(recipe, compared, tmp_path):
    heard: list[str] = []
    done: list[str] = []
    alone = run(recipe, out=shutil.copytree(compared, tmp_path / "alone"))
    beside = run(
        recipe,
        out=shutil.copytree(compared, tmp_path / "beside"),
        jobs=3,
        say=heard.append,
        finished=lambda stage, _: done.append(stage),
    )
    for stage in TRAINED:
        assert metrics(alone, stage) == metrics(beside, stage)
    assert set(done[:3]) == set(TRAINED)
    assert done[3:] == ["report"]
    starts = [line for line in heard if ": starting" in line or ": done in" in line]
    assert {line.split(":")[0] for line in starts[:3]} == set(TRAINED)  # all before one ended
    again: list[str] = []
    run(recipe, out=beside, jobs=2, finished=lambda stage, _: again.append(stage))
    assert again == ["report"]


def test_an_error_is_raised_when_those_beside_it_have_ended(compared, tmp_path):
    own = tmp_path / "own.py"
    own.write_text(
        "from burnish.errors import UserError\n"
        "def loss(*, chosen_logprobs, rejected_logprobs, probability):\n"
        "    raise UserError('no such margin', hint='Take another.')\n"
    )
    path = tmp_path / "two.yaml"
    path.write_text(
        RECIPE.replace("kind: dpo,", f"kind: preference, loss: '{own}:loss',"), encoding="utf-8"
    )
    recipe = load_recipe(path)
    heard: list[str] = []
    with pytest.raises(UserError, match="no such margin Take another"):
        run(recipe, out=shutil.copytree(compared, tmp_path / "run"), jobs=3, say=heard.append)
    assert (tmp_path / "run" / "helpful" / "stage.json").is_file()
    assert (tmp_path / "run" / "harmless" / "stage.json").is_file()
    assert not (tmp_path / "run" / "report.html").exists()
    assert any(line.startswith("preferred: ") and "Waiting for" in line for line in heard)


def test_a_process_that_is_killed_is_said_and_the_run_goes_on_later(recipe, compared, tmp_path):
    folder = shutil.copytree(compared, tmp_path / "run")
    heard: list[str] = []

    def kill() -> None:
        for _ in range(600):
            for child in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
                for pid in child.read_text().split():
                    line = Path(f"/proc/{pid}/cmdline").read_bytes()
                    if b"spawn_main" in line and (folder / "helpful").exists():
                        os.kill(int(pid), signal.SIGKILL)
                        return
            time.sleep(0.05)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(UserError, match=r"the process of the stage \w+ was ended by signal 9"):
        run(recipe, out=folder, jobs=2, say=heard.append)
    killer.join()
    run(recipe, out=folder)
    assert (folder / "report.html").is_file()
