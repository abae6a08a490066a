"""What differs between Linux, macOS and Windows, in one place. Nothing that one of them lacks is
imported at the top, nor anything that is not the standard library's: the sandbox's supervisor has
nothing else."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from importlib import import_module
from multiprocessing import parent_process
from pathlib import Path
from typing import IO

_LOCKED_BYTE = 1 << 30
"""Windows locks bytes, and nobody else may read a locked one: far behind what is written there."""


def usable_cores() -> int:
    """CPU cores that this process may run on; all of them where the system cannot say (macOS,
    Windows)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def total_memory() -> int:
    """Bytes of memory that the machine has."""
    import psutil

    return psutil.virtual_memory().total


def available_memory() -> int:
    """Bytes that new processes can take without swapping, as the system estimates."""
    import psutil

    return psutil.virtual_memory().available


def peak_memory() -> int:
    """The most bytes of memory this process has had resident since `reset_peak_memory`, or since it
    started."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        pass
    try:
        resource = import_module("resource")
    except ImportError:
        import psutil

        memory = psutil.Process().memory_info()
        return getattr(memory, "peak_wset", memory.rss)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def reset_peak_memory() -> None:
    """Start measuring the peak anew, where the kernel lets us."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def trim_heap() -> None:
    """Hand memory that the C library keeps for later back to the system (glibc only)."""
    if os.name != "posix":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


_PAGE_OUT = 21  # MADV_PAGEOUT: Linux from 5.4 on


def page_out(address: int, size: int) -> None:
    """Let the memory of what will hardly be read again go (Linux): pages of a file that is mapped
    are read from it where they are needed after all. Nothing is lost."""
    advise = getattr(ctypes.CDLL(None), "madvise", None) if sys.platform == "linux" else None
    if advise is None:
        return
    page = os.sysconf("SC_PAGE_SIZE")
    start = -(-address // page) * page
    length = (address + size) // page * page - start
    if length > 0:
        advise(ctypes.c_void_p(start), ctypes.c_size_t(length), _PAGE_OUT)


def try_lock(file: IO[str]) -> bool:
    """Lock an open file for this process until it is closed; False if another process holds it.

    The system lets go of the lock when the process ends, however it ends.
    """
    try:
        fcntl = import_module("fcntl")
    except ImportError:
        return _try_lock_windows(file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def end_with_parent() -> None:
    """Let this process end when the one that started it does, however that ends: it would wait for
    work for ever."""
    parent = parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def sync_folder(path: Path) -> None:
    """Flush a folder's entries to disk, so that a rename inside it outlives a power cut; Windows
    has no such call."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _try_lock_windows(file: IO[str]) -> bool:
    try:
        msvcrt = import_module("msvcrt")
    except ImportError:  # neither kind of lock: two processes in one folder are the user's to avoid
        return True
    place = file.tell()
    file.seek(_LOCKED_BYTE)
    try:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    except OSError:
        return False
    finally:
        file.seek(place)
    return True
