"""Verdicts step by step: from the annotator's page to labels for process reward models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from annotation_bench import Bench, Served

from burnish.annotation import versions
from burnish.annotation.dashboard import dashboard
from burnish.annotation.export import export
from burnish.annotation.labels import preference_data
from burnish.annotation.service import accounts, people, projects, reviews, views, work
from burnish.annotation.service.database import Database
from burnish.annotation.service.submission import Submission
from burnish.annotation.settings import Settings
from burnish.annotation.snapshot import add_labelled, with_key
from burnish.annotation.store import Store
from burnish.data.own_layout import read_item
from burnish.data.sources import Row
from burnish.errors import UserError

CALL = {"id": "1", "type": "function", "function": {"name": "sum", "arguments": {"a": 1}}}
TRACE = [
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "1", "name": "sum", "content": "4"},
    {"role": "assistant", "content": "It is 4."},
]
ROWS = [
    {"id": "sum", "prompt": "2 + 2 · 3?", "kind": "pairwise", "candidates": [
        {"steps": ["First 2 · 3 = 6.", "Then 2 + 6 = 8.", "**8**"]}, "2 + 2 = 4.\n4 · 3 = 12."]},
]  # fmt: skip
TRACES = [{"id": "t", "prompt": "?", "kind": "likert", "candidates": [{"messages": TRACE}]}]
MARKS = {"ann0": ([1, 1, 0], [-1, -1]), "ann1": ([1, -1, 0], [-1, 1])}


def _places(presented: Any, rows: Any) -> list[list[int | None]]:
    return [list(rows[at]) for at in presented]


def _bench(database: Database, step_verdicts: str = "required", **more: Any) -> Bench:
    return Bench(database, annotators=2, rows=ROWS, overlap=2, step_verdicts=step_verdicts, **more)


def _answered(database: Database, **more: Any) -> Bench:
    bench = _bench(database, **more)
    for person in bench.people:
        held = work.take(database, person, bench.project)
        assert held is not None
        strength = 2 if held.presented[0] == 0 else -2
        right = _places(held.presented, MARKS[person.name])
        for wrong in (None, [], right[:1], [row[:1] for row in right], [[None, *row[1:]] for row in right]):  # noqa: E501  # fmt: skip
            with pytest.raises(UserError) as error:
                work.answer(
                    database, person, held.lease, Submission(strength=strength, step_verdicts=wrong)
                )
            assert error.value.field == "step_verdicts"
        given = Submission(strength=strength, step_verdicts=right)
        work.answer(database, person, held.lease, given)
        assert work.answer(database, person, held.lease, given).again
    return bench


def test_from_answers_to_rows_and_back_from_a_file(database: Database, tmp_path: Path):
    _answered(database)
    snapshot = with_key(database, "p")
    assert {one.annotator: one.answer.step_verdicts for one in snapshot.answers} == {
        name: tuple(map(tuple, rows)) for name, rows in MARKS.items()
    }
    (group,) = preference_data(snapshot)
    assert group.comparisons[0].probability > 0.5
    made = export(snapshot, "stepwise")
    for kind in (".jsonl", ".json", ".parquet"):
        assert made.data(kind) == export(with_key(database, "p"), "stepwise").data(kind)
    first, second = made.rows
    assert (first["prompt"], first["completions"], first["labels"], first["ratings"]) == (
        "2 + 2 · 3?", ["First 2 · 3 = 6."], [True], [1.0],
    )  # fmt: skip
    assert (second["completions"], second["labels"]) == (["2 + 2 = 4."], [False])
    # the second step of both is undecided, so nothing is said from there on
    assert made.manifest["left_out"]["steps from an undecided one on"] == 3

    other = Database(str(tmp_path / "b.sqlite"))
    lines = [json.loads(json.dumps(row)) for row in export(snapshot, "burnish").rows]
    add_labelled(other, "p", [read_item(Row("f", n, row, ""), "x") for n, row in enumerate(lines)])
    again = export(with_key(other, "p"), "stepwise").rows
    assert [row["ratings"] for row in again] == [row["ratings"] for row in made.rows]
    for wrong in ([[1]], [[1, 2, 0], [1, 1]], [[True, 1, 0], [1, 1]], "x", [1, 2]):
        broken = json.loads(json.dumps(lines[0]))
        broken["answers"][0]["step_verdicts"] = wrong
        with pytest.raises(UserError, match="1, 0, -1 or null"):
            read_item(Row("f", 1, broken, ""), "x")
    other.close()
    found = dashboard(snapshot)
    alpha = found["agreement"]["attributes"]["each step"]["alpha"]
    assert alpha["value"] < 1


def test_where_they_are_optional_some_or_none_may_be_open(database: Database):
    bench = _bench(database, "optional")
    first, second = bench.people
    held = work.take(database, first, bench.project)
    assert held is not None
    work.answer(database, first, held.lease, Submission(strength=1))
    held = work.take(database, second, bench.project)
    assert held is not None
    open_ones = _places(held.presented, ([None, 1, None], [None, None]))
    work.answer(database, second, held.lease, Submission(strength=1, step_verdicts=open_ones))
    said = {one.annotator: one.answer.step_verdicts for one in with_key(database, "p").answers}
    assert said == {"ann0": (), "ann1": ((None, 1, None), (None, None))}
    made = export(with_key(database, "p"), "stepwise")
    assert (made.rows, made.manifest["left_out"]["candidates without verdicts on their steps"]) == (
        (), 1,
    )  # fmt: skip


def test_they_are_refused_where_nobody_asks(database: Database):
    bench = Bench(database, annotators=1, rows=ROWS)
    held = work.take(database, bench.people[0], bench.project)
    assert held is not None
    assert "steps" not in views.task_view(held, held.settings, html=True)["answers"][0]
    with pytest.raises(UserError, match="not marked here"):
        work.answer(
            database, bench.people[0], held.lease, Submission(strength=1, step_verdicts=[[1]])
        )
    rows = [{"id": "d", "prompt": "?", "kind": "demonstration", "priority": 9}]
    projects.add_items(database, bench.owner, bench.project, rows)


def test_a_trace_is_marked_by_its_turns(database: Database):
    bench = Bench(
        database, annotators=1, rows=TRACES, overlap=1, step_verdicts="required",
        attributes=[{"name": "overall"}],
    )  # fmt: skip
    held = work.take(database, bench.people[0], bench.project)
    assert held is not None
    (shown,) = views.task_view(held, held.settings, html=True)["answers"]
    assert [len(step["turns"]) for step in shown["steps"]] == [2, 1]
    given = Submission(ratings={"overall": [3]}, step_verdicts=[[1, 0]])
    work.answer(database, bench.people[0], held.lease, given)
    (row,) = export(with_key(database, "p"), "stepwise").rows
    assert row["completions"] == ['→ sum({"a": 1})\n\n← sum: 4', "It is 4."]
    assert row["labels"] == [True, True]


def test_versions_keep_what_was_asked(database: Database):
    bench = _answered(database)
    projects.change(database, bench.owner, bench.project, settings={"step_verdicts": "off"})
    assert len(export(with_key(database, "p"), "stepwise").rows) == 2
    draft = {"answer": {"strength": 1, "step_verdicts": [[1, 1, 1], [0, 0]]}}
    on, off = Settings(step_verdicts="required"), Settings()
    assert versions.mapped_draft(draft, {}, on, on) == draft
    assert versions.mapped_draft(draft, {}, on, off) == {"answer": {"strength": 1}}
    assert versions.filled({"kind": "ranking"})["step_verdicts"] == "off"


def test_the_desk_shows_them_and_a_decision_says_nothing_of_them(database: Database):
    bench = _answered(database, review_share=1.0)
    found = views.desk_view(
        reviews.waiting(database, bench.owner, bench.project, item_id=_id(bench)), html=True
    )
    assert [len(shown["steps"]) for shown in found["item"]["answers"]] == [3, 2]
    assert found["item"]["asks"]["step_verdicts"] == "off"
    reviews.decide(database, bench.owner, bench.project, _id(bench), Submission(strength=-1))
    assert len(export(with_key(database, "p"), "stepwise").rows) == 2


def _id(bench: Bench) -> int:
    from burnish.annotation.service import browsing

    found = browsing.search(bench.database, bench.owner, bench.project, browsing.Wanted())
    return found[0]["id"]


@pytest.mark.parametrize(
    "candidate",
    [
        {"steps": []},
        {"steps": ["a", ""]},
        {"steps": ["a\n\nb", "c"]},
        {"steps": ["a"], "text": "a"},
        {"steps": ["a\nb"]},
    ],
)
def test_steps_that_are_none_name_their_field(tmp_path: Path, candidate: dict[str, Any]):
    database = Database(str(tmp_path / "a.sqlite"))
    bench = Bench(database, annotators=0, rows=[])
    row = {"id": "1", "prompt": "?", "kind": "pairwise", "candidates": [candidate, "z"]}
    with pytest.raises(UserError) as error:
        projects.add_items(database, bench.owner, bench.project, [row])
    assert (error.value.field or "").startswith("candidates.0")
    database.close()


@pytest.mark.parametrize("phone", [False, True])
def test_by_keyboard_and_by_finger(chromium: Any, tmp_path: Path, phone: bool):
    served = Served(str(tmp_path / "a.sqlite"))
    bench = Bench(served.database, annotators=0, rows=ROWS, overlap=1, step_verdicts="required")
    secret = people.invite(served.database, bench.owner, bench.project)
    size = {"width": 390, "height": 844} if phone else {"width": 1200, "height": 900}
    context = chromium.new_context(viewport=size, has_touch=phone, locale="ar" if phone else "en")
    page = context.new_page()
    page.set_default_timeout(15_000)
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    try:
        page.goto(f"{served.url}/join/{secret}")
        page.locator("input[name=name]").fill("Ann")
        page.locator("input[name=password]").fill("correct horse battery")
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog#guidelines[open]")
        page.keyboard.press("Enter")
        page.wait_for_selector(".step")
        assert page.locator(".step").count() == 5
        wide = page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert wide
        page.keyboard.press("1")
        if phone:
            verdicts = page.locator(".step-verdict")
            for n, which in enumerate(("right", "wrong", "neutral", "right", "wrong")):
                verdicts.nth(n).locator(f".{which}").tap()
                box = verdicts.nth(n).locator(f".{which}").bounding_box()
                assert box is not None
                assert box["height"] >= 44
        else:
            page.keyboard.press("Enter")
            page.wait_for_selector("text=Mark each step of each answer")
            for pressed in "rwoxkkrjjr":  # x is no key; back to the second, which becomes right
                page.keyboard.press(pressed)
            page.wait_for_selector("text=Draft saved")
            page.reload()
            page.wait_for_selector(".step.current")
            page.keyboard.press("w")
        page.locator(".bar .button").click()
        page.wait_for_selector(".narrow h1")
        (said,) = Store(served.place).labelled("p")
        by_place = [list(said.answer.step_verdicts[at]) for at in said.answer.presented]
        flat = [verdict for row in by_place for verdict in row]
        assert flat == ([1, -1, 0, 1, -1] if phone else [1, 1, 0, -1, 1])
        assert failures == []
    finally:
        context.close()
        served.stop()


def test_a_program_sees_the_steps(tmp_path: Path):
    served = Served(str(tmp_path / "a.sqlite"))
    try:
        bench = _bench(served.database)
        token = accounts.create_token(
            served.database, account_name="ann0", name="t", scopes=["label"]
        )
        head = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=f"{served.url}/api/v1", headers=head) as api:
            task = api.post(f"/projects/{bench.project}/next", json={}).json()
            marks = [[0] * len(one["steps"]) for one in task["answers"]]
            given = {"strength": 1, "step_verdicts": marks}
            done = api.post(f"/leases/{task['lease']}/answer", json=given)
            assert done.status_code == 200
    finally:
        served.stop()
