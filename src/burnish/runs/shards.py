"""Tensors of which every rank holds a shard, in files that any number of ranks, or one process, can
read: torch's distributed checkpoints as safetensors, without pickle."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor


def is_shard(tensor: Tensor) -> bool:
    """Whether this process holds a part of the tensor only."""
    return hasattr(tensor, "full_tensor")


def save_shards(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Every rank writes its part of the tensors into a file of its own; all call it together."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    writer = HuggingFaceStorageWriter(path=str(folder), save_distributed=True)
    save(dict(tensors), storage_writer=writer)


def read_shards(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Fill the tensors of these names in place, shards with this rank's part, from all safetensors
    files in a folder, by however many ranks they were written. All ranks call it together."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    alone = not torch.distributed.is_initialized()
    reader = HuggingFaceStorageReader(str(folder))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")  # as it is meant
        load(dict(tensors), storage_reader=reader, no_dist=alone)


def empty_like_stored(folder: Path, names: set[str]) -> dict[str, Tensor]:
    """For each name a whole tensor of the shape and precision that the files have, not filled."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    stored = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    found = {name: stored[name] for name in names}
    return {name: torch.empty(t.size, dtype=t.properties.dtype) for name, t in found.items()}  # pyright: ignore
