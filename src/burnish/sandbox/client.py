"""The sandbox as the rest of Burnish sees it: programs and their tests in, outcomes out."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from burnish.errors import UserError
from burnish.sandbox.limits import Limits, Tier
from burnish.sandbox.tasks import CodeTests
from burnish.system import usable_cores

Kind = Literal["passed", "failed", "timeout", "infrastructure"]


@dataclass(frozen=True, slots=True)
class Job:
    """A program and its tests. `partial`: go on after the first failure, and count."""

    program: str
    tests: CodeTests
    partial: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a program.

    "passed": every test. "failed": at least one not. "timeout": a limit of time was reached, which
    is the program's own doing. "infrastructure": nothing can be said, and the program is not to
    blame. `passed` of `total` tests were passed (up to the first failure, unless the job was
    partial); `detail` says in one line what went wrong; `seconds` is the wall clock from the moment
    a place was free.
    """

    kind: Kind
    passed: int
    total: int
    detail: str
    seconds: float


class Sandbox:
    """A pool of sandboxes behind an unprivileged supervisor.

    `tier` names the isolation wanted, and there is no other: where it cannot be had, UserError says
    why and what to do. `parallel` programs run at a time (None: the usable cores), `warm` sandboxes
    are kept ready (None: twice as many). Thread-safe. Close it, or use it in a `with`; it also ends
    with its process.
    """

    def __init__(
        self,
        tier: Tier = "bubblewrap",
        *,
        limits: Limits | None = None,
        parallel: int | None = None,
        warm: int | None = None,
        python: str | None = None,
    ) -> None:
        if not sys.platform.startswith("linux"):
            raise UserError(
                f"running untrusted programs needs Linux, and this is {sys.platform}.",
                hint="Run the code rewards on a Linux machine or in a Linux container.",
            )
        self.limits = limits or Limits()
        self.parallel = parallel or usable_cores()
        self._opening = {
            "tier": tier,
            "limits": self.limits.as_dict(),
            "parallel": self.parallel,
            "warm": warm or 2 * self.parallel,
            "python": python,
        }
        self._lock = threading.Lock()
        self._waiting: dict[int, Future[Outcome]] = {}
        self._next = 0
        self._closed = False
        self._start()

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Run the programs, several at a time: one outcome each, in order."""
        return [future.result() for future in [self._submit(job) for job in jobs]]

    def close(self) -> None:
        """End the supervisor and every sandbox."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._process.wait()
        self._sock.close()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        from burnish.sandbox.supervisor import receive, send

        ours, theirs = socket.socketpair()
        package = str(Path(__file__).parents[2])
        code = (
            f"import sys; sys.path.insert(0, {package!r}); from burnish.sandbox.supervisor import"
            " main; main()"
        )
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", "-X", "utf8", "-c", code],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env={
                    k: v for k, v in os.environ.items() if k == "LD_LIBRARY_PATH"
                },  # some Pythons need it to start
                cwd="/",
                # so that Ctrl-C reaches Burnish alone, which then closes in order
                start_new_session=True,
            )
        finally:
            theirs.close()
        self._sock = ours
        send(ours, self._opening)
        answer = receive(ours)
        if answer is None or "problem" in answer:
            self._process.wait()
            ours.close()
            if answer is None:
                raise UserError(
                    "the sandbox's supervisor ended at once.", hint="Run burnish doctor to see why."
                )
            raise UserError(answer["problem"], hint=answer["hint"], field=answer["field"])
        self.tier: Tier = answer["tier"]
        self.python: str = answer["python"]
        self.seccomp: bool = answer["seccomp"]
        self.nested_namespaces: bool = answer["nested_namespaces"]
        self._waiting = {}
        threading.Thread(
            target=self._listen, args=(ours, self._process, self._waiting), daemon=True
        ).start()

    def _submit(self, job: Job) -> Future[Outcome]:
        from burnish.sandbox.supervisor import send

        future: Future[Outcome] = Future()
        tests = job.tests
        if not tests.count:
            raise ValueError("a job needs at least one test")
        if self._closed:
            raise ValueError("the sandbox is closed")
        with self._lock:
            if self._process.poll() is not None:  # it was killed from outside: a new one
                self._start()
            number, self._next = self._next, self._next + 1
            self._waiting[number] = future
            message: dict[str, Any] = {
                "id": number,
                "program": job.program,
                "partial": job.partial,
                "stdio": tests.stdio,
                "checks": tests.checks,
                "preamble": tests.preamble,
                "functions": tests.functions,
                "makers": tests.makers,
            }
            try:
                send(self._sock, message)
            except (
                OSError
            ):  # it ends just now; whoever listens has perhaps given the answer already
                if self._waiting.pop(number, None) is not None:
                    future.set_result(_lost(tests.count))
        return future

    def _listen(
        self,
        sock: socket.socket,
        process: subprocess.Popen[bytes],
        waiting: dict[int, Future[Outcome]],
    ) -> None:
        """Hand every outcome to the one who waits. When the supervisor is gone, those that wait get
        no verdict."""
        from burnish.sandbox.supervisor import receive

        while (answer := receive(sock)) is not None:
            with self._lock:
                future = waiting.pop(answer.pop("id"))
            future.set_result(Outcome(**answer))
        process.wait()
        with self._lock:
            left = list(waiting.values())
            waiting.clear()
        for future in left:
            future.set_result(_lost(1))


def _lost(total: int) -> Outcome:
    return Outcome("infrastructure", 0, total, "the sandbox's supervisor ended", 0.0)
