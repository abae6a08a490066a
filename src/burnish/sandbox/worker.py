"""One sandboxed process, seen from outside: starting it, frames to and from it, its limits in time
and size, its end."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from burnish.sandbox.limits import MIB, Limits
from burnish.sandbox.tiers import Setting, command

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK = 0.05  # seconds between two looks at the memory
_KEPT_ERRORS = 2000
_CLOCK = os.sysconf("SC_CLK_TCK")
PATIENCE = 20.0  # times the limit, in wall clock: a guard, not a measure
_LIVE: set[Worker] = set()
_STARTING = threading.Lock()


class Ended(Exception):
    """The process is of no more use. `kind`: "timeout", "output", "memory", "exited" or
    "oversize"."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind, self.detail = kind, detail


class Worker:
    """A process in the sandbox and the three pipes that join it to us."""

    def __init__(self, setting: Setting, limits: Limits, *, judge: bool) -> None:
        self.limits, self.setting = limits, setting
        self.used = 0
        self.own_seconds = self._used = 0.0
        self.output = bytearray()
        self._errors = bytearray()
        self._most_output = limits.output_kb * 1024
        self._control, inner = socket.socketpair()
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        seccomp_file = (
            _in_memory(setting.bpf) if setting.bpf and setting.tier == "bubblewrap" else None
        )
        line = command(
            setting, limits, judge=judge, control=inner.fileno(), seccomp_file=seccomp_file
        )
        passed = [inner.fileno(), *([seccomp_file] if seccomp_file is not None else [])]
        try:
            with _STARTING:
                self._process = subprocess.Popen(
                    line,
                    stdin=subprocess.DEVNULL,
                    stdout=out_write,
                    stderr=err_write,
                    pass_fds=passed,
                    env={},
                    cwd="/",
                    start_new_session=True,
                )
                self._up = False
                _LIVE.add(self)
        except BaseException:
            self._control.close()
            os.close(out_read)
            os.close(err_read)
            raise
        finally:
            inner.close()
            for file in (
                out_write,
                err_write,
                *([seccomp_file] if seccomp_file is not None else []),
            ):
                os.close(file)
        self._out, self._err = out_read, err_read
        for file in (self._control.fileno(), out_read, err_read):
            os.set_blocking(file, False)
        self._alive = True

    def ready(self, *, seconds: float) -> None:
        """Wait until the process says that it is ready."""
        if self.receive(seconds=seconds) != b'["ready"]':
            raise Ended("exited", "the sandbox does not speak as it should")
        self._up = True

    def ask(self, frame: bytes, *, seconds: float, file: int | None = None) -> bytes:
        """Send a frame, perhaps with an open file, and wait for the answer. Raises Ended.

        `seconds` are the process's own: processor time, and time in which all of it sleeps. Waiting
        for a processor that others use costs it nothing. What it took is added to `own_seconds`.
        """
        return self._exchange(frame, file, seconds)

    def run_to_end(self, frame: bytes, *, seconds: float, file: int) -> int:
        """Send a frame with a file and wait for the process to end: its exit code, negative for a
        signal. Raises Ended."""
        end = os.pidfd_open(self._process.pid)
        try:
            self._exchange(frame, file, seconds, end=end)
        finally:
            os.close(end)
        self._drain(self._out, self.output, self._most_output)
        return self._process.wait()

    def receive(self, *, seconds: float) -> bytes:
        """Wait for a frame. Raises Ended."""
        return self._exchange(None, None, seconds)

    def take_output(self) -> bytes:
        """What was printed since the last call."""
        self._drain(self._out, self.output, self._most_output)
        found = bytes(self.output)
        self.output.clear()
        return found

    def last_words(self) -> str:
        """The last line on standard error."""
        with contextlib.suppress(Ended):
            self._drain(self._err, self._errors, None)
        lines = self._errors.decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:200] if lines else ""

    def kill(self) -> None:
        """End the process and, with it, everything that it started. Called twice, it does
        nothing."""
        if not self._alive:
            return
        self._alive = False
        self.end()
        self._process.wait()
        _LIVE.discard(self)
        self._control.close()
        os.close(self._out)
        os.close(self._err)

    def end(self) -> None:
        """SIGKILL to all of it."""
        # While bwrap sets up, its child does not yet die with it: it would wait for its dead parent
        # for ever.
        if not self._up:
            with contextlib.suppress(OSError):
                os.kill(self._process.pid, signal.SIGSTOP)
                _until_stopped(self._process.pid)
            for pid in _tree(self._process.pid)[1:]:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()

    def _exchange(
        self, frame: bytes | None, file: int | None, seconds: float, *, end: int | None = None
    ) -> bytes:
        """`_wait_for_answer`, with what it took added to `own_seconds`."""
        before = self._cpu()
        self._used = 0.0
        try:
            return self._wait_for_answer(frame, file, seconds, end=end)
        finally:
            self.own_seconds += max(self._used, self._cpu() - before)

    def _cpu(self) -> float:
        """Seconds of processor time that the process, its descendants and those that it buried have
        had."""
        return sum(map(_cpu_time, _tree(self._process.pid)))

    def _is_runnable(self) -> bool:
        """Whether any of its threads runs, or waits for a processor or a disk."""
        return any(map(_has_runnable_thread, _tree(self._process.pid)))

    def _wait_for_answer(
        self, frame: bytes | None, file: int | None, seconds: float, *, end: int | None = None
    ) -> bytes:
        """Send, then wait for a frame; or, where `end` is the process as a file, for that, whatever
        else it says."""
        begun = last_look = time.monotonic()
        deadline, next_look = begun + PATIENCE * seconds, begun + _TICK
        cpu_before = cpu = self._cpu()
        asleep = 0.0
        sending = (
            memoryview(len(frame).to_bytes(4, "big") + frame)
            if frame is not None
            else memoryview(b"")
        )
        received = bytearray()
        poll = select.poll()
        for each in (self._out, self._err):
            poll.register(each, select.POLLIN)
        hear = select.POLLIN if end is None else 0
        poll.register(self._control, hear | (select.POLLOUT if sending else 0))
        if end is not None:
            poll.register(end, select.POLLIN)
        while True:
            now = time.monotonic()
            if now >= deadline:
                raise Ended("timeout", f"no answer within {PATIENCE * seconds:g} s of wall clock")
            if now >= next_look:
                self._watch_memory()
                before, cpu = cpu, self._cpu()
                if cpu == before and not self._is_runnable():
                    asleep += now - last_look
                self._used = cpu - cpu_before + asleep
                if self._used >= seconds:
                    raise Ended("timeout", f"no answer within {seconds:g} s")
                last_look, next_look = now, now + _TICK
            for handle, event in poll.poll(max(1.0, 1000 * (min(deadline, next_look) - now))):
                if handle == end:
                    return b""
                if handle == self._control.fileno():
                    if event & select.POLLOUT and sending:
                        sending, file = self._send(sending, file)
                        if not sending and end is None:
                            poll.modify(self._control, select.POLLIN)
                        elif not sending:
                            poll.unregister(self._control)
                    elif end is not None:
                        # it has closed its channel; its end is still to come
                        poll.unregister(self._control)
                    elif event & (select.POLLIN | select.POLLHUP) and self._collect(received):
                        return bytes(received[4:])
                elif handle == self._out:
                    if self._drain(self._out, self.output, self._most_output):
                        poll.unregister(handle)
                elif self._drain(self._err, self._errors, None):
                    poll.unregister(handle)

    def _send(self, sending: memoryview, file: int | None) -> tuple[memoryview, int | None]:
        try:
            if file is None:
                return sending[self._control.send(sending) :], None
            return sending[socket.send_fds(self._control, [sending], [file]) :], None
        except BlockingIOError:
            return sending, file
        except OSError:
            raise self._gone() from None

    def _collect(self, received: bytearray) -> bool:
        """Read on towards one whole frame; True when it is there."""
        wanted = 4 if len(received) < 4 else 4 + int.from_bytes(received[:4], "big")
        if wanted > self._most_output + 4:
            raise Ended("oversize", f"a result of more than {self.limits.output_kb} KB")
        try:
            part = self._control.recv(wanted - len(received))
        except BlockingIOError:
            return False
        except OSError:
            part = b""
        if not part:
            raise self._gone()
        received += part
        return len(received) >= 4 and len(received) == 4 + int.from_bytes(received[:4], "big")

    def _drain(self, handle: int, into: bytearray, most: int | None) -> bool:
        """Read what is there; True at the end of the file. Of standard error only the end is
        kept."""
        while True:
            try:
                part = os.read(handle, 1 << 16)
            except BlockingIOError:
                return False
            if not part:
                return True
            into += part
            if most is None:
                del into[:-_KEPT_ERRORS]
            elif len(into) > most:
                raise Ended("output", f"more than {self.limits.output_kb} KB of output")

    def _gone(self) -> Ended:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return Ended("exited", "the program closed its channel")
        number = -code if code < 0 else code - 128 if code > 128 else 0
        if number == signal.SIGXCPU:
            return Ended("timeout", f"more than {self.limits.cpu_seconds} s of processor time")
        return Ended(
            "exited", f"ended by signal {number}" if number else f"ended with exit code {code}"
        )

    def _watch_memory(self) -> None:
        most = self.limits.memory_mb * MIB
        if sum(map(_private_memory, _tree(self._process.pid))) > most:
            raise Ended("memory", f"more than {self.limits.memory_mb} MB of memory")


def end_all() -> None:
    """End every process that was started here and is still there; none can be started any more."""
    _STARTING.acquire()
    for worker in list(_LIVE):
        worker.end()


def _until_stopped(pid: int) -> None:
    """Wait, at most half a second, until a process that was sent SIGSTOP stands still."""
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "TZX":
            return
        time.sleep(0.001)


def _tree(root: int) -> Sequence[int]:
    """A process and all its descendants."""
    found = [root]
    for pid in found:
        with contextlib.suppress(OSError):
            found += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return found


def _private_memory(pid: int) -> int:
    """Resident bytes of a process that are not those of a file."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return 0
    return (int(fields[1]) - int(fields[2])) * _PAGE


def _cpu_time(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / _CLOCK


def _has_runnable_thread(pid: int) -> bool:
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            if (thread / "stat").read_text().rpartition(")")[2].split()[0] in "RD":
                return True
    except OSError:
        return False
    return False


def _in_memory(data: bytes) -> int:
    """A file in memory with this content, at its start."""
    file = os.memfd_create("burnish", os.MFD_CLOEXEC)
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
    os.lseek(file, 0, os.SEEK_SET)
    return file


def sealed(data: bytes) -> int:
    """The same, which nobody can change any more: what a program gets as its standard input."""
    file = os.memfd_create("stdin", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(file, view) :]
        os.lseek(file, 0, os.SEEK_SET)
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, 0xF)  # seal, shrink, grow, write
    except BaseException:
        os.close(file)
        raise
    return file
