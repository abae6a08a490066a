"""The annotation server under load: many annotators at once, and an invariant over the log
afterwards.

    python benchmarks/annotate_load.py --annotators 50 --submissions 20000
    python benchmarks/annotate_load.py --database postgresql+psycopg://user@host/empty --annotators
    200 --kills 10

Each annotator is a closed loop: take a task, think, send the answer, and so on; thinking times are
exponential. The server is a process of its own, `burnish annotate serve`. With `--kills` it is
killed with SIGKILL that many times, evenly over the run, and started again; an annotator whose
answer was not acknowledged sends the same answer again, as the page does.

Afterwards the database is held against what the annotators saw:
- every acknowledged answer is there, once, with the content that was sent, by the annotator who
  sent it;
- nothing is there that nobody sent;
- no item has more answers than its overlap, none two of the same annotator, none by somebody it was
  not leased to;
- slots, answers and leases of every item add up to the overlap;
- the log tells the same story: each lease was taken once, and answered at most once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select

from burnish.annotation.service import accounts, people, projects
from burnish.annotation.service.database import Database
from burnish.annotation.tables import Annotation, Event, Item, Lease, Member

OVERLAP = 3


@dataclass
class Sent:
    """An answer that was sent: under which lease, by whom, what, and whether it was
    acknowledged."""

    annotator: int
    strength: int
    critique: str
    acknowledged: bool = False


@dataclass
class Run:
    """What the annotators saw. `sent` by lease."""

    wanted: int
    sent: dict[str, Sent] = field(default_factory=dict)
    submit_seconds: list[float] = field(default_factory=list)
    next_seconds: list[float] = field(default_factory=list)
    repeated: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    down: bool = False
    back_at: float = 0.0


class Connection:
    """HTTP/1.1 over one kept-alive connection, with as little work as can be: the load must not be
    the bottleneck."""

    def __init__(self, port: int, token: str) -> None:
        self._port, self._head = (
            port,
            (
                f"Host: 127.0.0.1\r\nAuthorization: Bearer {token}\r\nContent-Type:"
                " application/json\r\n"
            ),
        )
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        try:
            content = json.dumps(body).encode()
            writer.write(
                f"POST /api/v1{path} HTTP/1.1\r\n{self._head}Content-Length: {len(content)}\r\n\r\n".encode()  # noqa: E501
                + content
            )
            head = (
                (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60))
                .decode("latin-1")
                .lower()
            )
            length = head.partition("content-length:")[2].split("\r\n")[0].strip() or "0"
            found = await asyncio.wait_for(reader.readexactly(int(length)), 60)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            self.close()
            raise ConnectionError from None
        return int(head.split()[1]), json.loads(found) if found else None

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None


async def annotate(
    run: Run, port: int, token: str, annotator: int, project: int, think: float, rng: random.Random
) -> None:
    """One annotator, until the work or the run is done."""
    connection = Connection(port, token)
    await asyncio.sleep(rng.uniform(0, think + 0.5))
    while run.acknowledged < run.wanted:
        started = time.perf_counter()
        try:
            status, task = await connection.post(f"/projects/{project}/next", {})
        except OSError:
            await asyncio.sleep(0.3)
            continue
        if run.back_at < started and not run.down:
            run.next_seconds.append(time.perf_counter() - started)
        if status == 204:
            break
        if status != 200:
            raise SystemExit(f"next: {status} {task}")
        await asyncio.sleep(rng.expovariate(1 / think) if think else 0)
        lease = task["lease"]
        sent = run.sent.setdefault(
            lease, Sent(annotator, rng.choice((-2, -1, 1, 2)), f"{annotator}:{len(run.sent)}")
        )
        await submit(run, connection, lease, sent)
    connection.close()


async def submit(run: Run, connection: Connection, lease: str, sent: Sent) -> None:
    """Send an answer until it is heard."""
    body = {"strength": sent.strength, "critique": sent.critique, "seconds": 1.5}
    while True:
        started = time.perf_counter()
        try:
            status, found = await connection.post(f"/leases/{lease}/answer", body)
        except OSError:
            run.repeated += 1
            await asyncio.sleep(0.3)
            continue
        if run.back_at < started and not run.down:
            run.submit_seconds.append(time.perf_counter() - started)
        if status == 200:
            run.acknowledged += not sent.acknowledged
            sent.acknowledged = True
        else:
            run.refused[f"{status} {found}"] += 1
        return


class Server:
    """`burnish annotate serve` in a process of its own."""

    def __init__(self, place: str, port: int) -> None:
        self._command = [
            sys.executable,
            "-m",
            "burnish",
            "annotate",
            "serve",
            "--database",
            place,
            "--port",
            str(port),
        ]
        self._port = port
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            self._command, stderr=subprocess.PIPE, start_new_session=True
        )
        for _ in range(1200):
            if self.process.poll() is not None:
                raise SystemExit(f"the server ended: {self.process.stderr.read().decode()}")  # type: ignore[union-attr]
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return
            time.sleep(0.05)
        raise SystemExit("the server did not start within a minute")

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


async def killing(run: Run, server: Server, kills: int) -> None:
    """Kill the server `kills` times, evenly over the submissions, and start it again each time."""
    for n in range(kills):
        while run.acknowledged < run.wanted * (n + 1) / (kills + 1):
            await asyncio.sleep(0.02)
        run.down = True
        server.kill()
        await asyncio.to_thread(server.start)
        # latencies count again a second after it is back
        run.down, run.back_at = (
            False,
            time.perf_counter() + 1.0,
        )


def prepare(place: str, annotators: int, submissions: int) -> tuple[int, list[tuple[int, str]]]:
    """A project with enough items, and a token for each annotator; returns (project, [(annotator
    id, token)])."""
    database = Database(place)
    accounts.create_user(database, "owner", None, creates_projects=True)
    token = accounts.create_token(database, account_name="owner", name="load", scopes=["manage"])
    owner = accounts.caller_of_token(database, token)
    assert owner is not None
    project = projects.create(
        database, owner, "load", guidelines="", settings={"kind": "pairwise", "overlap": OVERLAP}
    )
    # near the end not everybody finds an item that is new to them
    count = -(-submissions // OVERLAP) + annotators
    text = "A sentence of an answer that has some length to it, so that pages are not empty. " * 6
    rows = (
        {
            "id": str(n),
            "prompt": f"Question {n}?",
            "candidates": [{"text": f"{n} first. {text}"}, {"text": f"{n} second. {text}"}],
        }
        for n in range(count)
    )
    projects.add_items(database, owner, project, rows)
    hired = []
    secret = people.invite(database, owner, project, uses=annotators)
    for n in range(annotators):
        accounts.create_user(database, f"annotator {n}", None)
        token = accounts.create_token(
            database, account_name=f"annotator {n}", name="load", scopes=["label"]
        )
        caller = accounts.caller_of_token(database, token)
        assert caller is not None
        people.join(database, secret, caller)
        hired.append((caller.annotator_id, token))
    database.close()
    return project, hired


def violations(place: str, run: Run) -> list[str]:
    """Where the database differs from what the annotators saw, or from itself. Empty: all is
    well."""
    database = Database(place)
    with database.read() as session:
        rows = session.execute(
            select(
                Annotation.lease,
                Annotation.annotator_id,
                Annotation.item_id,
                Annotation.payload,
                Annotation.presented,
            )
        ).all()
        slots = {row.id: row.slots for row in session.execute(select(Item.id, Item.slots))}
        leases = Counter(session.scalars(select(Lease.item_id)))
        events = session.execute(
            select(Event.what, Event.lease, Event.item_id, Event.annotator_id).order_by(Event.id)
        ).all()
        answered = {
            row.annotator_id: row.answered
            for row in session.execute(select(Member.annotator_id, Member.answered))
        }
    database.close()
    found = []
    by_lease = {row.lease: row for row in rows}
    if len(by_lease) != len(rows):
        found.append("two answers have the same lease")
    for lease, sent in run.sent.items():
        row = by_lease.get(lease)
        if sent.acknowledged and row is None:
            found.append(f"lost: an acknowledged answer of annotator {sent.annotator}")
        if row is not None:
            strength = sent.strength if row.presented[0] == 0 else -sent.strength
            if (row.annotator_id, row.payload.get("strength"), row.payload.get("critique")) != (
                sent.annotator,
                strength,
                sent.critique,
            ):
                found.append(f"misassigned or changed: {row.lease}")
    found += [f"nobody sent {lease}" for lease in by_lease if lease not in run.sent]
    if len({(row.item_id, row.annotator_id) for row in rows}) != len(rows):
        found.append("doubled: an item has two answers of one annotator")
    counts = Counter(row.item_id for row in rows)
    found += [
        f"item {item}: {counts[item]} answers, {leases[item]} leases, {left} slots"
        for item, left in slots.items()
        if counts[item] + leases[item] + left != OVERLAP or left < 0
    ]
    taken = {e.lease: (e.item_id, e.annotator_id) for e in events if e.what == "taken"}
    if len(taken) != sum(e.what == "taken" for e in events):
        found.append("a lease was taken twice")
    told = Counter(e.lease for e in events if e.what == "answered")
    found += [f"the log tells of an answer {count} times" for count in told.values() if count != 1]
    if set(told) != set(by_lease):
        found.append("the log and the answers differ")
    found += [
        f"not leased to who answered: {r.lease}"
        for r in rows
        if taken.get(r.lease) != (r.item_id, r.annotator_id)
    ]
    by_person = Counter(row.annotator_id for row in rows)
    found += [
        f"annotator {who} is counted wrongly"
        for who, count in answered.items()
        if by_person[who] != count
    ]
    return found


def measure(
    place: str,
    *,
    annotators: int,
    submissions: int,
    think: float,
    kills: int,
    port: int,
    seed: int = 0,
) -> dict[str, Any]:
    """Run the load; returns the figures and the violations."""
    project, people = prepare(place, annotators, submissions)
    server, run = Server(place, port), Run(submissions)

    async def everything() -> float:
        started = time.perf_counter()
        crowd = [
            annotate(run, port, token, who, project, think, random.Random(seed * 100_003 + who))
            for who, token in people
        ]
        beside = asyncio.create_task(killing(run, server, kills))
        await asyncio.gather(*crowd)
        beside.cancel()
        return time.perf_counter() - started

    try:
        seconds = asyncio.run(everything())
    finally:
        server.kill()
    return {
        "database": "postgresql" if place.startswith("postgresql") else "sqlite",
        "annotators": annotators,
        "think_seconds": think,
        "acknowledged": run.acknowledged,
        "kills": kills,
        "repeated": run.repeated,
        "refused": dict(run.refused),
        "seconds": round(seconds, 1),
        "submissions_per_second": round(run.acknowledged / seconds, 1),
        "submit_ms": _quantiles(run.submit_seconds),
        "next_ms": _quantiles(run.next_seconds),
        "violations": violations(place, run),
    }


def _quantiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values) or [float("nan")]
    return {
        name: round(1000 * ordered[min(len(ordered) - 1, int(q * len(ordered)))], 1)
        for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--database", help="an empty database's URL [default: a fresh SQLite file]")
    parser.add_argument("--annotators", type=int, default=50)
    parser.add_argument("--submissions", type=int, default=20_000)
    parser.add_argument(
        "--think", type=float, default=2.0, help="mean seconds between task and answer"
    )
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--port", type=int, default=8399)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = given.database or str(Path(folder) / "load.sqlite")
        found = measure(
            place,
            annotators=given.annotators,
            submissions=given.submissions,
            think=given.think,
            kills=given.kills,
            port=given.port,
        )
    shown = found["violations"]
    found["violations"] = len(shown)
    print(json.dumps(found, indent=2))
    for line in shown[:20]:
        print(line, file=sys.stderr)
    raise SystemExit(1 if shown else 0)


if __name__ == "__main__":
    main()
