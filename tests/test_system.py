"""What other systems lack is not needed: a run on a pretended macOS and a pretended Windows, in
processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from burnish.system import (
    available_memory,
    page_out,
    peak_memory,
    total_memory,
    try_lock,
    usable_cores,
)

MACOS = """
import os, pathlib, sys
for name in ("sched_getaffinity", "sched_setaffinity", "memfd_create", "pidfd_open", "O_PATH"):
    if hasattr(os, name):
        delattr(os, name)
read, write = pathlib.Path.read_text, pathlib.Path.write_text
def no_proc(method):
    def wrapped(self, *args, **kwargs):
        if str(self).startswith(("/proc/", "/sys/")):
            raise FileNotFoundError(2, "No such file or directory", str(self))
        return method(self, *args, **kwargs)
    return wrapped
pathlib.Path.read_text, pathlib.Path.write_text = no_proc(read), no_proc(write)
"""

WINDOWS = (
    MACOS
    + """
import builtins, ctypes, importlib, types
from transformers import LlamaForCausalLM  # which knows other ways on Windows
LACKING = ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty")
imported = builtins.__import__
def import_as_there(name, globals=None, locals=None, fromlist=(), level=0):
    if name in LACKING and (globals or {}).get("__name__", "").startswith("burnish"):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return imported(name, globals, locals, fromlist, level)
builtins.__import__ = import_as_there
for name in ("sysconf", "getuid", "geteuid", "getloadavg", "mkfifo", "setsid", "killpg"):
    if hasattr(os, name):
        delattr(os, name)
cdll = ctypes.CDLL
class NoNone(cdll):
    def __init__(self, name, *args, **kwargs):
        if name is None:
            raise TypeError("LoadLibrary() argument 1 must be str, not None")
        super().__init__(name, *args, **kwargs)
ctypes.CDLL = NoNone
import burnish.system  # knows the system by os.name; the standard library must go on believing in this one
burnish.system.os = types.SimpleNamespace(**{k: getattr(os, k) for k in dir(os) if not k.startswith("__")})
burnish.system.os.name = "nt"
burnish.system.import_module = lambda name: importlib.import_module(name if name not in LACKING else f"no_{name}")
"""  # noqa: E501
)
MSVCRT = """
import types
locks = set()
def locking(descriptor, mode, count):
    import errno
    place = os.lseek(descriptor, 0, os.SEEK_CUR)
    key = (os.fstat(descriptor).st_ino, place)
    if key in locks:
        raise OSError(errno.EACCES, "Permission denied")
    locks.add(key)
msvcrt = types.ModuleType("msvcrt")
msvcrt.locking, msvcrt.LK_NBLCK = locking, 2
sys.modules["msvcrt"] = msvcrt
"""
RUN = "from burnish.cli.main import main\nmain(sys.argv[1:])\n"


def _pretend(system: str, *arguments: str, code: str = RUN) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"import sys\n{system}\n{code}", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    rows = [{"prompt": f"Say {i}.", "completion": f"{i}, with pleasure."} for i in range(24)]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "r.yaml"
    path.write_text(
        "name: far\nmodel: {name: tiny, device: cpu}\n"
        f"data: {{demonstrations: {tmp_path / 'd.jsonl'}, heldout: 0.3}}\n"
        "stages: {sft: {epochs: 1, batch_size: 8, lora: {r: 2, alpha: 4}}}\n"
    )
    return path


@pytest.mark.parametrize("system", [MACOS, WINDOWS], ids=["macos", "windows"])
def test_a_recipe_without_threads_trains(system: str, recipe: Path, tmp_path: Path):
    done = _pretend(system, "run", str(recipe), "--out", str(tmp_path / "run"), "--quiet")
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads((tmp_path / "run" / "sft" / "stage.json").read_text())
    assert record["peak_memory_gb"] > 0.05


@pytest.mark.parametrize(
    "arguments", [["run", "--help"], ["models", "list"], ["annotate", "--help"]]
)
def test_commands_answer(arguments: list[str]):
    done = _pretend(WINDOWS, *arguments)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_plan_is_made_and_the_code_sandbox_says_what_it_needs(recipe: Path):
    planned = _pretend(WINDOWS, "plan", str(recipe))
    assert planned.returncode == 0, planned.stderr[-2000:]
    code = "from burnish.sandbox import Sandbox\nsys.platform = 'darwin'\nSandbox()\n"
    refused = _pretend(MACOS, code=code)
    assert "needs Linux, and this is darwin" in refused.stderr


def test_a_second_lock_is_refused_on_windows_too(tmp_path: Path):
    code = (
        "from burnish.system import try_lock\n"
        f"a, b = (open({str(tmp_path / 'lock')!r}, 'a+') for _ in range(2))\n"
        "a.write('123'); a.flush()\n"
        "print(try_lock(a), try_lock(b)); b.seek(0); print(b.read())\n"
    )
    done = _pretend(WINDOWS + MSVCRT, code=code)
    assert done.stdout == "True False\n123\n", done.stderr


def test_a_lock_ends_with_its_file(tmp_path: Path):
    with (tmp_path / "lock").open("a+") as one, (tmp_path / "lock").open("a+") as two:
        assert try_lock(one)
        assert not try_lock(two)
        one.close()
        assert try_lock(two)


def test_figures_of_this_machine():
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
    assert 0 < available_memory() < total_memory()
    assert peak_memory() > 10_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="asked of Linux")
def test_paging_out_loses_nothing(tmp_path: Path):
    """Of a mapped file and of memory that stands in none; less than a page is left alone."""
    import mmap

    import numpy as np

    numbers = np.arange(1_000_000, dtype=np.int32)
    (tmp_path / "file").write_bytes(numbers.tobytes())
    with (tmp_path / "file").open("rb") as file:
        mapped = np.frombuffer(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ), dtype=np.int32)
        for array in (mapped, numbers):
            total = int(array.sum())
            page_out(array.ctypes.data, array.nbytes)
            assert int(array.sum()) == total
            page_out(array.ctypes.data + 1, 10)
        assert (mapped == numbers).all()
