"""A store and its own export give equal labels in every layout, or the manifest says what the
layout cannot hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from burnish.annotation.export import LAYOUTS, Export, export
from burnish.annotation.labels import LabelOptions, Strength, preference_data
from burnish.annotation.service.database import Database
from burnish.annotation.service.demo import PROJECT, make_demo
from burnish.annotation.settings import Settings
from burnish.annotation.snapshot import Snapshot, add_labelled, with_key
from burnish.annotation.store import Store
from burnish.cli.annotate_data import store_items, write_export
from burnish.cli.annotate_serve import _dialogues
from burnish.data.columns import NothingLeft
from burnish.data.feedback import preference_groups
from burnish.data.labelled import read_labelled
from burnish.data.sources import Row, read_rows
from burnish.errors import UserError
from burnish.records import LabelledItem, Opinion, PreferenceGroup, Prompt

LOST = "comparison that the layout"
LABELLED = [name for name in LAYOUTS if name not in ("unpaired", "demonstrations")]
"""Layouts that hold comparisons at all."""

Labels = dict[tuple[str, str, str], list[tuple[float, float]]]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    place = tmp_path_factory.mktemp("demo") / "a.sqlite"
    database = Database(place)
    make_demo(database, _dialogues(), password="correct horse")
    snapshot = with_key(database, PROJECT)
    database.close()
    return snapshot


def labels_in(groups: list[PreferenceGroup] | tuple[PreferenceGroup, ...]) -> Labels:
    """(conversation, one text, the other) -> (probability of the one, margin) of each
    comparison."""
    found: Labels = {}
    for group in groups:
        asked = json.dumps([dict(m) for m in group.prompt.messages], sort_keys=True)
        for pair in group.comparisons:
            first, second, p = (
                group.responses[pair.first],
                group.responses[pair.second],
                pair.probability,
            )
            if first > second:
                first, second, p = second, first, 1.0 - p
            found.setdefault((asked, first, second), []).append((p, pair.margin))
    return found


def hold_equal(read: Labels, stored: Labels) -> None:
    for pair, labels in read.items():
        left = sorted(stored[pair])
        for label in sorted(labels):
            same = next(one for one in left if one == pytest.approx(label, abs=1e-12))
            left.remove(same)


def hold_counts(counted: dict[str, int], stored: Labels, read: Labels) -> None:
    """Every comparison is in the file or counted as left out; the reader drops, and counts, what is
    tied alone."""
    assert counted["project"] == sum(map(len, stored.values()))
    tied = sum(p == 0.5 for labels in stored.values() for p, _ in labels)
    assert 0 <= counted["file"] - sum(map(len, read.values())) <= tied


def rows_of(made: Export) -> list[Row]:
    lines = made.data(".jsonl").decode().split("\n")[:-1]
    return [Row("x.jsonl", i, json.loads(line), f"x:{i}") for i, line in enumerate(lines, 1)]


def read_back(made: Export, options: LabelOptions) -> Labels:
    """What the export's rows give; nothing where they hold no preference."""
    try:
        return labels_in(preference_groups(rows_of(made), options).items) if made.rows else {}
    except NothingLeft:
        return {}


@pytest.mark.parametrize(
    ("strength", "weighted"), [("ignore", False), ("probability", True), ("margin", True)]
)
@pytest.mark.parametrize("layout", LABELLED)
def test_the_demo_and_its_export_give_equal_labels(
    demo: Snapshot, layout: str, weighted: bool, strength: Strength
):
    options = LabelOptions(strength, weighted)
    made = export(demo, layout, options)
    stored, read = labels_in(preference_data(demo, options)), read_back(made, options)
    hold_equal(read, stored)
    counted = made.manifest["comparisons"]
    hold_counts(counted, stored, read)
    if counted["file"] < counted["project"]:
        assert made.manifest["cannot_hold"]
        assert made.manifest["left_out"]
    if layout == "burnish":
        assert counted["file"] == counted["project"] >= 75


def test_the_manifest_says_what_a_layout_cannot_hold(demo: Snapshot):
    for layout in ("unpaired", "demonstrations"):
        manifest = export(demo, layout).manifest
        assert manifest["comparisons"]["file"] == 0
        assert manifest["cannot_hold"]


@pytest.mark.parametrize(
    "layout", [name for name in LAYOUTS if name not in ("demonstrations", "rewards", "stepwise")]
)
@pytest.mark.parametrize("kind", [".jsonl", ".parquet"])
def test_the_reader_says_what_was_left_out(demo: Snapshot, tmp_path: Path, layout: str, kind: str):
    options = LabelOptions()
    out = tmp_path / f"labels{kind}"
    made = export(demo, layout, options)
    write_export(made, out)
    loaded = preference_groups(read_rows(str(out)), options)
    counted = made.manifest["comparisons"]
    told = sum(count for reason, count in loaded.dropped.items() if reason.startswith(LOST))
    assert told == counted["project"] - counted["file"]
    if layout in LABELLED:
        hold_equal(labels_in(loaded.items), labels_in(preference_data(demo, options)))


def test_another_store_gives_the_labels_of_the_first(demo: Snapshot, tmp_path: Path):
    """An export in our own layout, and a store read as it is, imported into a fresh store."""
    copy = Store(tmp_path / "copy.sqlite")
    add_labelled(
        copy, "p", read_labelled(rows_of(export(demo, "burnish"))).items, settings=demo.settings
    )
    again = with_key(copy, "p")
    for strength in ("ignore", "probability", "margin"):
        options = LabelOptions(strength)
        read, stored = (
            labels_in(preference_data(again, options)),
            labels_in(preference_data(demo, options)),
        )
        assert len(read) == len(stored)
        hold_equal(read, stored)
    third = Store(tmp_path / "third.sqlite")
    add_labelled(
        third, "p", store_items(str(tmp_path / "copy.sqlite"), "p"), settings=demo.settings
    )
    hold_equal(labels_in(preference_data(with_key(third, "p"))), labels_in(preference_data(again)))


# ---- projects of any shape
WORDS = st.text("abcxyz éß\u2028\n\"'", min_size=1, max_size=6).map(lambda s: s.strip() or "w")


@st.composite
def conversations(draw: st.DrawFn) -> tuple[dict[str, str], ...]:
    messages = [{"role": "system", "content": "be kind"}] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(0, 1))):
        messages += [
            {"role": "user", "content": draw(WORDS)},
            {"role": "assistant", "content": draw(WORDS)},
        ]
    return (*messages, {"role": "user", "content": draw(WORDS)})


@st.composite
def opinions(draw: st.DrawFn, kind: str, who: str, count: int, scale: int) -> Opinion:
    shown = tuple(draw(st.permutations(range(count))))
    ranks, payload = None, {}
    if kind == "pairwise":
        strength = draw(st.integers(-scale, scale))
        ranks = (1, 2) if strength > 0 else (2, 1) if strength < 0 else (1, 1)
        payload = {
            "strength": strength,
            **({"both_bad": True} if strength == 0 and draw(st.booleans()) else {}),
        }
    elif kind == "ranking":
        ranks = tuple(draw(st.lists(st.integers(1, count), min_size=count, max_size=count)))
    elif kind == "likert":
        rating = st.none() | st.integers(1, 5)
        payload = {
            "ratings": {
                name: draw(st.lists(rating, min_size=count, max_size=count))
                for name in ("good", "true")
            }
        }
    elif kind == "correction":
        payload = {"text": draw(WORDS), "corrected": draw(st.integers(0, count - 1))}
    elif kind == "chat":
        payload = {"turns": [draw(chat_turns(scale)) for _ in range(draw(st.integers(1, 2)))]}
    source = "adjudication" if draw(st.integers(0, 9)) == 0 else "label"
    by = draw(st.sampled_from(["person", "person", "ai"]))
    return Opinion(kind, who, ranks, payload, by, presented=shown, source=source, scale=scale)


@st.composite
def chat_turns(draw: st.DrawFn, scale: int) -> dict[str, Any]:
    texts = draw(st.lists(WORDS, min_size=2, max_size=2))
    said = {
        "user": draw(WORDS),
        "candidates": texts,
        "presented": [0, 1],
        "chosen": draw(st.integers(0, 1)),
    }
    return {**said, "strength": draw(st.integers(-scale, scale)), "both_bad": False}


@st.composite
def projects(draw: st.DrawFn) -> tuple[Settings, list[LabelledItem]]:
    """Ties, a single annotator, disagreements, swapped positions, equal prompts, several kinds."""
    steps = draw(st.sampled_from([2, 4, 6, 7, 8]))
    people = draw(st.sampled_from([("ann",), ("ann", "bob"), ("ann", "bob", "cleo")]))
    items = []
    for number in range(draw(st.integers(1, 5))):
        kind = draw(
            st.sampled_from(["pairwise", "pairwise", "ranking", "likert", "correction", "chat"])
        )
        low, high = {
            "pairwise": (2, 2),
            "ranking": (2, 4),
            "likert": (1, 3),
            "correction": (1, 2),
            "chat": (0, 0),
        }[kind]
        texts = tuple(draw(st.lists(WORDS, min_size=low, max_size=high, unique=True)))
        asked = (
            draw(conversations()) if draw(st.booleans()) else ({"role": "user", "content": "same"},)
        )
        asked = asked[:-1] if kind == "chat" else asked  # where the person begins
        prompt = Prompt(f"i{number}", asked, {})  # type: ignore[arg-type]
        said = tuple(
            draw(opinions(kind, who, len(texts), steps // 2))
            for who in people
            if draw(st.integers(0, 4))
        )
        items.append(LabelledItem(prompt, texts, ("",) * len(texts), said, kind))
    return Settings(kind="pairwise", steps=steps), items  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(projects(), st.sampled_from(["ignore", "probability", "margin"]), st.booleans())
def test_any_project_and_its_export_give_equal_labels(
    tmp_path_factory: pytest.TempPathFactory,
    project: tuple[Settings, list[LabelledItem]],
    strength: Strength,
    weighted: bool,
):
    store = Store(tmp_path_factory.mktemp("any") / "a.sqlite")
    add_labelled(store, "p", project[1], settings=project[0])
    snapshot = with_key(store, "p")
    store.close()
    options = LabelOptions(strength, weighted)
    stored = labels_in(preference_data(snapshot, options))
    for layout in LABELLED:
        made = export(snapshot, layout, options)
        read = read_back(made, options)
        hold_equal(read, stored)
        hold_counts(made.manifest["comparisons"], stored, read)


def test_a_damaged_row_of_our_own_is_refused_with_its_place(demo: Snapshot):
    row = next(
        row for row in export(demo, "burnish").rows if row["kind"] == "pairwise" and row["answers"]
    )
    for field, value in (
        ("strength", "much"),
        ("scale", 0),
        ("reliability", 1.0),
        ("ratings", {"a": [1]}),
        ("turns", [{}]),
    ):
        broken = json.loads(json.dumps(row))
        broken["answers"][0][field] = value
        with pytest.raises(UserError, match=rf"row 1.*answers\[0\]\.{field}"):
            read_labelled([Row("x.jsonl", 1, broken, "x:1")])
