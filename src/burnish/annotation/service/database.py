"""Transactions. SQLite has one writer: writers queue in the process instead of polling for the
file's lock."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from burnish.annotation.db import open_database


class Database:
    """An opened database of annotations."""

    def __init__(self, place: str | Path) -> None:
        self.engine: Engine = open_database(place, pool_size=16)
        self.place = str(place)
        sqlite = self.engine.dialect.name == "sqlite"
        self._writer = threading.Lock() if sqlite else None
        # A reader on PostgreSQL needs no transaction: between its statements it sees what others
        # commit either way, and BEGIN and ROLLBACK are two round trips more.
        self._reader = (
            self.engine if sqlite else self.engine.execution_options(isolation_level="AUTOCOMMIT")
        )

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that reads."""
        with Session(self._reader, autoflush=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session whose changes are committed together at the end, or not at all."""
        if self._writer is None:
            with Session(self.engine, expire_on_commit=False) as session, session.begin():
                yield session
            return
        with self._writer, Session(self.engine, expire_on_commit=False) as session, session.begin():
            # A transaction that starts as a reader could not become a writer once another process
            # had written.
            session.connection().exec_driver_sql("BEGIN IMMEDIATE")
            yield session

    def close(self) -> None:
        """Let go of the connections."""
        self.engine.dispose()
