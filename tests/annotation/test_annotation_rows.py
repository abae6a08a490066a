"""Rows that become items: ids from content, columns of their own, lines with any text, and what is
refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from annotation_bench import Bench, pair_row

from burnish.annotation.app.uploads import read_csv, read_lines
from burnish.annotation.service import projects
from burnish.annotation.service.accounts import create_user
from burnish.annotation.service.database import Database
from burnish.annotation.service.rows import item_of
from burnish.annotation.settings import Settings
from burnish.annotation.snapshot import take_snapshot
from burnish.cli.annotate_serve import _import
from burnish.errors import UserError

PAIR = {"prompt": "p", "candidates": ["a", "b"]}


def test_rows_without_ids_are_known_by_their_content(database: Database):
    bench = Bench(database, rows=[])
    other = {"prompt": "q", "candidates": ["c", "d"]}
    assert projects.add_items(database, bench.owner, bench.project, [PAIR]) == {
        "added": 1,
        "there_already": 0,
    }
    assert projects.add_items(database, bench.owner, bench.project, [other, PAIR]) == {
        "added": 1,
        "there_already": 1,
    }


@pytest.mark.parametrize("end", ["\u2028", "\u2029", "\x85", "\x0b", "\x1e"])
def test_ends_of_lines_inside_json_are_text(end: str):
    rows = [{"id": "a", **PAIR, "columns": {"note": f"one{end}two"}}, {"id": "b", **PAIR}]
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    assert read_lines(lines.encode()) == rows
    assert read_lines(lines.replace("\n", "\r\n").encode()) == rows


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_is_refused(number: str):
    with pytest.raises(UserError, match=rf"row 1.*{number} is no number"):
        read_lines(
            f'{{"prompt":"p","candidates":["a","b"],"columns":{{"score":{number}}}}}'.encode()
        )
    with pytest.raises(UserError, match=r"row 3.*columns"):
        item_of(
            {**PAIR, "columns": {"score": float(number.replace("Infinity", "inf"))}},
            3,
            Settings(kind="pairwise"),
        )


def test_other_columns_are_kept_and_slips_are_named():
    item = item_of(
        {**PAIR, "domain": "code", "columns": {"language": "fr"}}, 1, Settings(kind="pairwise")
    )
    assert item.columns == {"domain": "code", "language": "fr"}
    with pytest.raises(UserError, match=r'row 1, field "golds".*Did you mean "gold"'):
        item_of({**PAIR, "golds": {"strength": 1}}, 1, Settings(kind="pairwise"))


@pytest.mark.parametrize(
    ("kind", "gold", "settings", "field"),
    [
        ("demonstration", {"strength": 1}, {}, "gold.strength"),
        ("chat", {"flags": {"unsafe": []}}, {}, "gold.flags"),
        ("correction", {"ranks": [1, 2]}, {}, "gold.ranks"),
        ("ranking", {"strength": 1}, {}, "gold.strength"),
        ("pairwise", {}, {}, "gold"),
        ("pairwise", {"ratings": {"helpful": [1, 2]}}, {}, "gold.ratings"),
        ("pairwise", {"flags": {"unsafe": [0]}}, {"flags": ["rude"]}, r"gold.flags.unsafe"),
        ("pairwise", {"strength": 0}, {"tie": False, "both_bad": False}, "gold.strength"),
        ("ranking", {"ranks": [1, 1]}, {"tie": False}, "gold.ranks"),
        ("likert", {"ratings": {"helpful": [1, 6]}}, {}, r"gold.ratings.helpful"),
        ("likert", {"ratings": {"kind": [1, 2]}}, {}, r"gold.ratings.kind"),
        ("likert", {"ranks": [1, 2]}, {}, "gold.ranks"),
        ("best_worst", {"best": 1, "worst": 1}, {}, "gold.worst"),
    ],
)
def test_a_known_answer_that_nobody_can_give_is_refused(
    kind: str, gold: dict, settings: dict, field: str
):
    row = {"prompt": "p", "kind": kind, "part": "qualification", "gold": gold}
    texts = {"demonstration": "", "chat": "", "best_worst": "abc"}.get(kind, "ab")
    candidates = {"candidates": [*texts]} if texts else {}
    with pytest.raises(UserError, match=rf'row 7, field "{field}"'):
        item_of({**row, "gold": gold, **candidates}, 7, Settings(**settings))


@pytest.mark.parametrize(
    ("kind", "gold", "settings"),
    [
        ("pairwise", {"strength": 4}, {}),
        ("pairwise", {"strength": 0}, {"tie": False}),  # "both are bad" is offered
        ("pairwise", {"ranks": [2, 1], "flags": {"unsafe": [1]}}, {}),
        ("ranking", {"ranks": [1, 1]}, {}),
        ("likert", {"ratings": {"helpful": [1, 5]}}, {}),
        ("likert", {"ranks": [1, 2]}, {"attributes": [{"name": "overall"}]}),
    ],
)
def test_a_known_answer_that_somebody_can_give_is_taken(kind: str, gold: dict, settings: dict):
    item = item_of({**PAIR, "kind": kind, "gold": gold}, 1, Settings(**settings))
    assert item.gold == gold


def test_two_candidates_of_the_same_text_are_refused():
    with pytest.raises(UserError, match=r'row 4, field "candidates\.1".*candidate 0 again'):
        item_of({"prompt": "p", "candidates": ["a", "a"]}, 4, Settings(kind="pairwise"))


def test_a_worker_of_a_file_is_nobody_here(database: Database, tmp_path: Path):
    """A file that names an account's owner stores nothing as theirs, and its names stay free for
    people who sign up."""
    bench = Bench(database, rows=[pair_row(1)])
    rows = [
        {
            "info": {"prompt": "x"},
            "summaries": [{"text": "a"}, {"text": "b"}],
            "choice": 1,
            "worker": who,
        }
        for who in (bench.people[0].name, "Ada")
    ]
    file = tmp_path / "w.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert _import(database, file, "openai", "p")["labels"] == 2
    names = {one.annotator for one in take_snapshot(database, "p").answers}
    assert names == {f"imported:{bench.people[0].name}", "imported:Ada"}
    create_user(database, "ada", "correct horse battery")


def test_a_table_is_items():
    rows = read_csv(
        b'\xef\xbb\xbfid,prompt,answer_a,Response 2,topic\r\n1,"Name a\nriver",The'
        b" Rhine,Paris,geo\r\n2,q,x,,\r\n"
    )
    assert rows == [
        {
            "id": "1",
            "prompt": "Name a\nriver",
            "candidates": ["The Rhine", "Paris"],
            "topic": "geo",
        },
        {"id": "2", "prompt": "q", "candidates": ["x"]},
    ]
    for wrong, said in (
        (b"a,a\n1,2\n", "two columns"),
        (b"a\n1,2\n", "row 2.*more cells"),
        (b"a\n", "no rows"),
    ):
        with pytest.raises(UserError, match=said):
            read_csv(wrong)
