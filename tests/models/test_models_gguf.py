"""A GGUF file says what the model says: read back by transformers, which has a reader of its
own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, normalizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from burnish.errors import UserError
from burnish.models.gguf_file import _rope_factors, _splitter, export_gguf
from burnish.models.tiny import tiny_tokenizer

SHAPE = {
    "vocab_size": 272, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
}  # fmt: skip
MODELS = {
    "llama": (LlamaForCausalLM, LlamaConfig, {"tie_word_embeddings": False}),
    "tied": (LlamaForCausalLM, LlamaConfig, {"tie_word_embeddings": True, "rope_theta": 50000.0}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {"tie_word_embeddings": True}),
    # transformers reads a width of 128 whatever the file says of it
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {"head_dim": 128, "tie_word_embeddings": False}),
}


def saved(name: str, folder: Path, **changes: object) -> torch.nn.Module:
    kind, config, options = MODELS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind(config(**{**SHAPE, **options, **changes})).float().eval()
        with torch.no_grad():
            for parameter in model.parameters():  # biases and norms that say something
                parameter.add_(torch.randn_like(parameter), alpha=0.05)
    model.save_pretrained(folder)
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(folder)
    return model


@pytest.mark.parametrize(
    ("name", "dtype", "near"),
    [("llama", "float32", 1e-5), ("llama", "float16", 2e-2), ("tied", "float16", 2e-2),
     ("qwen2", "float16", 2e-2), ("qwen3", "bfloat16", 5e-2)],
)  # fmt: skip
def test_the_file_answers_as_the_model(name: str, dtype: str, near: float, tmp_path: Path):
    model = saved(name, tmp_path / "model")
    (tmp_path / "out").mkdir()
    export_gguf(tmp_path / "model", tmp_path / "out" / "m.gguf", name="mine", dtype=dtype)
    back = AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", gguf_file="m.gguf", dtype=torch.float32
    )
    tokens = torch.tensor([[258, *range(30, 60), 256]])
    with torch.no_grad():
        expected, found = model(tokens).logits, back(tokens).logits
    assert float(expected.std()) > 0.3  # a model that says nothing would be equal to anything
    torch.testing.assert_close(found, expected, atol=near, rtol=near)


def test_tokens_and_chat_template_come_back(tmp_path: Path):
    saved("llama", tmp_path / "model")
    (tmp_path / "out").mkdir()
    export_gguf(tmp_path / "model", tmp_path / "out" / "m.gguf", name="mine")
    from gguf import GGUFReader

    fields = GGUFReader(tmp_path / "out" / "m.gguf").fields
    assert fields["tokenizer.chat_template"].contents() == tiny_tokenizer().chat_template
    assert fields["tokenizer.ggml.eos_token_id"].contents() == 256
    kinds = fields["tokenizer.ggml.token_type"].contents()
    assert kinds[255:260] == [1, 3, 3, 3, 5]
    assert len(fields["tokenizer.ggml.tokens"].contents()) == 272


def test_long_waves_are_stretched_as_transformers_stretches_them():
    rope = {
        "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
    }  # fmt: skip
    config = LlamaConfig(**{**SHAPE, "head_dim": 128}, rope_parameters=rope)
    frequencies, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = 1.0 / 500000.0 ** (np.arange(0, 128, 2) / 128)
    factors = _rope_factors(config.to_dict())
    assert factors is not None
    np.testing.assert_allclose(plain / factors, frequencies.numpy(), rtol=1e-5)
    assert factors.max() == pytest.approx(8.0)
    assert factors.min() == 1.0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "gemma3_text"}, "models of type gemma3_text are not written"),
        ({"mlp_bias": True}, "a model with mlp_bias"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "of type yarn"),
    ],
)
def test_what_would_be_read_otherwise_is_refused(
    changes: dict[str, object], said: str, tmp_path: Path
):
    saved("llama", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(UserError, match=rf"{said}.*convert_hf_to_gguf"):
        export_gguf(tmp_path, tmp_path / "m.gguf", name="mine")


def test_other_tokenizers_and_weights_too_large_are_refused(tmp_path: Path):
    model = saved("llama", tmp_path)
    with torch.no_grad():
        next(model.parameters())[0, 0] = 1e6
    model.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"too large for float16.*bfloat16"):
        export_gguf(tmp_path, tmp_path / "m.gguf", name="mine")
    core = json.loads((tmp_path / "tokenizer.json").read_text())
    core["pre_tokenizer"] = {"type": "Whitespace"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(core))
    with pytest.raises(UserError, match="splits texts in a way"):
        export_gguf(tmp_path, tmp_path / "m.gguf", name="mine")


LLAMA = (
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
SPLIT = {"type": "Split", "pattern": {"Regex": LLAMA}, "behavior": "Isolated", "invert": False}
DIGITS = {"type": "Digits", "individual_digits": True}
CORE = {"normalizer": None, "model": {"type": "BPE", "byte_fallback": False, "merges": []}}


@pytest.mark.parametrize(
    ("parts", "normalizer", "name"),
    [
        ([SPLIT, BYTES], None, "llama-bpe"),
        ([SPLIT, BYTES], {"type": "NFC"}, "llama-bpe"),
        ([DIGITS, {**BYTES, "use_regex": True}], None, "smollm"),
        ([BYTES], None, "gpt-2"),
        ([SPLIT, {**BYTES, "use_regex": True}], None, "splits texts in a way"),
        ([{**SPLIT, "behavior": "Removed"}, BYTES], None, "splits texts in a way"),
        ([{**SPLIT, "invert": True}, BYTES], None, "splits texts in a way"),
        ([DIGITS, BYTES], None, "splits texts in a way"),
        ([SPLIT, {**BYTES, "add_prefix_space": True}], None, r"add_prefix_space.*llama\.cpp's would"),  # noqa: E501
        ([BYTES], {"type": "Lowercase"}, r"normalizes texts \(Lowercase\).*convert_hf_to_gguf"),
        ([BYTES], {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Strip"}]}, "Strip"),  # noqa: E501
    ],
)  # fmt: skip
def test_splitters_go_by_llama_cpps_name_or_are_refused(
    parts: list[dict[str, object]], normalizer: object, name: str, tmp_path: Path
):
    pre = {"type": "Sequence", "pretokenizers": parts}
    core = {**CORE, "normalizer": normalizer, "pre_tokenizer": pre if len(parts) > 1 else parts[0]}
    if name in ("llama-bpe", "smollm", "gpt-2"):
        assert _splitter(core, tmp_path) == name
        return
    with pytest.raises(UserError, match=name):
        _splitter(core, tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda core: setattr(core, "normalizer", normalizers.Lowercase()), "Lowercase"),
        (lambda core: setattr(core.pre_tokenizer, "add_prefix_space", True), "add_prefix_space"),
    ],
)
def test_a_tokenizer_that_changes_texts_is_refused(
    change: Callable[[Tokenizer], None], said: str, tmp_path: Path
):
    saved("llama", tmp_path)
    tokenizer = tiny_tokenizer()
    change(tokenizer.backend_tokenizer)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=said):
        export_gguf(tmp_path, tmp_path / "m.gguf", name="mine")


@pytest.mark.real
@pytest.mark.slow
def test_the_tokenizer_of_a_real_model_comes_back(smollm, tmp_path: Path):
    from burnish.models.sources import resolve

    folder = resolve("smollm2-135m").folder
    assert folder is not None
    export_gguf(folder, tmp_path / "m.gguf", name="smollm2")
    back = AutoTokenizer.from_pretrained(tmp_path, gguf_file="m.gguf")
    for text in ("The café — naïve 東京 🙂 says:\n\n  hello 12345.", "don't I'll\t\tx = y[0]"):
        assert back(text)["input_ids"] == smollm.tokenizer(text)["input_ids"]
