"""Weights on their way to engines: safetensors files in a folder that all of them see, whole or not
there, with a checksum of every tensor that engines answer with.

In shared memory (`/dev/shm`) they never touch a disk. A version is a folder of its own; the one
before it stays until the next, for an engine may still be reading it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from burnish.atomic import disk_errors
from burnish.execution.orders import Publication
from burnish.jsonio import dumps
from burnish.models.weights import Weights

_TABLE = "tensors.json"
_BUCKET = 1 << 30
"""Bytes of one file: no more than this, and one tensor, is held beside the weights themselves."""
_KEPT = 2


class Unreadable(Exception):
    """Weights are not those that were published."""


def shared_folder(name: str) -> Path:
    """The folder of that name in shared memory, or among temporary files where there is none."""
    memory = Path("/dev/shm")
    return (memory if memory.is_dir() else Path(tempfile.gettempdir())) / name


class Publisher:
    """Writes versions into `folder`, which is its own: what was there goes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        with disk_errors(folder):
            folder.mkdir(parents=True, mode=0o700)
        self._versions: list[Path] = []

    @torch.no_grad()
    def publish(self, weights: Weights, *, version: int) -> Publication:
        """Write every tensor. Raises UserError where there is no room."""
        scratch, folder = self._folder / ".partial", self._folder / f"version-{version}"
        for path in (scratch, folder):
            shutil.rmtree(path, ignore_errors=True)
        table: dict[str, dict[str, Any]] = {}
        with disk_errors(folder):
            scratch.mkdir()
            for number, bucket in enumerate(_buckets(weights)):
                file = f"{number:05d}.safetensors"
                save_file(bucket, scratch / file)
                table |= {name: _row(tensor, file) for name, tensor in bucket.items()}
            (scratch / _TABLE).write_text(dumps(table))
            scratch.rename(folder)
        self._versions = [path for path in self._versions if path != folder] + [folder]
        for old in self._versions[:-_KEPT]:
            shutil.rmtree(old, ignore_errors=True)
        self._versions = self._versions[-_KEPT:]
        return Publication(version, str(folder), checksum_of(table))

    def close(self) -> None:
        """Take everything away."""
        shutil.rmtree(self._folder, ignore_errors=True)


@dataclass
class Reader:
    """What an engine reads of a publication; `device` is where its tensors go.

    `weights` are handed to `Engine.load`; `checksum` then is that of what was read.
    """

    publication: Publication
    device: torch.device
    _sums: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def weights(self) -> Weights:
        """A function for each tensor, which reads it and compares its checksum."""
        table = self._table()
        return {name: partial(self._read, name, row) for name, row in table.items()}

    @property
    def checksum(self) -> str:
        """Of what was read. Raises `Unreadable` if a tensor was left out."""
        missing = self._table().keys() - self._sums.keys()
        if missing:
            raise Unreadable(f"{min(missing)} was published and not taken over")
        return checksum_of(self._sums)

    def _table(self) -> dict[str, dict[str, Any]]:
        try:
            return json.loads((Path(self.publication.folder) / _TABLE).read_text())
        except (OSError, ValueError) as error:
            raise Unreadable(f"{self.publication.folder} cannot be read ({error})") from error

    def _read(self, name: str, row: Mapping[str, Any]) -> Tensor:
        with safe_open(Path(self.publication.folder) / row["file"], "pt") as file:
            tensor = file.get_tensor(name).clone()  # the file goes with the next version but one
        self._sums[name] = read = _row(tensor, row["file"])
        if read != row:
            raise Unreadable(f"{name} has other bytes than were published")
        return tensor.to(self.device)


def checksum_of(table: Mapping[str, Mapping[str, Any]]) -> str:
    """One for all tensors, whichever files they are in."""
    rows = sorted((name, row["dtype"], row["shape"], row["crc32"]) for name, row in table.items())
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _buckets(weights: Weights) -> Iterator[dict[str, Tensor]]:
    """The tensors on the CPU, file by file; each has memory of its own."""
    bucket: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, make in weights.items():
        tensor = make().detach().cpu().contiguous()
        if tensor.untyped_storage().data_ptr() in seen:
            tensor = tensor.clone()
        seen.add(tensor.untyped_storage().data_ptr())
        if bucket and sum(t.nbytes for t in bucket.values()) + tensor.nbytes > _BUCKET:
            yield bucket
            bucket = {}
        bucket[name] = tensor
    yield bucket


def _row(tensor: Tensor, file: str) -> dict[str, Any]:
    data = tensor.reshape(-1).view(torch.uint8).numpy()
    return {
        "file": file,
        "dtype": str(tensor.dtype),
        "shape": list(tensor.shape),
        "crc32": zlib.crc32(data.data),
    }
