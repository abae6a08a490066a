"""The model types that Burnish trains and samples: one table, which the code, the command line and
the docs read.

A type is what `model_type` in a model's config.json names. Whatever has no row is refused before
anything is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from burnish.errors import UserError

_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_GATED = ("gate_proj", "up_proj", "down_proj")
_LATENT = ("q_proj", "q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj")
_DELTA = ("in_proj_qkv", "in_proj_z", "in_proj_a", "in_proj_b", "out_proj")


@dataclass(frozen=True, slots=True)
class ModelType:
    """What Burnish does with one model type.

    Attributes:
        name: `model_type` in config.json.
        family: the models that people know it by.
        trained: `packed`, many sequences in one pass without padding; `unpacked`, each sequence by
            itself, because a layer (a convolution, a state space) carries what it saw from one
            token to the next.
        sampled: `native`, by Burnish's own engine; `transformers`, by transformers' cached
            generation, which is slower.
        lora: names of the linear layers that a LoRA adapter is put on.
        logits: settings of the configuration that change the product with the head
            (`burnish.models.backbone`).
        experts: whether layers are mixtures of experts, of which LoRA leaves experts and router
            frozen.
        text_part: whether only the language model of such a checkpoint, whose type has a row of its
            own, is loaded, trained and saved.
        note: what else a user should know, in a few words.
    """

    name: str
    family: str
    trained: Literal["packed", "unpacked"] = "packed"
    sampled: Literal["native", "transformers"] = "transformers"
    lora: tuple[str, ...] = (*_ATTENTION, *_GATED)
    logits: tuple[str, ...] = ()
    experts: bool = False
    text_part: bool = False
    note: str = ""


def _table(
    rows: Iterable[ModelType], wholes: Iterable[tuple[str, str, str]]
) -> dict[str, ModelType]:
    """Rows by name; a whole model, (type, type of its text part, family), has the row of its text
    part."""
    table = {row.name: row for row in rows}
    for name, text, family in wholes:
        note = f"text part only, saved as {text}"
        table[name] = replace(table[text], name=name, family=family, text_part=True, note=note)
    return dict(sorted(table.items()))


SUPPORTED = _table(rows=[
    ModelType("llama", "Llama 1 to 3.3, SmolLM 1, 2, Yi", sampled="native"),
    ModelType("llama4_text", "Llama 4 (text)", "unpacked", lora=_ATTENTION, experts=True),
    ModelType("mistral", "Mistral 7B, Nemo, Small 3", sampled="native"),
    ModelType("ministral", "Ministral 8B"),
    ModelType("ministral3", "Ministral 3 (text)"),
    ModelType("mixtral", "Mixtral", lora=_ATTENTION, experts=True),
    ModelType("qwen2", "Qwen 2, 2.5, QwQ", sampled="native"),
    ModelType("qwen2_moe", "Qwen 1.5 and 2 MoE", lora=_ATTENTION, experts=True),
    ModelType("qwen3", "Qwen 3", sampled="native"),
    ModelType("qwen3_moe", "Qwen 3 MoE", lora=_ATTENTION, experts=True),
    ModelType(
        "qwen3_next", "Qwen 3 Next", "unpacked",
        lora=(*_ATTENTION, "in_proj_ba", "in_proj_qkvz", "out_proj"), experts=True,
    ),
    ModelType("qwen3_5_text", "Qwen 3.5, 3.6 (text)", "unpacked",
        lora=(*_ATTENTION, *_GATED, *_DELTA)),
    ModelType(
        "qwen3_5_moe_text", "Qwen 3.5, 3.6 MoE (text)", "unpacked", lora=(*_ATTENTION, *_DELTA),
        experts=True
    ),
    ModelType("gemma", "Gemma 1", sampled="native"),
    ModelType("gemma2", "Gemma 2", logits=("final_logit_softcapping",)),
    ModelType("gemma3_text", "Gemma 3 (text)", sampled="native",
        logits=("final_logit_softcapping",)),
    ModelType("gemma3n_text", "Gemma 3n (text)", logits=("final_logit_softcapping",)),
    ModelType("gemma4_text", "Gemma 4 (text)", logits=("final_logit_softcapping",)),
    ModelType("phi3", "Phi 3, 3.5, 4, 4 mini",
        lora=("qkv_proj", "o_proj", "gate_up_proj", "down_proj")),
    ModelType("smollm3", "SmolLM 3"),
    ModelType("olmo2", "OLMo 2"),
    ModelType("olmo3", "OLMo 3"),
    ModelType("granite", "Granite 3, 4 (dense)", logits=("logits_scaling",)),
    ModelType(
        "granitemoehybrid", "Granite 4 (hybrid)", "unpacked",
        lora=(*_ATTENTION, "in_proj", "out_proj", "input_linear", "output_linear"),
        logits=("logits_scaling",), experts=True,
    ),
    ModelType("glm", "GLM 4 9B (2024)", lora=(*_ATTENTION, "gate_up_proj", "down_proj")),
    ModelType("glm4", "GLM 4 0414, Z1", lora=(*_ATTENTION, "gate_up_proj", "down_proj")),
    ModelType("glm4_moe", "GLM 4.5, 4.6, 4.7", lora=_ATTENTION, experts=True),
    ModelType("gpt_oss", "gpt-oss", lora=_ATTENTION, experts=True),
    ModelType("deepseek_v3", "DeepSeek V3, R1", lora=_LATENT, experts=True),
    ModelType("cohere", "Command R", logits=("logit_scale",)),
    ModelType("cohere2", "Command A, R7B", logits=("logit_scale",)),
    ModelType(
        "lfm2", "LFM 2", "unpacked",
        lora=("q_proj", "k_proj", "v_proj", "out_proj", "in_proj", "w1", "w2", "w3"),
    ),
    ModelType("exaone4", "EXAONE 4"),
    ModelType("seed_oss", "Seed-OSS"),
    ModelType("ernie4_5", "ERNIE 4.5 (dense)"),
    ModelType("hunyuan_v1_dense", "Hunyuan (dense)"),
    ModelType("starcoder2", "StarCoder 2", lora=(*_ATTENTION, "c_fc", "c_proj")),
], wholes=[
    ("gemma3", "gemma3_text", "Gemma 3 4B to 27B"),
    ("gemma3n", "gemma3n_text", "Gemma 3n"),
    ("gemma4", "gemma4_text", "Gemma 4"),
    ("llama4", "llama4_text", "Llama 4"),
    ("mistral3", "mistral", "Mistral Small 3.1, 3.2; Ministral 3 (saved as ministral3)"),
    ("qwen3_5", "qwen3_5_text", "Qwen 3.5, 3.6"),
    ("qwen3_5_moe", "qwen3_5_moe_text", "Qwen 3.5, 3.6 MoE"),
])  # fmt: skip


def model_type(name: str, *, file: Path | None = None) -> ModelType:
    """The row of a model type. Raises UserError, naming `file` and every supported type, if there
    is none."""
    row = SUPPORTED.get(name)
    if row is None:
        raise UserError(
            f"models of type {name} are not supported.",
            file=file,
            hint=f"Supported: {', '.join(SUPPORTED)}. `burnish models supported` says more.",
        )
    return row


def read_model_type(folder: Path) -> ModelType:
    """The row of the model in `folder`, from its config.json alone. Raises UserError if it cannot
    be read or has no row."""
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
