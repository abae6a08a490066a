"""What is in some large files, as one hash, without reading again those that nobody has touched."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from burnish.errors import UserError
from burnish.runs.manifest import file_hash, fingerprint, read_sealed, write_sealed

# seconds: a file may change twice within the grain of its times, so one that is as new as this is
# read again
_FRESH = 10


def contents_hash(files: Mapping[str, Path], *, known: Path) -> str:
    """The hash of the files' names and bytes.

    `known` is a file that keeps the hashes of single files by path, size, inode and times of
    change: half a gigabyte takes most of a second to read, and a large model half a minute, at each
    start of a run that does nothing but make a report.
    """
    before = _read(known)
    after: dict[str, Any] = {}
    hashes: dict[str, str] = {}
    for name, path in files.items():
        try:
            place, state = str(path.resolve()), _state(path)
            entry = before.get(place, {})
            same = entry.get("state") == state
            hashes[name] = entry["sha256"] if same else file_hash(path)
        except OSError as error:
            raise UserError(
                f"this file cannot be read ({error.strerror or error}).", file=path
            ) from None
        if same or max(state[2:]) < time.time_ns() - _FRESH * 10**9:
            after[place] = {"state": state, "sha256": hashes[name]}
    if after != before:
        write_sealed(known, after)
    return fingerprint(hashes)


def _state(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns]


def _read(known: Path) -> dict[str, Any]:
    try:
        return read_sealed(known, UserError("damaged"))
    except (
        FileNotFoundError,
        UserError,
    ):  # it spares time and decides nothing: what is not known is read
        return {}
