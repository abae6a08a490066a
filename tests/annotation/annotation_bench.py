"""What the service's tests build on: accounts, rows, and a project with people in it."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
import zlib
from collections.abc import Sequence
from itertools import count
from typing import Any

import uvicorn

from burnish.annotation.app.context import Site
from burnish.annotation.app.main import create_app
from burnish.annotation.service import accounts, people, projects
from burnish.annotation.service.accounts import Caller
from burnish.annotation.service.chats import Generate
from burnish.annotation.service.database import Database
from burnish.records import Message

_NUMBERS = count()


def new_postgres_database(server: str) -> str:
    """The URL of a fresh database on the server."""
    import psycopg

    name = f"test_{os.getpid()}_{next(_NUMBERS)}"
    with psycopg.connect(
        f"{server.replace('+psycopg', '')}/postgres", autocommit=True
    ) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{server}/{name}"


def add_caller(database: Database, name: str, *, creates_projects: bool = False) -> Caller:
    """An account and its browser session."""
    with database.write() as session:
        account = accounts.add_account(session, name, None, creates_projects=creates_projects)
        secret = accounts.open_session(session, account, address="test")
    found = accounts.caller_of_session(database, secret)
    assert found is not None
    return found


def pair_row(name: object, **more: object) -> dict:
    return {
        "id": str(name),
        "prompt": f"Say {name}",
        "kind": "pairwise",
        "candidates": [f"first {name}", f"second {name}"],
        **more,
    }


class Bench:
    """A project with an owner and annotators, without HTTP."""

    def __init__(
        self,
        database: Database,
        *,
        annotators: int = 3,
        rows: list[dict] | None = None,
        **settings: object,
    ) -> None:
        self.database = database
        self.owner = add_caller(database, "olga", creates_projects=True)
        self.project = projects.create(
            database,
            self.owner,
            "p",
            guidelines="Be fair.",
            settings={"kind": "pairwise", **settings},
        )
        projects.add_items(
            database,
            self.owner,
            self.project,
            rows if rows is not None else [pair_row(n) for n in range(4)],
        )
        self.people = [add_caller(database, f"ann{n}") for n in range(annotators)]
        secret = people.invite(database, self.owner, self.project, uses=100)
        for person in self.people:
            people.join(database, secret, person)


class Served:
    """A server in a thread of this process, which can be stopped and started again on the same
    port."""

    def __init__(
        self,
        place: str,
        *,
        generate: Generate | None = None,
        hosts: tuple[str, ...] = (),
        root_path: str = "",
        trusted: Sequence[str] = (),
        **options: Any,
    ) -> None:
        self._proxy: dict[str, Any] = {"root_path": root_path, "trusted": trusted}
        self.place, self._generate, self._hosts, self._options, self.port = (
            place,
            generate,
            hosts,
            options,
            free_port(),
        )
        self.url = f"http://127.0.0.1:{self.port}"
        self.failures: list[str] = []
        self.start()

    def start(self) -> None:
        self.database = Database(self.place)
        site = Site(self.database, generate=self._generate, **self._options)
        app = create_app(site, hosts=self._hosts, say=self.failures.append, **self._proxy)
        config = uvicorn.Config(
            app,
            host="127.0.0.1",
            port=self.port,
            log_level="critical",
            proxy_headers=False,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive(), "the server did not start"
            time.sleep(0.01)

    def stop(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(timeout=10)
        self.database.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def echo(messages: Sequence[Message], count: int) -> list[str]:
    """A model to chat with: it repeats what was said, once for each candidate."""
    return [f"Answer {n + 1} to: {messages[-1]['content']}" for n in range(count)]


def png(width: int = 3, height: int = 2, *, seed: int = 0) -> bytes:
    """A PNG of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    lines = (b"\0" + bytes((seed, 90, 160)) * width) * min(height, 100)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
