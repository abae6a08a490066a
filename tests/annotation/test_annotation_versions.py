"""Labels that no change of settings damages: versions of what is asked, a migrated database,
drafts, renames, guidelines."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from annotation_bench import Bench, pair_row
from sqlalchemy import select
from test_annotation_round_trip import hold_equal, labels_in, rows_of

from burnish.annotation.export import LAYOUTS, export
from burnish.annotation.labels import LabelOptions, demonstration_data, preference_data
from burnish.annotation.service import browsing, changes, projects, work
from burnish.annotation.service.database import Database
from burnish.annotation.service.submission import Submission
from burnish.annotation.settings import Settings
from burnish.annotation.snapshot import Snapshot, add_labelled, take_snapshot, with_key
from burnish.annotation.store import Store
from burnish.annotation.tables import Annotation, Item, Lease, Version
from burnish.annotation.versions import mapped_draft
from burnish.data.labelled import read_labelled
from burnish.errors import UserError
from burnish.records import Comparison, LabelledItem, Opinion, PreferenceGroup, Prompt

DATA = Path(__file__).parent / "data"


# ---- a database that an older version wrote
@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A database of revision 0003: answers of every kind, a scale of eight steps, a decision, an
    open draft, an undone answer."""
    place = tmp_path / "old.sqlite"
    with sqlite3.connect(place) as connection:
        connection.executescript((DATA / "before_versions.sql").read_text())
    connection.close()
    return place


def _groups(given: list[dict[str, Any]]) -> list[PreferenceGroup]:
    return [
        PreferenceGroup(
            Prompt(g["prompt"]["id"], tuple(g["prompt"]["messages"])),
            tuple(g["responses"]),
            tuple(Comparison(**pair) for pair in g["comparisons"]),
        )
        for g in given
    ]


@pytest.mark.parametrize("project", ["eight", "imported"])
@pytest.mark.parametrize("steps", [None, 2])
def test_a_migrated_database_has_the_labels_that_it_had(old: Path, project: str, steps: int | None):
    """Also once its settings have become others."""
    expected = json.loads((DATA / "before_versions.json").read_text())[project]
    database = Database(old)
    if steps is not None:
        with database.write() as session:
            row = session.scalars(
                select(projects.Project).where(projects.Project.name == project)
            ).one()
            row.settings = {
                **row.settings,
                "steps": steps,
                "kind": "demonstration",
                "flags": [],
                "attributes": [],
            }
            changes.renew_version(session, row, {})
    snapshot = take_snapshot(database, project)
    for strength in ("ignore", "probability", "margin"):
        was, now = (
            labels_in(_groups(expected[strength])),
            labels_in(preference_data(snapshot, LabelOptions(strength))),
        )
        assert len(was) == len(now) > 0
        hold_equal(now, {pair: labels[:1] for pair, labels in was.items()})
    wrote = [(one.id, one.messages[-1]["content"]) for one in demonstration_data(snapshot)]
    assert wrote == [
        (one["id"], one["messages"][-1]["content"]) for one in expected["demonstrations"]
    ]
    database.close()


def test_a_migrated_database_points_every_answer_to_its_version(old: Path):
    database = Database(old)
    with database.read() as session:
        versions = session.scalars(select(Version)).all()
        assert [(v.number, v.schema["steps"]) for v in versions] == [(1, 8), (1, 4)]
        assert None not in session.scalars(select(Annotation.version_id)).all()
        assert None not in session.scalars(select(Lease.version_id)).all()
        assert "" not in session.scalars(select(Item.kind)).all()
        assert session.scalars(select(Lease)).all()  # the draft and the answer taken back
    database.close()


# ---- changes while people work
def _strengths(database: Database, options: LabelOptions | None = None) -> dict[str, float]:
    groups = preference_data(take_snapshot(database, "p"), options or LabelOptions(weighted=False))
    found = {}
    for group in groups:
        (pair,) = group.comparisons
        first = group.responses[pair.first].startswith("first")
        found[group.prompt.id] = pair.probability if first else 1.0 - pair.probability
    return found


def _take(bench: Bench, person: int = 0) -> work.Held:
    held = work.take(bench.database, bench.people[person], bench.project)
    assert held is not None
    return held


def _answer(bench: Bench, held: work.Held, person: int = 0, **said: Any) -> None:
    work.answer(bench.database, bench.people[person], held.lease, Submission(**said))


def _change(bench: Bench, *, settings: dict[str, Any] | None = None, **more: Any) -> None:
    projects.change(bench.database, bench.owner, bench.project, settings=settings, **more)


def test_another_scale_leaves_labels_alone(database: Database):
    bench = Bench(database, rows=[pair_row(n) for n in range(4)], steps=8, overlap=1)
    for strength in (1, 2, 3, 4):
        held = _take(bench)
        _answer(bench, held, strength=strength if held.presented[0] == 0 else -strength)
    before = _strengths(database)
    assert sorted(before.values()) == [0.625, 0.75, 0.875, 1.0]
    _change(bench, settings={"steps": 4})
    assert _strengths(database) == before
    snapshot = with_key(database, "p")
    rows = export(snapshot, "helpsteer2-preference").rows
    assert all(abs(row["preference_strength"]) <= 3 for row in rows)
    (first, second) = export(snapshot, "burnish").manifest["versions"]
    assert (first["number"], first["schema"]["steps"], first["labels"]) == (1, 8, 4)
    assert (second["number"], second["schema"]["steps"], second["labels"]) == (2, 4, 0)


def test_both_scales_in_one_project_and_its_exports(database: Database, tmp_path: Path):
    bench = Bench(database, rows=[pair_row(n) for n in range(2)], steps=8, overlap=1)
    for steps in (8, 2):
        _change(bench, settings={"steps": steps})
        held = _take(bench)
        _answer(bench, held, strength=1 if held.presented[0] == 0 else -1)
    assert sorted(_strengths(database).values()) == [0.625, 1.0]
    snapshot = with_key(database, "p")
    for layout in ("burnish", "ranking"):
        copy = Store(tmp_path / f"{layout}.sqlite")
        items = read_labelled(rows_of(export(snapshot, layout))).items
        add_labelled(copy, "p", items, settings=Settings(kind="pairwise", steps=4))
        hold_equal(
            labels_in(preference_data(take_snapshot(copy, "p"))),
            labels_in(preference_data(snapshot)),
        )
        copy.close()


def test_an_item_keeps_its_kind(database: Database):
    bench = Bench(
        database,
        rows=[{key: value for key, value in pair_row(1).items() if key != "kind"}],
        kind="pairwise",
    )
    _change(bench, settings={"kind": "demonstration"})
    assert (
        browsing.search(database, bench.owner, bench.project, browsing.Wanted())[0]["kind"]
        == "pairwise"
    )
    assert _take(bench).kind == "pairwise"


def test_what_undo_gives_back_can_be_sent_again(database: Database):
    bench = Bench(database, flags=["unsafe"], steps=8)
    _answer(bench, _take(bench), strength=4, flags={"unsafe": [0]})
    _change(bench, settings={"flags": ["harmful"], "steps": 2})
    held = work.undo(database, bench.people[0], bench.project)
    assert held.draft is not None
    assert held.settings.flags == ["unsafe"]
    _answer(bench, held, **held.draft["answer"])
    (one,) = take_snapshot(database, "p").answers
    assert (one.scale, one.answer.flags) == (4, {"unsafe": (one.answer.presented[0],)})


def test_an_open_task_is_finished_as_it_was_begun(database: Database):
    bench = Bench(database, flags=["unsafe"], steps=8)
    held = _take(bench)
    work.draft(
        database, bench.people[0], held.lease, {"answer": {"strength": 4, "flags": {"unsafe": [1]}}}
    )
    _change(bench, settings={"flags": [], "steps": 2})
    again = _take(bench)
    assert (again.lease, again.settings.steps, again.draft) == (
        held.lease,
        8,
        {"answer": {"strength": 4, "flags": {"unsafe": [1]}}},
    )
    _answer(bench, again, **again.draft["answer"])
    assert _take(bench).settings.steps == 2


def test_an_open_task_can_be_asked_anew_with_its_draft_mapped(database: Database):
    bench = Bench(database, flags=["unsafe", "rude"], steps=8)
    held = _take(bench)
    said = {"strength": 4, "flags": {"unsafe": [1], "rude": [0]}, "critique": "an hour of writing"}
    work.draft(database, bench.people[0], held.lease, {"answer": said, "seconds": 3})
    _change(
        bench,
        settings={"flags": ["harmful"], "steps": 2},
        renames={"flags": {"unsafe": "harmful"}},
        open_tasks="renew",
    )
    again = _take(bench)
    assert again.settings.steps == 2
    assert again.draft == {
        "answer": {"flags": {"harmful": [1]}, "critique": "an hour of writing"},
        "seconds": 3,
    }
    _answer(bench, again, strength=1, **again.draft["answer"])


def test_renamed_flags_and_attributes_are_exported_under_their_new_names(database: Database):
    rows = [{**pair_row(1), "kind": "likert"}]
    attributes = [{"name": "good", "low": 1, "high": 5}, {"name": "kind", "low": 0, "high": 2}]
    bench = Bench(database, rows=rows, flags=["unsafe"], attributes=attributes)
    held = _take(bench)
    _answer(bench, held, ratings={"good": [5, 1], "kind": [2, 0]}, flags={"unsafe": [1]})
    _change(
        bench, settings={"flags": ["harmful"], "attributes": [{"name": "fine"}]},
        renames={"flags": {"unsafe": "harmful"}, "attributes": {"good": "fine"}},
    )  # fmt: skip
    (one,) = take_snapshot(database, "p").answers
    assert set(one.answer.flags) == {"harmful"}
    assert set(one.answer.ratings) == {"fine", "kind"}
    labels = [row["label"] for row in export(with_key(database, "p"), "unpaired").rows]
    assert sorted(labels) == [False, True]  # by the middle of the scales on which they were given
    for wrong in (
        {"flags": {"nowhere": "harmful"}},
        {"flags": {"harmful": "nowhere"}},
        {"steps": {"8": "4"}},
    ):
        with pytest.raises(UserError, match=r"rename|become"):
            _change(bench, settings={"flags": ["harmful", "new"]}, renames=wrong)


def test_consequences_are_told_before_they_come(database: Database):
    bench = Bench(database, flags=["unsafe"], rows=[pair_row(n) for n in range(3)])
    _answer(bench, _take(bench), strength=1)
    held = _take(bench, 1)
    work.draft(database, bench.people[1], held.lease, {"answer": {"strength": 1}})
    _take(bench, 2)
    told = changes.consequences(
        database, bench.owner, bench.project, {"steps": 8, "flags": ["harmful"]}, ""
    )
    assert (told["answers"], told["open"], told["drafts"]) == (1, 2, 1)
    assert told["changes"] == ["steps", "flags"]
    assert (told["gone"]["flags"], told["new"]["flags"]) == (["unsafe"], ["harmful"])
    assert (
        changes.consequences(database, bench.owner, bench.project, {"overlap": 2}, "")["changes"]
        == []
    )


def test_a_change_that_leaves_a_known_answer_to_nobody_says_so(database: Database):
    bench = Bench(
        database,
        flags=["unsafe"],
        rows=[pair_row("g", gold={"flags": {"unsafe": [0]}}), pair_row(1)],
    )
    asked = (database, bench.owner, bench.project)
    assert changes.consequences(*asked, {"flags": ["unsafe", "rude"]}, "")["unpassable"] == []
    assert changes.consequences(*asked, {"flags": ["rude"]}, "")["unpassable"] == ["g"]
    overall = {"attributes": [{"name": "overall"}]}
    projects.change(*asked, settings=overall)
    projects.add_items(*asked, [pair_row("o", kind="likert", gold={"ranks": [1, 2]})])
    assert changes.consequences(*asked, overall, "")["unpassable"] == []
    assert changes.consequences(*asked, {"attributes": [{"name": "kind"}]}, "")["unpassable"] == [
        "o"
    ]


def test_guidelines_have_versions_and_readers(database: Database):
    bench = Bench(database)
    caller = bench.people[0]
    first = changes.guidelines(database, caller, bench.project)
    assert (first["version"], first["read"]) == (1, False)
    changes.has_read(database, caller, bench.project, 1)
    changes.has_read(database, caller, bench.project, 1)
    assert changes.guidelines(database, caller, bench.project)["read"]
    _change(bench, settings={"steps": 8})  # another schema, the same guidelines
    assert changes.guidelines(database, caller, bench.project)["read"]
    _change(bench, guidelines="Be kind.")
    assert changes.guidelines(database, caller, bench.project) == {
        "version": 3,
        "text": "Be kind.",
        "read": False,
    }
    assert _take(bench).guidelines_number == 3
    with database.read() as session:
        assert changes.readers(session, bench.project) == {caller.name: 1}
    with pytest.raises(UserError, match="no guidelines"):
        changes.has_read(database, caller, bench.project, 2)


def test_a_draft_keeps_what_has_a_place():
    old = Settings(
        steps=8, attributes=[{"name": "a", "low": 0, "high": 10}, {"name": "b"}], flags=["f"]
    )  # type: ignore[list-item]
    new = Settings(
        steps=4,
        attributes=[{"name": "c", "low": 1, "high": 5}],
        flags=["f"],
        both_bad=False,
        tie=False,
    )  # type: ignore[list-item]
    draft = {
        "answer": {
            "strength": 4,
            "both_bad": True,
            "ratings": {"a": [3, 10], "b": [1, 1]},
            "flags": {"f": [0]},
            "text": "t",
        }
    }
    mapped = mapped_draft(draft, {"attributes": {"a": "c"}}, old, new)
    assert mapped == {"answer": {"ratings": {"c": [3, None]}, "flags": {"f": [0]}, "text": "t"}}
    assert mapped_draft(None, {}, old, new) is None


def test_imported_strengths_keep_their_scale(tmp_path: Path):
    """Of another scale than the project's: told beside the answer, or the largest that occurs."""
    store = Store(tmp_path / "s.sqlite")

    def item(name: str, strength: int, scale: int | None) -> LabelledItem:
        said = Opinion("pairwise", f"w{name}", (1, 2), {"strength": strength}, scale=scale)
        return LabelledItem(
            Prompt(name, ({"role": "user", "content": name},)), ("s", "t"), (), (said,), "pairwise"
        )

    add_labelled(
        store, "p", [item("a", 1, 2), item("b", 1, 3)], settings=Settings(kind="pairwise", steps=4)
    )
    add_labelled(store, "p", [item("c", 1, None), item("d", 4, None)])
    snapshot: Snapshot = take_snapshot(store, "p")
    labels = {g.prompt.id: g.comparisons[0].probability for g in preference_data(snapshot)}
    assert labels == pytest.approx({"a": 0.75, "b": 0.5 + 1 / 6, "c": 0.625, "d": 1.0})
    assert {v.schema["steps"] for v in snapshot.versions.values()} == {4, 6, 8}
    assert snapshot.settings.steps == 4
    assert set(LAYOUTS) >= {"burnish"}
