"""Checkpoints: exact round trips, damage is noticed, and what is there is never lost."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError

from burnish.errors import UserError
from burnish.runs import checkpoint
from burnish.runs.checkpoint import (
    Checkpoints,
    Corrupt,
    load_state,
    rng_state,
    save_state,
    set_rng_state,
    verify,
)

SAVER = """
import itertools, sys, torch
from pathlib import Path
from burnish.runs.checkpoint import Checkpoints
store = Checkpoints(Path(sys.argv[1]), keep=2)
latest = store.latest()
for step in itertools.count(latest[0] + 1 if latest else 1):
    store.save(step, {"step": step, "weights": torch.full((5_000,), float(step))})
    print(step, flush=True)
"""


def same(a: Any, b: Any) -> bool:
    """Equal in type, in order of keys and bit for bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and bytes(_bytes(a)) == bytes(_bytes(b))
    if isinstance(a, dict):
        return [(type(k), k) for k in a] == [(type(k), k) for k in b] and all(
            same(a[k], b[k]) for k in a
        )
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return a.hex() == b.hex()
    return a == b


def _bytes(tensor: torch.Tensor) -> list[int]:
    return tensor.contiguous().reshape(-1).view(torch.uint8).tolist()


def round_trip(folder: Path, state: Any) -> Any:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    save_state(folder, state)
    return load_state(folder)


leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(trees)
def test_trees_round_trip(tmp_path_factory: pytest.TempPathFactory, state: Any) -> None:
    folder = tmp_path_factory.getbasetemp() / "tree"
    assert same(round_trip(folder, state), state)


def test_dicts_that_look_like_the_encoding_round_trip(tmp_path: Path) -> None:
    state = {"$tensor": "0", "$dict": [["a", 1]], "1": "text", 1: "int", "inner": {"$list": [1]}}
    assert same(round_trip(tmp_path / "c", state), state)


def test_not_finite_floats_and_negative_zero_round_trip(tmp_path: Path) -> None:
    back = round_trip(tmp_path / "c", [math.nan, math.inf, -math.inf, -0.0, 5e-324, 0.1 + 0.2])
    assert math.isnan(back[0])
    assert same(back[1:], [math.inf, -math.inf, -0.0, 5e-324, 0.1 + 0.2])


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float64,
        torch.float32,
        torch.bfloat16,
        torch.float16,
        torch.int64,
        torch.uint8,
        torch.bool,
    ],
)
def test_tensors_round_trip(tmp_path: Path, dtype: torch.dtype) -> None:
    values = torch.arange(12).to(dtype)
    state = {
        "whole": values,
        "scalar": values[3].clone(),
        "empty": values[:0].reshape(0, 4),
        "turned": values.reshape(3, 4).T,
    }
    assert same(round_trip(tmp_path / "c", state), state)


def test_nan_payloads_in_tensors_round_trip(tmp_path: Path) -> None:
    bits = (
        torch.tensor([0x7FC00001, 0x7F800000, -0x80000000], dtype=torch.int64)
        .to(torch.int32)
        .view(torch.float32)
    )
    assert same(round_trip(tmp_path / "c", [bits]), [bits])


def test_tensors_that_share_memory_come_back_apart(tmp_path: Path) -> None:
    base = torch.arange(6.0)
    back = round_trip(
        tmp_path / "c",
        {"whole": base, "same": base, "part": base[2:4], "column": base.reshape(2, 3)[:, 1]},
    )
    assert same(
        back, {"whole": base, "same": base, "part": base[2:4], "column": torch.tensor([1.0, 4.0])}
    )
    back["whole"].zero_()
    assert same(back["same"], base)


def test_loaded_tensors_outlive_the_file(tmp_path: Path) -> None:
    back = round_trip(tmp_path / "c", torch.arange(6.0))
    path = tmp_path / "c" / "state.safetensors"
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert same(back, torch.arange(6.0))


@pytest.mark.parametrize(
    "bad", [{1.5: 0}, {(1, 2): 0}, {None: 0}, {"a": {1, 2}}, [object()], b"bytes"]
)
def test_what_would_not_round_trip_is_refused(tmp_path: Path, bad: Any) -> None:
    with pytest.raises(TypeError, match="a checkpoint cannot hold"):
        save_state(tmp_path, bad)


def test_training_resumes_bit_for_bit_through_adamw_and_rng(tmp_path: Path) -> None:
    """Six steps in one go, and three, a round trip into fresh objects, and three more: the same
    bits."""

    def fresh() -> tuple[torch.nn.Linear, torch.optim.AdamW]:
        torch.manual_seed(1)
        layer = torch.nn.Linear(3, 2)
        return layer, torch.optim.AdamW(
            [{"params": [layer.weight]}, {"params": [layer.bias], "lr": 0.5}], lr=0.1
        )

    def train(layer: torch.nn.Linear, optimizer: torch.optim.AdamW, steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            (layer(torch.randn(4, 3)) * random.random() * np.random.rand()).pow(2).sum().backward()
            optimizer.step()

    random.seed(2)
    np.random.seed(3)
    layer, optimizer = fresh()
    train(layer, optimizer, 3)
    state = {
        "model": dict(layer.state_dict()),
        "optimizer": optimizer.state_dict(),
        "rng": rng_state(),
    }
    back = round_trip(tmp_path / "c", state)
    assert same(back["optimizer"], state["optimizer"])
    assert list(back["optimizer"]["state"]) == [0, 1]
    train(layer, optimizer, 3)

    other, other_optimizer = fresh()
    other.load_state_dict(back["model"])
    other_optimizer.load_state_dict(back["optimizer"])
    set_rng_state(back["rng"])
    train(other, other_optimizer, 3)
    assert torch.equal(other.weight, layer.weight)
    assert torch.equal(other.bias, layer.bias)


def test_rng_state_keeps_the_second_gaussian_of_a_pair(tmp_path: Path) -> None:
    random.seed(1)
    np.random.seed(1)
    random.gauss(0, 1)
    np.random.randn()
    state = round_trip(tmp_path / "c", rng_state())
    expected = (random.gauss(0, 1), np.random.randn(), torch.rand(2).tolist())
    set_rng_state(state)
    assert (random.gauss(0, 1), np.random.randn(), torch.rand(2).tolist()) == expected


def filled(tmp_path: Path, *, steps: int = 3, keep: int = 2) -> Checkpoints:
    store = Checkpoints(tmp_path / "checkpoints", keep=keep)
    for step in range(1, steps + 1):
        store.save(step, {"step": step, "weights": torch.full((100,), float(step))})
    return store


def names(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "checkpoints").iterdir())


def test_newest_are_kept_and_the_newest_is_found(tmp_path: Path) -> None:
    store = filled(tmp_path, steps=11)
    assert names(tmp_path) == ["checkpoint-10", "checkpoint-11"]
    assert store.latest() == (11, tmp_path / "checkpoints" / "checkpoint-11")


def test_none_yet(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "nowhere", keep=2).latest() is None


@pytest.mark.parametrize("file", ["state.json", "state.safetensors", "checksums.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "gone", "empty"])
def test_damaged_newest_falls_back_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, file: str, damage: str
) -> None:
    store = filled(tmp_path)
    path = tmp_path / "checkpoints" / "checkpoint-3" / file
    body = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        body[len(body) // 2] ^= 1
        path.write_bytes({"cut": body[: len(body) // 2], "flip": body, "empty": b""}[damage])
    with caplog.at_level(logging.WARNING):
        latest = store.latest()
    assert latest is not None
    assert latest[0] == 2
    assert load_state(latest[1])["step"] == 2
    assert "checkpoint-3 is damaged" in caplog.text


@pytest.mark.parametrize("sums", ["{}", "[]", "1", '{"state.json": 1, "state.safetensors": 2}'])
def test_checksums_that_say_nothing_are_damage(tmp_path: Path, sums: str) -> None:
    save_state(tmp_path, {})
    (tmp_path / "checksums.json").write_text(sums)
    with pytest.raises(Corrupt):
        verify(tmp_path)


def test_load_refuses_damaged_bytes(tmp_path: Path) -> None:
    save_state(tmp_path, {"w": torch.zeros(4)})
    body = (tmp_path / "state.safetensors").read_bytes()
    (tmp_path / "state.safetensors").write_bytes(body[:-1] + b"\x01")
    with pytest.raises(Corrupt, match="other bytes"):
        load_state(tmp_path)


def test_all_damaged_is_an_error_and_removes_nothing(tmp_path: Path) -> None:
    store = filled(tmp_path)
    for step in (2, 3):
        (tmp_path / "checkpoints" / f"checkpoint-{step}" / "state.json").write_text("{")
    with pytest.raises(UserError, match="every checkpoint here is damaged"):
        store.latest()
    assert names(tmp_path) == ["checkpoint-2", "checkpoint-3"]


def test_after_falling_back_the_damaged_one_does_not_crowd_out_good_ones(tmp_path: Path) -> None:
    store = filled(tmp_path, steps=10)
    (tmp_path / "checkpoints" / "checkpoint-10" / "state.json").write_text("{")
    store.save(9, {"step": 9})
    store.save(9, {"step": 9, "again": True})
    assert names(tmp_path) == ["checkpoint-9"]
    store = filled(tmp_path, steps=3)
    assert names(tmp_path) == ["checkpoint-2", "checkpoint-3"]


def test_leftovers_of_a_killed_save_are_swept_and_the_moved_one_is_put_back(tmp_path: Path) -> None:
    store = filled(tmp_path)
    folder = tmp_path / "checkpoints"
    (folder / "checkpoint-3").rename(folder / ".replaced-checkpoint-3")
    (folder / ".partial-checkpoint-3-0123abcd").mkdir()
    (folder / ".partial-checkpoint-4-0123abcd").mkdir()
    assert store.latest() == (3, folder / "checkpoint-3")
    assert names(tmp_path) == ["checkpoint-2", "checkpoint-3"]


def test_full_disk_while_writing_tensors_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """safetensors has its own error for a failed write, with the system's number in the text
    only."""
    store = filled(tmp_path)

    def full(*_: object) -> None:
        raise SafetensorError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        )

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", full)
        with pytest.raises(UserError, match=r"checkpoint-4: the disk is full; nothing.*is lost"):
            store.save(4, {"w": torch.zeros(4)})
    assert names(tmp_path) == ["checkpoint-2", "checkpoint-3"]
    assert store.latest() is not None


def test_other_errors_of_safetensors_are_not_called_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise SafetensorError("Error while serializing: something else")

    monkeypatch.setattr(checkpoint, "save_file", broken)
    with pytest.raises(SafetensorError, match="something else"):
        save_state(tmp_path, {})


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small disk is not allowed here")
    try:
        store = Checkpoints(disk, keep=2)
        store.save(1, {"w": torch.zeros(50_000)})
        with pytest.raises(UserError, match="the disk is full"):
            store.save(2, {"w": torch.zeros(500_000)})
        assert [path.name for path in disk.iterdir()] == ["checkpoint-1"]
        assert store.latest() == (1, disk / "checkpoint-1")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_pruning_waits_until_the_new_one_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(tmp_path)
    real, calls = os.fsync, 0

    def fails_later(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise OSError(errno.ENOSPC, "full")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fails_later)
    with pytest.raises(UserError, match="disk is full"):
        store.save(4, {"step": 4})
    assert names(tmp_path) == ["checkpoint-2", "checkpoint-3"]


def test_kill_inside_saves_always_leaves_an_intact_checkpoint(tmp_path: Path) -> None:
    rng, reached = random.Random(0), 0
    for _ in range(3):
        saver = subprocess.Popen(
            [sys.executable, "-c", SAVER, str(tmp_path)], stdout=subprocess.PIPE
        )
        assert saver.stdout is not None
        saver.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.05))
        saver.send_signal(signal.SIGKILL)
        saver.wait()
        saver.stdout.close()
        latest = Checkpoints(tmp_path, keep=2).latest()
        assert latest is not None
        state = load_state(latest[1])
        assert latest[0] == state["step"] > reached
        assert torch.equal(state["weights"], torch.full((5_000,), float(latest[0])))
        reached = latest[0]
    assert json.loads((tmp_path / f"checkpoint-{reached}" / "checksums.json").read_text())
