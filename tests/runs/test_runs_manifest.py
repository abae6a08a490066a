"""The manifest: what hashes depend on, what changed, and one process to a folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from burnish.errors import UserError
from burnish.runs.manifest import (
    environment,
    explain_difference,
    file_hash,
    fingerprint,
    run_lock,
)
from burnish.runs.stage_record import StageRecord

HOLDER = """
import sys, time
from pathlib import Path
from burnish.runs.manifest import run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_fingerprint_depends_on_values_not_on_order() -> None:
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    different = [{"a": 1}, {"a": 1.5}, {"a": "1"}, {"a": True}, {"a": None}, {"b": 1}, {"a": [1]}]
    assert len({fingerprint(value) for value in different}) == len(different)
    with pytest.raises(ValueError, match="JSON compliant"):
        fingerprint({"a": float("nan")})


def test_file_hash_of_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    # the published test vector of SHA-256
    assert (
        file_hash(tmp_path / "a")
        == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
    before = file_hash(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert file_hash(tmp_path) != before


def test_environment_names_versions_without_importing_them() -> None:
    code = (
        "import sys; from burnish.runs.manifest import environment; environment(); print('torch' in"
        " sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"
    found = environment()
    assert found["torch"].startswith("2.")
    assert found["cores"] >= 1
    assert found["memory_gb"] > 0


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK),
    reason="the kernel does not let us reset the peak",
)
def test_peak_memory_rises_with_use_and_can_be_reset() -> None:
    code = """
from burnish.runs.manifest import peak_memory_gb
from burnish.system import reset_peak_memory
reset_peak_memory()
before = peak_memory_gb()
block = bytearray(100_000_000)
print(len(block), 0.09 < peak_memory_gb() - before < 0.2)
del block
reset_peak_memory()
print(abs(peak_memory_gb() - before) < 0.05)
"""  # in a process of its own: what other tests have left in this one's heap moves while it runs
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["100000000", "True", "True"]


def test_stage_record_round_trips_and_says_when_it_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "stage.json"
    assert StageRecord.read(path) is None
    record = StageRecord(
        "sft", "abc", {"sft": {"epochs": 2.0}}, 1.5, 0.25, "2026-01-01T00:00:00+00:00"
    )
    record.write(path)
    assert StageRecord.read(path) == record
    for broken in ("{", "[]", '{"name": "sft"}'):
        path.write_text(broken)
        with pytest.raises(
            UserError, match=r"stage\.json: this record of a finished stage is damaged"
        ):
            StageRecord.read(path)


def test_differences_are_told_leaf_by_leaf() -> None:
    old = {
        "seed": 0,
        "ppo": {"clip": 0.2, "kl": {"beta": 0.05, "target": None}, "gone": 1},
        "stages": ["sft", "ppo"],
        "data": {
            "prompts": "p.jsonl",
            "hashes": {"prompts": fingerprint(1), "same": fingerprint(2)},
        },
        "code": {"trainers": fingerprint(3), "runs": fingerprint(4)},
        "after": {"sft": fingerprint(5)},
        "lora": {"r": 8},
    }
    new = {
        "seed": 0,
        "ppo": {"clip": 0.3, "kl": {"beta": 0.05, "target": 6.0}, "gae_lambda": 0.95},
        "stages": ("sft", "ppo"),
        "data": {
            "prompts": "p.jsonl",
            "hashes": {"prompts": fingerprint(6), "same": fingerprint(2)},
        },
        "code": {"trainers": fingerprint(7), "runs": fingerprint(4), "data": fingerprint(8)},
        "after": {"sft": fingerprint(9)},
        "lora": None,
    }
    assert explain_difference(old, new) == [
        "ppo.clip: 0.2 -> 0.3",
        "ppo.kl.target: null -> 6.0",
        "ppo.gone: 1 -> (not set)",
        "ppo.gae_lambda: (not set) -> 0.95",
        "the contents of data.prompts changed",
        "the code of trainers changed",
        "the code of data is new",
        "the stage sft changed",
        'lora: {"r": 8} -> null',
    ]
    assert explain_difference(old, old) == []


def test_a_whole_new_section_is_told_by_its_leaves() -> None:
    assert explain_difference({}, {"kl": {"beta": 0.1, "on": None}}) == [
        "kl.beta: (not set) -> 0.1",
        "kl.on: (not set) -> null",
    ]


def test_one_process_to_a_folder_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(UserError, match=rf"another process \(pid {holder.pid}\)"),
            run_lock(folder),
        ):
            pass
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    for _ in range(2):
        with run_lock(folder):
            assert (folder / ".lock").read_text().isdecimal()


def test_lock_is_let_go_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="inside"), run_lock(tmp_path):
        raise RuntimeError("inside")
    with run_lock(tmp_path):
        pass
