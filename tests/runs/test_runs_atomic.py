"""Atomic writes: a reader sees the old or the new, whenever the writer is killed and whatever the
disk says."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from burnish.atomic import atomic_folder, recover, write_bytes, write_json, write_text
from burnish.errors import UserError

WRITER = """
import itertools, sys
from pathlib import Path
from burnish.atomic import atomic_folder, recover, write_bytes
folder = Path(sys.argv[1])
recover(folder / "set")
for n in itertools.count():
    body = str(n % 10).encode() * 20_000
    write_bytes(folder / "file", body)
    with atomic_folder(folder / "set") as scratch:
        for name in ("a", "b"):
            (scratch / name).write_bytes(body)
    print(n, flush=True)
"""


def test_write_and_overwrite_leave_only_the_file(tmp_path: Path) -> None:
    path = tmp_path / "made" / "for it" / "file"
    write_bytes(path, b"old")
    write_text(path, "neü")
    assert path.read_bytes() == "neü".encode()
    write_json(path, {"ü": [1.5, None]})
    assert json.loads(path.read_text()) == {"ü": [1.5, None]}
    assert list(path.parent.iterdir()) == [path]


def test_json_refuses_nan_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_json(path, 1)
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, float("nan"))
    assert json.loads(path.read_text()) == 1


def test_folder_appears_whole_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "set"
    for body in ("old", "new"):
        with atomic_folder(path) as scratch:
            (scratch / "inner").mkdir()
            (scratch / "inner" / body).write_text(body)
            assert not (path / "inner" / body).exists()
        assert [p.name for p in (path / "inner").iterdir()] == [body]
    assert list(tmp_path.iterdir()) == [path]


def test_folder_of_a_failed_body_vanishes(tmp_path: Path) -> None:
    path = tmp_path / "set"
    with atomic_folder(path) as scratch:
        (scratch / "file").write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_folder(path) as scratch:
        (scratch / "file").write_text(str(1 / 0))
    assert (path / "file").read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_recover_puts_the_old_folder_back_and_sweeps(tmp_path: Path) -> None:
    path = tmp_path / "set"
    moved, stale, other = (
        tmp_path / ".replaced-set",
        tmp_path / ".partial-set-0123abcd",
        tmp_path / ".partial-sets-0123abcd",
    )
    for folder in (moved, stale, other):
        folder.mkdir()
    (moved / "file").write_text("old")
    recover(path)
    assert (path / "file").read_text() == "old"
    assert sorted(tmp_path.iterdir()) == [other, path]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_full_disk_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    path = tmp_path / "file"
    write_text(path, "old")

    def full(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(*((os, "fsync") if call == "fsync" else (Path, "replace")), full)
    with pytest.raises(
        UserError, match=r"disk is full.*nothing.*is lost.*run the same command again"
    ) as caught:
        write_text(path, "new")
    assert str(caught.value).startswith(str(path))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_full_disk_keeps_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "set"
    with atomic_folder(path) as scratch:
        (scratch / "file").write_text("old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="disk is full"), atomic_folder(path) as scratch:
        (scratch / "file").write_text("new")
    assert (path / "file").read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_kill_at_random_instants_never_shows_a_part(tmp_path: Path) -> None:
    rng = random.Random(0)
    for _ in range(6):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.1))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        recover(tmp_path / "set")
        body = (tmp_path / "file").read_bytes()
        assert len(body) == 20_000
        assert len(set(body)) == 1
        a, b = ((tmp_path / "set" / name).read_bytes() for name in "ab")
        assert a == b
        assert len(a) == 20_000
    assert not list(tmp_path.glob(".partial-set-*"))
    assert not list(tmp_path.glob(".replaced-*"))
