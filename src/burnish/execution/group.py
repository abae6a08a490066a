"""A group of ranks as processes of this machine, and the driver that watches over them.

A rank that dies ends the whole group, for no other can go on without its shards; the driver makes
the group anew, which goes on from the last checkpoint. An error that a rank raises is raised in the
driver. Ranks end when the driver does, whichever way it ends.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from types import ModuleType
from typing import Any

from burnish.errors import UserError
from burnish.system import end_with_parent

Send = Callable[[Any], None]
Work = Callable[[Send], Any]
"""What every rank does; it sends the driver what somebody should see. Rank 0's result is the
group's. It travels to the processes, so it is a function of a module, or a `partial` of one."""

_PRELOADED = (
    "torch.distributed.checkpoint", "torch.distributed.fsdp", "torch.distributed.tensor",
    "burnish.models.weights",
    "burnish.trainers.online",
)  # fmt: skip
_GRACE = 10.0  # seconds for the others to notice that one is gone, before they are ended


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds for all ranks to come together, and for which one waits for another."""

    start: float = 900.0
    train: float = 3600.0


class Lost(Exception):
    """A rank is gone, or waits for one that does not answer."""


class RankFailed(RuntimeError):
    """A rank's error that could not travel itself; with its traceback."""


def keep_running(
    once: Callable[[], Any],
    *,
    restarts: int,
    progress_of: Callable[[], Any],
    say: Callable[[str], None],
) -> Any:
    """`once()`, again where a rank is lost: at most `restarts` times in a row in which
    `progress_of` (the newest checkpoint, say) stays the same. Raises UserError then."""
    count, before = 0, progress_of()
    while True:
        try:
            return once()
        except Lost as lost:
            now = progress_of()
            count, before = (1 if now != before else count + 1), now
            if count > restarts:
                raise UserError(
                    f"{lost}, and {restarts} restarts in a row came no further.",
                    field="scale.restarts.trainers",
                    hint=(
                        "Look for what ended it (memory, most often). The same command goes on from"
                        " the last checkpoint."
                    ),
                ) from lost
            say(
                f"{lost}: all trainers start again from the last checkpoint ({count} of {restarts})"
            )


def run_group(
    work: Work,
    *,
    world: int,
    deadline: Deadlines,
    device: str = "cpu",
    hear: Callable[[Any], None] = lambda _: None,
    watch: Callable[[list[int]], None] = lambda _: None,
) -> Any:
    """Run `work` on `world` processes and return what it gives on rank 0.

    Args:
        work: what each does.
        world: how many.
        deadline: how long they wait for one another.
        device: cpu or cuda.
        hear: is called with what ranks send.
        watch: is told the ranks' process ids.

    Raises Lost where a rank died or does not answer, and what a rank raises.
    """
    from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    context = _context()
    processes, pipes = [], []
    try:
        for rank in range(world):
            ours, theirs = context.Pipe(duplex=False)
            place = (rank, world, store.port, deadline, device)
            arguments = (work, place, dict(os.environ), theirs)
            process = context.Process(target=_be_rank, args=arguments)
            with _without_main():
                process.start()
            theirs.close()
            processes.append(process)
            pipes.append(ours)
        watch([process.pid for process in processes])
        return _Watch(processes, pipes, hear).result()
    finally:
        _end(processes)


def _context() -> Any:
    """How processes start: from one that has imported what all of them need, where the system can
    fork."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_PRELOADED))
    return context


@contextmanager
def _without_main() -> Iterator[None]:
    """Start processes that do not run the user's script again, which need not guard against it."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


class _Watch:
    """What the driver knows of its ranks."""

    def __init__(
        self, processes: list[Any], pipes: list[Connection], hear: Callable[[Any], None]
    ) -> None:
        self._processes, self._hear = processes, hear
        self._rank_of = {pipe: rank for rank, pipe in enumerate(pipes)}
        self._done: dict[int, Any] = {}
        self._errors: dict[int, tuple[BaseException, bool]] = {}
        self._gone: dict[int, int | None] = {}

    def result(self) -> Any:
        """What rank 0 gave, when all are done."""
        open_pipes, until = list(self._rank_of), None
        while open_pipes:
            left = None if until is None else max(0.0, until - time.monotonic())
            ready = wait(open_pipes, left)
            for pipe in ready:
                if not self._receive(pipe):  # type: ignore[arg-type]
                    open_pipes.remove(pipe)  # type: ignore[arg-type]
            if until is None and (self._errors or self._gone):
                until = time.monotonic() + _GRACE
            if until is not None and (time.monotonic() >= until or self._is_plain):
                break
        silent = [rank for pipe, rank in self._rank_of.items() if pipe in open_pipes]
        self._raise(silent)
        return self._done[0]

    @property
    def _is_plain(self) -> bool:
        """Whether an error says by itself what is wrong: not one of a connection that another's
        death has cut."""
        return any(not cut for _, cut in self._errors.values())

    def _receive(self, pipe: Connection) -> bool:
        """Take in one message; False: there will be no more."""
        rank = self._rank_of[pipe]
        try:
            data = pipe.recv_bytes()
        except (EOFError, OSError):
            if rank not in self._done and rank not in self._errors:
                process = self._processes[rank]
                process.join(_GRACE)
                self._gone[rank] = process.exitcode
            return False
        kind, what = pickle.loads(data)
        if kind == "done":
            self._done[rank] = what
        elif kind == "error":
            self._errors[rank] = (_unpacked(what), what[2])
        else:
            self._hear(what)
        return True

    def _raise(self, silent: list[int]) -> None:
        """Raise what went wrong, if anything did."""
        plain = [error for _, (error, cut) in sorted(self._errors.items()) if not cut]
        if plain:
            raise plain[0]
        world = len(self._processes)
        for rank, code in sorted(self._gone.items()):
            raise Lost(f"trainer {rank + 1} of {world} died ({_how(code)})")
        if self._errors and silent:
            raise Lost(f"trainer {silent[0] + 1} of {world} does not answer")
        if self._errors:
            raise Lost(f"the trainers lost one another ({next(iter(self._errors.values()))[0]})")


def _how(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _end(processes: list[Any]) -> None:
    """End every process that is still there; none outlives the call."""
    for process in processes:
        if process.is_alive():
            process.terminate()
    until = time.monotonic() + 5
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


def _be_rank(
    work: Work,
    place: tuple[int, int, int, Deadlines, str],
    environment: dict[str, str],
    pipe: Connection,
) -> None:
    """The life of one rank."""
    os.environ.update(environment)  # of now: the process that it is forked from may be older
    rank, world, port, deadline, device = place
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides what Ctrl-C ends
    end_with_parent()
    lock = threading.Lock()

    def send(kind: str, what: Any) -> None:
        data = pickle.dumps((kind, what))  # the pipe's own way of sending a tensor needs us alive
        with lock:
            pipe.send_bytes(data)

    code = 0
    try:
        from burnish.execution.ranks import joined

        with joined(
            rank, world, port=port, start=deadline.start, train=deadline.train, device=device
        ):
            result = work(lambda what: send("heard", what))
        send("done", result if rank == 0 else None)
    except BaseException as error:
        send("error", (_packed(error), traceback.format_exc(), _is_cut(error)))
        code = 1
    pipe.close()
    os._exit(code)  # threads of collectives that nobody answers would hold it up


def _is_cut(error: BaseException) -> bool:
    """Whether it is what a rank sees when another is gone: a connection closed, or a wait that
    was too long."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"DistBackendError", "DistNetworkError", "DistStoreError"}:
        return True
    text = str(error).lower()
    signs = ("connection closed by peer", "connection reset", "gloo", "timed out waiting", "nccl")
    return isinstance(error, RuntimeError) and any(sign in text for sign in signs)


def _packed(error: BaseException) -> bytes | None:
    try:
        data = pickle.dumps(error)
        pickle.loads(data)
    except Exception:
        return None
    return data


def _unpacked(what: tuple[bytes | None, str, bool]) -> BaseException:
    data, trace, _ = what
    if data is None:
        return RankFailed(trace)
    error = pickle.loads(data)
    if not isinstance(error, UserError):
        error.add_note(trace)
    return error
