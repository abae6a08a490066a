"""Tiny random models of many families, in memory, with every feature that changes their numbers switched on."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from burnish.models import packed_attention
from burnish.models.backbone import Backbone
from burnish.models.tiny import tiny_tokenizer

_SHAPE: dict[str, Any] = {
    "vocab_size": 259, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128, "eos_token_id": 256, "pad_token_id": 257,
    "bos_token_id": None, "tie_word_embeddings": False,
}  # fmt: skip
_SLIDING = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 6}
_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 24}
_LINEAR = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
}  # fmt: skip
_LATENT = {
    "q_lora_rank": 16, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8,
    "num_key_value_heads": 4, "head_dim": 4,
}  # fmt: skip

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": 6},
    "ministral": _SLIDING,
    "ministral3": {},
    "qwen2": {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 6, "use_sliding_window": True},
    "qwen3": {},
    "gemma": {"hidden_activation": "gelu_pytorch_tanh"},
    "gemma2": {**_SLIDING, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 1.0, "query_pre_attn_scalar": 13},
    "gemma3_text": {**_SLIDING, "query_pre_attn_scalar": 13},
    "phi3": {"sliding_window": 6, "partial_rotary_factor": 0.5},
    "smollm3": {"no_rope_layers": [1, 0]},
    "olmo2": {},
    "olmo3": _SLIDING,
    "granite": {
        "embedding_multiplier": 3.0, "attention_multiplier": 0.3, "residual_multiplier": 0.7, "logits_scaling": 2.0,
    },
    "glm4": {"partial_rotary_factor": 0.5, "attention_bias": True},
    "cohere2": {**_SLIDING, "logit_scale": 0.5},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 6},
    "qwen2_moe": {**_EXPERTS, "num_experts": 4, "shared_expert_intermediate_size": 24},
    "qwen3_moe": {**_EXPERTS, "num_experts": 4},
    "gpt_oss": {**_SLIDING, "num_local_experts": 4, "num_experts_per_tok": 2},
    "lfm2": {"layer_types": ["conv", "full_attention"], "block_ff_dim": 48},
    "qwen3_next": {**_EXPERTS, **_LINEAR, "num_experts": 4, "shared_expert_intermediate_size": 24},
    "qwen3_5_text": _LINEAR,
    "deepseek_v3": {
        **_EXPERTS, **_LATENT, "n_routed_experts": 8, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1,
        "n_shared_experts": 1,
    },
    "llama4_text": {
        "num_local_experts": 4, "num_experts_per_tok": 1, "intermediate_size_mlp": 48, "attention_chunk_size": 8,
        "no_rope_layers": [1, 0], "layer_types": ["chunked_attention", "full_attention"],
    },
    "granitemoehybrid": {
        "num_local_experts": 0, "shared_intermediate_size": 48, "layer_types": ["mamba", "attention"],
        "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_expand": 2, "mamba_chunk_size": 4,
        "position_embedding_type": "rope",
    },
    "gemma3n_text": {
        **_SLIDING, "num_hidden_layers": 4, "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_kv_shared_layers": 2, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 259,
        "laurel_rank": 4, "altup_num_inputs": 2, "intermediate_size": [48] * 4, "activation_sparsity_pattern": [0.5, 0.0, 0.0, 0.0],
    },
}  # fmt: skip


def family(name: str, **changes: Any) -> Backbone:
    """A random model of that type whose norms, biases and sinks matter, behind packed attention as Burnish loads it."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(name, **{**_SHAPE, **FAMILIES.get(name, {}), **changes})
    model = AutoModelForCausalLM.from_config(config).float().eval()
    generator = torch.Generator().manual_seed(1)
    for label, parameter in model.named_parameters():
        if "norm" in label or "bias" in label or "sinks" in label:
            torch.nn.init.uniform_(parameter, 0.5, 1.5, generator=generator)
        elif parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.15, generator=generator)
    model.set_attn_implementation(packed_attention.NAME)
    return Backbone(model, tiny_tokenizer(), "test")
