"""Which engine samples a model, told from its configuration."""

from __future__ import annotations

from typing import Any

import pytest

from burnish.generation.decoder import ACTIVATIONS
from burnish.models.sampled import NATIVE_ACTIVATIONS, turned_alike, why_not_native, window_of
from burnish.models.supported import SUPPORTED


@pytest.mark.parametrize("name", SUPPORTED)
def test_the_table_decides(name: str):
    reason = why_not_native({"model_type": name})
    assert (reason is None) == (SUPPORTED[name].sampled == "native")
    assert reason is None or name in reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"model_type": "unheard_of"}, "models of type unheard_of"),
        ({"hidden_act": "relu"}, "'relu'"),
        ({"attention_bias": True}, "attention_bias"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"model_type": "gemma3_text", "final_logit_softcapping": 30.0}, "final_logit_softcapping"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "dynamic"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, None),
        (
            {
                "model_type": "gemma3_text",
                "rope_parameters": {"full_attention": {"rope_type": "longrope"}},
            },
            "longrope",
        ),
        ({"model_type": "qwen2", "attention_bias": True}, None),  # always there, and known
        (
            {"model_type": "mistral", "sliding_window": 4096},
            "4096 tokens, and sequences may have 5000",
        ),
        ({"model_type": "mistral", "sliding_window": 5000}, None),
        ({"model_type": "qwen2", "sliding_window": 4096, "use_sliding_window": False}, None),
    ],
)
def test_what_else_the_native_engine_lacks(changes: dict[str, Any], reason: str | None):
    found = why_not_native({"model_type": "llama", "hidden_act": "silu", **changes}, longest=5000)
    assert found is None if reason is None else reason in str(found)


def test_activations_are_those_that_the_engine_has():
    assert set(NATIVE_ACTIVATIONS) == set(ACTIVATIONS)


def test_a_window_counts_where_a_layer_has_it():
    assert window_of({"sliding_window": 8}) == 8
    assert window_of({"sliding_window": 8, "layer_types": ["full_attention"]}) is None
    assert (
        window_of({"sliding_window": 8, "layer_types": ["full_attention", "sliding_attention"]})
        == 8
    )
    assert window_of({"sliding_window": None}) is None


LONG = {"rope_type": "longrope", "original_max_position_embeddings": 4096}


@pytest.mark.parametrize(
    ("rope", "tokens"),
    [
        (None, None),
        ({"rope_type": "default"}, None),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}, None),
        ({"rope_type": "dynamic", "factor": 2.0}, None),  # changes beyond the context alone
        (LONG, 4096),
        ({"rope_type": "longrope"}, 8192),
        ({"full_attention": LONG, "sliding_attention": {"rope_type": "default"}}, 4096),
    ],
)
def test_tokens_are_turned_alike_up_to_the_original_context(
    rope: dict[str, Any] | None, tokens: int | None
):
    assert turned_alike({"rope_parameters": rope, "max_position_embeddings": 8192}) == tokens
