"""The files of this machine that a model is read from, so that whoever depends on a model can tell
when it is another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from burnish.errors import UserError
from burnish.models.loading.folder import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    holds_weights,
    weight_files,
)
from burnish.models.sources import base_of, could_be_path

_SETTINGS = (
    "*.json",
    "*.jinja",
    "*.model",
    "*.txt",
    "*.tiktoken",
    "additional_chat_templates/*.jinja",
    "members/*/*.safetensors",
    "members/*/adapter/*",
)


def local_files(reference: str) -> dict[str, Path]:
    """The files that a local model is read from, by names that are the same wherever its folder
    stands: configuration, tokenizer, template and weights of the folder, and of the base that an
    adapter in it names, where that is a folder too.

    Empty for what is no folder here. Other files of a folder (a README, an optimizer's state) are
    no part of the model, and a folder from which nothing can be loaded is no error here: it is one
    where the model is loaded.
    """
    return {
        f"{depth}/{file.relative_to(folder).as_posix()}": file
        for depth, folder in enumerate(_folders(reference))
        for file in sorted(_files(folder))
    }


def _folders(reference: str) -> Iterator[Path]:
    visited: list[Path] = []
    while (
        could_be_path(reference)
        and (folder := Path(reference).expanduser()).is_dir()
        and folder not in visited
    ):
        visited.append(folder)
        yield folder
        try:
            if not (folder / ADAPTER_CONFIG).exists() or holds_weights(folder):
                return
            reference = base_of(folder)
        except (UserError, OSError):
            return


def _files(folder: Path) -> set[Path]:
    try:
        weights = weight_files(folder)
    except (UserError, OSError):
        weights = ()
    named = {file for pattern in _SETTINGS for file in folder.glob(pattern)}
    return {file for file in (*named, *weights, folder / ADAPTER_WEIGHTS) if file.is_file()}
