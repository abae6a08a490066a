"""Engines in processes of this machine, without anything that would have to be installed.

An engine is a Python of its own at the other end of a socket. It ends when its owner does: the
owner holds the other end of its standard input, which the system closes however the owner ended,
and a thread of the engine waits for that alone.
"""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from burnish.errors import UserError
from burnish.execution.orders import Event, Order, Started
from burnish.execution.server import EngineServer, EngineSpec

_GRACE = 5.0  # seconds from the end of a connection to that of its process
_LAST = 2000  # bytes of what an engine wrote before it died


class ProcessLine:
    """One engine in a process. `of` makes it."""

    def __init__(self, spec: EngineSpec) -> None:
        if os.name != "posix":
            raise UserError(
                "engines in processes of their own need Linux or macOS.",
                field="scale.engines",
                hint="Leave it out: the stage then samples in its own process.",
            )
        self._spec = spec
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the engine
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "burnish.execution.processes", str(theirs.fileno())],
                stdin=subprocess.PIPE,
                stdout=self._errors,
                stderr=self._errors,
                pass_fds=[theirs.fileno()],
            )
        self._connection = Connection(ours.detach())

    @property
    def pid(self) -> int:
        """The process's."""
        return self._process.pid

    def started(self) -> Event:
        """See `threaded.Line`."""
        return _exchange(self._connection, self._spec)

    def ask(self, order: Order) -> Event:
        """See `threaded.Line`."""
        return _exchange(self._connection, order)

    def end(self) -> None:
        """See `threaded.Line`."""
        self._process.kill()
        self._process.wait(timeout=_GRACE)

    def last_words(self, error: Exception) -> str:
        """The signal that ended the process, or the last line that it wrote."""
        try:
            status = self._process.wait(timeout=_GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._connection.close()
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - _LAST))
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        self._errors.close()
        if status < 0:
            return f"its process was ended by signal {-status}"
        return f"its process ended with {status}: {lines[-1] if lines else error!r}"


def process_fleet(spec: EngineSpec) -> Callable[[str], ProcessLine]:
    """What connects to engines of this kind, for a `ThreadedFleet`."""
    return lambda _: ProcessLine(spec)


def _exchange(connection: Connection, message: EngineSpec | Order) -> Event:
    """Send, and wait for the answer. Pickled by hand: `Connection.send` would hand tensors over as
    open files. Only a process that this one has started is at the other end."""
    connection.send_bytes(pickle.dumps(message))
    return pickle.loads(connection.recv_bytes())


def _end_with_owner() -> None:
    """End this process, whatever it is doing, when the owner's end of standard input is closed."""
    while os.read(0, 1):
        pass
    os._exit(0)


def _serve(connection: Any) -> None:
    """Carry out orders until the owner is gone."""
    server = EngineServer(pickle.loads(connection.recv_bytes()))
    event: Event = Started()
    while True:
        connection.send_bytes(pickle.dumps(event))
        event = server.answer(pickle.loads(connection.recv_bytes()))


def main() -> None:
    """The engine's process: the socket's number is its only argument."""
    threading.Thread(target=_end_with_owner, daemon=True).start()
    connection = Connection(int(sys.argv[1]))
    try:
        _serve(connection)
    except (EOFError, ConnectionError):  # the owner is gone
        return
    except Exception:
        traceback.print_exc()
        sys.exit(1)


if __name__ == "__main__":
    main()
