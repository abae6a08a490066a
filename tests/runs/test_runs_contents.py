"""What stands in a model's files as one hash: the same for the same bytes, another for others, and
read again only where touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from burnish.errors import UserError
from burnish.runs import contents
from burnish.runs.contents import contents_hash


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "model").mkdir()
    found = {name: tmp_path / "model" / name for name in ("config.json", "model.safetensors")}
    for number, path in enumerate(found.values()):
        path.write_bytes(bytes([number]) * 100)
        os.utime(path, (1, 1))
    return found


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read."""
    seen: list[str] = []
    real = contents.file_hash
    monkeypatch.setattr(contents, "file_hash", lambda path: (seen.append(path.name), real(path))[1])
    return seen


def test_equal_bytes_have_one_hash_and_one_other_byte_another(
    tmp_path: Path, files: dict[str, Path]
):
    before = contents_hash(files, known=tmp_path / "known.json")
    data = files["model.safetensors"].read_bytes()
    files["model.safetensors"].write_bytes(data[:-1] + b"!")  # of the same size
    os.utime(files["model.safetensors"], (1, 1))  # and, by its own account, as old
    assert contents_hash(files, known=tmp_path / "known.json") != before
    files["model.safetensors"].write_bytes(data)
    assert contents_hash(files, known=tmp_path / "known.json") == before
    assert (
        contents_hash({**files, "more": files["config.json"]}, known=tmp_path / "known.json")
        != before
    )


def test_a_file_that_nobody_touched_is_read_once(
    tmp_path: Path, files: dict[str, Path], read: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(contents, "_FRESH", -(10**6))  # as if all that stands here were old
    known = tmp_path / "known.json"
    first = contents_hash(files, known=known)
    assert contents_hash(files, known=known) == first
    assert read == ["config.json", "model.safetensors"]
    files["config.json"].write_bytes(b"{}")
    assert contents_hash(files, known=known) != first
    assert read[2:] == ["config.json"]


def test_a_file_that_has_just_changed_is_read_again(
    tmp_path: Path, files: dict[str, Path], read: list[str]
):
    for _ in range(2):
        contents_hash(files, known=tmp_path / "known.json")
    assert len(read) == 4


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"a": 1, "seal": "b"}'])
def test_what_is_known_decides_nothing_where_it_is_damaged(
    tmp_path: Path, files: dict[str, Path], damage: str
):
    known = tmp_path / "known.json"
    before = contents_hash(files, known=known)
    known.write_text(damage)
    assert contents_hash(files, known=known) == before


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, files: dict[str, Path]):
    files["config.json"].unlink()
    with pytest.raises(UserError, match=r"config\.json: this file cannot be read"):
        contents_hash(files, known=tmp_path / "known.json")
