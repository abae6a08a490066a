"""Hostile programs: none is scored correct, none is excused, and the machine is as it was."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile import FUNCTION, MILD, STDIN
from opening import open_or_skip

from burnish.sandbox import TIERS, CodeTests, Job, Limits, Outcome, code_tests
from burnish.sandbox.worker import PATIENCE, _private_memory

# The address-space limit stands on the command line of every sandboxed process: an odd one marks
# those of this run.
MEMORY_MB = random.Random(os.getpid()).randrange(300, 480)
LIMITS = Limits(seconds=2.5, cpu_seconds=1, memory_mb=MEMORY_MB, processes=4)
PARALLEL, WARM = 3, 3
STDIN_TASK = CodeTests(stdio=(("21\n", "42\n"), ("-3\n", "-6\n"), ("1000\n", "2000\n")))
FUNCTION_TASK = code_tests(
    {
        "entry_point": "double",
        "prompt": "def double(x):\n    pass\n",
        "test": (
            "def check(candidate):\n    # hidden\n    assert candidate(21) == 42\n    assert"
            " candidate(-3) == -6\n    assert candidate(1000) == 2000\n"
        ),
    }
)


class Host:
    """What the attacks could reach, and a watch on the memory that they take together."""

    def __init__(self) -> None:
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.port = self.tcp.getsockname()[1]
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", self.port))
        self.abstract = socket.socket(socket.AF_UNIX)
        self.abstract.bind(f"\0burnish-test-{self.port}")
        self.abstract.listen()
        for each in (self.tcp, self.udp, self.abstract):
            each.setblocking(False)
        self.files_before = self._files()
        self.most_memory = self.most_processes = 0
        self._stop = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()

    def reached(self) -> list[str]:
        """The listeners that anything came to."""
        found = []
        for name, act in (
            ("tcp", self.tcp.accept),
            ("udp", lambda: self.udp.recv(10)),
            ("unix", self.abstract.accept),
        ):
            try:
                act()
                found.append(name)
            except BlockingIOError:
                pass
        return found

    def changed(self) -> dict[str, Any]:
        return {path: now for path, now in self._files().items() if now != self.files_before[path]}

    @staticmethod
    def _files() -> dict[str, Any]:
        """Files that attacks try to make or change: (size, time of change, mode, owner), None if
        not there."""
        paths = [f"/tmp/{n}" for n in ("s", "x", "os.py", "f0", "0", "1", "7")] + [
            "/x",
            "/usr/lib/x",
            "/dev/x",
            "/lib/x",
        ]
        paths += [
            os.__file__,
            "/etc/passwd",
            "/etc/shadow",
            "/usr/lib/python3.11/os.py",
            "/proc/sys/kernel/core_pattern",
        ]
        found: dict[str, Any] = {}
        for path in paths:
            try:
                s = os.lstat(path)
                text = Path(path).read_text() if path.startswith("/proc") else ""
                found[path] = (s.st_size, text or s.st_mtime, s.st_mode, s.st_uid)
            except OSError:
                found[path] = None
        return found

    def _look(self) -> None:
        while not self._stop.wait(0.1):
            pids = processes()
            self.most_processes = max(self.most_processes, len(pids))
            self.most_memory = max(self.most_memory, sum(map(_private_memory, pids)))

    def close(self) -> None:
        self._stop.set()
        self._watch.join()
        for each in (self.tcp, self.udp, self.abstract):
            each.close()


def processes() -> list[int]:
    """The sandboxed processes of this run that are alive, bwrap's own among them."""
    mark = f"'RLIMIT_AS': {MEMORY_MB << 20},".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                pass
    return found


@pytest.fixture(scope="module", params=TIERS)
def after(request: pytest.FixtureRequest) -> Iterator[tuple[str, Host, dict[str, Outcome]]]:
    """The outcomes of all hostile programs in one tier, and the host they could have reached."""
    host = Host()
    sandbox = open_or_skip(request.param, limits=LIMITS, parallel=PARALLEL, warm=WARM)
    with sandbox:
        # The bombs only where mild versions of them were seen to be held.
        mild = {
            name: text
            for name, text in MILD.items()
            if request.param == "bubblewrap" or name != "disk"
        }
        held = sandbox.run([Job(text, CodeTests(stdio=(("", "held"),))) for text in mild.values()])
        assert {n: o.detail for n, o in zip(mild, held, strict=True) if o.kind != "passed"} == {}
        assert len(processes()) >= 1  # the mark is found at all
        jobs = {
            f"stdin: {name}": Job(_with_port(text, host.port), STDIN_TASK)
            for name, text in STDIN.items()
        }
        jobs |= {f"function: {name}": Job(text, FUNCTION_TASK) for name, text in FUNCTION.items()}
        outcomes = dict(zip(jobs, sandbox.run(list(jobs.values())), strict=True))
        honest = sandbox.run(
            [
                Job("print(2 * int(input()))", STDIN_TASK),
                Job("def double(x): return 2 * x", FUNCTION_TASK),
            ]
        )
        # the sandbox works on after all that
        assert [o.kind for o in honest] == ["passed", "passed"], honest
    yield request.param, host, outcomes
    host.close()


def _with_port(text: str, port: int) -> str:
    return text.replace("PORT", str(port))


def test_there_are_enough_of_them() -> None:
    assert len(STDIN) + len(FUNCTION) >= 100


def test_none_is_scored_correct_and_none_is_excused(
    after: tuple[str, Host, dict[str, Outcome]],
) -> None:
    """A trick that ends in an infrastructure error would be masked: a way out of a bad score."""
    _, _, outcomes = after
    wrong = {
        name: outcome
        for name, outcome in outcomes.items()
        if outcome.kind not in ("failed", "timeout")
    }
    assert wrong == {}


def test_no_trick_passes_all_tests_but_for_a_crash(
    after: tuple[str, Host, dict[str, Outcome]],
) -> None:
    """Programs that print the right answer and then misbehave fail for that reason and no other."""
    tier, _, outcomes = after
    detail = {name.removeprefix("stdin: "): outcome.detail for name, outcome in outcomes.items()}
    assert detail["right answer, wrong exit code"] == "exit code 3"
    assert "ZeroDivisionError" in detail["right answer, then an exception"]
    assert "of output" in detail["infinite output"]
    if tier == "bubblewrap":
        assert detail["right answer, then a crash"] == "ended by signal 11"
    assert outcomes["stdin: right answer, then a hang"].kind == "timeout"
    assert outcomes["stdin: infinite loop"].kind == outcomes["stdin: sleep"].kind == "timeout"
    assert (
        outcomes["function: an endless loop"].kind
        == outcomes["function: slow at the second call"].kind
        == "timeout"
    )


def test_programs_end_within_their_time(after: tuple[str, Host, dict[str, Outcome]]) -> None:
    """Two and a half seconds of its own for the one test that a program fails: one that sleeps
    takes them by the clock, however busy the machine; one that computes waits for a processor as
    well, up to the guard of twenty times the limit."""
    _, _, outcomes = after
    asleep = ("stdin: sleep", "stdin: right answer, then a hang")
    assert {
        name: outcomes[name].seconds
        for name in asleep
        if outcomes[name].seconds > 5 * LIMITS.seconds
    } == {}
    guard = (PATIENCE + 1) * LIMITS.seconds  # and its start
    assert {name: o.seconds for name, o in outcomes.items() if o.seconds > guard} == {}


def test_the_host_is_unharmed(after: tuple[str, Host, dict[str, Outcome]]) -> None:
    _, host, _ = after
    deadline = time.monotonic() + 10
    while processes() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes() == []  # daemons included
    assert host.reached() == []
    assert host.changed() == {}


def test_memory_and_processes_stayed_within_bounds(
    after: tuple[str, Host, dict[str, Outcome]],
) -> None:
    """At most: bwrap twice and a harness, its child and four more, for each program; three for each
    that waits.

    Memory is looked at every 50 ms, within which a program of five processes may run over by some
    hundred megabytes.
    """
    tier, host, _ = after
    assert (
        0
        < host.most_processes
        <= (PARALLEL * (4 + LIMITS.processes) + 3 * (WARM + 2 * PARALLEL))
        * (tier == "bubblewrap" or 1)
    )
    assert (
        0 < host.most_memory <= PARALLEL * 2.5 * (MEMORY_MB << 20) + (WARM + PARALLEL) * (40 << 20)
    )
