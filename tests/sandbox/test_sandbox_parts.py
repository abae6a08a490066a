"""The parts: comparison, limits, tiers and their refusal, the supervisor's death, and the doctor's
attacks."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from opening import open_or_skip

from burnish.errors import UserError
from burnish.sandbox import CodeTests, Job, Limits, Sandbox, seccomp, tiers
from burnish.sandbox.attacks import ATTACKS, attack
from burnish.sandbox.compare import same_output
from burnish.sandbox.judge import _literal, same
from burnish.sandbox.supervisor import _exit_code

ECHO = CodeTests(stdio=(("x\n", "x"),))


@pytest.mark.parametrize(
    ("found", "expected", "equal"),
    [
        (b"1\n2\n3\n", "1\n2\n3", True),
        (b"1\r\n2  \r\n\n\n", "1\n2\n", True),
        (b"1", "1\n2\n3", False),  # only the first line: the mistake of comparing with zip
        (b"1\n2\n3\n4", "1\n2\n3", False),
        (b"", "1", False),
        (b"", "\n", True),
        (b"\n1", "1", False),
        (b" 1", "1", False),
        (b"1  2", "1 2", False),
        (b"1.0", "1", False),
        (b"Yes", "yes", False),
        (b"\xff", "\xff", False),
        ("ü".encode(), "ü", True),
    ],
)
def test_whole_outputs_are_compared(found: bytes, expected: str, equal: bool) -> None:
    assert same_output(found, expected) is equal


@pytest.mark.parametrize(
    ("found", "expected", "equal"),
    [
        ((1, [2, (3,)]), [1, [2, [3]]], True),
        ([1, 2], [1, 2, 3], False),
        ([1, 2, 3], [1, 2], False),
        ({1: (2,)}, {"1": [2]}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ("12", ["1", "2"], False),
        (None, [], False),
        (1.0, 1, True),
    ],
)
def test_results_compare_as_json(found: object, expected: object, equal: bool) -> None:
    assert same(found, expected) is equal


def test_values_go_into_the_sandbox_as_literals() -> None:
    values = [
        None,
        True,
        -7,
        10**3000,
        1.5,
        -0.0,
        "é\n'\"",
        b"\xff",
        [1, (2,)],
        (),
        {1: {2}},
        set(),
        frozenset([1]),
        2j,
        range(3),
    ]
    for value in values:
        again = eval(_literal(value))
        assert (type(again), again) == (type(value), value)
    assert repr(eval(_literal([float("nan"), float("-inf")]))) == "[nan, -inf]"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"null",
        b'["status"]',
        b'["status","0"]',
        b'["ok",0]',
        b"[" * 9999,
        b'["status",1e999]',
    ],
)
def test_an_exit_code_that_cannot_be_read_is_not_zero(answer: bytes) -> None:
    assert _exit_code(answer) != 0


def test_limits_are_checked() -> None:
    with pytest.raises(UserError, match='field "memory_mb": must be at least 128, not 5'):
        Limits(memory_mb=5)
    with pytest.raises(UserError, match='field "cpu_seconds": must be a whole number'):
        Limits(cpu_seconds=1.5)  # type: ignore[arg-type]


def test_without_bubblewrap_nothing_weaker_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(
        UserError,
        match=r"bwrap is not installed\. Install bubblewrap \(Debian, Ubuntu: apt install",
    ):
        tiers.settle("bubblewrap", python=None)


def test_without_landlock_or_libseccomp_the_second_tier_refuses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(seccomp, "library", lambda: None)
    monkeypatch.setattr(tiers.confine, "landlock_abi", lambda: 3)
    with pytest.raises(UserError, match="libseccomp is not installed"):
        tiers.settle("landlock", python=None)
    monkeypatch.setattr(tiers.confine, "landlock_abi", lambda: 0)
    with pytest.raises(UserError, match="the kernel has no Landlock"):
        tiers.settle("landlock", python=None)


def test_an_unknown_tier_and_a_bad_interpreter_are_named() -> None:
    with pytest.raises(UserError, match='field "tier": must be one of bubblewrap, landlock'):
        Sandbox("none")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no Python for the sandbox: /no/such/python cannot be run"):
        Sandbox(python="/no/such/python")


def test_when_the_supervisor_is_killed_answers_are_masked_and_the_next_ones_judged() -> None:
    with open_or_skip("bubblewrap", parallel=1) as sandbox:
        pid = sandbox._process.pid
        slow = Job("import time\ntime.sleep(30)", ECHO)
        import threading

        threading.Timer(0.5, os.kill, (pid, signal.SIGKILL)).start()
        assert [o.kind for o in sandbox.run([slow, slow])] == ["infrastructure"] * 2
        sandbox._process.wait()
        assert sandbox.run([Job("print(input())", ECHO)])[0].kind == "passed"
        assert sandbox._process.pid != pid


def test_the_supervisor_is_unprivileged_and_ends_with_us() -> None:
    with open_or_skip("bubblewrap", parallel=1) as sandbox:
        pid = sandbox._process.pid
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        uids = next(line for line in status if line.startswith("Uid:")).split()[1:]
        assert set(uids) == ({str(tiers.NOBODY)} if os.getuid() == 0 else {str(os.getuid())})
    assert not Path(f"/proc/{pid}").exists()


def test_a_dead_parent_leaves_no_sandbox() -> None:
    """A trainer that is killed outright: supervisor and sandboxes go with it."""
    open_or_skip("bubblewrap").close()
    code = (
        "import os\nfrom burnish.sandbox import *\ns = Sandbox(parallel=1)\nprint(s._process.pid,"
        " flush=True)\ns.run([Job('import time; time.sleep(60)', CodeTests(stdio=(('', 'x'),)))])"
    )
    source = str(Path(tiers.__file__).parents[2])
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env={"PYTHONPATH": source}
    )
    assert child.stdout is not None
    supervisor = int(child.stdout.readline())
    time.sleep(0.5)
    family = _descendants(supervisor)
    assert len(family) >= 2
    child.kill()
    child.wait()
    deadline = time.monotonic() + 10
    while (
        left := [pid for pid in (supervisor, *family) if _alive(pid)]
    ) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


def test_a_sandbox_that_is_ended_while_it_starts_leaves_nothing() -> None:
    """At any instant of its start: bwrap's child does not die with its parent before it is set
    up."""
    open_or_skip("bubblewrap").close()
    code = (
        "import sys, time\nfrom burnish.sandbox import Limits, tiers\nfrom burnish.sandbox.worker"
        " import Worker, end_all\ntiers.drop_privileges()\ns = tiers.settle('bubblewrap',"
        " python=None)\nfor n in range(40):\n    w = Worker(s, Limits(memory_mb=251),"
        " judge=False)\n    time.sleep(n * 0.0005)\n    w.kill()\n"
    )
    source = str(Path(tiers.__file__).parents[2])
    program = f"import sys; sys.path.insert(0, {source!r}); import burnish.sandbox.worker\n{code}"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
    mark = f"'RLIMIT_AS': {251 << 20},".encode()
    deadline = time.monotonic() + 5
    while (
        left := [p for p in Path("/proc").iterdir() if p.name.isdigit() and mark in _command(p)]
    ) and (time.monotonic() < deadline):
        time.sleep(0.1)
    assert left == []


def _command(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def test_the_doctors_attacks_are_contained(sandbox: Sandbox) -> None:
    assert [
        (each.name, detail) for each, contained, detail in attack(sandbox) if not contained
    ] == []


@pytest.mark.parametrize("name", ["files", "environment", "processes", "programs", "kernel"])
def test_the_same_attacks_succeed_outside(name: str) -> None:
    """Else their being contained would say nothing. Only those that do no harm, as an unprivileged
    user."""
    program = next(each.program for each in ATTACKS if each.name == name)
    user = (
        {"user": tiers.NOBODY, "group": tiers.NOBODY, "extra_groups": []}
        if os.getuid() == 0
        else {}
    )
    done = subprocess.run(
        ["/usr/bin/python3" if os.getuid() == 0 else sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd="/",
        env={"SECRET": "x"},
        timeout=60,
        check=False,
        **user,
    )  # type: ignore[call-overload]
    assert done.stdout.strip() != "contained"


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _descendants(root: int) -> list[int]:
    from burnish.sandbox.worker import _tree

    found = [root]
    for task in Path(
        f"/proc/{root}/task"
    ).iterdir():  # sandboxes are children of the thread that started them
        found += [
            pid for child in (task / "children").read_text().split() for pid in _tree(int(child))
        ]
    return found[1:]
