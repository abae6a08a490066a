"""Comparing by dimension and editing the winner: what is asked, refused, stored, exported and
learnt from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from annotation_bench import Bench, pair_row

from burnish.annotation.export import export
from burnish.annotation.labels import LabelOptions, demonstration_data, preference_data
from burnish.annotation.service import changes, projects, work
from burnish.annotation.service.database import Database
from burnish.annotation.service.submission import Submission
from burnish.annotation.service.views import task_view
from burnish.annotation.settings import Settings, read_settings
from burnish.annotation.snapshot import with_key
from burnish.config.schema import Data
from burnish.data.feedback import preference_groups
from burnish.data.sources import read_rows
from burnish.errors import UserError
from burnish.stages.stored import stored_labels

DIMENSIONS = [{"name": "helpful", "help": "does what was asked"}, {"name": "harmless"}]


def _held(bench: Bench, who: int = 0) -> Any:
    held = work.take(bench.database, bench.people[who], bench.project)
    assert held is not None
    return held


def _answer(bench: Bench, held: Any, who: int = 0, **said: Any) -> None:
    work.answer(bench.database, bench.people[who], held.lease, Submission(seconds=1.0, **said))


@pytest.fixture
def labelled(database: Database) -> Bench:
    """Two people who both find the first answer better on the whole and more helpful, and the
    second less harmful."""
    bench = Bench(
        database, annotators=2, rows=[pair_row(1)], overlap=2, steps=4, dimensions=DIMENSIONS
    )
    for who in range(2):
        held = _held(bench, who)
        sign = 1 if held.presented[0] == 0 else -1
        _answer(
            bench,
            held,
            who,
            strength=2 * sign,
            preferences={"helpful": 2 * sign, "harmless": -2 * sign},
            reasons={"harmless": "gentler"},
        )
    return bench


def test_places_become_positions_and_come_back_with_undo(labelled: Bench):
    for one in with_key(labelled.database, "p").answers:
        assert dict(one.answer.preferences) == {"helpful": 2, "harmless": -2}
        assert dict(one.answer.reasons) == {"harmless": "gentler"}
    back = work.undo(labelled.database, labelled.people[0], labelled.project)
    sign = 1 if back.presented[0] == 0 else -1
    assert back.draft is not None
    assert back.draft["answer"]["preferences"] == {"helpful": 2 * sign, "harmless": -2 * sign}


@pytest.mark.parametrize(
    ("said", "field", "why"),
    [
        ({}, "preferences", 'which is better by "helpful"'),
        ({"preferences": {"helpful": 1}}, "preferences", 'by "harmless"'),
        ({"preferences": {"helpful": 1, "harmless": 3}}, "preferences", "from -2 to 2"),
        (
            {"preferences": {"helpful": 1, "harmless": 0, "odd": 1}},
            "preferences",
            "helpful, harmless",
        ),
        (
            {"preferences": {"helpful": 1, "harmless": 0}, "reasons": {"odd": "x"}},
            "reasons",
            '"odd" is not compared',
        ),
        (
            {"preferences": {"helpful": 1, "harmless": 0}, "text": "x", "corrected": 0},
            "text",
            "not asked for",
        ),
    ],
)
def test_what_does_not_fit_is_refused(database: Database, said: dict, field: str, why: str):
    bench = Bench(
        database, annotators=1, rows=[pair_row(1)], overlap=1, steps=4, dimensions=DIMENSIONS
    )
    with pytest.raises(UserError, match=rf'field "{field}".*{why}'):
        _answer(bench, _held(bench), strength=1, **said)


def test_trainers_read_a_dimension_from_the_store_and_from_its_export_alike(
    labelled: Bench, place: str, tmp_path: Path
):
    snapshot = with_key(labelled.database, "p")
    for dimension, wanted in ((None, 1.0), ("helpful", 1.0), ("harmless", 0.0)):
        options = LabelOptions(dimension=dimension)
        (group,) = preference_data(snapshot, options)
        assert [c.probability for c in group.comparisons] == [wanted]
        (tmp_path / "x.jsonl").write_bytes(export(snapshot, "burnish").data(".jsonl"))
        (read,) = preference_groups(read_rows(str(tmp_path / "x.jsonl")), options).items
        assert read.comparisons == group.comparisons
        made = export(snapshot, "paired", options)
        assert made.rows[0]["chosen"][0]["content"] == ("first 1" if wanted else "second 1")
        assert made.manifest["options"]["dimension"] == dimension
    if "://" not in place:
        stored = stored_labels(Data(store=place, project="p", dimension="harmless"), tmp_path)
        assert [c.probability for c in stored.groups[0].comparisons] == [0.0]


def test_a_dimension_that_nobody_was_asked_about_is_refused(labelled: Bench):
    with pytest.raises(UserError, match=r'nobody has compared by "honest".*helpful, harmless'):
        export(with_key(labelled.database, "p"), "paired", LabelOptions(dimension="honest"))


def test_renamed_dimensions_go_on_and_new_ones_make_a_version(labelled: Bench):
    asked = (labelled.database, labelled.owner, labelled.project)
    new = {"dimensions": [{"name": "useful"}, {"name": "harmless"}]}
    told = changes.consequences(*asked, new, "Be fair.")
    assert (told["gone"]["dimensions"], told["new"]["dimensions"]) == (["helpful"], ["useful"])
    projects.change(*asked, settings=new, renames={"dimensions": {"helpful": "useful"}})
    snapshot = with_key(labelled.database, "p")
    assert [dict(one.answer.preferences) for one in snapshot.answers] == [
        {"useful": 2, "harmless": -2}
    ] * 2


def test_settings_from_before_there_were_dimensions_ask_for_none_and_make_no_version(
    labelled: Bench,
):
    from burnish.annotation.tables import Version

    with labelled.database.write() as session:
        for version in session.query(Version):
            version.schema = {
                k: v for k, v in version.schema.items() if k not in ("dimensions", "edit_winner")
            }
    projects.change(
        labelled.database, labelled.owner, labelled.project, settings={"dimensions": []}
    )
    with labelled.database.read() as session:
        assert session.query(Version).count() == 1


def test_two_dimensions_of_one_name_are_refused():
    with pytest.raises(UserError, match="two dimensions have the same name"):
        read_settings({"dimensions": [{"name": "a"}, {"name": "a"}]})


def _edit(bench: Bench, held: Any, **said: Any) -> None:
    place = held.presented.index(0)
    _answer(bench, held, strength=1 if place == 0 else -1, corrected=place, **said)


def test_an_edited_winner_is_stored_exported_and_learnt_from(database: Database, tmp_path: Path):
    bench = Bench(
        database, annotators=1, rows=[pair_row(1)], overlap=1, steps=2, edit_winner="optional"
    )
    held = _held(bench)
    assert task_view(held, held.settings, html=False)["asks"]["edit_winner"] == "optional"
    with pytest.raises(UserError, match="the best one"):
        _answer(bench, held, strength=1, text="x", corrected=1)
    with pytest.raises(UserError, match="change the text"):
        _edit(bench, held, text="first 1 ")
    _edit(bench, held, text="first 1, and better")
    snapshot = with_key(database, "p")
    (one,) = snapshot.answers
    assert (one.answer.text, one.answer.corrected, one.answer.strength) == (
        "first 1, and better",
        0,
        1,
    )
    (group,) = preference_data(snapshot)
    pairs = {
        (group.responses[c.first], group.responses[c.second]): c.probability
        for c in group.comparisons
    }
    edited = "first 1, and better"
    assert pairs == {
        ("first 1", "second 1"): 1.0,
        ("first 1", edited): 0.0,
        ("second 1", edited): 0.0,
    }
    rows = export(snapshot, "paired").rows
    assert {(r["chosen"][0]["content"], r["rejected"][0]["content"]) for r in rows} == {
        ("first 1", "second 1"), (edited, "first 1"), (edited, "second 1"),
    }  # fmt: skip
    (tmp_path / "x.jsonl").write_bytes(export(snapshot, "burnish").data(".jsonl"))
    (read,) = preference_groups(read_rows(str(tmp_path / "x.jsonl"))).items
    assert {
        (read.responses[c.first], read.responses[c.second]): c.probability for c in read.comparisons
    } == pairs
    (demo,) = demonstration_data(snapshot)
    assert demo.messages[-1]["content"] == edited


def test_an_edit_that_is_required_is_asked_for_where_there_is_one_winner(database: Database):
    rows = [pair_row(1), pair_row(2), pair_row(3, candidates=["plain", {"messages": [
        {"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}]}])]  # fmt: skip
    bench = Bench(database, annotators=1, rows=rows, overlap=1, edit_winner="required")
    for _ in rows:
        held = _held(bench)
        if any(held.traces):  # an answer that calls tools is not edited as a text
            assert held.settings.edit_winner == "optional"
            place = next(p for p, at in enumerate(held.presented) if held.traces[at])
            with pytest.raises(UserError, match="cannot be edited as a text"):
                _answer(bench, held, strength=1 if place == 0 else -1, text="x", corrected=place)
            _answer(bench, held, strength=1)
            continue
        with pytest.raises(UserError, match="edit the better answer"):
            _answer(bench, held, strength=1)
        _answer(bench, held, both_bad=True)
    assert Settings().edit_winner == "off"
