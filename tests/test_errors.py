"""Errors stay one readable line, whatever names and values of somebody's files stand in them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from burnish.data.columns import demonstrations
from burnish.data.parts import SourceOptions, read_parts
from burnish.data.sources import read_rows
from burnish.data.values import json_value
from burnish.errors import UserError, listed, shown

LONG = "x" * 100_000


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Why?", "Why?"),
        ("Größe 漢字", "Größe 漢字"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[31mred\x00", r"\x1b[31mred\x00"),
        ("a\u2028b\x85c", r"a\u2028b\x85c"),
        ("abc\u202egpj.exe", r"abc\u202egpj.exe"),  # would be read from the right
        ("\ud83d", r"\ud83d"),
        ("", ""),
    ],
)
def test_shown_escapes_what_has_no_form_of_its_own(text: str, told: str):
    assert shown(text) == told
    assert shown(told) == told


def test_shown_leaves_the_middle_out():
    assert shown("a" * 50 + "b" * 50, 20) == "a" * 12 + "..." + "b" * 5
    assert shown("a" * 20, 20) == "a" * 20
    assert len(shown("\x00" * 20, 20)) == 20


def test_listed_counts_what_it_leaves_out():
    assert listed([]) == "none"
    assert listed(["a", "b\n", 3]) == r"a, b\n, 3"
    assert listed(["abc"] * 1000, longest=20) == "abc, abc, abc, abc and 996 more"
    assert listed([LONG, "b"], longest=20).endswith(" and 1 more")


def test_every_part_of_an_error_stays_on_its_line():
    error = UserError(
        f"a\nb{LONG}.", file=f"c\n{LONG}.json", row=3, field=f"d\n{LONG}", hint=f"e\n{LONG}"
    )
    assert str(error).isprintable()
    assert len(str(error)) < 3000
    assert str(error).startswith(r"c\n")
    assert ', row 3, field "d\\n' in str(error)
    assert r": a\nb" in str(error)
    assert error.field == f"d\n{LONG}"  # what a program reads is the name itself


def test_several_errors_are_a_line_each():
    error = UserError.several([UserError("a\nb.", field="x"), UserError("c.")], more=2)
    assert str(error) == error.problem == 'field "x": a\\nb.\nc.\nand 2 more'


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"a\nb": 1, LONG: 2}),
        json.dumps({f"{number}\n": 1 for number in range(5000)}),
        '{"prompt\\n": 1, "prompt\\n": 2}',
        json.dumps({"prompt": "a", "completion": "b", "id": "one\n" * 9000}) + "\n"
        + json.dumps({"prompt": "c", "completion": "d", "id": "one\n" * 9000}),
        json.dumps({"prompt": "a", "completion": "b", "id": ["\n" * 9000]}),
        json.dumps({"messages": [{"role": "us\ner" + LONG, "content": "a"}]}),
        json.dumps({"prompt": "a", "completion": "b", "tools": "\n" + LONG}),
        json.dumps({"prompt": "a", "completion": "b", "chat_template_kwargs": {"messages": "\n"}}),
        json.dumps({"prompt": "a", "completion": "b", "split": "\x1b[2J\n" + LONG}),
    ],
)  # fmt: skip
def test_names_and_values_of_rows_stay_on_the_line(tmp_path: Path, text: str):
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_parts(str(path), demonstrations, SourceOptions())
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1500
    assert str(path) in str(caught.value)


def test_columns_that_are_passed_over_are_named_on_one_line(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    path.write_text(
        json.dumps({"prompt": "a", "completion": "b", "x\n\x1b[2J" + LONG: 1, "y": float("nan")})
        + "\n"
    )
    notes = read_parts(str(path), demonstrations, SourceOptions()).notes
    assert any(r"x\n\x1b[2J" in note for note in notes)
    assert all(note.isprintable() and len(note) < 500 for note in notes)


def test_a_split_that_is_not_there_is_listed_on_one_line(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    path.write_text(
        json.dumps({"prompt": "a", "completion": "b", "split": "train\n" * 5000}) + "\n"
    )
    with pytest.raises(UserError) as caught:
        read_rows(path, split="test\n")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1500


def test_a_long_text_is_looked_through_at_once():
    text = "é" * 20_000_000
    start = time.process_time()
    assert json_value(text, field="x") == text
    with pytest.raises(UserError, match="surrogate"):
        json_value(text + "\ud83d", field="x")
    assert time.process_time() - start < 2.0
