"""Models and adapters for others to load: merged weights of a type and in shards, or one adapter on
the model it all began from."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from burnish.errors import UserError
from burnish.jsonio import dumps, read_object
from burnish.models.adapters import save_tensors
from burnish.models.loading.folder import weight_files
from burnish.models.sources import ALIASES, base_of

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_WEIGHTS = (
    "*.safetensors",
    "*.safetensors.index.json",
    "adapter",
    "*.bin",
    "members",
    "scoring.json",
)
_CONFIG, _TENSORS = "adapter_config.json", "adapter_model.safetensors"


def export_merged(model: Path, out: Path, *, dtype: str | None, shard_size: str) -> list[str]:
    """Copy a model's folder with its weights as `dtype` (None: as they are), in files of at most
    `shard_size` ("5GB").

    Returns the names of the files of weights.
    """
    shutil.copytree(model, out, ignore=shutil.ignore_patterns(*_WEIGHTS), dirs_exist_ok=True)
    weights = {
        name: tensor if dtype is None else _as(tensor, DTYPES[dtype])
        for name, tensor in _tensors(model)
    }
    try:
        shards = split_torch_state_dict_into_shards(weights, max_shard_size=shard_size)
    except ValueError as error:
        raise UserError(
            f'"{shard_size}" is no size.', field="--shard-size", hint="For instance 5GB or 200MB."
        ) from error
    for name, tensors in shards.filename_to_tensors.items():
        save_tensors({tensor: weights[tensor] for tensor in tensors}, out / name)
    if shards.is_sharded:
        index = {"metadata": shards.metadata, "weight_map": shards.tensor_to_filename}
        (out / "model.safetensors.index.json").write_text(
            dumps(index, indent=2, sort_keys=True) + "\n"
        )
    if dtype is not None:
        config = read_object(model / "config.json", hint="")
        config.pop("torch_dtype", None)
        (out / "config.json").write_text(
            dumps({**config, "dtype": dtype}, indent=2, sort_keys=True) + "\n"
        )
    return list(shards.filename_to_tensors)


def export_adapter(model: Path, out: Path, *, dtype: str | None) -> str:
    """One adapter, in PEFT's layout, for what a model was trained to be from the model that it all
    began from; returns that one's name.

    Of adapters that were trained one on another, each merged before the next, the sum is one
    adapter of the sum of their ranks: W + s₁B₁A₁ + s₂B₂A₂ = W + [s₁B₁ s₂B₂][A₁; A₂]. Raises
    UserError where a step on the way trained every weight.
    """
    if (model / "head.safetensors").is_file():
        raise UserError(
            "is a reward model, whose head is no part of an adapter.",
            file=model,
            hint="Export it merged.",
        )
    chain = list(_chain(model))
    base = published(base_of(chain[-1]))
    loaded = [(_config(folder), load_file(folder / _TENSORS)) for folder in chain]
    newest, weights = loaded[0]
    others = [
        name for _, each in loaded for name in each if "lora_A" not in name and "lora_B" not in name
    ]
    if len(chain) > 1 and others:
        raise UserError(
            f"holds {others[0]}, which cannot be added up.", file=chain[0], hint="Export it merged."
        )
    total = sum(int(config["r"]) for config, _ in loaded)
    if len(chain) > 1:
        weights = _sum(loaded)
        targets = _targets(weights)
        newest = {**newest, "r": total, "lora_alpha": total, "target_modules": targets}
        newest["use_rslora"] = False
    shutil.copytree(
        model,
        out,
        ignore=shutil.ignore_patterns(*_WEIGHTS, "config.json", "generation_config.json", "head*"),
    )
    tensors = {
        name: tensor if dtype is None else _as(tensor, DTYPES[dtype])
        for name, tensor in weights.items()
    }
    save_tensors(tensors, out / _TENSORS)
    newest["base_model_name_or_path"] = base
    (out / _CONFIG).write_text(dumps(newest, indent=2, sort_keys=True) + "\n")
    return base


def published(reference: str) -> str:
    """The name by which others find a model: an alias of Burnish's own stands for its hub id."""
    return ALIASES[reference].hub_id if reference in ALIASES else reference


def _chain(model: Path) -> Iterator[Path]:
    """The adapters that a model is made of, the newest first."""
    seen: set[Path] = set()
    while True:
        folder = model / "adapter" if (model / "adapter" / _CONFIG).is_file() else model
        if not (folder / _CONFIG).is_file():
            hint = "Export it merged, or train it with lora."
            raise UserError(
                "no adapter is kept here: every weight was trained.", file=model, hint=hint
            )
        if folder in seen:
            raise UserError("this adapter names itself as its base.", file=folder / _CONFIG)
        seen.add(folder)
        yield folder
        base = Path(base_of(folder))
        if not (base / "config.json").is_file() or not _was_trained_here(base):
            return
        model = base


def _was_trained_here(folder: Path) -> bool:
    """Whether a folder is the model of a stage: its findings stand beside it."""
    return (folder.parent / "stage.json").is_file()


def _config(folder: Path) -> dict[str, Any]:
    return read_object(folder / _CONFIG, hint="")


def _sum(loaded: Sequence[tuple[dict[str, Any], dict[str, Tensor]]]) -> dict[str, Tensor]:
    """Adapters side by side; a layer that one of them has not is nought there, so that all layers
    have the same rank."""
    names = {name.replace("lora_B", "lora_A") for _, weights in loaded for name in weights}
    found: dict[str, Tensor] = {}
    for name in sorted(names):
        other = name.replace("lora_A", "lora_B")
        width, height = next((w[name].shape[1], w[other].shape[0]) for _, w in loaded if name in w)
        downs, ups = [], []
        for config, weights in loaded:
            rank = int(config["r"])
            root = math.sqrt(rank) if config.get("use_rslora") else rank
            scale = float(config["lora_alpha"]) / root
            down, up = weights.get(name), weights.get(other)
            downs.append(torch.zeros(rank, width) if down is None else down.float())
            ups.append(torch.zeros(height, rank) if up is None else scale * up.float())
        found[name], found[other] = torch.cat(downs), torch.cat(ups, dim=1)
    return found


def _targets(weights: dict[str, Tensor]) -> list[str]:
    return sorted({name.split(".lora_")[0].rpartition(".")[2] for name in weights})


def _tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    for path in weight_files(folder):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  (it is no mapping)
                yield name, file.get_tensor(name)


def _as(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


__all__ = ["DTYPES", "export_adapter", "export_merged", "published"]
