"""Files as they come: odd bytes, odd types, odd places. Each is read right, or refused in one line
that says where."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import os
import socket
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pytest
from pyarrow import parquet

from burnish.data import files
from burnish.data.columns import demonstrations, prompts
from burnish.data.parts import SourceOptions, read_parts
from burnish.data.sources import Row, local_files, read_rows
from burnish.data.values import NotJson, json_value
from burnish.errors import UserError


def failure(ref: object) -> str:
    with pytest.raises(UserError) as caught:
        read_rows(ref)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --------------------------------------------------------------------------------------------- keys
# and columns twice


def test_a_key_that_stands_twice_is_named_with_its_row(tmp_path: Path):
    (tmp_path / "r.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b", "prompt": "c"}\n')
    assert failure(tmp_path / "r.jsonl").endswith(
        'r.jsonl, row 2, field "prompt": this key stands twice. Keep one of them.'
    )
    (tmp_path / "r.json").write_text('[{"a": 1},\n {"a": [{"b": 1, "c": 2, "b": 3}]}]')
    assert 'r.json, row 2, field "b": this key stands twice' in failure(tmp_path / "r.json")
    (tmp_path / "o.json").write_text('{"a": 1, "a": 2}')
    assert 'o.json, field "a": this key stands twice' in failure(tmp_path / "o.json")


def test_columns_of_one_name_in_parquet(tmp_path: Path):
    table = pyarrow.table([["a"], ["b"]], names=["prompt", "prompt"])
    parquet.write_table(table, tmp_path / "r.parquet")
    assert 'field "prompt": two columns have this name' in failure(tmp_path / "r.parquet")
    inner = pyarrow.StructArray.from_arrays(
        [pyarrow.array([1]), pyarrow.array([2])], names=["x", "x"]
    )
    parquet.write_table(
        pyarrow.table({"a": pyarrow.array([1]), "info": inner}), tmp_path / "s.parquet"
    )
    assert 'field "info.x": two columns have this name' in failure(tmp_path / "s.parquet")


# ----------------------------------------------------------------------------------------------------  # noqa: E501
# values of columns

PLAIN = [
    (dt.datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05"),
    (dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "2026-01-02T00:00:00+00:00"),
    (dt.date(2026, 1, 2), "2026-01-02"),
    (dt.time(1, 2, 3), "01:02:03"),
    (dt.timedelta(seconds=90, milliseconds=500), 90.5),
    (Decimal("3.50"), "3.50"),
    (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
    ("zwölf".encode(), "zwölf"),
    (float("nan"), None),
    (float("-inf"), None),
    (numpy.int64(3), 3),
    (numpy.float32("nan"), None),
    (numpy.float64(0.5), 0.5),
    (numpy.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    (numpy.bool_(True), True),
    (numpy.datetime64("2026-01-02"), "2026-01-02"),
    ((1, [b"a", None]), [1, ["a", None]]),
    ({"a": {"b": [dt.date(2026, 1, 2), float("inf")]}}, {"a": {"b": ["2026-01-02", None]}}),
    (10**30, 10**30),
    (True, True),
    ("", ""),
]


@pytest.mark.parametrize(("value", "plain"), PLAIN)
def test_what_json_cannot_hold_becomes_what_it_can(value: Any, plain: Any):
    found = json_value(value, field="x")
    assert found == plain
    assert type(found) is type(plain)
    assert json.loads(json.dumps(found, allow_nan=False)) == plain


def test_what_there_is_no_way_to_say_is_refused():
    deep: Any = 1
    for _ in range(101):
        deep = [deep]
    for value, said in (
        (b"\xff\xfe", "no UTF-8"),
        ({1, 2}, "a set"),
        ({1: 2}, "no text"),
        (deep, "more than 100 deep"),
        ("a\ud800", "surrogate"),
        ({"\ud800": 1}, "surrogate"),
        (1j, "a complex"),
    ):
        with pytest.raises(NotJson, match=said):
            json_value(value, field="x")


COLUMNS = {
    "timestamp": (pyarrow.array([dt.datetime(2026, 1, 2)] * 2), "2026-01-02T00:00:00"),
    "nanoseconds": (
        pyarrow.array([1_767_312_000_000_000_001] * 2, pyarrow.timestamp("ns")),
        "2026-01-02T00:00:00.000000001",
    ),
    "date": (pyarrow.array([dt.date(2026, 1, 2)] * 2), "2026-01-02"),
    "duration": (pyarrow.array([dt.timedelta(seconds=2)] * 2), 2.0),
    "bytes": (pyarrow.array([b"abc"] * 2), "abc"),
    "decimal": (pyarrow.array([Decimal("1.10")] * 2), "1.10"),
    "NaN": (pyarrow.array([float("nan")] * 2), None),
    "struct": (
        pyarrow.array([{"when": dt.date(2026, 1, 2), "raw": b"x"}] * 2),
        {"when": "2026-01-02", "raw": "x"},
    ),
    "list of floats": (pyarrow.array([[1.0, float("inf")]] * 2), [1.0, None]),
    "dictionary": (pyarrow.array(["a", "a"]).dictionary_encode(), "a"),
    "large string": (pyarrow.array(["a", "a"], pyarrow.large_string()), "a"),
    "map": (
        pyarrow.array([[("k", 1)]] * 2, pyarrow.map_(pyarrow.string(), pyarrow.int64())),
        [["k", 1]],
    ),
    "half": (pyarrow.array(numpy.array([0.5, 0.5], numpy.float16)), 0.5),
}


@pytest.mark.parametrize("case", COLUMNS)
def test_columns_of_parquet_that_are_handed_on_can_be_stored(case: str, tmp_path: Path):
    column, plain = COLUMNS[case]
    parquet.write_table(pyarrow.table({"prompt": ["a", "b"], "x": column}), tmp_path / "r.parquet")
    parts = read_parts(str(tmp_path / "r.parquet"), prompts, SourceOptions(share=0.0))
    assert [p.columns["x"] for p in parts.train] == [plain, plain]
    json.dumps([dict(p.columns) for p in parts.train], allow_nan=False)
    counted = 'not a finite number, and handed on as null: column "x" (2 rows)'
    assert (counted in parts.notes) == (case in ("NaN", "list of floats"))


def test_a_column_that_cannot_be_handed_on_names_row_and_column(tmp_path: Path):
    parquet.write_table(
        pyarrow.table({"prompt": ["a", "b"], "x": [b"ok", b"\xff"]}), tmp_path / "r.parquet"
    )
    with pytest.raises(
        UserError, match=r'r\.parquet, row 2, field "x": holds bytes that are no UTF-8'
    ):
        prompts(read_rows(tmp_path / "r.parquet"))
    with pytest.raises(UserError, match=r'row 1, field "info\.when\[0\]": is a set'):
        prompts([Row("m", 1, {"prompt": "a", "info": {"when": [{1}]}}, "m:1")])


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite_in_json(literal: str, tmp_path: Path):
    (tmp_path / "r.jsonl").write_text(f'{{"prompt": "a", "x": {literal}}}\n')
    parts = read_parts(str(tmp_path / "r.jsonl"), prompts, SourceOptions(share=0.0))
    assert parts.train[0].columns["x"] is None
    assert parts.notes == ('not a finite number, and handed on as null: column "x" (1 row)',)


# -------------------------------------------------------------------------------------------------------  # noqa: E501
# what is no file


@pytest.mark.parametrize("inside", [False, True])
def test_a_pipe_is_refused_and_not_waited_for(inside: bool, tmp_path: Path):
    os.mkfifo(tmp_path / "r.jsonl")
    ref = tmp_path if inside else tmp_path / "r.jsonl"
    assert "must be a file, not a pipe" in failure(ref)
    with pytest.raises(UserError, match="not a pipe"):
        local_files(str(ref))


def test_sockets_devices_and_links_to_nothing_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("s.jsonl")
        assert "must be a file, not a socket" in failure("s.jsonl")
    for device in ("/dev/zero", "/dev/urandom", "/dev/stdin"):
        assert "must be a file, not" in failure(device) or not Path(device).exists()
    os.symlink("/dev/zero", "zero.jsonl")
    assert "not a device" in failure("zero.jsonl")
    os.makedirs("d")
    os.symlink("/nowhere", "d/x.jsonl")
    assert "link to nothing" in failure("d")


def test_a_link_back_to_a_folder_above_is_refused(tmp_path: Path):
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "r.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "d" / "e" / "up").symlink_to(tmp_path / "d")
    assert "link back to a folder" in failure(tmp_path / "d")


def test_linked_files_and_folders_are_read_and_hidden_ones_are_not(tmp_path: Path):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "x.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "r.jsonl").symlink_to(tmp_path / "blobs" / "x.jsonl")
    (tmp_path / "d" / "more").symlink_to(tmp_path / "blobs")
    (tmp_path / "d" / ".cache").mkdir()
    (tmp_path / "d" / ".cache" / "y.jsonl").write_text("nonsense")
    (tmp_path / "d" / "._r.jsonl").write_text("nonsense")
    assert [row.key for row in read_rows(tmp_path / "d")] == ["more/x.jsonl:1", "r.jsonl:1"]


def test_a_folder_of_too_many_files_is_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "MOST_FILES", 3)
    for i in range(5):
        (tmp_path / f"{i}.jsonl").write_text('{"a": 1}\n')
    assert "holds more than 3 files" in failure(tmp_path)


def test_a_folder_of_other_kinds_says_how_they_are_converted(tmp_path: Path):
    (tmp_path / "data-00000-of-00001.feather").write_bytes(b"x")
    assert "it holds data-00000-of-00001.feather, which Burnish does not read" in failure(tmp_path)
    assert "to_parquet" in failure(tmp_path)
    (tmp_path / "r.jsonl").write_text('{"prompt": "a"}\n')
    notes = read_parts(str(tmp_path), prompts, SourceOptions(share=0.0)).notes
    assert notes == ("passed over files of kinds that are not read: data-00000-of-00001.feather",)


@pytest.mark.parametrize("name", ["t.txt", "t.feather", "t.jsonl.zst", "t.xlsx", "T.XLSX"])
def test_a_file_of_another_kind(name: str, tmp_path: Path):
    (tmp_path / name).write_text("a,b\n1,2\n")
    assert "is not a kind that Burnish reads" in failure(tmp_path / name)
    assert "Convert it" in failure(tmp_path / name)


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        ("", "the source is empty"), ("  ", "the source is empty"), ("~nobody-here/x.jsonl", "cannot be found"),  # noqa: E501
        ("data/*.jsonl", "Patterns are not read"), ("a\0b", "no such file"), ("x" * 5000 + ".jsonl", "cannot be looked at"),  # noqa: E501
        ("r.jsonl/x", "no such file"), ("file:///x.jsonl", "no such file"), ("https://x.org/r.jsonl", "no such file"),  # noqa: E501
    ],
)  # fmt: skip
def test_names_that_name_nothing(
    ref: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.jsonl").write_text('{"a": 1}\n')
    assert said in failure(ref)


# -------------------------------------------------------------------------------------------------------  # noqa: E501
# bytes and sizes

# The bytes of a file of prompts, and the prompts in it, or what is said of it.
BYTES: dict[str, tuple[bytes, list[str] | str]] = {
    "byte order mark": (b'\xef\xbb\xbf{"prompt": "a"}\n', ["a"]),
    "byte order mark on each line": (b'\xef\xbb\xbf{"prompt": "a"}\n\xef\xbb\xbf{"prompt": "b"}\n',
        ["a", "b"]),
    "CRLF": (b'{"prompt": "a"}\r\n\r\n{"prompt": "b"}\r\n', ["a", "b"]),
    "no last line break": (b'{"prompt": "a"}', ["a"]),
    "line separators inside text": ('{"prompt": "a\u2028b\u2029c\u0085d"}\n'.encode(),
        ["a\u2028b\u2029c\u0085d"]),
    "NUL inside text": (b'{"prompt": "a\\u0000b"}\n', ["a\0b"]),
    "raw NUL": (b'{"prompt": "a\x00b"}\n', "row 1: is not JSON"),
    "UTF-16": ('{"prompt": "a"}\n'.encode("utf-16"), "row 1: is not UTF-8"),
    "Latin-1": ('{"prompt": "ü"}\n'.encode("latin-1"), "row 1: is not UTF-8"),
    "half of a surrogate pair": (b'{"prompt": "a\\ud800"}\n',
        'row 1, field "prompt": holds half of a surrogate'),
    "a surrogate pair": (b'{"prompt": "\\ud83d\\ude00"}\n', ["😀"]),
    "half of a surrogate pair in a column": (b'{"prompt": "a", "x": ["\\udc00"]}\n',
        'row 1, field "x[0]": holds half'),
    "a number of 5,000 digits": (b'{"prompt": "a", "x": ' + b"9" * 5000 + b"}\n",
        "row 1: is not JSON"),
    "nested 900 deep": (b'{"prompt": "a", "x": ' + b"[" * 900 + b"]" * 900 + b"}\n",
        "nested more than 100 deep"),
    "nested 100,000 deep": (b'{"prompt": "a", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
        "row 1: is not JSON"),
    "white space": (b'{"prompt": " \\n\\t "}\n', 'row 1, field "prompt": is empty'),
    "empty": (b'{"prompt": ""}\n', 'row 1, field "prompt": is empty'),
    "a number": (b'{"prompt": "a"}\n{"prompt": 5}\n',
        'row 2, field "prompt": must be text or a list'),
    "true": (b'{"prompt": true}\n', 'row 1, field "prompt": must be text or a list'),
    "an object": (b'{"prompt": {"role": "user", "content": "a"}}\n',
        'row 1, field "prompt": must be text or a list'),
    "null": (b'{"prompt": null}\n', 'row 1, field "prompt": is null'),
    "single quotes": (b"{'prompt': 'a'}\n", "row 1: is not JSON"),
    "a comma at the end": (b'{"prompt": "a",}\n', "row 1: is not JSON"),
    "two objects in a line": (b'{"prompt": "a"} {"prompt": "b"}\n', "row 1: is not JSON"),
    "pretty printed": (b'{\n "prompt": "a"\n}\n', "row 1: is not JSON"),
    "a comment": (b'// rows\n{"prompt": "a"}\n', "row 1: is not JSON"),
    "bytes of another format": (bytes(range(256)), "row 1: is not"),
}  # fmt: skip


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("case", BYTES)
def test_bytes(case: str, packed: bool, tmp_path: Path):
    raw, expected = BYTES[case]
    path = tmp_path / ("r.jsonl.gz" if packed else "r.jsonl")
    path.write_bytes(gzip.compress(raw) if packed else raw)
    if isinstance(expected, list):
        assert [p.messages[0]["content"] for p in prompts(read_rows(path)).items] == expected
        return
    with pytest.raises(UserError) as caught:
        prompts(read_rows(path))
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_row_that_is_too_large_is_refused_before_it_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(files, "LONGEST_ROW", 2**20)
    (tmp_path / "r.jsonl").write_text('{"a": 1}\n{"a": "' + "x" * 2**20 + '"}\n')
    assert "row 2: is longer than 1 MB" in failure(tmp_path / "r.jsonl")


def test_what_unpacks_beyond_all_proportion_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(files, "LARGEST_LIST", 2**21)
    (tmp_path / "r.jsonl.gz").write_bytes(gzip.compress(b"\n" * 2**23))
    assert "unpacks to more than 200 times its size" in failure(tmp_path / "r.jsonl.gz")
    (tmp_path / "r.json.gz").write_bytes(gzip.compress(b" " * 2**23))
    assert "2 MB" in failure(tmp_path / "r.json.gz")
    (tmp_path / "good.jsonl.gz").write_bytes(
        gzip.compress(b"".join(b'{"a": %d}\n' % i for i in range(300_000)))
    )
    assert len(read_rows(tmp_path / "good.jsonl.gz")) == 300_000


def test_a_file_that_grows_while_it_is_read_is_not_half_read(tmp_path: Path):
    path = tmp_path / "r.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n' * 3)
    rows = files.file_rows(path, name="r.jsonl")
    next(rows)
    with path.open("a") as more:
        more.write('{"prompt": "c", "completion": "d"}\n')
    with pytest.raises(UserError, match=r"r\.jsonl: was written to while it was being read"):
        list(rows)


def test_an_empty_file_holds_no_rows(tmp_path: Path):
    for name in ("r.jsonl", "r.json"):
        (tmp_path / name).write_bytes(b"")
        assert "holds no rows" in failure(tmp_path / name)
    (tmp_path / "r.parquet").write_bytes(b"")
    assert "Parquet" in failure(tmp_path / "r.parquet")
    parquet.write_table(
        pyarrow.table({"prompt": pyarrow.array([], pyarrow.string())}), tmp_path / "none.parquet"
    )
    assert "holds no rows" in failure(tmp_path / "none.parquet")


def test_a_column_of_mixed_types_names_the_row(tmp_path: Path):
    rows = [{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": 3}]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(
        UserError,
        match=r'row 2, field "completion": must be text or a list of messages, not a number',
    ):
        demonstrations(read_rows(tmp_path / "r.jsonl"))
