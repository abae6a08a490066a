"""An owner looks through the items, and retires, corrects, opens again and deletes them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from annotation_bench import Bench, Served, pair_row

from burnish.annotation.export import export
from burnish.annotation.labels import preference_data
from burnish.annotation.service import accounts, browsing, curation, projects, reviews, work
from burnish.annotation.service.database import Database
from burnish.annotation.service.refusals import ConflictError, ForbiddenError, NotFoundError
from burnish.annotation.service.submission import Submission
from burnish.annotation.snapshot import with_key
from burnish.annotation.tables import Annotation, Item
from burnish.errors import UserError

ROWS = [
    pair_row("a", prompt="Größe of 50% _off_?", columns={"domain": "code", "n": 3}, candidates=[
        {"text": "yes", "source": "big"}, {"text": "no! \\ \"x\"", "source": "small"}]),
    pair_row("b", columns={"domain": "chat"}),
    pair_row("c"),
    pair_row("g", gold={"strength": 1}),
    pair_row("t", part="training", gold={"strength": 1}),
]  # fmt: skip


def _label(bench: Bench, who: int, item: str, first: bool, **said: Any) -> None:
    """Take what comes until it is the item, and say that its first (or second) candidate is
    better."""
    while True:
        held = work.take(bench.database, bench.people[who], bench.project)
        assert held is not None
        with bench.database.read() as session:
            name = session.get_one(Item, held.item_id).external_id
        if name == item:
            sign = 1 if (held.presented[0] == 0) == first else -1
            work.answer(
                bench.database,
                bench.people[who],
                held.lease,
                Submission(strength=sign, seconds=2.0, **said),
            )
            return
        work.answer(bench.database, bench.people[who], held.lease, Submission(skipped="other"))


@pytest.fixture
def bench(database: Database) -> Bench:
    made = Bench(database, annotators=3, rows=[row for row in ROWS if row["id"] != "t"], overlap=2)
    projects.add_items(
        database, made.owner, made.project, [row for row in ROWS if row["id"] == "t"]
    )
    with database.write() as session:
        from burnish.annotation.tables import Member

        session.query(Member).update({"state": "active"})
    return made


def _found(bench: Bench, **wanted: Any) -> list[str]:
    rows = browsing.search(bench.database, bench.owner, bench.project, browsing.Wanted(**wanted))
    return [row["external_id"] for row in rows]


def _id(bench: Bench, name: str) -> int:
    rows = browsing.search(bench.database, bench.owner, bench.project, browsing.Wanted())
    return next(row["id"] for row in rows if row["external_id"] == name)


@pytest.mark.parametrize(
    ("text", "found"),
    [("größe", []), ("Größe", ["a"]), ("50%", ["a"]), ("5_%", []), ("_OFF_", ["a"]), ('\\ "x"', ["a"]), ("FIRST B", ["b"]),  # noqa: E501
     ("c", ["c", "b", "g", "t"])],
)  # fmt: skip
def test_text_is_found_in_prompts_candidates_and_ids_and_is_no_pattern(
    bench: Bench, text: str, found: list[str]
):
    if text == "c":
        assert set(_found(bench, text=text)) >= {"b", "c"}  # "second b" and the id
    elif text == "größe":  # case is folded for ASCII letters
        assert _found(bench, text=text) in ([], ["a"])
    else:
        assert _found(bench, text=text) == found


@pytest.mark.parametrize(
    ("column", "found"),
    [("domain", ["a", "b"]), ("domain=code", ["a"]), ("domain = chat", ["b"]), ("n=3", ["a"]), ("n=33", []), ("dom", []),  # noqa: E501
     ("domain=cod", [])],
)  # fmt: skip
def test_columns(bench: Bench, column: str, found: list[str]):
    assert _found(bench, column=column) == found


def test_states_annotators_models_and_agreement(bench: Bench):
    assert _found(bench, state="open") == ["a", "b", "c"]
    assert _found(bench, state="known answer") == ["g"]
    assert _found(bench, state="training") == ["t"]
    assert _found(bench, model="big") == ["a"]
    _label(bench, 0, "a", True)
    assert _found(bench, state="begun") == ["a"]
    _label(bench, 1, "a", False)
    assert (_found(bench, state="done"), _found(bench, state="disputed")) == (["a"], ["a"])
    assert _found(bench, agreement=0.5) == ["a"]
    assert _found(bench, annotator="ANN1", state="done") == ["a"]
    assert _found(bench, annotator="ann2") == []
    assert browsing.choices(bench.database, bench.owner, bench.project)["models"] == [
        "big",
        "small",
    ]
    with pytest.raises(UserError, match="states are"):
        _found(bench, state="odd")
    with pytest.raises(ForbiddenError):
        browsing.search(bench.database, bench.people[0], bench.project, browsing.Wanted())


def test_pages_go_on_where_the_last_ended(bench: Bench):
    asked = (bench.database, bench.owner, bench.project, browsing.Wanted())
    first = browsing.search(*asked, limit=2)
    rest = browsing.search(*asked, after=first[-1]["id"], limit=9)
    assert [row["external_id"] for row in (*first, *rest)] == ["a", "b", "c", "g", "t"]


def test_an_items_page_has_everything_that_was_said_and_done(bench: Bench):
    _label(bench, 0, "a", True, critique="better")
    item = browsing.item_page(bench.database, bench.owner, bench.project, _id(bench, "a"))
    (said,) = item["answers"]
    assert (said["annotator"], said["strength"], said["critique"], said["version"]) == (
        "ann0",
        1,
        "better",
        1,
    )
    assert [one["what"] for one in item["history"]][:2] == ["answered", "taken"]
    assert {one["name"] for one in item["history"]} == {"ann0"}
    with pytest.raises(NotFoundError):
        browsing.item_page(bench.database, bench.owner, bench.project + 1, _id(bench, "a"))


def test_a_retired_item_is_no_data_and_comes_back_as_it_was(bench: Bench):
    _label(bench, 0, "a", True)
    held = work.take(bench.database, bench.people[1], bench.project)
    assert held is not None
    with bench.database.read() as session:
        name = session.get_one(Item, held.item_id).external_id
    here = (bench.database, bench.owner, bench.project, _id(bench, name))
    before = curation.dependents(*here)
    assert before["open"] == 1
    curation.retire(*here)
    with pytest.raises(ConflictError, match="retired already"):
        curation.retire(*here)
    with pytest.raises((ConflictError, NotFoundError)):  # an answer to it comes too late
        work.answer(bench.database, bench.people[1], held.lease, Submission(strength=1))
    assert _found(bench, state="retired") == [name]
    other = work.take(bench.database, bench.people[1], bench.project)
    assert other is not None
    assert other.item_id != held.item_id
    if name != "a":
        curation.retire(bench.database, bench.owner, bench.project, _id(bench, "a"))
    assert preference_data(with_key(bench.database, "p")) == []
    assert (
        export(with_key(bench.database, "p"), "burnish").manifest["left_out"]["retired items"] >= 1
    )
    curation.bring_back(bench.database, bench.owner, bench.project, _id(bench, "a"))
    assert len(preference_data(with_key(bench.database, "p"))) == 1
    assert (
        browsing.item_page(bench.database, bench.owner, bench.project, _id(bench, "a"))["slots"]
        == 1
    )


def test_opening_again_asks_more_people_and_forgets_the_decision(bench: Bench):
    _label(bench, 0, "a", True)
    _label(bench, 1, "a", False)
    reviewer = bench.owner
    reviews.decide(bench.database, reviewer, bench.project, _id(bench, "a"), Submission(strength=1))
    assert _found(bench, state="decided") == ["a"]
    curation.reopen(bench.database, bench.owner, bench.project, _id(bench, "a"), more=1)
    assert (_found(bench, state="decided"), _found(bench, state="open")[0]) == ([], "a")
    _label(bench, 2, "a", True)
    (group,) = [g for g in preference_data(with_key(bench.database, "p")) if g.prompt.id == "a"]
    assert group.comparisons[0].probability > 0.5
    with pytest.raises(ConflictError, match="known answer"):
        curation.reopen(bench.database, bench.owner, bench.project, _id(bench, "g"))


def test_a_correction_keeps_answers_to_what_people_saw_and_no_others(bench: Bench):
    _label(bench, 0, "a", True)
    here = (bench.database, bench.owner, bench.project, _id(bench, "a"))
    same = {**ROWS[0], "priority": 5, "columns": {"domain": "maths"}}
    curation.correct(*here, same)
    item = browsing.item_page(*here)
    assert (item["priority"], item["columns"], len(item["answers"])) == (5, {"domain": "maths"}, 1)
    changed = {**ROWS[0], "prompt": "Size?"}
    with pytest.raises(ConflictError, match="1 answers and 0 open tasks"):
        curation.correct(*here, changed)
    with pytest.raises(UserError, match=r'row 1, field "candidates"'):
        curation.correct(*here, {**changed, "candidates": ["one"]}, ask_anew=True)
    curation.correct(*here, changed, ask_anew=True)
    item = browsing.item_page(*here)
    assert (item["messages"][0]["content"], item["answers"], item["slots"]) == ("Size?", [], 2)
    assert item["external_id"] == "a"


def test_what_is_deleted_is_told_and_noted(bench: Bench):
    _label(bench, 0, "a", True)
    _label(bench, 1, "a", True)
    here = (bench.database, bench.owner, bench.project, _id(bench, "a"))
    first, _ = browsing.item_page(*here)["answers"]
    curation.remove_answer(*here, first["id"])
    assert [one["annotator"] for one in browsing.item_page(*here)["answers"]] == ["ann1"]
    assert browsing.item_page(*here)["slots"] == 1
    told = curation.remove(*here)
    assert (told["answers"], told["decisions"]) == (1, 0)
    with bench.database.read() as session:
        assert session.query(Annotation).filter(Annotation.item_id == here[3]).count() == 0
    log = projects.audit(bench.database, bench.owner, bench.project)
    assert (log[0]["action"], log[0]["subject"], log[0]["detail"]["answers"]) == (
        "item deleted",
        "a",
        1,
    )
    assert log[1]["detail"]["answer"]["payload"]["strength"] == 1
    with pytest.raises(NotFoundError):
        curation.remove(*here)


def test_the_pages_and_the_api_do_it(tmp_path: Path):
    served = Served(str(tmp_path / "a.sqlite"))
    try:
        bench = Bench(served.database, annotators=1, rows=ROWS[:3], overlap=1)
        accounts.set_password(served.database, "olga", "correct horse battery")
        with httpx.Client(base_url=served.url, follow_redirects=True) as browser:
            form = browser.get("/login")
            csrf = re.findall(r'name="csrf" value="([^"]+)"', form.text)[0]
            home = browser.post(
                "/login", data={"name": "olga", "password": "correct horse battery", "csrf": csrf}
            )
            csrf = re.findall(r'name="csrf" content="([^"]+)"', home.text)[0]
            here = f"/projects/{bench.project}/items"
            assert browser.get(here, params={"text": "Größe"}).text.count("<tr><td><a") == 1
            assert browser.get(here, params={"state": "odd"}).status_code == 422
            assert browser.get(here, params={"agreement": "x"}).status_code == 422
            page = browser.get(f"{here}/{_id(bench, 'a')}")
            row = re.findall(r"<textarea name=\"row\"[^>]*>(.*?)</textarea>", page.text, re.S)[0]
            import html

            given = json.loads(html.unescape(row))
            given["candidates"][0]["text"] = "<b>yes</b>"
            done = browser.post(
                f"{page.url}/correct", data={"csrf": csrf, "row": json.dumps(given)}
            )
            assert "&lt;b&gt;yes" in done.text
            assert (
                browser.post(f"{page.url}/correct", data={"csrf": csrf, "row": "no"}).status_code
                == 422
            )
            assert browser.post(f"{page.url}/delete", data={"csrf": csrf}).status_code == 422
            assert "retired" in browser.post(f"{page.url}/retire", data={"csrf": csrf}).text
            browser.post(f"{page.url}/bring-back", data={"csrf": csrf})
            browser.post(f"{page.url}/reopen", data={"csrf": csrf, "more": "2"})
            assert "open to 3 more" in browser.get(str(page.url)).text
            browser.post(f"{page.url}/delete", data={"csrf": csrf, "confirmed": "1"})
            assert browser.get(str(page.url)).status_code == 404
        token = accounts.create_token(
            served.database, account_name="olga", name="t", scopes=["manage", "read"]
        )
        with httpx.Client(
            base_url=f"{served.url}/api/v1", headers={"Authorization": f"Bearer {token}"}
        ) as api:
            (row,) = api.get(here, params={"column": "domain=chat"}).json()
            assert api.get(f"{here}/{row['id']}").json()["answers"] == []
            assert api.post(f"{here}/{row['id']}/retire").status_code == 204
            assert api.put(f"{here}/{row['id']}", json={"row": ROWS[1]}).status_code == 409
            assert api.delete(f"{here}/{row['id']}").json()["answers"] == 0
    finally:
        served.stop()
