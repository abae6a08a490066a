"""Which files a model reference is read from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from burnish.models.contents import local_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = tmp_path / "model"
    model.mkdir()
    for name in (
        "config.json",
        "tokenizer.json",
        "chat_template.jinja",
        "README.md",
        "optimizer.pt",
        "other.safetensors",
    ):
        (model / name).write_text("{}")
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    for name in ("one", "two"):
        (model / f"{name}.safetensors").write_bytes(b"x")
    return model


OF_A_MODEL = [
    "chat_template.jinja", "config.json", "model.safetensors.index.json", "one.safetensors",
    "tokenizer.json", "two.safetensors",
]  # fmt: skip


def test_of_a_model_what_it_is_loaded_from(folder: Path):
    assert list(local_files(str(folder))) == [f"0/{name}" for name in OF_A_MODEL]


@pytest.mark.parametrize("base", ["../model", None])
def test_of_an_adapter_the_base_that_it_names_too(tmp_path: Path, folder: Path, base: str | None):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": base or str(folder)})
    )
    (adapter / "adapter_model.safetensors").write_bytes(b"y")
    found = list(local_files(str(adapter)))
    assert found == [
        "0/adapter_config.json",
        "0/adapter_model.safetensors",
        *(f"1/{name}" for name in OF_A_MODEL),
    ]


def test_an_adapter_of_itself_ends(tmp_path: Path):
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": str(tmp_path)})
    )
    assert list(local_files(str(tmp_path))) == ["0/adapter_config.json"]


@pytest.mark.parametrize(
    "reference", ["tiny", "smollm2-135m", "owner/name", "", "a\0b", "~nobody-at-all/x"]
)
def test_what_is_no_folder_here_has_none(
    reference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert local_files(reference) == {}


def test_a_model_that_cannot_be_loaded_is_no_error_here(folder: Path):
    (folder / "two.safetensors").unlink()
    assert "0/config.json" in local_files(str(folder))
