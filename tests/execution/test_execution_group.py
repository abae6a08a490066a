"""The driver: what becomes of a group whose rank dies, errs, is silent, or is stopped by hand."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import psutil
import pytest
import ranked

from burnish.errors import UserError
from burnish.execution import group
from burnish.execution.group import Lost, keep_running


def test_a_killed_rank_changes_no_number(tmp_path: Path):
    """The group is made anew and goes on from the checkpoint: bit for bit the run that nobody
    disturbed."""
    lines: list[str] = []
    rows, weights = keep_running(
        partial(ranked.on_ranks, partial(ranked.dying, tmp_path / "killed", times=1)),
        restarts=1,
        progress_of=lambda: 0,
        say=lines.append,
    )
    undisturbed, same = ranked.on_ranks(partial(ranked.dying, tmp_path / "whole", times=0))
    assert (tmp_path / "killed" / "starts").read_text().count("start") == 2
    assert lines == [
        "trainer 2 of 2 died (SIGKILL): all trainers start again from the last checkpoint (1 of 1)"
    ]
    assert rows == undisturbed
    assert [name for name in same if not same[name].equal(weights[name])] == []


def test_what_dies_again_and_again_is_an_error_that_names_the_key(tmp_path: Path):
    calls, newest = [], iter([0, 0, 1, 1, 1])

    def once() -> None:
        calls.append(1)
        raise Lost("trainer 2 of 2 died (SIGKILL)")

    with pytest.raises(UserError, match=r"died \(SIGKILL\), and 1 restarts") as failed:
        keep_running(once, restarts=1, progress_of=lambda: next(newest), say=lambda _: None)
    assert failed.value.field == "scale.restarts.trainers"
    # a new checkpoint in between, and they are counted anew
    assert len(calls) == 3


@pytest.mark.parametrize(
    "error", [UserError("no such row", field="x", hint="Mend it."), ValueError("a fault of ours")]
)
def test_an_error_of_one_rank_is_the_runs_at_once(error: Exception):
    began = time.monotonic()
    with pytest.raises(type(error), match=str(error)):
        ranked.on_ranks(partial(ranked.refusing, error), train=300)
    assert time.monotonic() - began < 120


def test_who_does_not_answer_is_given_up_after_the_deadline(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(group, "_GRACE", 1.0)
    with pytest.raises(Lost, match="trainer 2 of 2 does not answer"):
        ranked.on_ranks(partial(ranked.silent, 600), train=2)


def test_stopped_by_hand_nobody_is_left():
    ids: list[int] = []

    def stop(started: list[int]) -> None:
        ids.extend(started)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ranked.on_ranks(partial(ranked.silent, 600), watch=stop)
    assert len(ids) == 2
    assert not any(psutil.pid_exists(number) for number in ids)
