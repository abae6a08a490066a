from __future__ import annotations

import gzip
import json
from pathlib import Path

import datasets
import pyarrow
import pytest
from pyarrow import parquet

from burnish.data.sources import read_rows
from burnish.errors import UserError

ROWS = [
    {"id": "a", "prompt": "one", "split": "train"},
    {"id": "b", "prompt": "zwei ü 😀", "split": "heldout"},
]


def values(ref, **options):
    return [dict(row.values) for row in read_rows(ref, **options)]


def written(tmp_path: Path, name: str) -> Path:
    path = tmp_path / name
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
    match name:
        case "r.jsonl":
            path.write_bytes(lines)
        case "r.jsonl.gz":
            path.write_bytes(gzip.compress(lines))
        case "r.json":
            path.write_text(json.dumps(ROWS))
        case "r.json.gz":
            path.write_bytes(gzip.compress(json.dumps(ROWS).encode()))
        case "r.parquet":
            parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    return path


@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.gz", "r.json", "r.json.gz", "r.parquet"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path, name):
    path = written(tmp_path, name)
    rows = read_rows(path)
    assert [dict(row.values) for row in rows] == ROWS
    assert [(row.file, row.number) for row in rows] == [(str(path), 1), (str(path), 2)]
    assert values(str(path), limit=1) == ROWS[:1]
    assert values(path, split="heldout") == ROWS[1:]


def test_empty_lines_are_skipped_but_counted_in_row_numbers(tmp_path):
    (tmp_path / "r.jsonl").write_text('\n{"a": 1}\n\n  \n{"a": 2}')
    assert [(row.number, row.values["a"]) for row in read_rows(tmp_path / "r.jsonl")] == [
        (2, 1),
        (5, 2),
    ]


def test_a_byte_order_mark_and_a_line_separator_inside_text_are_harmless(tmp_path):
    (tmp_path / "r.jsonl").write_bytes(b"\xef\xbb\xbf" + '{"a": "x\u2028y"}\n'.encode())
    assert values(tmp_path / "r.jsonl") == [{"a": "x\u2028y"}]


def test_a_folder_is_read_in_the_order_of_its_paths(jsonl, tmp_path):
    jsonl({"n": 3}, name="d/b.jsonl")
    jsonl({"n": 1}, {"n": 2}, name="d/a/x.jsonl")
    (tmp_path / "d" / "README.md").write_text("not data")
    rows = read_rows(tmp_path / "d")
    assert [row.values["n"] for row in rows] == [1, 2, 3]
    assert [(Path(row.file).name, row.number) for row in rows] == [
        ("x.jsonl", 1),
        ("x.jsonl", 2),
        ("b.jsonl", 1),
    ]
    assert [row.key for row in rows] == ["a/x.jsonl:1", "a/x.jsonl:2", "b.jsonl:1"]


def test_limit_stops_before_a_later_bad_row(tmp_path):
    (tmp_path / "r.jsonl").write_text('{"a": 1}\nnonsense\n')
    assert values(tmp_path / "r.jsonl", limit=1) == [{"a": 1}]
    with pytest.raises(UserError, match="row 2"):
        read_rows(tmp_path / "r.jsonl", limit=2)


def test_a_hub_dataset(monkeypatch):
    asked = []

    def load_dataset(*ref, split=None):
        asked.append((*ref, split))
        rows = datasets.Dataset.from_list([{"prompt": "p", "completion": "c"}])
        return datasets.DatasetDict(test=rows, train=rows) if split is None else rows

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    [row] = read_rows("owner/name")
    assert (row.file, row.number, dict(row.values)) == (
        "owner/name",
        1,
        {"prompt": "p", "completion": "c"},
    )
    read_rows("owner/name", split="test")
    read_rows("owner/name:main")
    assert asked == [("owner/name", None), ("owner/name", "test"), ("owner/name", "main", None)]


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("Couldn't reach\nthe Hub"),
        datasets.exceptions.DatasetNotFoundError("no such dataset"),
        ValueError('Unknown split "train"'),
    ],
)
def test_an_unreachable_hub_dataset_is_one_line(monkeypatch, error):
    def load_dataset(ref, split=None):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(
        UserError, match=r"^owner/name: this hub dataset .*give the path of a file\.$"
    ):
        read_rows("owner/name")
    with pytest.raises(
        UserError, match=r'^owner/name: the split "dev" .*give the path of a file\.$'
    ):
        read_rows("owner/name", split="dev")


def test_shipped_data(tmp_path, monkeypatch):
    folder = tmp_path / "data" / "quickstart"
    folder.mkdir(parents=True)
    (folder / "demonstrations.jsonl").write_text('{"id": "a"}\n')
    monkeypatch.setattr("burnish.data.sources.resources.files", lambda package: tmp_path)
    [row] = read_rows("builtin:quickstart/demonstrations")
    assert (row.file, row.number, dict(row.values)) == (
        "builtin:quickstart/demonstrations",
        1,
        {"id": "a"},
    )
    with pytest.raises(
        UserError, match=r"^builtin:nothing: no such data .* builtin:quickstart/demonstrations\.$"
    ):
        read_rows("builtin:nothing")


# What is wrong with a whole source: (file name, its bytes, what the message must hold).
BROKEN_SOURCES = {
    "line is not JSON": ("x.jsonl", b'{"a": 1}\n{"a": \n', ["row 2", "not JSON"]),
    "row is not an object": ("x.jsonl", b'{"a": 1}\n\n[1]\n', ["row 3", "not a list"]),
    "row of a list is not an object": ("x.json", b'[{"a": 1}, null]', ["row 2", "not null"]),
    "bad UTF-8": ("x.jsonl", b'{"a": 1}\n{"a": "\xff"}\n', ["row 2", "UTF-8"]),
    "bad UTF-8 in a list": ("x.json", b'[{"a": "\xff"}]', ["UTF-8"]),
    "empty file": ("x.jsonl", b"", ["holds no rows"]),
    "empty list": ("x.json", b"[]", ["holds no rows"]),
    "empty .json": ("x.json", b"", ["holds no rows"]),
    "only empty lines": ("x.jsonl", b"\n\n", ["holds no rows"]),
    "object where a list must be": ("x.json", b'{"a": 1}', ["list of objects", "not an object"]),
    "lines of JSON named .json": ("x.json", b'{"a": 1}\n{"a": 2}\n', ["not JSON", ".jsonl"]),
    "wrong extension": ("x.xlsx", b"a,b\n1,2\n", [".jsonl", ".parquet", "Convert"]),
    "truncated gzip": ("x.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 99)[:-12], ["cannot be read"]),
    "not gzip": ("x.jsonl.gz", b'{"a": 1}\n', ["cannot be read"]),
    "not Parquet": ("x.parquet", b"PAR1nonsense", ["Parquet"]),
    "nested too deeply": ("x.jsonl", b"[" * 100_000, ["row 1", "not JSON"]),
}


@pytest.mark.parametrize("case", BROKEN_SOURCES)
def test_a_broken_source_is_one_line_that_names_file_and_row(tmp_path, case):
    name, raw, wanted = BROKEN_SOURCES[case]
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(UserError) as caught:
        read_rows(tmp_path / name)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / name))
    assert "\n" not in message
    assert all(part in message for part in wanted), message


@pytest.mark.parametrize(
    "ref", ["missing.jsonl", "no/such/folder", "./missing", "table.csv", Path("owner/name")]
)
def test_a_missing_path_is_not_looked_for_on_the_hub(monkeypatch, ref):
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: pytest.fail("asked the hub"))
    with pytest.raises(UserError, match="no such file or folder"):
        read_rows(ref)


def test_errors_of_folder_split_and_limit(jsonl, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="the folder holds no data"):
        read_rows(tmp_path / "empty")
    path = jsonl({"a": 1, "split": "train"}, {"a": 2, "split": "test"}, {"a": 3})
    with pytest.raises(UserError, match=r'rows\.jsonl, row 3, field "split"'):
        read_rows(path, split="train")
    with pytest.raises(
        UserError,
        match=r'rows\.jsonl, field "split": no row has the split "dev"; there are test, train',
    ):
        read_rows(jsonl({"split": "train"}, {"split": "test"}), split="dev")
    with pytest.raises(UserError, match="limit"):
        read_rows(path, limit=0)
