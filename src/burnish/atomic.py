"""Writing files and folders so that a reader, or a process killed at any instant, sees the old or
the new, never a part."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from burnish.errors import UserError
from burnish.jsonio import dumps
from burnish.ranks import told
from burnish.system import sync_folder

_MARK = ".partial-"


def write_bytes(path: Path, data: bytes) -> None:
    """Write beside, flush to disk, rename. Raises UserError when the disk is full."""
    scratch = path.with_name(f"{_MARK}{path.name}-{uuid4().hex[:8]}")
    try:
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with scratch.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(path)
            sync_folder(path.parent)
    finally:
        scratch.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8 text."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """`write_text` of indented JSON; NaN and infinities are refused with ValueError."""
    write_text(path, dumps(value, indent=2) + "\n")


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yields an empty folder beside `path` that becomes `path` when the body ends well, and
    vanishes when it does not.

    A folder that was at `path` is replaced. Between moving the old one away and the new one in
    there is an instant in which neither is there; `recover` (called by every reader of such
    folders) puts the old one back then.
    """
    scratch, old = (
        path.with_name(f"{_MARK}{path.name}-{uuid4().hex[:8]}"),
        path.with_name(f".replaced-{path.name}"),
    )
    try:
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            scratch.mkdir()
            yield scratch
            for file in scratch.rglob("*"):
                if file.is_file():
                    _sync(file)
            for folder in [f for f in scratch.rglob("*") if f.is_dir()] + [scratch]:
                sync_folder(folder)
            if path.exists():
                shutil.rmtree(old, ignore_errors=True)
                path.rename(old)
            scratch.rename(path)
            sync_folder(path.parent)
            shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        if old.exists() and not path.exists():
            old.rename(path)


@contextmanager
def shared_folder(path: Path) -> Iterator[Path]:
    """`atomic_folder` for all ranks that train together: rank 0 makes the folder and puts it in its
    place, when the body has ended well on rank 0; the body sees to it that the others are done."""
    with ExitStack() as stack:
        yield told(lambda: stack.enter_context(atomic_folder(path)))


def recover(path: Path) -> None:
    """Undo what a kill inside `atomic_folder(path)` left: stale scratch folders, and an old folder
    that was moved away."""
    old = path.with_name(f".replaced-{path.name}")
    if old.exists() and not path.exists():
        old.rename(path)
    shutil.rmtree(old, ignore_errors=True)
    for stale in path.parent.glob(f"{_MARK}{path.name}-*"):
        (
            shutil.rmtree(stale, ignore_errors=True)
            if stale.is_dir()
            else stale.unlink(missing_ok=True)
        )


def clean_leftovers(folder: Path) -> None:
    """Remove what processes that were killed while writing left anywhere in a folder in which
    nothing is writing now."""
    for stale in list(folder.rglob(f"{_MARK}*")):
        (
            shutil.rmtree(stale, ignore_errors=True)
            if stale.is_dir()
            else stale.unlink(missing_ok=True)
        )


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns what the system refuses while `path` is written into a UserError that says what to
    do."""
    try:
        yield
    except Exception as error:
        number = _system_error(error)
        if number in (errno.ENOSPC, errno.EDQUOT):
            hint = (
                "Free some space and run the same command again: it continues from the last"
                " checkpoint."
            )
            raise UserError(
                "the disk is full; nothing that was written before is lost.", file=path, hint=hint
            ) from error
        if number in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise UserError(
                "this place cannot be written to.",
                file=path,
                hint="Choose another folder with --out.",
            ) from error
        if number is not None:
            raise UserError(
                f"this cannot be written ({os.strerror(number)}).",
                file=path,
                hint="Choose another folder with --out.",
            ) from error
        raise


def _system_error(error: Exception) -> int | None:
    """The system's number of a failure; safetensors has an error of its own that names it in the
    text only."""
    if isinstance(error, OSError):
        return error.errno
    found = (
        re.search(r"\(os error (\d+)\)", str(error))
        if type(error).__name__ == "SafetensorError"
        else None
    )
    return int(found[1]) if found else None


def _sync(path: Path) -> None:
    with path.open("r+b" if os.name == "nt" else "rb") as file:
        os.fsync(file.fileno())
