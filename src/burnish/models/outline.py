"""What a model is made of, from its configuration alone: transformers builds it without memory for
its weights, and its matrices are counted. So every type that can be trained can be planned,
whatever stands in its layers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from burnish.errors import UserError
from burnish.models.loading.folder import CONFIG
from burnish.models.loading.guard import one_line, quiet
from burnish.models.loading.text_part import is_whole, text_config
from burnish.models.supported import model_type

_MIXERS = {"self_attn", "linear_attn", "mamba", "conv"}  # where a layer looks at other tokens
_OUTPUTS = ("self_attn.o_proj", "self_attn.out_proj")
_MOST_LAYERS = 2000  # more are a slip, and would take minutes to build


@dataclass(frozen=True, slots=True)
class Outline:
    """Counts of a model's parts. Those of a mixture's experts: all of them in memory, and of those
    a token goes through.

    Attributes:
        settings: the configuration of the model that is trained, defaults filled in.
        parameters: all of them, tied weights once.
        matrices: weights of the decoder's matrices.
        active: those of them that one token is multiplied with.
        feed_forward: the part of `active` outside attention and what stands in its place.
        attended: heads times head size, summed over the layers with attention.
        cached: numbers that the keys and values of one token take in all layers. States of
            convolutions and state spaces, whose size does not grow with the sequence, are not
            counted.
        adapted: inputs plus outputs, summed over the layers that a LoRA adapter is put on.
    """

    settings: Mapping[str, Any] = field(compare=False)
    parameters: int
    matrices: int
    active: int
    feed_forward: int
    attended: int
    cached: int
    adapted: int


def outline(settings: Mapping[str, Any], *, file: Path | None = None) -> Outline:
    """The parts of the model that a config.json describes; of one that also sees or hears those of
    its text part.

    Raises UserError, naming `file`, if the type is not supported or no model can be made of the
    configuration.
    """
    where = Path(CONFIG) if file is None else file
    row = model_type(str(settings.get("model_type")), file=file)
    _refuse_too_deep(settings, file)
    if isinstance(settings.get("text_config"), Mapping):
        _refuse_too_deep(settings["text_config"], file)
    with (
        quiet(),
        one_line(
            "no model can be made of this configuration",
            file=where,
            hint="Copy or download it again.",
        ),
    ):
        config = _configuration(settings)
        config = text_config(config, where) if is_whole(settings) else config
        return _counted(config, _skeleton(config), row.lora)


def _configuration(settings: Mapping[str, Any]) -> Any:
    """As transformers reads it from a file, which is more than it reads from a mapping: infinities,
    say."""
    from transformers import AutoConfig

    with TemporaryDirectory() as folder:
        (Path(folder) / CONFIG).write_text(json.dumps(settings))
        return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


def _skeleton(config: Any) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(
            config, trust_remote_code=False, attn_implementation="eager"
        )


def _refuse_too_deep(settings: Mapping[str, Any], file: Path | None) -> None:
    layers = settings.get("num_hidden_layers")
    if isinstance(layers, int) and layers > _MOST_LAYERS:
        raise UserError(
            f"a model of {layers:,} layers is not planned.", file=file, field="num_hidden_layers"
        )


def _counted(config: Any, model: Any, lora: tuple[str, ...]) -> Outline:
    from torch import nn

    matrices = active = feed_forward = attended = cached = adapted = 0
    for name, module in model.named_modules():
        if module is model.get_output_embeddings():
            continue
        all_, used = _products(module, config)
        matrices, active = matrices + all_, active + used
        feed_forward += 0 if _MIXERS & set(name.split(".")) else used
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in lora:
            adapted += module.in_features + module.out_features
        if name.endswith(_OUTPUTS):
            attended += module.in_features
        if name.endswith("self_attn"):
            cached += _cached(module)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    settings = config.to_dict()
    return Outline(settings, parameters, matrices, active, feed_forward, attended, cached, adapted)


def _products(module: Any, config: Any) -> tuple[int, int]:
    """Weights that a module itself multiplies with: all of them, and those that one token needs."""
    from torch import nn

    if isinstance(module, nn.Embedding | nn.Conv1d):
        return 0, 0
    own = list(module.parameters(recurse=False))
    experts = [weight for weight in own if weight.ndim == 3]
    if experts:
        stored = sum(weight.numel() for weight in experts)
        return stored, sum(
            weight.numel() // len(weight) * min(_chosen(config), len(weight)) for weight in experts
        )
    dense = sum(weight.numel() for weight in own if weight.ndim == 2)
    return dense, dense


def _chosen(config: Any) -> int:
    """How many experts a token goes through."""
    return int(
        next(
            filter(
                None,
                (getattr(config, key, None) for key in ("num_experts_per_tok", "top_k_experts")),
            ),
            1,
        )
    )


def _cached(attention: Any) -> int:
    """Numbers that one layer keeps of a token; 0 where it reads those of another layer."""
    sizes = {name: module.out_features for name, module in _linears(attention)}
    if "kv_a_proj_with_mqa" in sizes:  # the latent that keys and values are made of
        return sizes["kv_a_proj_with_mqa"]
    if "qkv_proj" in sizes:
        return sizes["qkv_proj"] - attention.o_proj.in_features
    keys = sizes.get("k_proj", 0)
    return keys + sizes.get("v_proj", keys)


def _linears(module: Any) -> Iterator[tuple[str, Any]]:
    from torch import nn

    return (
        (name, child) for name, child in module.named_children() if isinstance(child, nn.Linear)
    )
