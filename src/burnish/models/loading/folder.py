"""What stands in a model's folder, read without transformers: its configuration, and the names,
shapes and dtypes of its weights. Nothing here reads a weight: all of it costs milliseconds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from burnish.errors import UserError

CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "tekken.json",
)
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_NOT_WEIGHTS = (
    "training_args.bin",
    "optimizer.pt",
    "scheduler.pt",
    "optimizer.bin",
    "scheduler.bin",
    "scaler.pt",
)
_PICKLE_HINT = (
    "Pickles can run code when they are read, so they never are: "
    "save the model again as safetensors with save_pretrained."
)
_MAX_JSON = 256 * 2**20  # bytes; the largest tokenizers take some 35 MB


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor of a safetensors file, from the file's header."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: Path

    @property
    def size(self) -> int:
        """Number of elements."""
        count = 1
        for length in self.shape:
            count *= length
        return count


def read_json_object(file: Path) -> dict[str, Any]:
    """The JSON object in `file`. Raises UserError that names the file if there is none or it cannot
    be read."""
    try:
        if not file.is_file():
            raise UserError(
                "this is no file." if file.exists() else "this file is missing.", file=file
            )
        if file.stat().st_size > _MAX_JSON:
            raise UserError(f"this file is larger than {_MAX_JSON // 2**20} MB.", file=file)
        value = json.loads(file.read_bytes())
    except OSError as error:
        raise UserError(
            f"this file cannot be read ({error.strerror or error}).", file=file
        ) from error
    except (ValueError, RecursionError) as error:
        why = "it is empty" if file.stat().st_size == 0 else str(error)
        raise UserError(
            f"this file is not JSON ({why}).", file=file, hint="Copy or download it again."
        ) from error
    if not isinstance(value, dict):
        raise UserError("this file holds no JSON object ({...}).", file=file)
    return value


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a model. Raises UserError if it is none, or does not say which type of model
    it is."""
    config = read_json_object(folder / CONFIG)
    if not isinstance(config.get("model_type"), str) or not config["model_type"]:
        raise UserError(
            "it does not say which type of model this is (model_type).",
            file=folder / CONFIG,
            hint="Name a folder saved with save_pretrained.",
        )
    return config


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of a model: one, or the shards that its index names.

    Raises UserError naming the file where a shard is missing, the index points out of the folder,
    or all there is are pickles, GGUF files or weights of another format.
    """
    single, index = folder / _WEIGHTS, folder / _INDEX
    if single.exists() or single.is_symlink():
        return (_regular(single),)
    if index.exists() or index.is_symlink():
        return tuple(_regular(folder / name) for name in sorted(set(read_index(index).values())))
    raise UserError(*_no_weights(folder), file=folder, hint=_way_out(folder))


def holds_weights(folder: Path) -> bool:
    """Whether a folder holds a model's own safetensors weights (those of an adapter do not
    count)."""
    return any((folder / name).exists() for name in (_WEIGHTS, _INDEX))


def holds_tokenizer(folder: Path) -> bool:
    """Whether one of the files that a tokenizer's vocabulary is kept in stands in `folder`."""
    return any((folder / name).is_file() for name in TOKENIZER_FILES) or any(
        folder.glob("*.tiktoken")
    )


def read_index(file: Path) -> dict[str, str]:
    """{tensor: file} of an index of shards; all files are names inside the index's own folder."""
    weight_map = read_json_object(file).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise UserError("the index names no weights (weight_map).", file=file)
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or not _inside(shard):
            raise UserError(
                f"the file of {name} is {shard!r}, which is no file name inside this folder.",
                file=file,
            )
    return weight_map


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """{name: header} of every weight of the model in `folder`.

    Raises UserError naming the file that is cut or damaged, and the tensor that stands in two files
    or is missing from the one that the index names.
    """
    files = weight_files(folder)
    tensors: dict[str, StoredTensor] = {}
    for file in files:
        for tensor in read_header(file):
            if tensor.name in tensors:
                raise UserError(
                    f"the weight {tensor.name} stands in {tensors[tensor.name].file.name} as well.",
                    file=file,
                    hint="Remove the files of the checkpoint that is not meant.",
                )
            tensors[tensor.name] = tensor
    if files[0].name != _WEIGHTS:
        for name, shard in read_index(folder / _INDEX).items():
            if name not in tensors or tensors[name].file.name != PurePosixPath(shard).name:
                raise UserError(
                    f"the index says that {name} stands in {shard}, which does not hold it.",
                    file=folder / _INDEX,
                    hint="Copy or download the checkpoint again.",
                )
    if not tensors:
        raise UserError(
            "this file holds no weights.", file=files[0], hint="Copy or download it again."
        )
    return tensors


def read_header(file: Path) -> list[StoredTensor]:
    """The tensors that a safetensors file says it holds. Raises UserError if it is cut, damaged or
    of another format."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(_regular(file), framework="pt") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 (no mapping)
            return [
                StoredTensor(name, tuple(part.get_shape()), str(part.get_dtype()), file)
                for name, part in slices.items()
            ]
    except (SafetensorError, OSError, OverflowError) as error:
        why = "it is empty" if file.stat().st_size == 0 else str(error).strip()
        raise UserError(
            f"this file is no whole safetensors file ({why}).",
            file=file,
            hint="Copy or download it again.",
        ) from error


def own_code(settings: Mapping[str, Any]) -> list[str]:
    """The classes of its own (`auto_map`) that a configuration of a model or a tokenizer names."""
    auto_map = settings.get("auto_map")
    if not isinstance(auto_map, Mapping):
        return []
    named = [
        name
        for value in auto_map.values()
        for name in (value if isinstance(value, list) else [value])
    ]
    return sorted({name for name in named if isinstance(name, str)})


def own_code_error(file: Path, classes: Iterable[str]) -> UserError:
    """For a model or tokenizer that cannot be loaded without code from its folder."""
    return UserError(
        f"this needs code of its own ({', '.join(classes)}), which Burnish never runs"
        " (trust_remote_code is False).",
        file=file,
        hint="Name a model whose type transformers knows itself.",
    )


def refuse_adapter_pickle(folder: Path) -> None:
    """An adapter whose weights are a pickle."""
    if not (folder / ADAPTER_WEIGHTS).exists() and (folder / "adapter_model.bin").exists():
        raise UserError(
            "these weights are a pickle.", file=folder / "adapter_model.bin", hint=_PICKLE_HINT
        )


def _regular(file: Path) -> Path:
    """The file itself where it can be read like one. A pipe or a device would make the reader wait
    for ever."""
    if file.is_file():
        return file
    if file.is_symlink() and not file.exists():
        raise UserError(
            "this link leads nowhere: the weights are missing.",
            file=file,
            hint="Download them again.",
        )
    problem = "this is no file." if file.exists() else "this file of the weights is missing."
    raise UserError(problem, file=file, hint="Copy or download the checkpoint again.")


def _inside(name: str) -> bool:
    path = PurePosixPath(name)
    return (
        bool(name)
        and "\\" not in name
        and "\0" not in name
        and not path.is_absolute()
        and ".." not in path.parts
    )


def _no_weights(folder: Path) -> tuple[str]:
    pickles = _pickles(folder)
    if pickles:
        return (f"the weights are a pickle ({pickles[0]}).",)
    others = sorted(p.name for pattern in ("*.gguf", "*.safetensors") for p in folder.glob(pattern))
    if others:
        return (f"this folder holds no {_WEIGHTS}, only {', '.join(others[:3])}.",)
    return (f"this folder holds no weights (no {_WEIGHTS}).",)


def _way_out(folder: Path) -> str:
    if _pickles(folder):
        return _PICKLE_HINT
    if any(folder.glob("*.gguf")):
        return (
            "GGUF files are made for running models: name the checkpoint that they were made from."
        )
    return "Name a folder saved with save_pretrained."


def _pickles(folder: Path) -> list[str]:
    return sorted(
        p.name for p in folder.iterdir() if p.suffix in _PICKLES and p.name not in _NOT_WEIGHTS
    )
