"""Getting in and being kept out: wrong passwords in an office, lost passwords, invitations that are
revoked, copies brought back."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from annotation_bench import Bench, Served, add_caller, new_postgres_database
from sqlalchemy import create_engine, text

from burnish.annotation.service import accounts, people, projects, resets, work
from burnish.annotation.service.backup import back_up, bring_back
from burnish.annotation.service.database import Database
from burnish.annotation.service.refusals import ForbiddenError, NotFoundError, TooManyError
from burnish.annotation.service.submission import Submission
from burnish.annotation.store import Store
from burnish.annotation.tables import ResetLink, now
from burnish.cli.main import main
from burnish.errors import UserError

PASSWORD, OFFICE = "correct horse battery", "203.0.113.9"


def _fail(database: Database, name: str, address: str = OFFICE) -> type[UserError]:
    with pytest.raises((ForbiddenError, TooManyError)) as caught:
        accounts.log_in(database, name, "wrong password", address=address)
    return type(caught.value)


def test_a_colleagues_slips_lock_nobody_out_who_was_here_before(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        accounts, "_MOST_FAILURES", ((3, True, True), (6, False, True), (9, True, False))
    )
    for name in ("olga", "newcomer"):
        accounts.create_user(database, name, PASSWORD)
    accounts.log_in(database, "olga", PASSWORD, address=OFFICE)
    for n in range(6):
        assert _fail(database, f"nobody{n}") is ForbiddenError
    assert _fail(database, "nobody6") is TooManyError  # guessing from one address goes no further,
    with pytest.raises(TooManyError):  # nor does who was never seen here,
        accounts.log_in(database, "newcomer", PASSWORD, address=OFFICE)
    accounts.log_in(database, "olga", PASSWORD, address=OFFICE)  # but who works here does,
    for _ in range(3):
        assert _fail(database, "olga") is ForbiddenError
    assert _fail(database, "olga") is TooManyError  # up to a limit of her own.
    with pytest.raises(TooManyError):
        accounts.log_in(database, "olga", PASSWORD, address=OFFICE)


def test_guesses_from_everywhere_lock_a_name_out_but_not_where_it_works(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        accounts, "_MOST_FAILURES", ((3, True, True), (6, False, True), (9, True, False))
    )
    accounts.create_user(database, "olga", PASSWORD)
    accounts.log_in(database, "olga", PASSWORD, address=OFFICE)
    for n in range(9):
        assert _fail(database, "olga", f"198.51.100.{n}") is ForbiddenError
    assert _fail(database, "olga", "198.51.100.77") is TooManyError
    accounts.log_in(database, "olga", PASSWORD, address=OFFICE)


def test_an_owners_link_sets_a_lost_password_once(tmp_path: Path):
    served = Served(str(tmp_path / "a.sqlite"))
    try:
        bench = Bench(served.database, annotators=1)
        old = accounts.create_token(
            served.database, account_name="ann0", name="t", scopes=["label"]
        )
        member = next(
            m
            for m in people.members(served.database, bench.owner, bench.project)
            if m["name"] == "ann0"
        )
        secret = resets.for_member(served.database, bench.owner, bench.project, member["id"])
        second = resets.for_member(served.database, bench.owner, bench.project, member["id"])
        with httpx.Client(base_url=served.url, follow_redirects=True) as browser:
            page = browser.get(f"/reset/{secret}")
            assert "ann0" in page.text
            csrf = re.findall(r'name="csrf" value="([^"]+)"', page.text)[0]
            short = browser.post(f"/reset/{secret}", data={"password": "short", "csrf": csrf})
            assert (short.status_code, "10 to 200" in short.text) == (422, True)
            assert browser.post(f"/reset/{secret}", data={"password": PASSWORD}).status_code == 403
            home = browser.post(f"/reset/{secret}", data={"password": PASSWORD, "csrf": csrf})
            assert str(home.url).endswith("/projects")
            assert browser.get(f"/reset/{secret}").status_code == 404
            # one that was used spends the others
            assert browser.get(f"/reset/{second}").status_code == 404
        accounts.log_in(served.database, "ann0", PASSWORD, address="x")
        assert accounts.caller_of_token(served.database, old) is not None
    finally:
        served.stop()


def test_a_link_for_who_has_rights_elsewhere_is_not_an_owners_to_make(
    database: Database, capsys: pytest.CaptureFixture
):
    bench = Bench(database, annotators=1)
    members = {m["name"]: m["id"] for m in people.members(database, bench.owner, bench.project)}
    with pytest.raises(NotFoundError):
        resets.for_member(database, bench.owner, bench.project, 999)
    with pytest.raises(ForbiddenError):
        resets.for_member(database, bench.people[0], bench.project, members["ann0"])
    with pytest.raises(ForbiddenError, match="users reset"):  # may create projects
        resets.for_member(database, bench.owner, bench.project, members["olga"])
    other = add_caller(database, "other", creates_projects=True)
    elsewhere = projects.create(database, other, "q", guidelines="", settings={})
    people.join(database, people.invite(database, other, elsewhere), bench.people[0])
    with pytest.raises(ForbiddenError, match="rights beyond your projects"):
        resets.for_member(database, bench.owner, bench.project, members["ann0"])
    with pytest.raises(SystemExit):
        main(
            [
                "annotate",
                "users",
                "reset",
                "ann0",
                "-d",
                database.place,
                "--url",
                "https://x.org/labels/",
            ]
        )
    secret = re.findall(r"https://x\.org/labels/reset/(\S+)", capsys.readouterr().out)[0]
    assert resets.name_of(database, secret) == "ann0"


def test_a_link_runs_out(database: Database):
    Bench(database, annotators=1)
    secret = resets.for_name(database, "ann0")
    with database.write() as session:
        session.query(ResetLink).update({"expires_at": now() - timedelta(seconds=1)})
    with pytest.raises(NotFoundError, match="has run out"):
        resets.use(database, secret, PASSWORD, address="x")


def test_invitations_are_listed_and_revoked(database: Database):
    bench = Bench(database, annotators=0)
    secret = people.invite(database, bench.owner, bench.project, role="reviewer", uses=3)
    late = add_caller(database, "late")
    found, before = people.invitations(database, bench.owner, bench.project)
    assert (found["role"], found["uses"], found["by"]) == ("reviewer", 3, "olga")
    assert secret not in str(found)
    with pytest.raises(NotFoundError):
        people.revoke_invitation(database, late, bench.project, found["id"])
    people.revoke_invitation(database, bench.owner, bench.project, found["id"])
    assert people.invitations(database, bench.owner, bench.project) == [before]
    with pytest.raises(NotFoundError):
        people.join(database, secret, late)
    assert projects.audit(database, bench.owner, bench.project)[0]["action"] == "invitation revoked"


def test_a_copy_is_brought_back_with_everything_in_it(
    place: str, tmp_path: Path, request: pytest.FixtureRequest
):
    database = Database(place)
    accounts.create_user(database, "boss", PASSWORD)
    bench = Bench(database, annotators=1)
    held = work.take(database, bench.people[0], bench.project)
    assert held is not None
    work.answer(database, bench.people[0], held.lease, Submission(strength=1))
    copy = back_up(place, tmp_path / "copy")
    with pytest.raises(UserError, match="already"):
        bring_back(copy, place)
    sqlite = "://" not in place
    target = (
        str(tmp_path / "new.sqlite")
        if sqlite
        else new_postgres_database(request.getfixturevalue("postgres"))
    )
    assert bring_back(copy, target) == {"projects": 1, "items": 4, "answers": 1}
    assert Store(target).rankings("p") == Store(place).rankings("p") != []
    accounts.log_in(Database(target), "boss", PASSWORD, address="x")
    (tmp_path / "no").write_text("no copy")
    elsewhere = (
        str(tmp_path / "x.sqlite")
        if sqlite
        else new_postgres_database(request.getfixturevalue("postgres"))
    )
    with pytest.raises(UserError, match=r"no copy|pg_restore failed"):
        bring_back(tmp_path / "no", elsewhere)
    with pytest.raises(UserError, match="no such copy"):
        bring_back(tmp_path / "nothing", elsewhere)
    if not sqlite:
        engine = create_engine(target)
        with engine.connect() as connection:
            assert connection.execute(text("SELECT count(*) FROM annotations")).scalar() == 1
        engine.dispose()
    database.close()
