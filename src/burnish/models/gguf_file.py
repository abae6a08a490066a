"""A model as one GGUF file, for llama.cpp and what is built on it (Ollama, LM Studio).

Llama-shaped models with a byte-level BPE tokenizer are written: what another program would read
otherwise (other shapes, tokenizers whose splitting it does not know) is refused by name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from burnish.errors import UserError
from burnish.models.loading.folder import read_config, weight_files
from burnish.models.loading.vocabulary import load_tokenizer

_ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""Model types, and what llama.cpp calls them."""
_PERMUTED = "llama"  # whose queries and keys llama.cpp turns in pairs of neighbours
_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5  # kinds of tokens
_HINT = "Export it merged, and convert that folder with llama.cpp's convert_hf_to_gguf.py."
_SPLITTERS = {
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+": (  # noqa: E501
        "llama-bpe"
    ),
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+": (  # noqa: E501
        "qwen2"
    ),
}
"""How texts are split before they are merged, and llama.cpp's names for it."""


def export_gguf(model: Path, file: Path, *, name: str, dtype: str = "float16") -> None:
    """Write the model in a folder, with its tokenizer and chat template, to one file; matrices as
    `dtype`, vectors in float32.

    Raises UserError for a model or a tokenizer that would be read otherwise.
    """
    import gguf

    config = _supported(read_config(model), model)
    tokenizer = load_tokenizer(model)
    architecture = _ARCHITECTURES[config["model_type"]]
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_name(name)
    _write_shape(writer, config)
    _write_vocabulary(writer, tokenizer, config["vocab_size"], model)
    numbers = {value: key for key, value in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(numbers[architecture], config["num_hidden_layers"])
    kinds = {"float16": gguf.LlamaFileType.MOSTLY_F16, "float32": gguf.LlamaFileType.ALL_F32,
             "bfloat16": gguf.LlamaFileType.MOSTLY_BF16}  # fmt: skip
    writer.add_file_type(kinds[dtype])
    for weight, tensor in _weights(model):
        stored = names.get_name(weight, try_suffixes=(".weight", ".bias"))
        if stored is None:
            raise UserError(f"GGUF has no place for the weight {weight}.", file=model, hint=_HINT)
        _write_tensor(writer, stored, _turned(weight, tensor, config), dtype)
    factors = _rope_factors(config)
    if factors is not None:
        writer.add_tensor("rope_freqs.weight", factors)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _supported(config: dict[str, Any], model: Path) -> dict[str, Any]:
    kind = config["model_type"]
    if kind not in _ARCHITECTURES:
        known = ", ".join(_ARCHITECTURES)
        raise UserError(
            f"models of type {kind} are not written as GGUF; these are: {known}.", file=model,
            hint=_HINT,
        )  # fmt: skip
    lacking = [key for key in ("mlp_bias", "sliding_window") if config.get(key)]
    if kind == "llama" and config.get("attention_bias"):
        lacking.append("attention_bias")
    if kind.startswith("qwen") and not config.get("use_sliding_window"):
        lacking = [key for key in lacking if key != "sliding_window"]
    if lacking:
        raise UserError(
            f"a model with {lacking[0]} is not written as GGUF.", file=model, hint=_HINT
        )
    rope = _rope(config).get("rope_type", "default")
    if rope not in ("default", "llama3"):
        raise UserError(
            f"a rotary embedding of type {rope} is not written as GGUF.", file=model, hint=_HINT
        )
    return config


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    """The settings of the rotary embedding, in today's form or in that of older files."""
    found = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    found.setdefault("rope_theta", config.get("rope_theta", 10000.0))
    found["rope_type"] = found.get("rope_type") or found.get("type") or "default"
    return found


def _head_dim(config: dict[str, Any]) -> int:
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


def _write_shape(writer: Any, config: dict[str, Any]) -> None:
    heads = config["num_attention_heads"]
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(float(_rope(config)["rope_theta"]))
    writer.add_rope_dimension_count(_head_dim(config))
    writer.add_key_length(_head_dim(config))
    writer.add_value_length(_head_dim(config))
    writer.add_vocab_size(config["vocab_size"])


def _write_vocabulary(writer: Any, tokenizer: Any, size: int, model: Path) -> None:
    """Tokens up to the rows of the embedding, merges, the tokens that begin and end, the chat
    template."""
    core = json.loads(tokenizer.backend_tokenizer.to_str())
    pre = _splitter(core, model)
    texts = {number: text for text, number in tokenizer.get_vocab().items()}
    added = tokenizer.added_tokens_decoder
    tokens, kinds = [], []
    for number in range(size):
        tokens.append(texts.get(number, f"[PAD{number}]"))
        kind = _NORMAL if number in texts else _UNUSED
        if number in added:
            kind = _CONTROL if added[number].special else _USER_DEFINED
        kinds.append(kind)
    merges = [
        merge if isinstance(merge, str) else " ".join(merge) for merge in core["model"]["merges"]
    ]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    if merges:
        writer.add_token_merges(merges)
    for key, write in (
        ("bos_token_id", writer.add_bos_token_id), ("eos_token_id", writer.add_eos_token_id),
        ("pad_token_id", writer.add_pad_token_id),
    ):  # fmt: skip
        number = getattr(tokenizer, key)
        if number is not None:
            write(number)
    begins = tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
    writer.add_add_bos_token(tokenizer.bos_token_id is not None and begins)
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)


def _splitter(core: dict[str, Any], model: Path) -> str:
    """llama.cpp's name for how this tokenizer splits a text. Raises UserError where it has none, or
    where a text is changed before: llama.cpp takes it as it is."""
    pre = core.get("pre_tokenizer") or {}
    parts = pre.get("pretokenizers", [pre])
    changed = _changes(core.get("normalizer"), parts)
    if changed:
        raise UserError(
            f"a tokenizer that {changed} is not written as GGUF: llama.cpp's would not do it.",
            file=model, hint=_HINT,
        )  # fmt: skip
    kinds = [part.get("type") for part in parts]
    by_words = parts[-1].get("use_regex", True)  # GPT-2's splitting, within each part
    if core["model"].get("type") == "BPE" and not core["model"].get("byte_fallback"):
        if kinds == ["Split", "ByteLevel"] and not by_words and _isolates(parts[0]):
            return _SPLITTERS[parts[0]["pattern"]["Regex"]]
        if kinds == ["Digits", "ByteLevel"] and by_words and parts[0].get("individual_digits"):
            return "smollm"
        if kinds == ["ByteLevel"] and (by_words or not core["model"]["merges"]):
            return "gpt-2"
    raise UserError(
        "this tokenizer splits texts in a way that is not written as GGUF.", file=model, hint=_HINT
    )


def _changes(normalizer: dict[str, Any] | None, parts: list[dict[str, Any]]) -> str | None:
    """What a tokenizer does to a text before it is split. Qwen's NFC counts as nothing: every GGUF
    of Qwen goes without it, and it changes no text that is written as usual."""
    steps = [] if normalizer is None else normalizer.get("normalizers", [normalizer])
    others = [str(step.get("type")) for step in steps if step.get("type") != "NFC"]
    if others:
        return f"normalizes texts ({', '.join(others)})"
    if any(part.get("add_prefix_space") for part in parts):
        return "puts a space before each text (add_prefix_space)"
    return None


def _isolates(split: dict[str, Any]) -> bool:
    """Whether what a known pattern finds are the parts of a text, none left out."""
    known = split.get("pattern", {}).get("Regex") in _SPLITTERS
    return known and split.get("behavior") == "Isolated" and not split.get("invert")


def _weights(model: Path) -> Iterator[tuple[str, Tensor]]:
    for path in weight_files(model):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  (it is no mapping)
                yield name, file.get_tensor(name)


def _turned(name: str, tensor: Tensor, config: dict[str, Any]) -> Tensor:
    """Queries and keys of Llama's own shape, whose halves transformers turns against each other,
    with neighbours in place of halves."""
    if _ARCHITECTURES[config["model_type"]] != _PERMUTED:
        return tensor
    heads = config["num_attention_heads"]
    if ".k_proj." in name:
        heads = config.get("num_key_value_heads") or heads
    elif ".q_proj." not in name:
        return tensor
    halves = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *tensor.shape[1:])
    return halves.swapaxes(1, 2).reshape(tensor.shape)


def _write_tensor(writer: Any, name: str, tensor: Tensor, dtype: str) -> None:
    import gguf

    wide = tensor.to(torch.float32).contiguous().numpy()
    if tensor.ndim == 1 or dtype == "float32":
        writer.add_tensor(name, wide)
    elif dtype == "float16":
        with np.errstate(over="ignore"):
            narrow = wide.astype(np.float16)
        if not np.isfinite(narrow).all():
            raise UserError(
                f"the weight {name} is too large for float16.", field="--dtype",
                hint="Give --dtype bfloat16 or float32.",
            )  # fmt: skip
        writer.add_tensor(name, narrow)
    else:
        kind = gguf.GGMLQuantizationType.BF16
        writer.add_tensor(name, gguf.quants.quantize(wide, kind), raw_dtype=kind)


def _rope_factors(config: dict[str, Any]) -> np.ndarray | None:
    """What each frequency is divided by (Llama 3.1: long waves are stretched, short ones stay);
    None where none is."""
    rope = _rope(config)
    if rope["rope_type"] != "llama3":
        return None
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    width, old = _head_dim(config), rope["original_max_position_embeddings"]
    factors = []
    for place in range(0, width, 2):
        length = 2 * math.pi * rope["rope_theta"] ** (place / width)
        share = min(1.0, max(0.0, (old / length - low) / (high - low)))
        factors.append(1.0 / ((1.0 - share) / rope["factor"] + share))
    return np.array(factors, dtype=np.float32)
