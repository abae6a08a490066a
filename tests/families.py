"""Tiny random models, one for each row of the table of supported types, in which every feature of
the family shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from burnish.models import packed_attention
from burnish.models.backbone import Backbone
from burnish.models.tiny import tiny_tokenizer

WINDOW = 5  # shorter than the sequences of the tests
SHAPE: dict[str, Any] = dict(
    vocab_size=264,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    max_position_embeddings=256,
    eos_token_id=256,
    pad_token_id=257,
    bos_token_id=None,
    tie_word_embeddings=False,
)
LOCAL: dict[str, Any] = dict(
    sliding_window=WINDOW, layer_types=["sliding_attention", "full_attention"]
)
EXPERTS: dict[str, Any] = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24)
LATENT: dict[str, Any] = dict(
    num_key_value_heads=4,
    head_dim=4,
    n_routed_experts=4,
    num_experts_per_tok=2,
    n_group=2,
    topk_group=1,
    moe_intermediate_size=24,
    q_lora_rank=16,
    kv_lora_rank=16,
    qk_rope_head_dim=4,
    qk_nope_head_dim=8,
    v_head_dim=16,
    first_k_dense_replace=1,
)

LINEAR: dict[str, Any] = dict(
    linear_num_key_heads=2,
    linear_num_value_heads=4,
    linear_key_head_dim=8,
    linear_value_head_dim=8,
    layer_types=["linear_attention", "full_attention"],
)

SETTINGS: dict[str, dict[str, Any]] = {
    "llama": dict(attention_bias=True, mlp_bias=True),
    "mistral": dict(sliding_window=WINDOW),
    "ministral": LOCAL,
    "ministral3": dict(sliding_window=WINDOW),
    "mixtral": dict(num_local_experts=4, num_experts_per_tok=2, sliding_window=WINDOW),
    "qwen2": dict(use_sliding_window=True, max_window_layers=1, sliding_window=WINDOW),
    "qwen2_moe": dict(EXPERTS, shared_expert_intermediate_size=24, mlp_only_layers=[0]),
    "qwen3": dict(use_sliding_window=True, max_window_layers=1, sliding_window=WINDOW),
    "qwen3_moe": dict(EXPERTS, mlp_only_layers=[0]),
    "gemma": dict(tie_word_embeddings=True),
    "gemma2": dict(
        LOCAL,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=3.0,
        query_pre_attn_scalar=12,
        tie_word_embeddings=True,
    ),
    "gemma3_text": dict(LOCAL, tie_word_embeddings=True, query_pre_attn_scalar=12),
    "phi3": dict(sliding_window=WINDOW, partial_rotary_factor=0.5),
    "smollm3": dict(
        no_rope_layers=[1, 0],
        use_sliding_window=True,
        sliding_window=WINDOW,
        tie_word_embeddings=True,
    ),
    "olmo2": {},
    "olmo3": LOCAL,
    "granite": dict(
        logits_scaling=3.0,
        embedding_multiplier=2.0,
        residual_multiplier=0.5,
        attention_multiplier=0.2,
    ),
    "glm": dict(attention_bias=True),
    "glm4": dict(attention_bias=True),
    "gpt_oss": dict(LOCAL, num_local_experts=4, num_experts_per_tok=2),
    "deepseek_v3": LATENT,
    "cohere2": dict(LOCAL, logit_scale=0.3),
    "cohere": dict(logit_scale=0.3, use_qk_norm=True),
    "glm4_moe": dict(
        LATENT, num_key_value_heads=2, head_dim=8, use_qk_norm=True, attention_bias=True
    ),
    "lfm2": dict(layer_types=["conv", "full_attention"], block_ff_dim=48, tie_word_embeddings=True),
    "granitemoehybrid": dict(
        num_local_experts=0,
        shared_intermediate_size=48,
        layer_types=["mamba", "attention"],
        mamba_n_heads=4,
        mamba_d_head=16,
        mamba_d_state=8,
        mamba_expand=2,
        mamba_chunk_size=4,
        position_embedding_type="rope",
        logits_scaling=3.0,
        embedding_multiplier=2.0,
        residual_multiplier=0.5,
        attention_multiplier=0.2,
    ),
    "qwen3_next": dict(EXPERTS, **LINEAR, shared_expert_intermediate_size=24),
    "qwen3_5_text": LINEAR,
    "qwen3_5_moe_text": dict(EXPERTS, **LINEAR, shared_expert_intermediate_size=24),
    "gemma3n_text": dict(
        LOCAL,
        num_hidden_layers=4,
        layer_types=["sliding_attention", "full_attention"] * 2,
        num_kv_shared_layers=2,
        hidden_size_per_layer_input=8,
        vocab_size_per_layer_input=264,
        laurel_rank=4,
        altup_num_inputs=2,
        intermediate_size=[48] * 4,
        activation_sparsity_pattern=[0.5, 0.0, 0.0, 0.0],
        final_logit_softcapping=3.0,
        tie_word_embeddings=True,
    ),
    "gemma4_text": dict(
        LOCAL,
        num_hidden_layers=4,
        layer_types=["sliding_attention", "full_attention"] * 2,
        num_kv_shared_layers=2,
        hidden_size_per_layer_input=8,
        vocab_size_per_layer_input=264,
        final_logit_softcapping=3.0,
        tie_word_embeddings=True,
        global_head_dim=16,
    ),
    "llama4_text": dict(
        num_local_experts=4,
        num_experts_per_tok=1,
        intermediate_size_mlp=48,
        attention_chunk_size=8,
        no_rope_layers=[1, 0],
        layer_types=["chunked_attention", "full_attention"],
        floor_scale=4,
        attn_scale=0.5,
        interleave_moe_layer_step=2,
    ),
    "exaone4": LOCAL,
    "starcoder2": dict(sliding_window=WINDOW),
    "seed_oss": {},
    "hunyuan_v1_dense": {},
    "ernie4_5": {},
}


def config_of(name: str, **changes: Any) -> Any:
    """The configuration of the tiny model of a type."""
    return AutoConfig.for_model(name, **{**SHAPE, **SETTINGS[name], **changes})


def random_model(name: str, **changes: Any) -> Any:
    """The model, every weight of which is drawn: sinks and biases are not 0, norms not 1."""
    config = config_of(name, **changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # what is drawn at the start, and not here alone
        model = AutoModelForCausalLM.from_config(config).float().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(drawn * 0.25 if parameter.ndim > 1 else parameter + drawn * 0.3)
    return model


def random_backbone(name: str, **changes: Any) -> Backbone:
    """The model behind packed attention, as Burnish loads it."""
    model = random_model(name, **changes)
    model.set_attn_implementation(packed_attention.NAME)
    return Backbone(model, tiny_tokenizer(), "test")


def save_random_model(name: str, folder: Path, **changes: Any) -> Path:
    """The model in `folder`, with a tokenizer."""
    random_model(name, **changes).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


WHOLE = {  # a whole model: its type, that of its text part, and the prefixes of published names
    "gemma3": ("gemma3", "gemma3_text", "language_model.model.", "language_model.lm_head."),
    "gemma3-2025": ("gemma3", "gemma3_text", "model.language_model.", "lm_head."),
    "gemma3n": ("gemma3n", "gemma3n_text", "model.language_model.", "lm_head."),
    "gemma4": ("gemma4", "gemma4_text", "model.language_model.", "lm_head."),
    "llama4": ("llama4", "llama4_text", "language_model.model.", "language_model.lm_head."),
    "mistral3": ("mistral3", "mistral", "language_model.model.", "language_model.lm_head."),
    "mistral3-ministral": ("mistral3", "ministral3", "model.language_model.", "lm_head."),
    "qwen3_5": ("qwen3_5", "qwen3_5_text", "model.language_model.", "lm_head."),
    "qwen3_5_moe": ("qwen3_5_moe", "qwen3_5_moe_text", "model.language_model.", "lm_head."),
}
OTHERS = (
    "vision_tower.a.weight",
    "model.visual.a.weight",
    "multi_modal_projector.a.weight",
    "mtp.a.weight",
)


def save_whole_model(name: str, folder: Path, *, others: tuple[str, ...] = OTHERS) -> Path:
    """As published: the text model's weights under the prefixes of the whole, weights for images
    and drafts beside them."""
    whole, text, decoder, head = WHOLE[name]
    save_random_model(text, folder)
    file, config = folder / "model.safetensors", folder / "config.json"
    weights = {}
    for key, weight in load_file(file).items():
        inner = key.removeprefix("model.language_model.").removeprefix("model.")
        weights[head + "weight" if key == "lm_head.weight" else decoder + inner] = weight
    weights |= {key: torch.zeros(2, 2) for key in others}
    save_file(weights, file, metadata={"format": "pt"})
    settings = json.loads(config.read_text())
    tied = settings.get("tie_word_embeddings", False)
    config.write_text(
        json.dumps({"model_type": whole, "text_config": settings, "tie_word_embeddings": tied})
    )
    return folder
