"""A watch over online training: a run that really hacks is stopped and its best policy kept, a
healthy one is left alone bit for bit, and a killed one decides the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

import burnish
from burnish.errors import UserError
from burnish.runs.metrics import read_metrics
from burnish.trainers.learner import Learner

# The reward is the share of tokens below 64. Gold says the same up to .45, and falls beyond.
CODE = """
def share(ids):
    return sum(t < 64 for t in ids) / len(ids)

def low(completion_ids, **_):
    return [share(ids) for ids in completion_ids]

def gold(completion_ids, **_):
    return [share(ids) - 2.5 * max(0.0, share(ids) - 0.45) for ids in completion_ids]

def half(completion_ids, **_):
    return [share(ids[::2]) for ids in completion_ids]

def length(completion_ids, **_):
    return [len(ids) / 8 for ids in completion_ids]
"""
RECIPE = """
name: watched
threads: 1
model: {name: tiny, max_length: 256}
data: {demonstrations: null, prompts: "task:arithmetic?digits=2&train=30&heldout=32"}
stages:
  grpo:
    rewards: [{name: python, function: "FOLDER/paid.py:low", label: low}]
    algorithm: {beta: 0.0}
    share_backbone: false
    steps: 20
    prompts_per_step: 2
    responses_per_prompt: 8
    sampling: {max_new_tokens: 4}
    optimizer: {learning_rate: 5e-3, schedule: constant, warmup: 0.0}
    checkpoint: {every: 3}
    watch:
      every: 2
      prompts: 64
      judge: {kind: verifier, rewards: [{name: python, function: "FOLDER/paid.py:gold", label: gold}]}
"""  # noqa: E501
HEALTHY = "grpo.watch.judge.rewards.0.function={folder}/paid.py:half"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("watch")
    (place / "paid.py").write_text(CODE)
    (place / "recipe.yaml").write_text(RECIPE.replace("FOLDER", str(place)))
    return place


@pytest.fixture(scope="module")
def hacked(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The run of a reward that can be hacked, watched by gold, and what was said."""
    said: list[str] = []
    recipe = burnish.load(folder / "recipe.yaml")
    return burnish.run(recipe, out=tmp_path_factory.mktemp("hacked") / "run", say=said.append), said


def _result(run: Path) -> dict[str, Any]:
    return json.loads((run / "grpo" / "result.json").read_text())


def _rows(run: Path) -> list[dict[str, Any]]:
    return read_metrics(run / "grpo" / "metrics.jsonl")


def test_hacking_is_stopped_and_the_best_policy_is_what_the_stage_makes(
    hacked: tuple[Path, list[str]],
):
    run, said = hacked
    found, rows = _result(run)["watch"], _rows(run)
    stopped = found["stopped_at"]
    assert stopped is not None
    assert stopped < 20
    assert len(rows) == stopped == _result(run)["steps"]
    judged = {row["step"]: row["watch/judge"] for row in rows if "watch/judge" in row}
    assert list(judged) == list(range(2, stopped + 1, 2))
    best = max(judged, key=lambda step: judged[step])
    assert found["kept_step"] == found["best_step"] == best < stopped
    assert found["best_judge"] == judged[best] > judged[stopped]
    # caught while gold was still clearly above where it started
    assert judged[stopped] > 0.0
    assert [row["step"] for row in rows if row.get("watch/alarm")] == [stopped]
    [line] = [line for line in said if "stopped by its watch" in line]
    assert line.startswith(
        f"grpo: stopped by its watch after step {stopped} of 20: the reward rises and gold gains "
    )
    assert line.endswith(f"; its policy is that after step {best}")


def test_a_run_killed_at_any_instant_decides_the_same(
    hacked: tuple[Path, list[str]], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Interrupted in updates before, after and between checkpoints and checks, and after the
    decision."""
    whole, _ = hacked
    recipe, out, update = burnish.load(folder / "recipe.yaml"), tmp_path / "run", Learner.update
    for left in (2, 5, 4):
        with monkeypatch.context() as patch:
            patch.setattr(Learner, "update", _dying(update, left))
            with pytest.raises(KeyboardInterrupt):
                burnish.run(recipe, out=out)
    with monkeypatch.context() as patch:
        patch.setattr("burnish.stages.online.save_policy", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            burnish.run(recipe, out=out)
    burnish.run(recipe, out=out)
    assert _result(out)["watch"] == _result(whole)["watch"]
    metrics, weights = "grpo/metrics.jsonl", "grpo/model/model.safetensors"
    assert (out / metrics).read_bytes() == (whole / metrics).read_bytes()
    assert (out / weights).read_bytes() == (whole / weights).read_bytes()


def _dying(update: Callable[..., Any], left: int) -> Callable[..., Any]:
    count = 0

    def dying(*args: Any) -> Any:
        nonlocal count
        count += 1
        return _interrupted() if count == left else update(*args)

    return dying


def _interrupted(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_a_watch_that_takes_no_action_changes_no_number_of_the_training(
    folder: Path, tmp_path: Path
):
    settings = (HEALTHY.format(folder=folder), "grpo.watch.keep=last", "grpo.steps=4")
    watched = burnish.run(burnish.load(folder / "recipe.yaml", *settings), out=tmp_path / "one")
    plain = burnish.run(
        burnish.load(folder / "recipe.yaml", "grpo.watch=null", "grpo.steps=4"),
        out=tmp_path / "two",
    )
    found = _result(watched)["watch"]
    assert (found["stopped_at"], found["alarms"], found["kept_step"]) == (None, [], 4)
    bare = [{k: v for k, v in row.items() if not k.startswith("watch/")} for row in _rows(watched)]
    assert bare == _rows(plain)
    models = [load_file(run / "grpo/model/model.safetensors") for run in (watched, plain)]
    assert all(models[0][name].equal(models[1][name]) for name in models[1])


def test_rolling_back_gives_the_best_weights_again_and_goes_on(folder: Path, tmp_path: Path):
    recipe = burnish.load(
        folder / "recipe.yaml",
        "grpo.watch.action=roll_back",
        "grpo.watch.slope=1.0",
        "grpo.steps=8",
        "grpo.algorithm={kl: loss, beta: 0.01}",
    )
    said: list[str] = []
    run = burnish.run(recipe, out=tmp_path / "run", say=said.append)
    found, rows = _result(run)["watch"], _rows(run)
    assert (found["stopped_at"], len(rows)) == (None, 8)
    alarms = [alarm["step"] for alarm in found["alarms"]]
    assert alarms
    # β doubles after each that another step follows
    assert rows[-1]["beta"] == pytest.approx(0.01 * 2.0 ** sum(step < 8 for step in alarms))
    assert any("back to the weights of step" in line and "multiplied by 2" in line for line in said)
    assert found["kept_step"] == found["best_step"]


def test_what_a_watch_cannot_be_is_said_before_anything_runs(folder: Path, tmp_path: Path):
    def refused(*settings: str, match: str) -> None:
        with pytest.raises(UserError, match=match):
            burnish.run(burnish.load(folder / "recipe.yaml", *settings), out=tmp_path / "run")
        assert not (tmp_path / "run" / "grpo").exists()

    own = f"grpo.watch.judge.rewards=[{{name: python, function: {folder}/paid.py:low, label: low}}]"
    refused(own, match="the very rewards that grpo is trained on")
    refused("grpo.watch.action=raise_beta", match="this algorithm has no penalty")
    refused("grpo.watch.judge={kind: reward, model: FOLDER}", match="there is no stage")
    refused(f"grpo.watch.judge={{kind: reward, model: {folder}/}}", match="holds no reward model")
    (folder / "prompts.jsonl").write_text('{"prompt": "One?"}\n{"prompt": "Two?"}\n')
    refused("data.heldout=0", f"data.prompts={folder}/prompts.jsonl", match="none are held out")
    for bad in (
        "{kind: people}",
        "{kind: verifier, rewards: []}",
        "{kind: verifier, rewards: [{name: model}]}",
    ):
        with pytest.raises(UserError):
            burnish.load(folder / "recipe.yaml", f"grpo.watch.judge={bad}")
