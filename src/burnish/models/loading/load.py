"""A model reference -> a transformers model in memory whose every weight is the stored one, and its
tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from burnish.models import sources
from burnish.models.loading.adapters import merge_adapter
from burnish.models.loading.folder import (
    CONFIG,
    StoredTensor,
    own_code,
    own_code_error,
    read_config,
    read_json_object,
    stored_tensors,
)
from burnish.models.loading.guard import one_line, quiet
from burnish.models.loading.quantized import refuse_whole_numbers, widening
from burnish.models.loading.text_part import is_whole, text_config, text_weights
from burnish.models.loading.vocabulary import load_tokenizer, refuse_unfitting_vocabulary
from burnish.models.loading.weights import (
    refuse_larger_than_stored,
    refuse_misshapen,
    refuse_misshapen_ends,
    refuse_missing,
    refuse_more_than_stored,
    refuse_not_finite,
    refuse_unexpected,
)
from burnish.models.narrow import hold_narrow
from burnish.models.sources import ModelSource
from burnish.models.supported import SUPPORTED, model_type
from burnish.models.tiny import tiny_model, tiny_tokenizer

_STORED = {"BF16": torch.bfloat16, "F16": torch.float16}
_GENERATION = "generation_config.json"
_DAMAGED = "Copy or download the model again."


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A causal language model on the CPU, with transformers' own attention, its tokenizer, whether
    its weights went through a quantised file, the precision that they are stored in (float32 where
    they are of several), and whether its matrices were left in that."""

    model: Any
    tokenizer: Any
    quantised: bool
    stored: torch.dtype = torch.float32
    narrow: bool = False


def load_model(
    reference: str,
    *,
    dtype: torch.dtype = torch.float32,
    scalar_head: bool = False,
    adapters: Sequence[Path] = (),
    narrow: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> LoadedModel:
    """Load a model reference (see `burnish.models.sources.resolve`), its adapters merged and then
    those in the folders `adapters`, and check that it is whole.

    With `scalar_head` the folder is a reward model's: a score takes the place of the language-model
    head. With `narrow` the matrices of a model that is stored in bfloat16 are left so, unless an
    adapter is to be merged into them (`burnish.models.narrow`). Raises UserError, naming file and
    weight and what to do, for whatever is missing, left over, misshapen, not finite, quantised
    beyond what can be undone, or needs code of its own; no code from a folder is ever run, and no
    question is asked.
    """
    source = sources.with_adapters(sources.resolve(reference, say=say), adapters)
    with quiet():
        blueprint = None if source.folder is None else _blueprint(source.folder)
        stored = torch.float32 if blueprint is None else blueprint.stored
        narrow = narrow and blueprint is not None and blueprint.loads_narrow(source.adapters)
        tokenizer = (
            tiny_tokenizer() if source.tokenizer is None else load_tokenizer(source.tokenizer)
        )
        model = (
            cast(Any, tiny_model()).to(dtype)
            if blueprint is None
            else _whole_model(blueprint, stored if narrow else dtype, scalar_head, say)
        )
        for adapter in source.adapters:
            model = merge_adapter(model, adapter, say=say)
        _settle_tying(model, source, say)
        refuse_unfitting_vocabulary(model, tokenizer, source.tokenizer or Path(reference), say)
        if narrow:
            hold_narrow(model)
    widened = blueprint is not None and blueprint.quantization is not None
    quantised = widened or (source.card is not None and source.card.quantised)
    return LoadedModel(model.eval(), tokenizer, quantised, stored, narrow)


@dataclass(frozen=True, slots=True)
class _Blueprint:
    """What a folder says of its model: the headers of its weights, the model without memory for
    them, and the method and transformers' settings by which quantised weights are widened (None:
    they are not quantised); `whole` where only the text part of what it describes is loaded."""

    folder: Path
    tensors: Mapping[str, StoredTensor]
    skeleton: Any
    quantization: tuple[str, Any] | None
    whole: bool

    @property
    def stored(self) -> torch.dtype:
        """What all its weights are stored in; float32 where that is not one precision, or where
        they are widened."""
        kinds = {tensor.dtype for tensor in self.tensors.values()}
        one = kinds.pop() if len(kinds) == 1 and self.quantization is None else ""
        return _STORED.get(one, torch.float32)

    def loads_narrow(self, adapters: Sequence[Path]) -> bool:
        """Whether nothing is lost where it is loaded in bfloat16: a constant that its code makes in
        the precision of the weights (the scale of Gemma's embedding) would be rounded too, and so
        would a merged adapter."""
        if adapters or self.stored != torch.bfloat16:
            return False
        with torch.device("meta"):
            made = type(self.skeleton)._from_config(self.skeleton.config, dtype=torch.bfloat16)
        return all(buffer.dtype != torch.bfloat16 for buffer in made.buffers())


def _blueprint(folder: Path) -> _Blueprint:
    settings = read_config(folder)
    kind, code = settings["model_type"], own_code(settings)
    if kind not in SUPPORTED and code:
        raise own_code_error(folder / CONFIG, code)
    model_type(kind, file=folder / CONFIG)
    quantization = widening(settings, folder)
    tensors = stored_tensors(folder)
    if quantization is None:
        refuse_whole_numbers(tensors)
    whole = is_whole(settings)
    return _Blueprint(folder, tensors, _skeleton(folder, tensors, whole), quantization, whole)


def _whole_model(
    blueprint: _Blueprint, dtype: torch.dtype, scalar_head: bool, say: Callable[[str], None]
) -> Any:
    """The model with the weights of its folder, every one of them in its place, and finite."""
    folder, tensors = blueprint.folder, blueprint.tensors
    if blueprint.quantization is not None:
        say(
            f"{folder}: its weights are quantised ({blueprint.quantization[0]}); they are widened"
            " and trained in full"
        )
    weights = _read(tensors)
    if blueprint.whole:
        weights = text_weights(weights, folder, say)
    model, info = _filled(blueprint, weights, dtype)
    head, score = ({"lm_head.weight"}, {"score.weight"}) if scalar_head else (set(), set())
    refuse_misshapen(info["mismatched_keys"], folder)
    refuse_missing(info["missing_keys"] - head, tensors, folder)
    refuse_unexpected(info["unexpected_keys"] - score, folder)
    refuse_not_finite(model, weights, folder)
    _read_generation_config(model, folder)
    return model


def _skeleton(folder: Path, tensors: Mapping[str, StoredTensor], whole: bool) -> Any:
    """The model that config.json describes, or of a `whole` one its text part, without memory for
    its weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with one_line(
        "no model can be made of this configuration", file=folder / CONFIG, hint=_DAMAGED
    ):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        refuse_larger_than_stored(config, tensors, folder)
        config = text_config(config, folder / CONFIG) if whole else config
        with torch.device("meta"):
            skeleton = AutoModelForCausalLM.from_config(
                config, trust_remote_code=False, attn_implementation="eager"
            )
    refuse_more_than_stored(skeleton, tensors, folder)
    refuse_misshapen_ends(skeleton, tensors, folder)
    return skeleton


def _filled(
    blueprint: _Blueprint, weights: Mapping[str, Tensor], dtype: torch.dtype
) -> tuple[Any, dict[str, Any]]:
    """The model with its weights, and what transformers found missing, left over and misshapen."""
    widened = blueprint.quantization
    options = {} if widened is None else {"quantization_config": widened[1]}
    with one_line(
        "the weights cannot be loaded into the model", file=blueprint.folder, hint=_DAMAGED
    ):
        return type(blueprint.skeleton).from_pretrained(
            None,
            config=blueprint.skeleton.config,
            state_dict=dict(weights),
            dtype=dtype,
            attn_implementation="eager",
            ignore_mismatched_sizes=True,  # told in `refuse_misshapen`, with both shapes
            output_loading_info=True,
            **options,
        )


def _read(tensors: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
    """The stored weights, mapped into memory and not read before they are used."""
    from safetensors.torch import load_file

    weights: dict[str, Tensor] = {}
    for file in sorted({tensor.file for tensor in tensors.values()}):
        with one_line("this file is no whole safetensors file", file=file, hint=_DAMAGED):
            weights |= load_file(file)
    return weights


def _read_generation_config(model: Any, folder: Path) -> None:
    from transformers import GenerationConfig

    file = folder / _GENERATION
    if file.exists():
        read_json_object(file)
        with one_line("this file cannot be used", file=file, hint="Mend or remove it."):
            model.generation_config = GenerationConfig.from_pretrained(
                folder, local_files_only=True
            )


def _settle_tying(model: Any, source: ModelSource, say: Callable[[str], None]) -> None:
    """Where the head is not the embedding, whatever config.json says, it is trained and saved as a
    weight of its own."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if (
        head is None
        or head.weight is embedding.weight
        or not getattr(model.config, "tie_word_embeddings", False)
    ):
        return
    model.config.tie_word_embeddings = False
    say(
        f"{source.folder}: embedding and head are different weights, so they are not tied"
        " (tie_word_embeddings)"
    )
