"""Tiny model folders, whole and damaged, for the tests of loading."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from burnish.models.tiny import tiny_tokenizer

SHAPE: dict[str, Any] = {
    "vocab_size": 264,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "eos_token_id": 256,
    "pad_token_id": 257,
    "bos_token_id": None,
}


def random_llama(*, seed: int = 0, **more: Any) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return (
        LlamaForCausalLM(LlamaConfig(**{**SHAPE, "tie_word_embeddings": False, **more}))
        .float()
        .eval()
    )


def save(folder: Path, model: Any = None, tokenizer: Any = None) -> Path:
    """A whole model folder."""
    (random_llama() if model is None else model).save_pretrained(folder)
    (tokenizer or tiny_tokenizer()).save_pretrained(folder)
    return folder


def save_family(folder: Path, kind: str, **more: Any) -> Path:
    torch.manual_seed(0)
    return save(
        folder,
        AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**SHAPE, **more})).float(),
    )


def reweight(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Path:
    """Put other tensors into a folder's model.safetensors."""
    file = folder / "model.safetensors"
    weights = {name: tensor.clone() for name, tensor in load_file(file).items()}
    save_file(change(weights), file, metadata={"format": "pt"})
    return folder


def reconfigure(folder: Path, file: str = "config.json", **fields: Any) -> Path:
    """Change fields of a JSON file of a folder; ... takes one out."""
    path = folder / file
    settings = json.loads(path.read_text()) if path.exists() else {}
    settings = {k: v for k, v in {**settings, **fields}.items() if v is not ...}
    path.write_text(json.dumps(settings))
    return folder


def shard(folder: Path, count: int = 2) -> Path:
    """Cut model.safetensors into `count` files with an index."""
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    weight_map = {}
    for number in range(count):
        file = f"model-{number + 1:05}-of-{count:05}.safetensors"
        part = {name: weights[name].clone() for name in names[number::count]}
        save_file(part, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": weight_map})
    )
    return folder
