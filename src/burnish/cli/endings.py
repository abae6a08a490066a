"""How a command ends that cannot go on: one line and an exit code. What has no line here is a fault
of ours, with its traceback."""

from __future__ import annotations

import errno
import os

from burnish.errors import UserError

_HINT = "Add --traceback to see where."
_MENDED = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ELOOP,
)  # fmt: skip
_MACHINE = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.EFBIG,
)


def ending_of(error: BaseException) -> tuple[str, int] | None:
    """(line, exit code) for an error that ended a command; None where its traceback is what is
    needed.

    2: something the user can mend. 75: the run waits for people. 1: the machine gave out. 130:
    stopped by hand.
    """
    if isinstance(error, UserError):
        return f"burnish: {error}", error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return (
            "\nburnish: stopped. Run the same command again to go on from the last checkpoint.",
            130,
        )
    if _out_of_memory(error):
        return (
            f"burnish: the memory is not enough. Take smaller batches or a smaller model. {_HINT}",
            1,
        )
    if isinstance(error, RecursionError):
        return f"burnish: something stands in itself, or too deep in other things. {_HINT}", 1
    if isinstance(error, OSError) and error.errno in (*_MENDED, *_MACHINE):
        place = f"{_shown(error.filename)}: " if error.filename is not None else ""
        code = 2 if error.errno in _MENDED else 1
        return f"burnish: {place}the system says: {os.strerror(error.errno)}. {_HINT}", code
    return None


def _out_of_memory(error: BaseException) -> bool:
    """Python's own, torch's on a GPU, and torch's on a CPU, which is a RuntimeError like any other
    but for its text."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error))


def _shown(name: object) -> str:
    text = os.fsdecode(name) if isinstance(name, str | bytes) else str(name)
    text = text if text.isprintable() else text.encode("unicode_escape").decode()
    return text if len(text) <= 200 else f"{text[:197]}..."
