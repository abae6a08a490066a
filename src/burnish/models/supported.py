"""The model types that Burnish trains and samples: one table, which the code, the command line and the docs read.

A type is what `model_type` in a model's config.json names. Whatever has no row is refused before anything is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from burnish.errors import UserError

_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_GATED = ("gate_proj", "up_proj", "down_proj")
_EXPERTS = "mixture of experts"


@dataclass(frozen=True, slots=True)
class ModelType:
    """What Burnish does with one model type.

    Attributes:
        name: `model_type` in config.json.
        family: the models that people know it by.
        trained: `packed`, many sequences in one pass without padding; `unpacked`, each sequence by itself, because a layer
            (a convolution, a state space) carries what it saw from one token to the next.
        sampled: `native`, by Burnish's own engine; `transformers`, by transformers' cached generation, which is slower.
        lora: names of the linear layers that a LoRA adapter is put on.
        note: what else a user should know, in a few words.
    """

    name: str
    family: str
    trained: Literal["packed", "unpacked"] = "packed"
    sampled: Literal["native", "transformers"] = "transformers"
    lora: tuple[str, ...] = (*_ATTENTION, *_GATED)
    note: str = ""


def _table(rows: Iterable[ModelType]) -> dict[str, ModelType]:
    return {row.name: row for row in rows}


SUPPORTED = _table([
    ModelType("llama", "Llama 1 to 3.3, SmolLM 1 and 2, Yi, TinyLlama", sampled="native"),
    ModelType("mistral", "Mistral 7B, Nemo, Small 2409", sampled="native"),
    ModelType("ministral", "Ministral 8B"),
    ModelType("ministral3", "Ministral 3 (text)"),
    ModelType("mixtral", "Mixtral", lora=_ATTENTION, note=_EXPERTS),
    ModelType("qwen2", "Qwen 2, 2.5, QwQ", sampled="native"),
    ModelType("qwen2_moe", "Qwen 1.5 and 2 MoE", note=_EXPERTS),
    ModelType("qwen3", "Qwen 3", sampled="native"),
    ModelType("qwen3_moe", "Qwen 3 MoE", note=_EXPERTS),
    ModelType("gemma", "Gemma 1", sampled="native"),
    ModelType("gemma3_text", "Gemma 3 270M, 1B (text)", sampled="native"),
    ModelType("phi3", "Phi 3, 3.5, 4, 4 mini", lora=("qkv_proj", "o_proj", "gate_up_proj", "down_proj")),
    ModelType("smollm3", "SmolLM 3"),
    ModelType("olmo2", "OLMo 2"),
    ModelType("olmo3", "OLMo 3"),
    ModelType("glm", "GLM 4 9B (2024)", lora=(*_ATTENTION, "gate_up_proj", "down_proj")),
    ModelType("glm4", "GLM 4 0414", lora=(*_ATTENTION, "gate_up_proj", "down_proj")),
])  # fmt: skip


def model_type(name: str, *, file: Path | None = None) -> ModelType:
    """The row of a model type. Raises UserError, naming `file` and every supported type, if there is none."""
    row = SUPPORTED.get(name)
    if row is None:
        raise UserError(
            f"models of type {name} are not supported.",
            file=file,
            hint=f"Supported: {', '.join(SUPPORTED)}. `burnish models supported` says more.",
        )
    return row


def read_model_type(folder: Path) -> ModelType:
    """The row of the model in `folder`, from its config.json alone. Raises UserError if it cannot be read or has no row."""
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError("no model configuration can be read here.", file=file) from error
    name = config.get("model_type") if isinstance(config, dict) else None
    if not isinstance(name, str):
        raise UserError(
            "names no model type.",
            file=file,
            field="model_type",
            hint="It must be there, as save_pretrained writes it.",
        )
    return model_type(name, file=file)
