"""The crowd's door: consent, limits, the code, who is stopped, and what everybody is owed."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from annotation_bench import Bench, Served, pair_row

from burnish.annotation.service import accounts, crowd, people, projects, work
from burnish.annotation.service.accounts import Caller
from burnish.annotation.service.database import Database
from burnish.annotation.service.refusals import ConflictError, ForbiddenError, NotFoundError
from burnish.annotation.service.submission import Submission
from burnish.annotation.tables import Lease
from burnish.errors import UserError

DOOR = {"study": "S1", "completion_code": "C0DE", "consent": "You are **paid**."}


def _come(database: Database, person: str = "P1", session: str = "X1", study: str = "S1") -> Caller:
    _, secret = crowd.enter(database, study, person, session, address="203.0.113.7")
    caller = accounts.caller_of_session(database, secret)
    assert caller is not None
    return caller


def _answer(bench: Bench, caller: Caller, *, worked: float = 60.0, right: bool = True) -> bool:
    """Answer the next task after so many seconds; False where there is none."""
    held = work.take(bench.database, caller, bench.project)
    if held is None:
        return False
    with bench.database.write() as session:
        session.get_one(Lease, held.lease).worked = worked
    sign = 1 if (held.presented[0] == 0) == right else -1
    work.answer(bench.database, caller, held.lease, Submission(strength=sign, seconds=worked))
    return True


def test_a_day_of_somebody_from_a_platform(tmp_path: Path):
    served = Served(str(tmp_path / "a.sqlite"))
    try:
        Bench(
            served.database,
            annotators=0,
            rows=[pair_row(n) for n in range(5)],
            overlap=1,
            quota=2,
            **DOOR,
        )
        ids = {"PROLIFIC_PID": "P1", "STUDY_ID": "S1", "SESSION_ID": "X1"}
        with httpx.Client(base_url=served.url, follow_redirects=True) as browser:
            assert browser.get("/start", params={**ids, "SESSION_ID": ""}).status_code == 422
            assert browser.get("/start", params={**ids, "STUDY_ID": "S2"}).status_code == 404
            page = browser.get("/start", params=ids)
            assert "<strong>paid</strong>" in page.text
            csrf = re.findall(r'name="csrf" value="([^"]+)"', page.text)[0]
            # without consent
            assert browser.post("/start", data={**ids, "csrf": csrf}).status_code == 422
            # from elsewhere
            assert browser.post("/start", data={**ids, "agreed": "yes"}).status_code == 403
            task = browser.post("/start", data={**ids, "agreed": "yes", "csrf": csrf})
            assert 'data-crowd="yes"' in task.text
            here = str(task.url).removesuffix("/label")
            token = re.findall(r'name="csrf" content="([^"]+)"', task.text)[0]
            browser.headers["x-csrf-token"] = token
            api = here.replace("/projects", "/api/v1/projects")
            assert "C0DE" not in browser.get(f"{here}/done").text
            for _ in range(2):
                held = browser.post(f"{api}/next", json={}).json()
                lease = f"{served.url}/api/v1/leases/{held['lease']}"
                assert browser.post(f"{lease}/answer", json={"strength": 1}).status_code == 200
            # the quota is the person's limit
            assert browser.post(f"{api}/next", json={}).status_code == 204
            done = browser.get(f"{here}/done")
            assert "C0DE" in done.text
            assert "submissions/complete?cc=C0DE" in done.text
        assert "C0DE" not in httpx.get(f"{served.url}/start", params=ids).text
    finally:
        served.stop()


def test_a_person_goes_on_in_the_same_session_and_in_no_other(database: Database):
    bench = Bench(database, annotators=0, overlap=1, **DOOR)
    first = _come(database)
    held = work.take(database, first, bench.project)
    again = _come(database)
    assert again.annotator_id == first.annotator_id
    assert held is not None
    assert work.take(database, again, bench.project).lease == held.lease  # type: ignore[union-attr]
    with pytest.raises(ConflictError, match="another session"):
        _come(database, session="X2")
    assert _come(database, person="P2", session="X9").annotator_id != first.annotator_id
    for person, session, field in (
        ("", "X", "PROLIFIC_PID"),
        ("P 1", "X", "PROLIFIC_PID"),
        ("P", "<", "SESSION_ID"),
    ):
        with pytest.raises(UserError, match=field):
            _come(database, person=person, session=session)
    with pytest.raises(NotFoundError):
        _come(database, study="")


def test_who_did_not_come_by_the_door_gets_no_code(database: Database):
    bench = Bench(database, annotators=1, **DOOR)
    with pytest.raises(NotFoundError):
        crowd.completion(database, bench.people[0], bench.project)


def test_qualification_comes_before_the_work_and_who_fails_gets_no_code(database: Database):
    rows = [pair_row("q", part="qualification", gold={"strength": 1}), pair_row(1)]
    bench = Bench(database, annotators=0, rows=rows, overlap=2, **DOOR)
    good, bad = _come(database), _come(database, person="P2", session="X2")
    assert _answer(bench, good)
    assert _answer(bench, good)
    assert crowd.completion(database, good, bench.project)["code"] == "C0DE"
    assert _answer(bench, bad, right=False)
    with pytest.raises(ForbiddenError, match="not passed"):
        crowd.completion(database, bad, bench.project)


def test_too_many_fast_answers_end_the_work_by_the_servers_clock(database: Database):
    bench = Bench(
        database,
        annotators=0,
        rows=[pair_row(n) for n in range(6)],
        overlap=1,
        fast_seconds=5,
        stop_fast=2,
        **DOOR,
    )
    caller = _come(database)
    assert _answer(bench, caller, worked=5.0)
    assert _answer(bench, caller, worked=4.9)
    # what is taken back and given again is no fast answer
    work.undo(database, caller, bench.project)
    assert _answer(bench, caller, worked=0.1)
    assert _answer(bench, caller, worked=60.0)
    assert _answer(bench, caller, worked=1.0)
    with pytest.raises(ForbiddenError, match="has ended"):
        work.take(database, caller, bench.project)
    with pytest.raises(ForbiddenError):
        crowd.completion(database, caller, bench.project)
    log = projects.audit(database, bench.owner, bench.project)
    stopped = next(line for line in log if line["action"] == "member stopped")
    assert stopped["detail"]["why"] == "2 answers in less than 5 seconds"


def _answer_all_wrongly(bench: Bench) -> None:
    for _ in range(9):
        assert _answer(bench, bench.people[0], right=False)


def test_missed_known_answers_end_the_work(database: Database):
    rows = [pair_row(f"g{n}", gold={"strength": 1}) for n in range(6)] + [
        pair_row(n) for n in range(12)
    ]
    bench = Bench(
        database,
        annotators=1,
        rows=rows,
        overlap=2,
        gold_rate=0.5,
        stop_gold=0.6,
        stop_gold_after=3,
    )
    with database.write() as session:
        from burnish.annotation.tables import Member

        session.query(Member).update({"state": "active"})
    with pytest.raises(ForbiddenError, match="known ones missed"):
        _answer_all_wrongly(bench)
    (member,) = [
        m for m in people.members(database, bench.owner, bench.project) if m["name"] == "ann0"
    ]
    assert member["state"] == "stopped"


def _sheet(bench: Bench) -> list[dict[str, Any]]:
    return crowd.pay_sheet(bench.database, bench.owner, bench.project)


def test_the_pay_sheet_by_hand(database: Database):
    bench = Bench(
        database,
        annotators=1,
        rows=[pair_row(n) for n in range(3)],
        overlap=2,
        price_per_task=0.5,
        price_per_hour=12.0,
        currency="GBP",
        **DOOR,
    )
    caller = _come(database)
    for _ in range(3):
        assert _answer(bench, caller, worked=300.0)
    assert crowd.completion(database, caller, bench.project)["done"]
    held = work.take(database, bench.people[0], bench.project)
    assert held is not None
    work.answer(database, bench.people[0], held.lease, Submission(skipped="other"))
    skipper, worker = _sheet(bench)
    # 3 tasks at 0.50 and a quarter of an hour at 12
    assert (
        worker["person"],
        worker["session"],
        worker["tasks"],
        worker["hours"],
        worker["pay"],
    ) == (
        "P1",
        "X1",
        3,
        0.25,
        4.5,
    )
    assert worker["code_shown_at"]
    assert (skipper["annotator"], skipper["tasks"], skipper["skipped"], skipper["pay"]) == (
        "ann0",
        1,
        1,
        0.5,
    )
    rows = list(csv.DictReader(io.StringIO(crowd.as_csv(_sheet(bench)).decode("utf-8-sig"))))
    assert [row["currency"] for row in rows] == ["GBP", "GBP"]
    with pytest.raises(ForbiddenError):
        crowd.pay_sheet(database, bench.people[0], bench.project)


def test_names_that_a_spreadsheet_would_compute_stay_text():
    row = dict.fromkeys(
        (
            "person",
            "session",
            "role",
            "state",
            "tasks",
            "skipped",
            "hours",
            "pay",
            "currency",
            "code_shown_at",
        ),
        "",
    )
    text = crowd.as_csv([{"annotator": '=HYPERLINK("x")', **row}]).decode("utf-8-sig")
    assert next(csv.DictReader(io.StringIO(text)))["annotator"] == '\'=HYPERLINK("x")'
