"""A copy of the whole database, taken while the server goes on serving; and the way back."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from uuid import uuid4

from sqlalchemy import create_engine, func, inspect, make_url, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from burnish.annotation.db import hidden, open_database
from burnish.annotation.tables import Annotation, Item, Project
from burnish.errors import UserError


def back_up(place: str | Path, target: Path) -> Path:
    """Write a consistent copy of the database at `place` to `target`, which appears whole or not at
    all.

    SQLite: a database file, copied page by page under SQLite's own lock and checked. PostgreSQL:
    what `pg_dump` writes in its custom format, for `pg_restore`. Raises UserError if the database
    is not there or the copy fails its check.
    """
    if target.exists():
        raise UserError(
            "there is something of this name already.", file=target, hint="Choose another name."
        )
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
        for left in (
            scratch,
            Path(f"{scratch}-wal"),
            Path(f"{scratch}-shm"),
            Path(f"{scratch}-journal"),
        ):
            left.unlink(missing_ok=True)
    return target


def bring_back(source: Path, place: str | Path) -> dict[str, int]:
    """Put what `back_up` wrote to where there is nothing yet, bring it to the present revision and
    count what is in it.

    Raises UserError for a file that is no such copy, and for a database that holds something
    already.
    """
    if not source.is_file():
        raise UserError("there is no such copy.", file=source)
    if "://" in str(place) and not str(place).startswith("sqlite"):
        _load(source, str(place))
    else:
        target = Path(str(place).removeprefix("sqlite:///"))
        if target.exists():
            raise UserError(
                "there is a database already.", file=target, hint="Move it away, or name another."
            )
        if not source.read_bytes()[:16] == b"SQLite format 3\x00":
            raise UserError("this is no copy of an SQLite database.", file=source)
        back_up(source, target)
    engine = open_database(place)
    try:
        with Session(engine) as session:
            tables = {"projects": Project, "items": Item, "answers": Annotation}
            return {
                name: session.scalar(select(func.count(table.id))) or 0
                for name, table in tables.items()
            }
    finally:
        engine.dispose()


def _copy(source: Path, target: Path) -> None:
    if not source.is_file():
        raise UserError("there is no such database.", file=source)
    try:
        with (
            closing(sqlite3.connect(source, timeout=30)) as present,
            closing(sqlite3.connect(target)) as copy,
        ):
            present.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
            (found,) = copy.execute("PRAGMA integrity_check").fetchone()
    except sqlite3.DatabaseError as error:
        raise UserError(f"this database cannot be copied ({error}).", file=source) from error
    if found != "ok":
        raise UserError(f"the copy fails its check ({found}).", file=source)


def _dump(place: str, target: Path) -> None:
    _run("pg_dump", place, "--format=custom", f"--file={target}", _plain(place))


def _load(source: Path, place: str) -> None:
    engine = create_engine(place)
    try:
        known = inspect(engine).get_table_names()
    except OperationalError as error:
        raise UserError(
            f"this database cannot be opened ({error.orig}).", file=hidden(place)
        ) from error
    finally:
        engine.dispose()
    if known:
        raise UserError(
            "there is something in this database already.",
            file=hidden(place),
            hint="Make an empty one.",
        )
    _run(
        "pg_restore",
        place,
        "--no-owner",
        "--single-transaction",
        f"--dbname={_plain(place)}",
        str(source),
    )


def _plain(place: str) -> str:
    return (
        make_url(place)
        .set(drivername="postgresql", password=None)
        .render_as_string(hide_password=False)
    )


def _run(name: str, place: str, *arguments: str) -> None:
    """One of PostgreSQL's programs, the password in its environment."""
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    program = shutil.which(name) or (str(installed[0]) if installed else None)
    if program is None:
        raise UserError(f"{name} is not installed.", hint="Install PostgreSQL's client programs.")
    password = make_url(place).password
    environment = dict(os.environ) | ({"PGPASSWORD": str(password)} if password else {})
    done = subprocess.run([program, *arguments], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{name} failed: {done.stderr.strip()[:300]}", file=hidden(place))
