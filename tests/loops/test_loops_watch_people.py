"""People who watch over online training: they are asked as it goes, heard when they have said it,
and what was heard once is heard again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import burnish
from burnish.annotation.records import Answer
from burnish.annotation.snapshot import add_answers, take_snapshot
from burnish.annotation.store import Store
from burnish.errors import UserError
from burnish.runs.metrics import read_metrics
from burnish.stages.people import WaitingForPeople
from burnish.stages.watch import PolicyWatch
from burnish.stages.watch_people import _known
from burnish.trainers.learner import Learner

# The reward is the share of early characters. People say the same up to .5, and fall off beyond.
CODE = """
def low(completions, **_):
    return [sum(c < "n" for c in text) / max(1, len(text)) for text in completions]
"""
RECIPE = """
name: watched
threads: 1
model: {name: tiny, max_length: 256}
data: {demonstrations: null, prompts: "task:arithmetic?digits=2&train=30&heldout=16"}
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
      prompts: 16
      judge: {kind: people, store: FOLDER/labels.sqlite, project: watched}
"""


def _liked(text: str) -> float:
    share = sum(c < "n" for c in text) / max(1, len(text))
    return share - 3.0 * max(0.0, share - 0.5)


def _compare(folder: Path) -> int:
    """A person compares everything that waits; how much that was."""
    store = Store(folder / "labels.sqlite")
    try:
        snapshot = take_snapshot(store, "watched")
        store.add_annotator("ann", kind="person")
        answers = []
        for entry in snapshot.entries:
            first, second = (_liked(text) for text in entry.candidates)
            strength = (first > second) - (first < second)
            ranks = (1 + (strength < 0), 1 + (strength > 0))
            answers.append(
                (entry.item_id, Answer("pairwise", (0, 1), strength=strength, ranks=ranks))
            )
        return add_answers(store, "watched", "ann", answers)
    finally:
        store.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "paid.py").write_text(CODE)
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("FOLDER", str(tmp_path)))
    return tmp_path


def _result(run: Path | burnish.Result) -> dict[str, Any]:
    return json.loads((run / "grpo" / "result.json").read_text())


def _with_people(
    monkeypatch: pytest.MonkeyPatch, folder: Path, *, at: Callable[[int], bool]
) -> None:
    """People who do their work just before the checks at which `at` is true."""
    look = PolicyWatch.__call__

    def looking(self: PolicyWatch, step: int) -> Any:
        if step and at(step):
            _compare(folder)
        return look(self, step)

    monkeypatch.setattr(PolicyWatch, "__call__", looking)


def test_people_are_heard_a_check_later_and_end_a_run_that_hacks(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    _with_people(monkeypatch, folder, at=lambda _: True)
    said: list[str] = []
    run = burnish.run(burnish.load(folder / "recipe.yaml"), out=folder / "run", say=said.append)
    found, rows = _result(run)["watch"], read_metrics(run / "grpo" / "metrics.jsonl")
    stopped, [alarm] = found["stopped_at"], found["alarms"]
    assert found["judge"] == "people of the project watched"
    # the alarm is of the check before, for its answers were judged since
    assert alarm["step"] == stopped - 2
    assert len(rows) == stopped == _result(run)["steps"] < 20
    curve = {row["step"]: row["watch/judge"] for row in found["curve"]}
    assert list(curve) == list(range(2, stopped, 2))
    judged = {row["step"]: row["watch/judged_step"] for row in rows if "watch/judged_step" in row}
    assert judged == {step + 2.0: float(step) for step in curve}
    # the policy that people liked best, whose weights were kept until they said so
    best = max(curve, key=lambda step: curve[step])
    assert found["kept_step"] == found["best_step"] == best < alarm["step"]
    assert found["unjudged"] == 1
    assert any(line.endswith(f"its policy is that after step {int(best)}") for line in said)


def test_what_was_heard_before_a_kill_is_heard_again_whatever_people_said_since(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    """The steps between the last checkpoint and the kill are made again to the same bytes."""
    _with_people(monkeypatch, folder, at=lambda step: step == 4)
    update, left = Learner.update, 9
    metrics, out = folder / "run/grpo/metrics.jsonl", folder / "run"
    recipe = burnish.load(folder / "recipe.yaml", "grpo.watch.action=warn")

    def dying(*args: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        return update(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "update", dying)
        with pytest.raises(KeyboardInterrupt):
            burnish.run(recipe, out=out)
    before = metrics.read_bytes()
    assert len(before.splitlines()) == 8
    assert _compare(folder)  # of the checks after steps 4 and later
    with pytest.raises(WaitingForPeople):  # nobody compares what is asked from now on
        burnish.run(recipe, out=out)
    after = read_metrics(metrics)
    assert metrics.read_bytes()[: len(before)] == before
    heard = {row["step"]: row["watch/judged_step"] for row in after if "watch/judged_step" in row}
    assert heard == {4: 2.0, 10: 8.0}


def test_a_run_whose_people_are_not_done_waits_with_everything_trained(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    recipe, out = burnish.load(folder / "recipe.yaml", "grpo.steps=6"), folder / "run"
    snapshots: list[str] = []

    def counted(store: Store, project: str) -> Any:
        snapshots.append(project)
        return take_snapshot(store, project)

    monkeypatch.setattr("burnish.stages.people.take_snapshot", counted)
    with pytest.raises(WaitingForPeople, match="waiting for people: 0 of") as waiting:
        burnish.run(recipe, out=out)
    assert waiting.value.exit_code == 75
    # the project is read once at the start, at each of three checks and at the end, however many
    # checks wait by then
    assert snapshots == ["watched"] * 5
    metrics = (out / "grpo/metrics.jsonl").read_bytes()
    assert len(metrics.splitlines()) == 6
    assert _compare(folder)
    monkeypatch.setattr(Learner, "update", _never)
    burnish.run(recipe, out=out)
    found = _result(out)["watch"]
    assert (out / "grpo/metrics.jsonl").read_bytes() == metrics
    curve = {row["step"]: row["watch/judge"] for row in found["curve"]}
    assert list(curve) == [2, 4, 6]
    best = max([0, *curve], key=lambda step: curve.get(step, 0.0))
    assert (found["kept_step"], found["unjudged"]) == (best, 0)


def test_with_the_last_policy_kept_nobody_is_waited_for(folder: Path):
    recipe = burnish.load(folder / "recipe.yaml", "grpo.steps=2", "grpo.watch.keep=last")
    found = _result(burnish.run(recipe, out=folder / "run"))["watch"]
    assert (found["unjudged"], found["kept_step"], found["curve"]) == (2, 2, [])


def _never(*_: Any) -> Any:
    raise AssertionError("a step was made again")


def test_a_store_that_cannot_be_opened_is_said_before_anything_runs(folder: Path):
    recipe = burnish.load(folder / "recipe.yaml", f"grpo.watch.judge.store={folder}")
    with pytest.raises(UserError, match="not a database") as refused:
        burnish.run(recipe, out=folder / "run")
    assert refused.value.field == "grpo.watch.judge.store"
    assert not (folder / "run" / "grpo").exists()


def test_nobody_is_asked_what_needs_no_judge():
    assert _known("yes", "yes") == 0.5
    assert _known(" ", "\n") == 0.5
    assert _known("", "yes") == 0.0
    assert _known("yes", " ") == 1.0
    assert _known("yes", "no") is None
