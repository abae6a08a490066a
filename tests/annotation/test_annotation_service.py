"""Migrations with data in them, webhooks, backup, the client, the chat, the demo, and the
commands."""

from __future__ import annotations

import hashlib
import hmac
import json
import sqlite3
import subprocess
import sys
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from annotation_bench import Bench, Served, add_caller, echo, pair_row
from sqlalchemy import create_engine, inspect, select, text, update

from burnish.annotation.client import Client
from burnish.annotation.db import migrate
from burnish.annotation.labels import preference_data
from burnish.annotation.service import accounts, chats, people, projects, webhooks, work
from burnish.annotation.service.backup import back_up
from burnish.annotation.service.database import Database
from burnish.annotation.service.demo import is_there, make_demo
from burnish.annotation.service.submission import Submission
from burnish.annotation.snapshot import take_snapshot
from burnish.annotation.store import Ranking, Store
from burnish.annotation.tables import Annotation, Delivery, Item, now
from burnish.cli.main import main
from burnish.errors import UserError


def test_migrations_keep_what_the_older_version_knows(place: str):
    """Down to the first revision and up again, on either database, with everything in it that the
    newer one can hold."""
    database = Database(place)
    rows = [
        pair_row(1),
        pair_row(2, kind="ranking"),
        pair_row("t", part="training", gold={"strength": 1}),
        {"id": "write", "prompt": "?", "kind": "demonstration"},
    ]
    bench = Bench(database, rows=rows, annotators=1, overlap=2)
    seen: dict[str, Any] = {}
    for _ in rows:
        held = work.take(database, bench.people[0], bench.project)
        assert held is not None
        said = {
            "pairwise": {"strength": 1},
            "ranking": {"ranks": [2, 1]},
            "demonstration": {"text": "x"},
        }[held.kind]
        work.answer(database, bench.people[0], held.lease, Submission(**said))
        seen[held.messages[0]["content"]] = held.presented
    before = Store(place).rankings("p")
    assert len(before) == 2
    database.close()
    engine = create_engine(place if "://" in place else f"sqlite:///{place}")
    migrate(engine, "0001")
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM annotations")).scalar() == 2
        assert connection.execute(text("SELECT count(*) FROM items")).scalar() == 3
        assert connection.execute(text("SELECT count(*) FROM candidates")).scalar() == 4
    assert "leases" not in inspect(engine).get_table_names()
    migrate(engine)
    engine.dispose()
    assert Store(place).rankings("p") == before
    again = Database(place)
    with again.read() as session:
        # Three annotators an item, as a project without settings has it, less those who have
        # answered.
        assert {
            row.external_id: row.slots
            for row in session.execute(select(Item.external_id, Item.slots))
        } == {
            "1": 2,
            "2": 2,
            "write": 3,
        }
    again.close()


def test_a_store_of_the_first_version_opens(tmp_path: Path):
    engine = create_engine(f"sqlite:///{tmp_path / 'a.sqlite'}")
    migrate(engine, "0001")
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO projects VALUES (1, 'p', '', '2026-01-01 00:00:00.000000')")
        )
        connection.execute(text("INSERT INTO items VALUES (1, 1, 'one', '[]', '{}')"))
        for n in range(2):
            connection.execute(text(f"INSERT INTO candidates VALUES ({n + 1}, 1, {n}, 'x', '')"))
        connection.execute(text("INSERT INTO annotators VALUES (1, 'a', 'person')"))
        connection.execute(
            text(
                "INSERT INTO annotations VALUES (1, 1, 1, '[1, 0]', '[2, 1]', NULL, 1.5,"
                " '2026-01-01 00:00:00.000000')"
            )
        )
    engine.dispose()
    store = Store(tmp_path / "a.sqlite")
    assert store.rankings("p") == [Ranking("one", "a", (1, 0), (2, 1))]
    assert store.labelled("p")[0].answer.kind == "ranking"


class _Receiver(HTTPServer):
    """Takes webhooks; refuses the first `refusals` of them."""

    def __init__(self, refusals: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: list[tuple[str, bytes]] = []
        self.refusals = refusals
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook"


class _Handler(BaseHTTPRequestHandler):
    server: _Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.refusals -= 1
        refused = self.server.refusals >= 0
        if not refused:
            self.server.got.append((self.headers["x-burnish-signature"], body))
        self.send_response(503 if refused else 204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_webhooks_tell_of_milestones_once_signed_and_again_after_a_failure(database: Database):
    bench = Bench(
        database,
        overlap=1,
        rows=[pair_row(n) for n in range(4)],
        milestones=[50, 100],
        annotators=1,
    )
    receiver = _Receiver(refusals=1)
    with database.write() as session:
        secret = webhooks.add(session, bench.project, receiver.url).secret
    for _ in range(4):
        held = work.take(database, bench.people[0], bench.project)
        assert held is not None
        work.answer(database, bench.people[0], held.lease, Submission(strength=1))
    assert webhooks.deliver(database) == 1  # the first is refused
    assert webhooks.deliver(database) == 0  # and not due yet
    with database.write() as session:
        session.execute(update(Delivery).where(Delivery.due_at.is_not(None)).values(due_at=now()))
    assert webhooks.deliver(database) == 1
    assert webhooks.deliver(database) == 0
    receiver.shutdown()
    told = sorted(json.loads(body)["percent"] for _, body in receiver.got)
    assert told == [50, 100]
    for signature, body in receiver.got:
        assert signature == "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    "url",
    ["", "ftp://a.example", "file:///etc/passwd", "http://", "javascript:alert(1)", "http://[bad"],
)
def test_a_webhook_goes_to_http_only(tmp_path: Path, url: str):
    bench = Bench(Database(tmp_path / "a.sqlite"))
    with pytest.raises(UserError, match="http"), bench.database.write() as session:
        webhooks.add(session, bench.project, url)


def test_a_backup_is_whole_while_answers_come_in(tmp_path: Path):
    place = str(tmp_path / "a.sqlite")
    database = Database(place)
    bench = Bench(database, annotators=1, rows=[pair_row(n) for n in range(150)])
    given, done = [0], threading.Event()

    def label() -> None:
        while (held := work.take(database, bench.people[0], bench.project)) is not None:
            work.answer(database, bench.people[0], held.lease, Submission(strength=1))
            given[0] += 1
        done.set()

    thread = threading.Thread(target=label)
    thread.start()
    copies = 0
    while not done.is_set():
        before = given[0]
        copy = back_up(place, tmp_path / f"copy-{copies}.sqlite")
        after = given[0]
        assert before <= len(Store(copy).rankings("p")) <= after + 1
        copies += 1
    thread.join()
    assert copies >= 2
    with pytest.raises(UserError, match="already"):
        back_up(place, tmp_path / "copy-0.sqlite")
    with pytest.raises(UserError, match="no such database"):
        back_up(tmp_path / "nothing.sqlite", tmp_path / "b.sqlite")
    assert not list(tmp_path.glob(".partial-*"))


def test_the_client_does_a_projects_whole_life(tmp_path: Path):
    served = Served(str(tmp_path / "a.sqlite"))
    try:
        accounts.create_user(served.database, "olga", None, creates_projects=True)
        token = accounts.create_token(
            served.database, account_name="olga", name="t", scopes=accounts.SCOPES
        )
        with Client(served.url, token) as client:
            project = client.create_project("p", kind="pairwise", overlap=1)
            assert client.add_items(project, [pair_row(n) for n in range(5)], at_once=2) == {
                "added": 5,
                "there_already": 0,
            }
            assert client.add_items(project, [pair_row(4), pair_row(5)]) == {
                "added": 1,
                "there_already": 1,
            }
            done = 0
            while (task := client.next(project)) is not None:
                favours_first = 1 if task["answers"][0]["text"].startswith("first") else -1
                client.answer(task, strength=favours_first)
                assert client.answer(task, strength=favours_first)["again"]
                done += 1
            assert done == 6
            assert client.undo(project)["draft"]["answer"]["strength"] == favours_first
            task = client.next(project)
            assert task is not None
            client.skip(task, "other")
            assert client.progress(project)["answers"] == 5
            rows = [json.loads(line) for line in client.export(project).splitlines()]
            assert len(rows) == 5
            assert all(
                str(row["chosen"]).count("first") and str(row["rejected"]).count("second")
                for row in rows
            )
            assert client.export(project) == client.export(project)
            assert client.stats(project)["progress"]["answered"] == 5
            with pytest.raises(UserError, match="there is no such project"):
                client.next(99)
            assert f"{served.url}/join/" in client.invite(project)
    finally:
        served.stop()


def test_the_client_waits_for_a_server_that_comes_back(tmp_path: Path):
    served = Served(str(tmp_path / "a.sqlite"))
    bench = Bench(served.database, annotators=1)
    token = accounts.create_token(served.database, account_name="ann0", name="t", scopes=["label"])
    with Client(served.url, token) as client:
        task = client.next(bench.project)
        assert task is not None
        served.stop()
        threading.Timer(0.5, served.start).start()
        assert client.answer(task, strength=1)["recorded"]
    served.stop()
    assert len(Store(served.place).rankings("p")) == 1


def test_a_chat_goes_on_with_what_was_chosen(database: Database):
    bench = Bench(database, rows=[{"id": "c", "kind": "chat"}], annotators=2, turns=2)
    heard: list[list] = []

    def generate(messages, count):
        heard.append([m["content"] for m in messages])
        return echo(messages, count)

    ann = bench.people[0]
    held = work.take(database, ann, bench.project)
    assert held is not None
    with pytest.raises(chats.ConflictError, match="nothing to choose"):
        chats.choose(database, ann, held.lease, strength=1, both_bad=False, go_on_with=None)
    chats.say(database, ann, held.lease, "Hello", generate)
    with pytest.raises(chats.ConflictError, match="choose between"):
        chats.say(database, ann, held.lease, "again", generate)
    with pytest.raises(chats.NotFoundError):
        chats.say(database, bench.people[1], held.lease, "mine?", generate)
    chosen = chats.choose(
        database, ann, held.lease, strength=-2, both_bad=False, go_on_with=None
    ).chat[0]
    assert chosen["chosen"] == chosen["presented"][1]
    with pytest.raises(UserError, match="2 turns"):
        work.answer(database, ann, held.lease, Submission())
    chats.say(database, ann, held.lease, "More", generate)
    assert heard[1] == ["Hello", chosen["candidates"][chosen["chosen"]], "More"]
    # Both bad, and on with what stands in the second place.
    last = chats.choose(database, ann, held.lease, strength=0, both_bad=True, go_on_with=1).chat[1]
    assert (last["chosen"], last["both_bad"], last["strength"]) == (last["presented"][1], True, 0)
    work.answer(database, ann, held.lease, Submission())
    with pytest.raises(UserError, match="no model"):
        chats.say(database, bench.people[1], _lease_of(bench, 1), "Hello", None)


def test_a_chat_with_a_prompt_begins_with_the_models_answer(database: Database):
    """The item's prompt is the user's turn: there are never two in a row, neither before the model
    nor before a trainer."""
    bench = Bench(
        database,
        rows=[{"id": "c", "kind": "chat", "prompt": "Name a river."}],
        annotators=1,
        turns=2,
    )
    heard: list[list] = []

    def generate(messages, count):
        heard.append([m["role"] for m in messages])
        return echo(messages, count)

    ann = bench.people[0]
    held = work.take(database, ann, bench.project)
    assert held is not None
    with pytest.raises(UserError, match="the model answers the conversation first"):
        chats.say(database, ann, held.lease, "Hello", generate)
    chats.say(database, ann, held.lease, "", generate)
    chats.choose(database, ann, held.lease, strength=1, both_bad=False, go_on_with=None)
    with pytest.raises(UserError, match="say something"):
        chats.say(database, ann, held.lease, " ", generate)
    chats.say(database, ann, held.lease, "And another?", generate)
    chats.choose(database, ann, held.lease, strength=1, both_bad=False, go_on_with=None)
    work.answer(database, ann, held.lease, Submission())
    assert heard == [["user"], ["user", "assistant", "user"]]
    groups = preference_data(take_snapshot(database, "p"))
    roles = sorted([m["role"] for m in group.prompt.messages] for group in groups)
    assert roles == sorted([["user"], ["user", "assistant", "user"]])


def test_the_client_sends_no_more_than_the_server_takes(tmp_path: Path):
    """500 rows of 6 kB are more than one request may carry; a row of 3 MB is more than any."""
    served = Served(str(tmp_path / "a.sqlite"))
    try:
        bench = Bench(served.database, annotators=0, rows=[])
        token = accounts.create_token(
            served.database, account_name="olga", name="t", scopes=["manage"]
        )
        with Client(served.url, token) as client:
            rows = [pair_row(n, candidates=["a" * 3000, "ä" * 500]) for n in range(500)]
            assert client.add_items(bench.project, rows) == {"added": 500, "there_already": 0}
            with pytest.raises(UserError, match=r"row 2: has 3,000,\d+ bytes"):
                client.add_items(
                    bench.project, [pair_row("x"), pair_row("y", prompt="p" * 3_000_000)]
                )
    finally:
        served.stop()


def test_who_waits_for_the_model_keeps_nobody_else_waiting(tmp_path: Path):
    going = threading.Event()

    def slow(messages, count):
        assert going.wait(30)
        return echo(messages, count)

    served = Served(str(tmp_path / "a.sqlite"), generate=slow)
    try:
        rows = [{"id": f"c{n}", "kind": "chat"} for n in range(15)]
        bench = Bench(served.database, annotators=15, rows=rows, overlap=1)
        clients = []
        for n in range(15):
            token = accounts.create_token(
                served.database, account_name=f"ann{n}", name="t", scopes=["label"]
            )
            clients.append(
                httpx.Client(
                    base_url=f"{served.url}/api/v1",
                    headers={"Authorization": f"Bearer {token}"},
                    timeout=40,
                )
            )
        leases = [
            c.post(f"/projects/{bench.project}/next", json={}).json()["lease"] for c in clients
        ]
        statuses: list[int] = []
        threads = [
            threading.Thread(
                target=lambda c=c, lease=lease: statuses.append(
                    c.post(f"/leases/{lease}/chat", json={"text": "hi"}).status_code
                )
            )
            for c, lease in zip(clients, leases, strict=True)
        ]
        for thread in threads:
            thread.start()
        assert httpx.get(f"{served.url}/healthz", timeout=20).status_code == 200
        assert statuses == []
        going.set()
        for thread in threads:
            thread.join()
        assert statuses == [200] * 15
    finally:
        going.set()
        served.stop()


def _lease_of(bench: Bench, person: int) -> str:
    held = work.take(bench.database, bench.people[person], bench.project)
    assert held is not None
    return held.lease


def test_the_demo_has_sixty_items_and_a_day_of_labels(tmp_path: Path):
    database = Database(tmp_path / "a.sqlite")
    make_demo(
        database,
        [
            (f"Question {n}?", f"This is a good answer of some length, number {n}.")
            for n in range(62)
        ],
        password="demo password",
    )
    assert is_there(database)
    with database.read() as session:
        assert len(session.scalars(select(Item.id).where(Item.part == "work")).all()) == 60
        times = session.scalars(select(Annotation.created_at).order_by(Annotation.created_at)).all()
    assert timedelta(hours=6) < times[-1] - times[0] < timedelta(hours=9)
    labelled = [one for one in Store(tmp_path / "a.sqlite").labelled("demo") if one.part == "work"]
    assert 100 < len(labelled) < 180
    better = [
        one.answer.ranks == (1, 2)
        for one in labelled
        if one.answer.kind == "pairwise" and one.answer.strength
    ]
    assert sum(better) / len(better) > 0.7, (
        "the careful answer stands first in the item and is mostly preferred"
    )


def _command(capsys: pytest.CaptureFixture, *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["annotate", *arguments])
    assert ended.value.code in (None, 0), capsys.readouterr().err
    return capsys.readouterr().out


def test_users_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture):
    place, secret = str(tmp_path / "a.sqlite"), tmp_path / "secret"
    secret.write_text("a long password\n")
    common = ("--database", place)
    _command(capsys, "users", "add", "olga", "--owner", "--password-file", str(secret), *common)
    assert _command(capsys, "users", "list", *common).split() == [
        "olga",
        "person",
        "active",
        "may",
        "create",
        "projects",
    ]
    token = _command(capsys, "users", "token", "olga", "--scope", "manage", *common).strip()
    database = Database(place)
    found = accounts.caller_of_token(database, token)
    assert found is not None
    assert (found.name, found.scopes) == ("olga", frozenset(["manage"]))
    assert accounts.log_in(database, "olga", "a long password", address="")
    _command(capsys, "users", "deactivate", "olga", *common)
    assert accounts.caller_of_token(database, token) is None
    _command(capsys, "users", "deactivate", "olga", "--undo", *common)
    assert accounts.caller_of_token(database, token) is not None
    caller = accounts.caller_of_token(database, token)
    assert caller is not None
    store = Store(place)
    store.add_project("made by hand")
    store.close()
    assert projects.mine(database, caller) == []
    _command(capsys, "users", "enrol", "olga", "made by hand", *common)
    assert [(one["name"], one["role"]) for one in projects.mine(database, caller)] == [
        ("made by hand", "owner")
    ]
    _command(capsys, "users", "enrol", "olga", "made by hand", "--role", "reviewer", *common)
    assert [one["role"] for one in projects.mine(database, caller)] == ["reviewer"]
    for who, where, role, said in (
        ("olga", "made by hand", "king", "roles are annotator, reviewer, owner"),
        ("olga", "nowhere", "owner", 'no project "nowhere"'),
        ("nobody", "made by hand", "owner", 'no user "nobody"'),
    ):
        with pytest.raises(UserError, match=said):
            people.enrol(database, who, where, role=role)
    assert Path(_command(capsys, "backup", str(tmp_path / "b.sqlite"), *common).strip()).is_file()
    with sqlite3.connect(tmp_path / "b.sqlite") as copy:
        assert copy.execute("SELECT count(*) FROM accounts").fetchone() == (1,)
    copy.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("users", "list", "-d", "nothing.sqlite"), "there is no such database"),
        (("users", "add", "x", "-d", "a.sqlite", "--password-file", "missing"), "cannot be read"),
        (("serve", "-d", "mysql://x/y"), "cannot be opened"),
        (("serve", "--chat-model", "tiny", "--chat-endpoint", "http://x"), "not both"),
        (("backup", "b.sqlite", "-d", "nothing.sqlite"), "there is no such database"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    arguments: tuple,
    said: str,
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["annotate", *arguments])
    assert ended.value.code == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert len(error.splitlines()) == 1


def test_the_server_imports_no_torch():
    code = (
        "import burnish.annotation.app.main, sys; assert not {'torch', 'transformers'} &"
        " set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_endpoint_to_chat_with_is_asked_once_for_each_candidate():
    from burnish.cli.annotate_chat import EndpointChat

    asked: list[dict] = []
    numbers = count()

    def reply(request: httpx.Request) -> httpx.Response:
        asked.append({"url": str(request.url), **json.loads(request.content)})
        return httpx.Response(
            200, json={"choices": [{"message": {"content": f"text {next(numbers)}"}}]}
        )

    chat = EndpointChat("http://model.example/v1/", "m", temperature=0.5, max_new_tokens=7)
    chat.endpoint.client = httpx.Client(transport=httpx.MockTransport(reply))
    assert len(set(chat([{"role": "user", "content": "hi"}], 2))) == 2
    assert [a["url"] for a in asked] == ["http://model.example/v1/chat/completions"] * 2
    assert (asked[0]["model"], asked[0]["temperature"], asked[0]["max_tokens"]) == ("m", 0.5, 7)


def test_the_native_engine_chats_from_a_process_of_its_own():
    from burnish.cli.annotate_chat import NativeChat

    chat = NativeChat("tiny", temperature=1.0, max_new_tokens=8)
    try:
        first = chat([{"role": "user", "content": "hi"}], 2)
        assert len(first) == 2
        assert all(isinstance(text, str) for text in first)
        assert chat([{"role": "user", "content": "hi"}], 2) != first, (
            "another turn has other random numbers"
        )
    finally:
        chat.close()
    with pytest.raises(UserError, match="ended"):
        chat([{"role": "user", "content": "hi"}], 2)


def test_somebody_who_has_an_account_joins_by_link(tmp_path: Path):
    bench = Bench(Database(tmp_path / "a.sqlite"), annotators=0)
    person = add_caller(bench.database, "person")
    secret = people.invite(bench.database, bench.owner, bench.project, uses=1)
    assert people.join(bench.database, secret, person) == bench.project
    with pytest.raises(projects.NotFoundError):
        people.join(bench.database, secret, add_caller(bench.database, "late"))
