"""Checkpoints without pickle: a tree of plain values and tensors as JSON and safetensors, with a
checksum of each file."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import random
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from burnish.atomic import atomic_folder, recover
from burnish.errors import UserError
from burnish.jsonio import dumps

_log = logging.getLogger(__name__)
_STATE, _TENSORS, _SUMS = "state.json", "state.safetensors", "checksums.json"


class Corrupt(Exception):
    """A checkpoint is incomplete or its bytes are not those that were written."""


def save_state(folder: Path, state: Any) -> None:
    """Write a tree of values into a folder, with a checksum of every file that is in the folder by
    then.

    The tree is made of dicts (keys str or int), lists, tuples, str, int, float (NaN and infinities
    too), bool, None and tensors, and every one of them round-trips exactly. Raises TypeError for
    anything else and OSError as writing does.
    """
    tensors: dict[str, Tensor] = {}
    (folder / _STATE).write_text(dumps(_encode(state, tensors)), encoding="utf-8")
    _save_tensors(tensors, folder / _TENSORS)
    sums = {
        path.relative_to(folder).as_posix(): _checksum(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    (folder / _SUMS).write_text(dumps(sums, indent=2), encoding="utf-8")


def load_state(folder: Path) -> Any:
    """What `save_state` wrote, tensors on the CPU. Raises Corrupt if a file is missing or differs
    from its checksum."""
    verify(folder)
    # clone: safetensors maps the file into memory, and a state must outlive the file
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / _TENSORS).items()}
    return _decode(json.loads((folder / _STATE).read_text()), tensors)


def verify(folder: Path) -> None:
    """Raises Corrupt unless every file of the checkpoint is there with the bytes that were
    written."""
    try:
        sums = json.loads((folder / _SUMS).read_text())
        if not isinstance(sums, dict) or not {_STATE, _TENSORS} <= sums.keys():
            raise Corrupt(f"{_SUMS} is damaged")
        for name, written in sums.items():
            found = _checksum(folder / name)
            if found["bytes"] != written["bytes"]:
                raise Corrupt(f"{name} has {found['bytes']} bytes of {written['bytes']}")
            if found["sha256"] != written["sha256"]:
                raise Corrupt(f"{name} has other bytes than were written")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise Corrupt(str(error)) from error


class Checkpoints:
    """`checkpoint-N/` folders inside `folder`: the newest `keep` of them."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        self._folder, self._keep = folder, keep

    def save(self, step: int, state: Any) -> None:
        """Write `checkpoint-{step}` atomically; others go only after it is on disk.

        Raises UserError when the disk is full; the checkpoints that were there are still there
        then.
        """
        with atomic_folder(self._folder / f"checkpoint-{step}") as scratch:
            save_state(scratch, state)
        # A later step is one that `latest` passed over as damaged: the run has gone back behind it.
        kept = [old for old, _ in self._found() if old <= step][-self._keep :]
        for old, path in self._found():
            if old not in kept:
                shutil.rmtree(path)

    def latest(self) -> tuple[int, Path] | None:
        """The newest checkpoint that is intact; None if there is none at all.

        A damaged one is passed over with a warning. Raises UserError if there are checkpoints and
        all are damaged.
        """
        if not self._folder.is_dir():
            return None
        for leftover in {
            p.name.split("-", 1)[1].rsplit("-", 1)[0] for p in self._folder.glob(".partial-*")
        } | {p.name.split("-", 1)[1] for p in self._folder.glob(".replaced-*")}:
            recover(self._folder / leftover)
        found = self._found()
        for step, path in reversed(found):
            try:
                verify(path)
            except Corrupt as error:
                _log.warning(
                    "checkpoint %s is damaged (%s): going back to the one before", path, error
                )
                continue
            return step, path
        if found:
            hint = "Remove the folder to train this stage from its start."
            raise UserError("every checkpoint here is damaged.", file=self._folder, hint=hint)
        return None

    def _found(self) -> list[tuple[int, Path]]:
        paths = self._folder.glob("checkpoint-*")
        return sorted(
            (int(path.name.removeprefix("checkpoint-")), path)
            for path in paths
            if path.name.removeprefix("checkpoint-").isdigit()
        )


def rng_state() -> dict[str, Any]:
    """The global random states of Python, NumPy, torch and CUDA (where it is in use)."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    state: dict[str, Any] = {
        "python": [version, list(words), gauss],
        "numpy": [name, [int(k) for k in keys], position, has_gauss, cached],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = list(torch.cuda.get_rng_state_all())
    return state


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Put back what `rng_state` gave."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"][: torch.cuda.device_count()])


def _encode(value: Any, tensors: dict[str, Tensor]) -> Any:
    """JSON for a value: containers, tensors and floats that JSON lacks become {"$kind": …}, so that
    no plain dict can be taken for one."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous()
        return {"$tensor": name}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str | int):
                raise TypeError(f"a checkpoint cannot hold the key {key!r}: keys are str or int")
        return {"$dict": [[key, _encode(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {
            "$list" if isinstance(value, list) else "$tuple": [
                _encode(item, tensors) for item in value
            ]
        }
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(value)}
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"a checkpoint cannot hold a {type(value).__name__}")


def _decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    (kind, inside), *_ = value.items()
    if kind == "$tensor":
        return tensors[inside]
    if kind == "$float":
        return float(inside)
    if kind == "$dict":
        return {key: _decode(item, tensors) for key, item in inside}
    items = [_decode(item, tensors) for item in inside]
    return items if kind == "$list" else tuple(items)


def _save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """`save_file`, but tensors may share memory, and a failed write is the OSError that it is."""
    seen: set[int] = set()
    apart: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.clone() if storage in seen else tensor
        seen.add(storage)
    try:
        save_file(apart, path)
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def _checksum(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
            "bytes": path.stat().st_size,
        }
