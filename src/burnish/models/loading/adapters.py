"""Adapters that stand in a model's folder, in PEFT's layout: merged into the weights, by PEFT,
before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from burnish.errors import UserError
from burnish.models.loading.folder import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    read_header,
    read_json_object,
    refuse_adapter_pickle,
)
from burnish.models.loading.guard import one_line
from burnish.models.loading.weights import refuse_not_finite

_TASKS = (None, "CAUSAL_LM")
_EMBEDDINGS = ("embed_tokens", "lm_head")
_ALONE = "Train from its base model, or merge it where it was made."
_AGREE = (
    1e-3  # of the largest logit: how far apart a merged and an unmerged adapter in float32 may be
)


def adapter_settings(folder: Path) -> dict[str, Any]:
    """adapter_config.json. Raises UserError if it does not name its kind, or is no adapter of a
    language model."""
    settings = read_json_object(folder / ADAPTER_CONFIG)
    if not isinstance(settings.get("peft_type"), str):
        raise UserError(
            "it does not say which kind of adapter this is (peft_type).",
            file=folder / ADAPTER_CONFIG,
        )
    if settings.get("task_type") not in _TASKS:
        raise UserError(
            f"this adapter is for the task {settings['task_type']}, not for a language model"
            " (CAUSAL_LM).",
            file=folder / ADAPTER_CONFIG,
            hint="Name an adapter of a language model.",
        )
    return settings


def merge_adapter(model: Any, folder: Path, *, say: Callable[[str], None] = lambda _: None) -> Any:
    """The model with the adapter in `folder` merged into its weights, which then give the adapter's
    own logits.

    Raises UserError where the adapter is damaged, was made for another model, is a pickle, or is of
    a kind that no weights can stand for (prompts, prefixes, adapters that look at the input).
    """
    settings = adapter_settings(folder)
    kind = settings["peft_type"]
    refuse_adapter_pickle(folder)
    shapes = {tensor.name: tensor.shape for tensor in read_header(folder / ADAPTER_WEIGHTS)}
    _make_room(model, shapes)
    if not settings.get("ensure_weight_tying") and any(
        ".lora_" in n and _touches_embedding(n) for n in shapes
    ):
        _untie(model)
    probe = _probe(model)
    adapted = _attached(model, folder, settings)
    _refuse_other_names(adapted, shapes, folder, settings)
    refuse_not_finite(adapted, {}, folder / ADAPTER_WEIGHTS)
    with one_line(
        f"adapters of the kind {kind} cannot be merged into the weights", file=folder, hint=_ALONE
    ):
        before = _logits(adapted, probe)
        merged = adapted.merge_and_unload(safe_merge=True)
        after = _logits(merged, probe)
    if not torch.allclose(before, after, rtol=_AGREE, atol=_tolerance(before)):
        raise UserError(
            f"this adapter ({kind}) cannot be merged into the weights: the merged model answers"
            " otherwise.",
            file=folder,
            hint=_ALONE,
        )
    _forget_adapters(merged)
    say(f"{folder}: its adapter ({kind}{_rank(settings)}) is merged into the weights")
    return merged


def _attached(model: Any, folder: Path, settings: dict[str, Any]) -> Any:
    from peft import PeftConfig, PeftModel

    base = settings.get("base_model_name_or_path")
    with one_line("this adapter cannot be loaded", file=folder, hint="Copy or download it again."):
        config = PeftConfig.from_pretrained(str(folder))
    if config.is_prompt_learning or config.is_adaption_prompt:
        raise UserError(
            f"adapters of the kind {settings['peft_type']} cannot be merged into the weights.",
            file=folder,
            hint=_ALONE,
        )
    with one_line(
        "this adapter does not fit the model", file=folder, hint=f"It names {base!r} as its base."
    ):
        return PeftModel.from_pretrained(
            model, str(folder), config=config, torch_device="cpu"
        ).eval()


def _refuse_other_names(
    adapted: Any, shapes: dict[str, tuple[int, ...]], folder: Path, settings: dict[str, Any]
) -> None:
    """PEFT leaves out what it has no place for, and what is missing stays as it was made: neither
    is the adapter."""
    from peft import get_peft_model_state_dict

    needed = get_peft_model_state_dict(adapted, save_embedding_layers=False).keys()
    missing = sorted(needed - shapes.keys())
    extra = sorted(n for n in shapes.keys() - needed if not _touches_embedding(n))
    if missing or extra:
        problem = f"it lacks {missing[0]}" if missing else f"the model has no place for {extra[0]}"
        raise UserError(
            f"this adapter was made for another model: {problem}.",
            file=folder / ADAPTER_WEIGHTS,
            hint=f"It names {settings.get('base_model_name_or_path')!r} as its base.",
        )


def _make_room(model: Any, shapes: dict[str, tuple[int, ...]]) -> None:
    """An adapter that was trained with added tokens stores the whole embedding: the model grows to
    its rows first."""
    rows = {
        shape[0]
        for name, shape in shapes.items()
        if name.endswith(("embed_tokens.weight", "lm_head.weight"))
    }
    if len(rows) == 1 and (size := rows.pop()) != model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(size, mean_resizing=False)


def _touches_embedding(name: str) -> bool:
    return any(part in name for part in _EMBEDDINGS)


def _untie(model: Any) -> None:
    """Give the head a weight of its own: an adapter on it, or on the embedding, changes one of the
    two."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is not None and head.weight is embedding.weight:
        head.weight = nn.Parameter(
            head.weight.detach().clone(), requires_grad=head.weight.requires_grad
        )
        model.config.tie_word_embeddings = False


def _probe(model: Any) -> Tensor:
    rows = int(model.get_input_embeddings().weight.shape[0])
    return torch.linspace(0, rows - 1, 12, device=model.device).round().long()[None]


@torch.no_grad()
def _logits(model: Any, tokens: Tensor) -> Tensor:
    return model(input_ids=tokens, use_cache=False).logits.float()


def _tolerance(logits: Tensor) -> float:
    return _AGREE * float(logits.abs().max())


def _forget_adapters(model: Any) -> None:
    """PEFT's notes on the model would be taken for an adapter that is still there; and its weights
    can be trained."""
    if hasattr(model, "peft_config"):
        del model.peft_config
    model._hf_peft_config_loaded = False
    model.requires_grad_(True)


def _rank(settings: dict[str, Any]) -> str:
    return f", rank {settings['r']}" if isinstance(settings.get("r"), int) else ""
