"""The supervisor: an unprivileged process between Burnish and the programs. It holds the warm pool,
runs jobs, judges.

It is a process of its own so that it can give up root for good, so that starting a sandbox never
copies the page tables of a trainer, and so that its clocks do not wait for a trainer's interpreter
lock. Expected outputs exist here, never in a sandbox. Frames over one socket: four bytes of length,
then JSON. Standard library only.
"""

from __future__ import annotations

import ctypes
import json
import os
import queue
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from burnish.errors import UserError
from burnish.sandbox.compare import same_output
from burnish.sandbox.limits import Limits
from burnish.sandbox.tiers import Setting, drop_privileges, settle
from burnish.sandbox.worker import Ended, Worker, end_all, sealed

_START_SECONDS = 60.0  # for a sandbox to come up: no time of the program's
_STARTS = 3  # attempts before it is called an infrastructure error
_JUDGE_CHECKS = 200  # then a new one, so that nothing piles up


class Unavailable(Exception):
    """The sandbox failed, not the program."""


class Pool:
    """Sandboxes that are started ahead, each used for one program and then destroyed."""

    def __init__(self, setting: Setting, limits: Limits, *, warm: int) -> None:
        self._setting, self._limits, self._warm = setting, limits, warm
        self._ready: deque[Worker] = deque()
        self._changed = threading.Condition()
        self._problem: str | None = None
        # Sandboxes die with the thread that started them, so one thread that lives as long as the
        # pool starts them all.
        threading.Thread(target=self._refill, name="starter", daemon=True).start()

    def take(self) -> Worker:
        """A sandbox that has said it is ready."""
        problem = ""
        for _ in range(_STARTS):
            with self._changed:
                if not self._changed.wait_for(
                    lambda: self._ready or self._problem, timeout=_START_SECONDS
                ):
                    raise Unavailable("no sandbox could be started")
                if self._problem and not self._ready:
                    problem, self._problem = self._problem, None
                    self._changed.notify_all()
                    continue
                worker = self._ready.popleft()
                self._changed.notify_all()
            try:
                worker.ready(seconds=_START_SECONDS)
                return worker
            except Ended as error:
                problem = worker.last_words() or error.detail
                worker.kill()
        raise Unavailable(f"a sandbox did not start: {problem}")

    def _refill(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: len(self._ready) < self._warm and not self._problem)
            try:
                worker = Worker(self._setting, self._limits, judge=False)
            except OSError as error:
                with self._changed:
                    self._problem = str(error)
                    self._changed.notify_all()
                continue
            with self._changed:
                self._ready.append(worker)
                self._changed.notify_all()


class Slot:
    """One of the places where programs run, with a judge of its own that lives on."""

    def __init__(self, setting: Setting, limits: Limits, pool: Pool) -> None:
        self._setting, self._limits, self._pool = setting, limits, pool
        self._judge: Worker | None = None

    def run(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """The outcome of a job; see `client.Outcome`."""
        begun = time.monotonic()
        try:
            outcome = self._stdio(job) if job["stdio"] else self._functions(job)
        except Unavailable as error:
            outcome = _outcome(
                "infrastructure", 0, max(1, len(job["stdio"]) or len(job["checks"])), str(error)
            )
        return {**outcome, "seconds": time.monotonic() - begun}

    def _stdio(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Every test in a process of its own; a new sandbox whenever the last one was lost."""
        passed, first, worker = 0, "", None
        kind = "passed"
        forks = self._setting.tier == "bubblewrap"
        try:
            for given, expected in job["stdio"]:
                try:
                    if worker is None:
                        worker = self._pool.take()
                        answer = worker.ask(
                            _frame("script", job["program"]), seconds=self._limits.seconds
                        )
                        if answer != b'["ok"]':
                            return _outcome("failed", passed, len(job["stdio"]), _error(answer))
                    good, problem = self._one(worker, given, expected, forks=forks)
                    failure = "failed"
                except Ended as error:
                    good, problem = False, error.detail
                    failure = "timeout" if error.kind == "timeout" else "failed"
                    forked = False
                else:
                    forked = forks
                if worker is not None and not forked:
                    worker.kill()
                    worker = None
                passed += good
                if not good:
                    first = first or problem
                    kind = failure if kind == "passed" else kind
                    if not job["partial"]:
                        break
        finally:
            if worker is not None:
                worker.kill()
        return _outcome(kind, passed, len(job["stdio"]), first)

    def _one(self, worker: Worker, given: str, expected: str, *, forks: bool) -> tuple[bool, str]:
        """Whether one run prints what it should and ends with exit code 0, and what is wrong."""
        file = sealed(given.encode("utf-8", "surrogatepass"))
        try:
            frame = _frame("run", forks)
            if forks:
                answer = worker.ask(frame, seconds=self._limits.seconds, file=file)
                code = _exit_code(answer)
            else:
                code = worker.run_to_end(frame, seconds=self._limits.seconds, file=file)
        finally:
            os.close(file)
        output = worker.take_output()
        if code == -24:  # SIGXCPU
            raise Ended("timeout", f"more than {self._limits.cpu_seconds} s of processor time")
        if code:
            return False, worker.last_words() or (
                f"exit code {code}" if code > 0 else f"ended by signal {-code}"
            )
        if same_output(output, expected):
            return True, ""
        start = ascii(output[:80].decode("utf-8", "replace"))
        return (
            False,
            (
                f"it printed {start}{'...' if len(output) > 80 else ''}, which is not the output"
                " expected"
            ),
        )

    def _functions(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """The program in one sandbox, its tests in another, and every call carried between them."""
        total = len(job["checks"])
        worker = self._pool.take()
        try:
            begun = worker.own_seconds
            try:
                answer = worker.ask(_frame("load", job["program"]), seconds=self._limits.seconds)
            except Ended as error:
                return _outcome(
                    "timeout" if error.kind == "timeout" else "failed", 0, total, error.detail
                )
            if answer != b'["ok"]':
                return _outcome("failed", 0, total, _error(answer))
            return self._carry(worker, job, begun + self._limits.seconds)
        finally:
            worker.kill()

    def _carry(self, worker: Worker, job: Mapping[str, Any], until: float) -> dict[str, Any]:
        """Carry calls and answers; the program may go on until its own clock shows `until`, the
        tests as long as it may."""
        total, answered = len(job["checks"]), 0
        lost: Ended | None = None
        judge = self._warm_judge()
        judge_until = judge.own_seconds + self._limits.seconds
        names = ("preamble", "checks", "functions", "makers", "partial")
        message = json.dumps({name: job[name] for name in names}).encode()
        try:
            while True:
                said = json.loads(
                    judge.ask(message, seconds=max(judge_until - judge.own_seconds, 0.001))
                )
                judge.output.clear()
                if "done" in said:
                    break
                try:
                    if lost:
                        raise lost
                    reply = b"R" + worker.ask(
                        said["call"].encode("ascii"), seconds=max(until - worker.own_seconds, 0.001)
                    )
                    worker.output.clear()
                    answered += 1
                except Ended as error:
                    lost, reply = error, b"G" + error.detail.encode()
                message = reply
        except Ended as error:
            self._drop_judge()
            if not answered:  # nothing of the program's has reached the tests: it is not to blame
                raise Unavailable(f"the tests did not come to an end: {error.detail}") from error
            kind = "timeout" if error.kind == "timeout" else "failed"
            return _outcome(
                kind, 0, total, f"the tests do not end on what it returned: {error.detail}"
            )
        done = said["done"]
        if done["broken"]:
            raise Unavailable(f"the tests cannot be run: {done['error']}")
        if done["error"] and done["error"].startswith(("MemoryError", "RecursionError")):
            self._drop_judge()  # perhaps not in its right mind any more
        if done["passed"] == done["total"]:
            return _outcome("passed", done["passed"], done["total"], "")
        kind = "timeout" if lost is not None and lost.kind == "timeout" else "failed"
        return _outcome(kind, done["passed"], done["total"], str(done["error"]))

    def _warm_judge(self) -> Worker:
        if self._judge is not None and self._judge.used >= _JUDGE_CHECKS:
            self._drop_judge()
        if self._judge is None:
            problem = ""
            for _ in range(_STARTS):
                judge = Worker(self._setting, self._limits, judge=True)
                try:
                    judge.ready(seconds=_START_SECONDS)
                    self._judge = judge
                    break
                except Ended as error:
                    problem = judge.last_words() or error.detail
                    judge.kill()
            else:
                raise Unavailable(f"no judge could be started: {problem}")
        self._judge.used += 1
        return self._judge

    def _drop_judge(self) -> None:
        if self._judge is not None:
            self._judge.kill()
            self._judge = None


def _outcome(kind: str, passed: int, total: int, detail: str) -> dict[str, Any]:
    return {"kind": kind, "passed": passed, "total": total, "detail": detail}


def _frame(*parts: Any) -> bytes:
    return ascii(list(parts)).encode("ascii")


def _error(answer: bytes) -> str:
    """The text in ["error", TEXT]. It comes out of the sandbox: anything may stand there."""
    try:
        return " ".join(str(json.loads(answer)[1]).split())[:200]
    except (ValueError, TypeError, IndexError, KeyError, RecursionError):
        return "the program does not load"


def _exit_code(answer: bytes) -> int:
    """The exit code in ["status", WAIT STATUS], negative for a signal; 1 for anything else that
    stands there."""
    try:
        name, status = json.loads(answer)
        return os.waitstatus_to_exitcode(status) if name == "status" else 1
    except (ValueError, TypeError, OverflowError, RecursionError):
        return 1


def main() -> None:
    """Serve the socket on standard input until it closes."""
    sock = socket.socket(fileno=os.dup(0))
    opening = receive(sock)
    if opening is None:
        return
    "".encode("ascii")  # loads the codec now: after the next line our own files may be out of reach
    drop_privileges()
    # PR_SET_DUMPABLE: no process of the same user may look in here
    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
    try:
        limits = Limits(**opening["limits"])
        setting = settle(opening["tier"], python=opening["python"])
    except UserError as error:
        send(sock, {"problem": error.problem, "hint": error.hint, "field": error.field})
        return
    parallel = opening["parallel"]
    pool = Pool(setting, limits, warm=opening["warm"])
    send(
        sock,
        {
            "tier": setting.tier,
            "python": setting.interpreter.version,
            "seccomp": setting.bpf is not None,
            "nested_namespaces": setting.tier == "bubblewrap" and not setting.disable_userns,
        },
    )
    jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    lock = threading.Lock()

    def work() -> None:
        slot = Slot(setting, limits, pool)
        while True:
            job = jobs.get()
            try:
                outcome = slot.run(job)
            except Exception as error:  # a fault of ours is no verdict on the program
                outcome = {
                    **_outcome("infrastructure", 0, 1, f"{type(error).__name__}: {error}"),
                    "seconds": 0.0,
                }
                slot._drop_judge()
            with lock:
                send(sock, {"id": job["id"], **outcome})

    for _ in range(parallel):
        threading.Thread(target=work, daemon=True).start()
    while (job := receive(sock)) is not None:
        jobs.put(job)
    end_all()
    os._exit(0)  # without waiting for the threads: no program runs any more


def send(sock: socket.socket, value: Any) -> None:
    """One frame out."""
    data = json.dumps(value).encode()
    sock.sendall(len(data).to_bytes(4, "big") + data)


def receive(sock: socket.socket) -> Any:
    """One frame in; None at the end."""
    head = _exactly(sock, 4)
    data = _exactly(sock, int.from_bytes(head, "big")) if head else None
    return json.loads(data) if data is not None else None


def _exactly(sock: socket.socket, count: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < count:
        try:
            part = sock.recv(min(count - len(parts), 1 << 16))
        except OSError:
            return None
        if not part:
            return None
        parts += part
    return bytes(parts)


if __name__ == "__main__":
    sys.exit(main())
