"""Labels out: worked soft labels, every layout read back by its reader, pseudonyms, equal bytes,
shares of people and models."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from burnish.annotation.export import LAYOUTS, export
from burnish.annotation.labels import (
    LabelOptions,
    data_answers,
    demonstration_data,
    preference_data,
)
from burnish.annotation.records import Answer, Labelled
from burnish.annotation.service.exports import manifest_of
from burnish.annotation.settings import Settings
from burnish.annotation.snapshot import Snapshot, add_labelled, state_of, take_snapshot, with_key
from burnish.annotation.store import Store
from burnish.data.labelled import read_labelled
from burnish.data.sources import Row
from burnish.errors import UserError
from burnish.records import LabelledItem, Opinion, Prompt

OF_ANY_PROJECT = [name for name in LAYOUTS if name not in ("rewards", "stepwise")]
"""`rewards` needs verdicts on rubrics: test_annotation_rubrics."""

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def _prompt(name: str) -> Prompt:
    return Prompt(name, ({"role": "user", "content": f"question {name}"},), {"topic": "x"})


def _pair(who: str, strength: int, kind: str = "person", **more: object) -> Opinion:
    ranks = (1, 2) if strength > 0 else (2, 1) if strength < 0 else (1, 1)
    return Opinion("pairwise", who, ranks, {"strength": strength, **more}, kind, 10.0, NOON)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "s.sqlite")
    items = [
        LabelledItem(_prompt("p1"), ("good", "bad"), ("m1", "m2"),
            (_pair("ann", 2), _pair("bob", 1), _pair("bot", -1, "ai")), "pairwise"),
        LabelledItem(_prompt("p2"), ("aa", "bb"), ("m1", "m2"),
            (_pair("ann", -2, critique="hm"), _pair("bob", 0, both_bad=True)), "pairwise"),
        LabelledItem(_prompt("r1"), ("x", "y", "z"), ("m1", "m2", "m3"),
            (Opinion("ranking", "ann", (2, 1, 3), created_at=NOON),), "ranking"),
        LabelledItem(_prompt("l1"), ("u", "v"), ("m1", "m2"),
            (Opinion("likert", "bob", None, {"ratings": {"helpful": (4, 2), "honest": (5, None)}},
                    created_at=NOON),), "likert"),
        LabelledItem(_prompt("c1"), ("teh end",), ("m1",),
            (Opinion("correction", "ann", None, {"text": "the end", "corrected": 0},
                    created_at=NOON),), "correction"),
    ]  # fmt: skip
    counts = add_labelled(store, "p", items, settings=Settings(kind="pairwise", steps=4))
    assert counts == {"items": 5, "labels": 8, "known": 0}
    return store


def _rows(data: bytes) -> tuple[Row, ...]:
    return tuple(
        Row("x.jsonl", i, json.loads(line), f"x:{i}")
        for i, line in enumerate(data.decode().splitlines(), 1)
    )


def test_soft_labels_by_hand(store: Store):
    snapshot = take_snapshot(store, "p")

    def label(name: str, **options: object) -> tuple[float, float]:
        groups = preference_data(snapshot, LabelOptions(weighted=False, **options))  # type: ignore[arg-type]
        pair = next(g for g in groups if g.prompt.id == name).comparisons[0]
        return pair.probability, pair.margin

    # p1: strengths 2, 1, −1 of k = 2. ignore: 2/3. probability: mean of 1, ¾, ¼. margin: |mean of
    # 1, ½, −½| · 1
    assert label("p1", strength="ignore") == (pytest.approx(2 / 3), 0.0)
    assert label("p1", strength="probability") == (pytest.approx((1 + 0.75 + 0.25) / 3), 0.0)
    assert label("p1", strength="margin", margin=0.6) == (
        pytest.approx(2 / 3),
        pytest.approx(0.6 / 3),
    )
    assert label("p2", strength="probability") == (pytest.approx(0.25), 0.0)  # 0 and ½
    # helpful 4 over 2; honest is open for one of them
    assert label("l1", strength="ignore") == (
        1.0,
        0.0,
    )
    assert label("c1", strength="margin") == (0.0, 0.0)  # the original against the corrected


def test_votes_are_weighted_by_reliability(tmp_path: Path):
    store = Store(tmp_path / "w.sqlite")
    items = [
        LabelledItem(
            _prompt(f"i{n:02d}"),
            ("a", "b"),
            (),
            (_pair("x", 1), _pair("y", 1), _pair("z", 1 if n % 2 else -1)),
        )
        for n in range(30)
    ]
    add_labelled(store, "p", items)
    groups = preference_data(take_snapshot(store, "p"), LabelOptions(strength="ignore"))
    # z contradicts, and is known to guess; the plain share is 2/3
    assert groups[0].comparisons[0].probability > 0.95


def test_a_reviewers_decision_counts_alone(store: Store):
    snapshot = take_snapshot(store, "p")
    decision = Labelled(
        "p1",
        "chief",
        "person",
        Answer("pairwise", (0, 1), strength=-2, ranks=(2, 1)),
        5.0,
        NOON,
        source="adjudication",
    )
    decided = Snapshot(
        snapshot.project, "", snapshot.settings, snapshot.entries, (*snapshot.answers, decision)
    )
    groups = preference_data(decided, LabelOptions())
    assert next(g for g in groups if g.prompt.id == "p1").comparisons[0].probability == 0.0


def test_chat_turns_become_comparisons_under_the_conversation_so_far(tmp_path: Path):
    turns = [
        {"user": "hi", "candidates": ["A", "B"], "presented": [1, 0], "strength": -2, "chosen": 1},
        {"user": "more", "candidates": ["C", "D"], "presented": [0, 1], "strength": 0, "chosen": 0},
        {"user": "last", "candidates": ["E", "F"], "presented": [0, 1], "strength": 1, "chosen": 0},
    ]
    prompt = Prompt("chat", ({"role": "system", "content": "be kind"},))
    store = Store(tmp_path / "c.sqlite")
    add_labelled(
        store,
        "p",
        [LabelledItem(prompt, (), (), (Opinion("chat", "ann", None, {"turns": turns}),), "chat")],
    )
    first, last = preference_data(take_snapshot(store, "p"), LabelOptions())
    assert [m["content"] for m in last.prompt.messages] == [
        "be kind",
        "hi",
        "B",
        "more",
        "C",
        "last",
    ]
    assert (first.comparisons[0].probability, last.comparisons[0].probability) == (0.0, 0.75)


@pytest.mark.parametrize("layout", OF_ANY_PROJECT)
def test_the_same_export_gives_the_same_bytes_and_no_name(store: Store, layout: str):
    once, again = (export(with_key(store, "p"), layout) for _ in range(2))
    for kind in (".jsonl", ".json", ".parquet"):
        data = once.data(kind)
        assert data == again.data(kind)
        assert b"ann" not in data.replace(b"annot", b"").replace(b"Annot", b"")
        assert b"bob" not in data
    assert once.manifest == again.manifest
    assert once.manifest["version"] == "2.8"
    assert once.manifest["rows"] == len(once.rows) > 0


def test_pseudonyms_are_stable_in_a_project_and_different_in_another(store: Store):
    first = with_key(store, "p")
    assert with_key(store, "p").pseudonym("ann") == first.pseudonym("ann")
    assert len({first.pseudonym(name) for name in ("ann", "bob", "bot")}) == 3
    add_labelled(store, "q", [LabelledItem(_prompt("p1"), ("a", "b"), (), (_pair("ann", 1),))])
    assert with_key(store, "q").pseudonym("ann") != first.pseudonym("ann")
    people = export(first, "paired").manifest["annotators"]
    assert people[first.pseudonym("bot")]["kind"] == "ai"
    assert people[first.pseudonym("ann")]["labels"] == 4


def test_the_burnish_layout_holds_everything(store: Store, tmp_path: Path):
    snapshot = with_key(store, "p")
    loaded = read_labelled(_rows(export(snapshot, "burnish").data(".jsonl")))
    other = Store(tmp_path / "again.sqlite")
    add_labelled(other, "p", loaded.items, settings=snapshot.settings)
    copy = take_snapshot(other, "p")
    assert copy.entries == snapshot.entries
    assert [
        (a.item_id, a.answer, a.seconds, a.created_at)
        for a in sorted(copy.answers, key=lambda a: (a.item_id, repr(a.answer)))
    ] == [
        (a.item_id, a.answer, a.seconds, a.created_at)
        for a in sorted(snapshot.answers, key=lambda a: (a.item_id, repr(a.answer)))
    ]


def test_pairs_come_back_through_the_paired_reader_and_hh(store: Store):
    snapshot = with_key(store, "p")
    options = LabelOptions(weighted=False, strength="margin")
    made = export(snapshot, "paired", options)
    items = {i.prompt.id: i for i in read_labelled(_rows(made.data(".jsonl"))).items}
    assert items["p1"].candidates == ("good", "bad")
    assert items["p2"].candidates == ("bb", "aa")
    assert items["c1"].candidates == ("the end", "teh end")
    assert {i for i in items if i.startswith("r1")} == {"r1#0-1", "r1#0-2", "r1#1-2"}
    row = next(r for r in made.rows if r["id"] == "p1")
    assert (row["probability"], row["margin"]) == (
        pytest.approx(2 / 3, abs=1e-6),
        pytest.approx(1 / 3, abs=1e-6),
    )
    assert [v["strength"] for v in row["votes"]] == [2, 1, -1]
    hh = export(snapshot, "hh", options).rows[0]
    assert hh["chosen"] == "\n\nHuman: question p1\n\nAssistant: good"


def test_unpaired_ranking_and_ratings(store: Store):
    snapshot = with_key(store, "p")
    options = LabelOptions(weighted=False)
    verdicts = {(r["id"], r["label"]) for r in export(snapshot, "unpaired", options).rows}
    # p2: one of two said that both are bad, which is not most of them; l1: u 4 of a scale whose
    # middle is 3, v 2
    assert {
        ("p1#0", True),
        ("p1#1", False),
        ("p2#0", False),
        ("p2#1", True),
        ("l1#0", True),
        ("l1#1", False),
    } <= verdicts
    assert not any(name.startswith("r1#0") for name, _ in verdicts)  # wins one, loses one
    ranked = {r["id"]: r["ranks"] for r in export(snapshot, "ranking", options).rows}
    assert ranked["r1"] == [2, 1, 3]
    (rated,) = export(snapshot, "ultrafeedback", options).rows
    assert [c["annotations"]["honest"]["Rating"] for c in rated["completions"]] == ["5", "N/A"]
    assert [c["overall_score"] for c in rated["completions"]] == [4.5, 2.0]
    two = {r["id"]: r for r in export(snapshot, "helpsteer2-preference", options).rows}
    assert [o["strength"] for o in two["p1"]["all_preferences_unprocessed"]] == [
        -3,
        -2,
        2,
    ]  # of k = 2: 2 is 3, 1 is 1.5
    assert two["p1"]["preference_strength"] == -1


@pytest.mark.parametrize("layout", ["labelstudio", "argilla", "openai"])
def test_the_layouts_of_tools_are_read_back_with_the_same_choices(store: Store, layout: str):
    snapshot = with_key(store, "p")
    items = read_labelled(_rows(export(snapshot, layout).data(".jsonl"))).items
    p1 = next(i for i in items if "question p1" in i.prompt.messages[0]["content"])
    assert p1.candidates == ("good", "bad")
    said = {o.annotator: o.ranks for o in p1.opinions}
    assert said == {
        snapshot.pseudonym("ann"): (1, 2),
        snapshot.pseudonym("bob"): (1, 2),
        snapshot.pseudonym("bot"): (2, 1),
    }
    if layout != "openai":
        r1 = next(i for i in items if i.prompt.id == "r1")
        assert r1.opinions[0].ranks == (2, 1, 3)
        l1 = next(i for i in items if i.prompt.id == "l1")
        assert l1.opinions[0].payload["ratings"] == {"helpful": (4, 2), "honest": (5, None)}
    if layout == "argilla":
        assert {o.annotator_kind for o in p1.opinions} == {"person", "ai"}


def test_the_share_of_people_is_a_parameter(tmp_path: Path):
    store = Store(tmp_path / "h.sqlite")
    opinions = [
        (_pair("ann", 1), _pair("bot", 1, "ai"), _pair("bot2", -1, "ai")) for _ in range(30)
    ]
    add_labelled(
        store,
        "p",
        [LabelledItem(_prompt(f"i{n}"), ("a", "b"), (), o) for n, o in enumerate(opinions)],
    )
    snapshot = with_key(store, "p")

    def counts(share: float | None) -> tuple[int, int]:
        kept = data_answers(snapshot, human_share=share)
        return sum(o.annotator_kind == "person" for o in kept), sum(
            o.annotator_kind == "ai" for o in kept
        )

    assert counts(None) == (30, 60)
    assert counts(0.5) == (30, 30)
    assert counts(0.75) == (30, 10)
    assert counts(0.25) == (20, 60)
    assert counts(1.0) == (30, 0)
    assert counts(0.0) == (0, 60)
    manifest = export(snapshot, "burnish", LabelOptions(human_share=0.5)).manifest
    assert (manifest["human_labels"], manifest["ai_labels"]) == (30, 30)


def test_parquet_carries_its_manifest_and_reads_as_a_dataset(store: Store):
    from pyarrow import parquet

    made = export(with_key(store, "p"), "paired")
    table = parquet.read_table(io.BytesIO(made.data(".parquet")))
    assert (
        json.loads(table.schema.metadata[b"burnish"])["content_hash"]
        == made.manifest["content_hash"]
    )
    assert table.to_pylist()[0]["chosen"] == [{"role": "assistant", "content": "good"}]


@pytest.mark.parametrize("layout", OF_ANY_PROJECT)
def test_no_file_holds_a_number_that_json_lacks(tmp_path: Path, layout: str):
    from pyarrow import parquet

    store = Store(tmp_path / "s.sqlite")
    prompt = Prompt(
        "p",
        ({"role": "user", "content": "q"},),
        {"score": math.nan, "more": {"a": [math.inf, "é\ud800"]}},
    )
    rating = Opinion("likert", "bob", None, {"ratings": {"helpful": (4, 2)}}, created_at=NOON)
    written = Opinion(
        "correction", "ann", None, {"text": "the end", "corrected": 0}, created_at=NOON
    )
    items = [
        LabelledItem(prompt, ("good", "bad"), ("m1", "m2"), (_pair("ann", 1),), "pairwise"),
        LabelledItem(replace(prompt, id="l"), ("good", "bad"), ("m1", "m2"), (rating,), "likert"),
        LabelledItem(replace(prompt, id="c"), ("teh end",), ("m1",), (written,), "correction"),
    ]
    add_labelled(store, "p", items, settings=Settings(kind="pairwise", steps=4))
    made = export(with_key(store, "p"), layout)
    told = [*made.data(".jsonl").decode().splitlines(), manifest_of(made).decode()]
    told.append(
        parquet.read_table(io.BytesIO(made.data(".parquet"))).schema.metadata[b"burnish"].decode()
    )
    for text in told:
        json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in {layout}"))


def test_the_hash_and_the_state_change_with_every_answer(store: Store):
    before, state = take_snapshot(store, "p").content_hash(), state_of(store, "p")
    assert take_snapshot(store, "p").content_hash() == before
    add_labelled(
        store, "p", [LabelledItem(_prompt("p1"), ("good", "bad"), ("m1", "m2"), (_pair("new", 1),))]
    )
    assert take_snapshot(store, "p").content_hash() != before
    assert state_of(store, "p") != state


def test_importing_twice_changes_nothing_and_other_candidates_are_refused(store: Store):
    again = LabelledItem(_prompt("p1"), ("good", "bad"), (), (_pair("ann", -2),))
    assert add_labelled(store, "p", [again]) == {"items": 0, "labels": 0, "known": 2}
    with pytest.raises(UserError, match="with other candidates"):
        add_labelled(store, "p", [LabelledItem(_prompt("p1"), ("other", "bad"), ())])
    with pytest.raises(UserError, match="2 candidates but 3 ranks"):
        add_labelled(
            store,
            "p",
            [LabelledItem(_prompt("n"), ("a", "b"), (), (Opinion("ranking", "x", (1, 2, 3)),))],
        )


def test_demonstrations_are_what_people_wrote(store: Store):
    (demo,) = demonstration_data(take_snapshot(store, "p"))
    assert (demo.id, demo.messages[-1]["content"]) == ("c1", "the end")


def test_no_labels_is_said_plainly(tmp_path: Path):
    store = Store(tmp_path / "e.sqlite")
    add_labelled(store, "p", [LabelledItem(_prompt("x"), ("a", "b"))])
    made = export(with_key(store, "p"), "ranking")
    with pytest.raises(UserError, match=r"nothing to export .1 items that are not ranked"):
        made.data(".jsonl")
    with pytest.raises(UserError, match="no layout"):
        export(with_key(store, "p"), "csv")


def test_time_of_day_is_kept_in_utc(store: Store):
    answers = take_snapshot(store, "p").answers
    assert all(a.created_at.utcoffset() == timedelta(0) for a in answers)


def test_disagreements_that_nobody_has_decided_are_marked(tmp_path: Path):
    """Imported labels that differ wait for a reviewer like any others, and every export says so."""
    store = Store(tmp_path / "d.sqlite")
    given = {"same": (1, 1), "other": (1, -1), "machine": (1, -1)}
    items = [
        LabelledItem(
            _prompt(name),
            ("a", "b"),
            (),
            (
                _pair("ann", one, critique="x"),
                _pair("bot", two, "ai") if name == "machine" else _pair("bob", two),
            ),
            "pairwise",
        )
        for name, (one, two) in given.items()
    ]
    add_labelled(store, "p", items, settings=Settings(kind="pairwise", steps=2))
    snapshot = with_key(store, "p")
    assert {entry.item_id: entry.disputed for entry in snapshot.entries} == {
        "same": False,
        "other": True,
        "machine": False,
    }
    for layout in LAYOUTS:
        made = export(snapshot, layout)
        assert made.manifest["disputed"] == 1
        if layout != "demonstrations":
            marked = {
                row.get("disputed", row.get("meta", row.get("extra", {})).get("disputed"))
                for row in made.rows
            }
            assert marked <= {True, False}
            assert None not in marked
    (row,) = [row for row in export(snapshot, "ranking").rows if row["id"] == "other"]
    assert row["disputed"]
