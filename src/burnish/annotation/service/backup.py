"""A copy of the whole database, taken while the server goes on serving."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from uuid import uuid4

from sqlalchemy import make_url

from burnish.annotation.db import hidden
from burnish.errors import UserError


def back_up(place: str | Path, target: Path) -> Path:
    """Write a consistent copy of the database at `place` to `target`, which appears whole or not at all.

    SQLite: a database file, copied page by page under SQLite's own lock and checked. PostgreSQL: what `pg_dump` writes in
    its custom format, for `pg_restore`. Raises UserError if the database is not there or the copy fails its check.
    """
    if target.exists():
        raise UserError("there is something of this name already.", file=target, hint="Choose another name.")
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(f".partial-{target.name}-{uuid4().hex[:8]}")
    try:
        if "://" in str(place) and not str(place).startswith("sqlite"):
            _dump(str(place), scratch)
        else:
            _copy(Path(str(place).removeprefix("sqlite:///")), scratch)
        with scratch.open("rb") as file:
            os.fsync(file.fileno())
        scratch.replace(target)
    finally:
        for left in (scratch, Path(f"{scratch}-wal"), Path(f"{scratch}-shm"), Path(f"{scratch}-journal")):
            left.unlink(missing_ok=True)
    return target


def _copy(source: Path, target: Path) -> None:
    if not source.is_file():
        raise UserError("there is no such database.", file=source)
    try:
        with closing(sqlite3.connect(source, timeout=30)) as present, closing(sqlite3.connect(target)) as copy:
            present.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
            (found,) = copy.execute("PRAGMA integrity_check").fetchone()
    except sqlite3.DatabaseError as error:
        raise UserError(f"this database cannot be copied ({error}).", file=source) from error
    if found != "ok":
        raise UserError(f"the copy fails its check ({found}).", file=source)


def _dump(place: str, target: Path) -> None:
    program = shutil.which("pg_dump") or next(
        (str(p) for p in sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_dump"), reverse=True)), None
    )
    if program is None:
        raise UserError("pg_dump is not installed.", hint="Install PostgreSQL's client programs.")
    url = make_url(place)
    environment = dict(os.environ) | ({"PGPASSWORD": str(url.password)} if url.password else {})
    plain = url.set(drivername="postgresql", password=None).render_as_string(hide_password=False)
    done = subprocess.run(
        [program, "--format=custom", f"--file={target}", plain], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise UserError(f"pg_dump failed: {done.stderr.strip()[:300]}", file=hidden(place))
