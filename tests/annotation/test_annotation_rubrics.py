"""Best-worst choices, rubrics and scenarios: from an upload to votes, rewards and files, and by
keyboard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from annotation_bench import Bench, Served, png

from burnish.annotation.assignment import agreement, grade
from burnish.annotation.export import export
from burnish.annotation.labels import preference_data
from burnish.annotation.records import Answer
from burnish.annotation.service import (
    accounts,
    browsing,
    curation,
    images,
    people,
    projects,
    views,
    work,
)
from burnish.annotation.service.database import Database
from burnish.annotation.service.refusals import ConflictError
from burnish.annotation.service.submission import Submission
from burnish.annotation.snapshot import add_labelled, take_snapshot, with_key
from burnish.annotation.store import Store
from burnish.data.own_layout import read_item
from burnish.data.sources import Row
from burnish.errors import UserError

RUBRIC = [
    {"criterion": "Names a river.", "weight": 3},
    {"criterion": "Says where it is.", "weight": 1},
    {"criterion": "Makes something up.", "weight": -2},
]
ROWS = [
    {"id": "bw", "prompt": "Name a river.", "kind": "best_worst", "candidates": [*"abcd"],
        "priority": 2, "scenario": "You are **tired**."},
    {"id": "ru", "prompt": "Name a river.", "kind": "rubric", "candidates": ["Rhine", "Paris"],
        "rubric": RUBRIC, "priority": 1},
]  # fmt: skip


def _answers(database: Database) -> Bench:
    bench = Bench(database, annotators=2, rows=ROWS, overlap=2)
    for person, best in zip(bench.people, (1, 0), strict=True):
        held = work.take(database, person, bench.project)
        assert held is not None
        place = {at: place for place, at in enumerate(held.presented)}
        for wrong in (
            {"best": 0},
            {"best": 0, "worst": 0},
            {"best": 0, "worst": 4},
            {"ranks": [1, 2, 3, 4]},
        ):
            with pytest.raises(UserError):
                work.answer(database, person, held.lease, Submission(**wrong))
        given = Submission(best=place[best], worst=place[3])
        work.answer(database, person, held.lease, given)
        assert work.answer(database, person, held.lease, given).again
        held = work.take(database, person, bench.project)
        assert held is not None
        met = {0: [True, best == 1, False], 1: [False, False, best == 1]}
        rows = [[met[at][c] for at in held.presented] for c in range(3)]
        for wrong in ([], rows[:2], [row[:1] for row in rows], [[None, True]] * 3):
            with pytest.raises(UserError):
                work.answer(database, person, held.lease, Submission(verdicts=wrong))
        work.answer(database, person, held.lease, Submission(verdicts=rows))
    return bench


def test_from_answers_to_votes_rewards_and_back_from_a_file(database: Database, tmp_path: Path):
    _answers(database)
    snapshot = with_key(database, "p")
    best, rubric = (
        [one.answer for one in snapshot.answers if one.item_id == name] for name in ("bw", "ru")
    )
    assert {(one.best, one.worst) for one in best} == {(1, 3), (0, 3)}
    assert all(one.weights == (3.0, 1.0, -2.0) for one in rubric)
    groups = {group.prompt.id: group for group in preference_data(snapshot)}
    assert len(groups["bw"].comparisons) == 6
    assert [c.probability for c in groups["ru"].comparisons] == [1.0]

    made = export(snapshot, "rewards")
    for kind in (".jsonl", ".json", ".parquet"):
        assert made.data(kind) == export(with_key(database, "p"), "rewards").data(kind)
    rows = made.rows
    assert [(row["id"], row["reward"]) for row in rows] == [
        ("ru#0", pytest.approx(0.875)), ("ru#1", pytest.approx(-0.25)),
    ]  # fmt: skip
    assert rows[0]["rubric"][1] == {**RUBRIC[1], "met": 0.5}

    other = Database(str(tmp_path / "b.sqlite"))
    lines = [json.loads(json.dumps(row)) for row in export(snapshot, "burnish").rows]
    items = [read_item(Row("f", n, row, ""), "x") for n, row in enumerate(lines)]
    add_labelled(other, "p", items)
    back = with_key(other, "p")
    assert back.by_id["bw"].prompt.columns == {"annotator_scenario": "You are **tired**."}
    again = {group.prompt.id: group.comparisons for group in preference_data(back)}
    assert again == {name: group.comparisons for name, group in groups.items()}
    earned = [row["reward"] for row in export(back, "rewards").rows]
    assert earned == [row["reward"] for row in rows]
    lines[1]["answers"][0]["verdicts"][0] = [True]
    with pytest.raises(UserError, match="true or false"):
        read_item(Row("f", 1, lines[1], ""), "x")
    other.close()


def test_a_scenario_is_the_person_s_alone(database: Database):
    bench = Bench(database, annotators=1, rows=ROWS)
    held = work.take(database, bench.people[0], bench.project)
    assert held is not None
    seen = views.task_view(held, held.settings, html=True)
    assert seen["scenario"]["html"] == "<p>You are <strong>tired</strong>.</p>\n"
    assert "tired" not in json.dumps(seen["messages"])
    prompt = take_snapshot(database, "p").by_id["bw"].prompt
    assert "tired" not in json.dumps([dict(m) for m in prompt.messages])


def test_other_criteria_or_another_scenario_ask_an_item_anew(database: Database):
    bench = _answers(database)
    at = (database, bench.owner, bench.project)
    ids = {one["external_id"]: one["id"] for one in browsing.search(*at, browsing.Wanted())}
    best, rubric = ROWS
    heavier = [{**RUBRIC[0], "weight": 5}, *RUBRIC[1:]]
    curation.correct(*at, ids["ru"], {**rubric, "rubric": heavier})
    assert len(browsing.item_page(*at, ids["ru"])["answers"]) == 2
    for name, row in (
        ("ru", {**rubric, "rubric": RUBRIC[:2]}),
        ("ru", {**rubric, "rubric": [*RUBRIC[:2], {"criterion": "Is short.", "weight": -2}]}),
        ("ru", {**rubric, "scenario": "You are awake."}),
        ("bw", {**best, "scenario": "You are awake."}),
    ):
        with pytest.raises(ConflictError, match=r"2 answers.*rubric and scenario"):
            curation.correct(*at, ids[name], row)
    curation.correct(*at, ids["ru"], {**rubric, "rubric": RUBRIC[:2]}, ask_anew=True)
    page = browsing.item_page(*at, ids["ru"])
    assert (page["answers"], page["slots"]) == ([], 2)
    assert export(with_key(database, "p"), "rewards").rows == ()


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"rubric": None}, "rubric"),
        ({"rubric": []}, "rubric"),
        ({"rubric": [{"criterion": ""}]}, "rubric.0.criterion"),
        ({"rubric": [{"criterion": "x", "weight": -1}]}, "rubric"),
        ({"rubric": [{"criterion": "x"}, {"criterion": "y", "weight": 0}]}, "rubric"),
        ({"rubric": [{"criterion": "x", "wieght": 1}]}, "rubric.0.wieght"),
        ({"rubric": RUBRIC, "gold": {"verdicts": [[True, True]]}}, "gold.verdicts"),
        ({"rubric": RUBRIC, "gold": {"best": 1}}, "gold.best"),
        ({"kind": "best_worst", "candidates": ["a", "b"]}, "candidates"),
        ({"kind": "best_worst", "candidates": [*"abc"], "gold": {"best": 3}}, "gold.best"),
    ],
)
def test_rows_that_do_not_do_name_their_field(tmp_path: Path, row: dict, field: str):
    database = Database(str(tmp_path / "a.sqlite"))
    bench = Bench(database, annotators=0, rows=[])
    base = {"id": "1", "prompt": "?", "kind": "rubric", "candidates": ["a", "b"]}
    with pytest.raises(UserError) as error:
        projects.add_items(database, bench.owner, bench.project, [base | row])
    assert error.value.field == field
    database.close()


def test_agreement_and_marks_by_hand():
    one, two = Answer("best_worst", best=0, worst=1), Answer("best_worst", best=0, worst=2)
    assert agreement([one, two]) == 0.5
    assert grade({"best": 0, "worst": 2}, one) == 0.5
    first = Answer("rubric", verdicts=((True, False), (True, True)))
    second = Answer("rubric", verdicts=((True, True), (True, True)))
    assert agreement([first, second]) == 0.75
    assert grade({"verdicts": [[True, True], [False, True]]}, first) == 0.5


def test_both_by_keyboard(chromium: Any, tmp_path: Path):
    served = Served(str(tmp_path / "a.sqlite"))
    bench = Bench(served.database, annotators=0, rows=ROWS, overlap=1)
    secret = people.invite(served.database, bench.owner, bench.project)
    context = chromium.new_context(viewport={"width": 1200, "height": 900})
    page = context.new_page()
    page.set_default_timeout(15_000)
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    try:
        page.goto(f"{served.url}/join/{secret}")
        page.get_by_label("Name").fill("Ann")
        page.get_by_label("Password").fill("correct horse battery")
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog#guidelines[open]")
        page.keyboard.press("Enter")
        page.wait_for_selector(".scenario strong")
        for key in ("2", "2", "ArrowUp", "3", "Enter"):  # the second: the best, no, the worst
            page.keyboard.press(key)
        page.wait_for_selector("text=Does each answer meet it?")
        page.keyboard.press("Enter")
        page.wait_for_selector("text=Say of each criterion")
        for key in "122112":
            page.keyboard.press(key)
        page.keyboard.press("Enter")
        page.wait_for_selector("text=All done for now")
        said = {one.item_id: one.answer for one in Store(served.place).labelled("p")}
        shown = said["bw"].presented
        assert (said["bw"].best, said["bw"].worst) == (shown[2], shown[1])
        order = said["ru"].presented
        by_place = [[row[at] for at in order] for row in said["ru"].verdicts]
        assert by_place == [[True, False], [False, True], [True, False]]
        assert failures == []
    finally:
        context.close()
        served.stop()


def test_an_owner_sees_scenario_rubric_and_images_on_the_item_s_page(chromium: Any, tmp_path: Path):
    served = Served(str(tmp_path / "a.sqlite"))
    bench = Bench(served.database, annotators=0, rows=[])
    shown = [images.add(served.database, bench.owner, bench.project, png(40 + n)) for n in range(3)]
    prompt, answer, scenario = (one.markdown for one in shown)
    rows = [
        {**ROWS[1], "prompt": f"Look: {prompt}", "candidates": [answer, "<i>Paris</i>"],
            "scenario": f"You are **tired**. {scenario}"},
        {"id": "plain", "prompt": "?", "kind": "pairwise", "candidates": ["a", "b"]},
    ]  # fmt: skip
    projects.add_items(served.database, bench.owner, bench.project, rows)
    at = (served.database, bench.owner, bench.project)
    ids = {one["external_id"]: one["id"] for one in browsing.search(*at, browsing.Wanted())}
    accounts.set_password(served.database, "olga", "correct horse battery")
    context = chromium.new_context(viewport={"width": 1200, "height": 900})
    page = context.new_page()
    page.set_default_timeout(15_000)
    try:
        page.goto(f"{served.url}/login")
        page.get_by_label("Name").fill("olga")
        page.get_by_label("Password").fill("correct horse battery")
        page.keyboard.press("Enter")
        page.wait_for_selector(".cards")
        page.goto(f"{served.url}/projects/{bench.project}/items/{ids['ru']}")
        assert page.locator(".scenario strong").inner_text() == "tired"
        for place, width in ((".scenario", 42), (".prompt", 40), (".answer", 41)):
            image = page.locator(f"{place} img.picture")
            image.scroll_into_view_if_needed()
            page.wait_for_function(
                "([place, width]) => document.querySelector(place + ' img').naturalWidth === width",
                arg=[place, width],
            )
        lines = page.locator(".criteria-table tbody tr").all_inner_texts()
        assert [line.split("\t") for line in lines] == [
            ["1. Names a river.", "3"], ["2. Says where it is.", "1"],
            ["3. Makes something up.", "-2"],
        ]  # fmt: skip
        page.goto(f"{served.url}/projects/{bench.project}/items/{ids['plain']}")
        assert page.locator(".scenario, .criteria-table").count() == 0
    finally:
        context.close()
        served.stop()
