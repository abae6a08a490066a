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
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from burnish.atomic import recover, shared_folder
from burnish.errors import UserError
from burnish.jsonio import dumps
from burnish.ranks import first, told
from burnish.runs.shards import empty_like_stored, is_shard, read_shards, save_shards

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

    On several ranks all call it together; each writes its shards, rank 0 the rest.
    """
    tensors: dict[str, Tensor] = {}
    tree = _encode(state, tensors)
    shards = {name: tensor for name, tensor in tensors.items() if is_shard(tensor)}
    if shards:
        save_shards(folder, shards)
    if first():
        whole = {name: tensor for name, tensor in tensors.items() if name not in shards}
        _save_whole(folder, tree, whole)


def _save_whole(folder: Path, tree: Any, tensors: Mapping[str, Tensor]) -> None:
    (folder / _STATE).write_text(dumps(tree), encoding="utf-8")
    _save_tensors({name: t.cpu().contiguous() for name, t in tensors.items()}, folder / _TENSORS)
    sums = {
        path.relative_to(folder).as_posix(): _checksum(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    (folder / _SUMS).write_text(dumps(sums, indent=2), encoding="utf-8")


def load_state(folder: Path, *, like: Any = None) -> Any:
    """What `save_state` wrote, tensors on the CPU. Raises Corrupt if a file is missing or differs
    from its checksum.

    Where in `like`, a tree of the same shape, a shard stands, it is filled with this rank's part
    and stands in the result too: by however many ranks the state was written, no rank reads more.
    """
    verify(folder)
    tree = json.loads((folder / _STATE).read_text())
    present: dict[str, Tensor] = {}
    _encode(like, present)
    tensors = {name: tensor for name, tensor in present.items() if is_shard(tensor)}
    with safe_open(folder / _TENSORS, framework="pt") as file:
        names = set(file.keys())
        # clone: safetensors maps the file into memory, and a state must outlive the file
        whole = {name: file.get_tensor(name).clone() for name in names - tensors.keys()}
    apart = empty_like_stored(folder, _named(tree) - names - tensors.keys())
    if tensors or apart:
        read_shards(folder, {**tensors, **apart})
    return _decode(tree, {**tensors, **whole, **apart})


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
        then. On several ranks all call it together.
        """
        with shared_folder(self._folder / f"checkpoint-{step}") as scratch:
            save_state(scratch, state)
        if first():
            self._drop_older(step)

    def _drop_older(self, step: int) -> None:
        # A later step is one that `latest` passed over as damaged: the run has gone back behind it.
        kept = [old for old, _ in self._found() if old <= step][-self._keep :]
        for old, path in self._found():
            if old not in kept:
                shutil.rmtree(path)

    def latest(self) -> tuple[int, Path] | None:
        """The newest checkpoint that is intact; None if there is none at all.

        A damaged one is passed over with a warning. Raises UserError if there are checkpoints and
        all are damaged. Rank 0 looks, and all go on from the same one.
        """
        return told(self._latest)

    def _latest(self) -> tuple[int, Path] | None:
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
        return [(step, self._folder / f"checkpoint-{step}") for step in steps_in(self._folder)]


def steps_in(folder: Path) -> list[int]:
    """The steps of the checkpoints in a folder, from the first."""
    names = [path.name.removeprefix("checkpoint-") for path in folder.glob("checkpoint-*")]
    return sorted(int(name) for name in names if name.isdigit())


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


def _encode(value: Any, tensors: dict[str, Tensor], place: str = "") -> Any:
    """JSON for a value: containers, tensors and floats that JSON lacks become {"$kind": …}, so that
    no plain dict can be taken for one. A tensor is named by its place in the tree."""
    if isinstance(value, Tensor):
        name = place.removeprefix("/") or "state"
        name += "'" * (name in tensors)  # of the keys 1 and "1" the second
        tensors[name] = value.detach()
        return {"$tensor": name}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str | int):
                raise TypeError(f"a checkpoint cannot hold the key {key!r}: keys are str or int")
        items = [[key, _encode(item, tensors, f"{place}/{key}")] for key, item in value.items()]
        return {"$dict": items}
    if isinstance(value, list | tuple):
        items = [_encode(item, tensors, f"{place}/{i}") for i, item in enumerate(value)]
        return {"$list" if isinstance(value, list) else "$tuple": items}
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


def _named(tree: Any) -> set[str]:
    """The names of the tensors that an encoded tree speaks of."""
    if isinstance(tree, list):
        return set().union(*map(_named, tree))
    if not isinstance(tree, dict):
        return set()
    return {tree["$tensor"]} if "$tensor" in tree else _named(list(tree.values()))


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
