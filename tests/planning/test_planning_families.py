"""Plans of every supported type of model, from a config.json as it is published: counts against the
model itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import burnish
import families
from burnish.errors import UserError
from burnish.models.adapters import LoraSpec, adapter_parameters, add_adapter
from burnish.models.backbone import Backbone
from burnish.models.supported import SUPPORTED
from burnish.models.tiny import tiny_tokenizer
from burnish.planning.estimate import DataSize
from burnish.planning.machine import Machine
from burnish.planning.plan import make_plan
from burnish.planning.shape import ModelShape

DATA = DataSize(100, 10, 100, 10, 0, 0, 50.0, 50.0)
MACHINE = Machine("small", 16e9, 400e9, 20e9)
DENSE_AND_EXPERTS = {
    "granitemoehybrid-experts": (
        "granitemoehybrid",
        dict(num_local_experts=4, num_experts_per_tok=2),
    )
}
SOURCES = ("data.prompts=p.jsonl", "data.demonstrations=d.jsonl")
NAMES = {**{name: (name, {}) for name in families.SETTINGS}, **DENSE_AND_EXPERTS}


def _published(name: str, **changes: Any) -> dict[str, Any]:
    """config.json as save_pretrained writes it; a whole model's, for a name of `families.WHOLE`."""
    if name not in families.WHOLE:
        return json.loads(families.config_of(name, **changes).to_json_string(use_diff=True))
    whole, text, *_ = families.WHOLE[name]
    return {
        "model_type": whole,
        "text_config": _published(text),
        "tie_word_embeddings": "gemma" in text,
    }


@pytest.mark.parametrize("name", NAMES)
def test_parameters_and_adapters_are_those_of_the_model(name: str):
    kind, changes = NAMES[name]
    shape = ModelShape.from_config(_published(kind, **changes))
    model = families.random_model(kind, **changes)
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    assert shape.decoder + shape.head < shape.parameters
    mixture = SUPPORTED[kind].experts and name != "granitemoehybrid"
    assert (shape.active < shape.decoder) == mixture
    backbone = Backbone(model, tiny_tokenizer(), "test")
    backbone.freeze()
    add_adapter(backbone, "policy", LoraSpec(4, 8.0), seed=0)
    assert shape.adapter(4) == sum(
        p.numel() for p in adapter_parameters(backbone, "policy").values()
    )


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_the_cache_is_as_large_as_the_models_own(name: str):
    """With windows that hold the whole sequence, and without what has one size for sequences of any
    length."""
    kind, changes = NAMES[name]
    wide = {
        key: 64
        for key in ("sliding_window", "attention_chunk_size")
        if key in families.SETTINGS[kind]
    }
    model = families.random_model(kind, **changes, **wide)
    layers = model(input_ids=torch.arange(3, 13)[None], use_cache=True).past_key_values.layers
    kept = [
        part
        for layer in layers
        for part in (getattr(layer, "keys", None), getattr(layer, "values", None))
    ]
    shape = ModelShape.from_config(_published(kind, **changes))
    assert 10 * shape.cache_per_token == sum(part.numel() for part in kept if part is not None)


def test_what_a_token_goes_through_by_hand():
    """Mixtral's 4 experts of 3 · 48 · 32 weights, 2 of them for a token, a router of 4 · 32,
    attention of 3072; twice."""
    shape = ModelShape.from_config(_published("mixtral"))
    expert, attention, router = 3 * 48 * 32, 2 * 32 * 32 + 2 * 16 * 32, 4 * 32
    assert shape.decoder == 2 * (4 * expert + attention + router)
    assert shape.active == 2 * (2 * expert + attention + router)
    assert shape.forward_flops(7, 0) == 2 * shape.active * 7


@pytest.mark.parametrize("name", families.WHOLE)
def test_of_a_model_that_also_sees_the_text_part_counts(name: str):
    _, text, *_ = families.WHOLE[name]
    shape = ModelShape.from_config(_published(name))
    assert shape == ModelShape.from_config(_published(text))
    assert (shape.fallback is None) == (SUPPORTED[text].sampled == "native")


@pytest.mark.parametrize("name", [*families.SETTINGS, *families.WHOLE])
def test_a_recipe_can_be_planned_for_every_type(name: str, tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps(_published(name)))
    shape = ModelShape.read(tmp_path, max_length=64)
    recipe = burnish.load(None, "stages=[sft, sample, compare, reward, ppo, evaluate]", *SOURCES)
    plan = make_plan(recipe, shape, DATA, MACHINE)
    assert all(0 < part.size < 1e9 for stage in plan.stages for part in stage.parts)
    assert all(0 < stage.seconds < 3600 for stage in plan.stages)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"model_type": "gpt2"}, "gpt2 are not supported"),
        ({"model_type": ["llama"]}, "not supported"),
        (
            {"model_type": "llama", "num_hidden_layers": 10**9},
            "num_hidden_layers.*1,000,000,000 layers",
        ),
        (
            {"model_type": "llama", "num_attention_heads": 7, "hidden_size": 32},
            "no model can be made",
        ),
        (
            {"model_type": "gemma3n_text", "intermediate_size": [48, -1]},
            "intermediate_size.*at least 1",
        ),
        ({"model_type": "gemma3", "text_config": {"model_type": "opt"}}, "opt are not supported"),
        ({"model_type": "gemma3", "text_config": [1]}, "text_config is no JSON object"),
        ({"model_type": "mixtral", "rope_parameters": 5}, "no model can be made"),
    ],
)
def test_a_configuration_of_no_model_is_one_line(
    settings: dict[str, Any], problem: str, tmp_path: Path
):
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match=problem) as refused:
        ModelShape.read(tmp_path)
    assert "\n" not in str(refused.value)
    assert str(tmp_path / "config.json") in str(refused.value)


def test_sizes_that_a_configuration_leaves_out_are_those_of_its_type():
    """Gemma 3's published text parts say neither heads nor vocabulary."""
    text = {
        "model_type": "gemma3_text",
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "num_hidden_layers": 34,
    }
    shape = ModelShape.from_config({"model_type": "gemma3", "text_config": text})
    assert (shape.heads, shape.kv_heads, shape.head_dim, shape.vocabulary) == (8, 4, 256, 262208)
    assert shape.parameters / 1e9 == pytest.approx(3.88, abs=0.01)


@pytest.mark.parametrize(
    ("longest", "told"), [(None, None), (6, None), (7, "6 tokens, and sequences may have 7; ")]
)
def test_a_window_shorter_than_the_sequences_is_planned_as_it_is_sampled(
    longest: int | None, told: str | None
):
    shape = ModelShape.from_config(_published("mistral", sliding_window=6), max_length=longest)
    assert shape.fallback is None if told is None else told in str(shape.fallback)


def test_no_sequence_is_longer_than_the_context():
    config = _published("mistral", sliding_window=20, max_position_embeddings=20)
    assert ModelShape.from_config(config, max_length=512).fallback is None
