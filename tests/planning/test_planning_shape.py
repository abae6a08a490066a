"""A model's shape against the model itself: parameters, adapters, what is kept for the backward
pass."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from burnish.batch import Batch, TokenSequence
from burnish.errors import UserError
from burnish.models.adapters import LoraSpec, adapter_parameters, add_adapter
from burnish.models.backbone import load_backbone
from burnish.models.roles import View
from burnish.planning.shape import ModelShape

SMOLLM2 = {
    "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3,
    "vocab_size": 49152, "tie_word_embeddings": True, "max_position_embeddings": 8192,
}  # fmt: skip


def _tiny() -> tuple[View, ModelShape]:
    backbone = load_backbone("tiny")
    return View(backbone), ModelShape.from_config(backbone.config.to_dict())


def test_parameters_are_those_of_the_model():
    view, shape = _tiny()
    assert shape.parameters == view.backbone.parameter_count
    assert ModelShape.from_config(SMOLLM2).parameters == 134_515_008  # as its model card says
    untied = {**SMOLLM2, "tie_word_embeddings": False}
    assert ModelShape.from_config(untied).parameters == 134_515_008 + 49152 * 576


def test_a_seven_billion_model():
    """Mistral 7B v0.1, whose card says 7,241,732,096."""
    shape = ModelShape.from_config({
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8,
        "vocab_size": 32000, "tie_word_embeddings": False,
    })  # fmt: skip
    assert shape.parameters == 7_241_732_096


def test_an_adapter_has_as_many_parameters_as_peft_makes():
    view, shape = _tiny()
    add_adapter(view.backbone, "policy", LoraSpec(4, 8.0), seed=0)
    made = sum(p.numel() for p in adapter_parameters(view.backbone, "policy").values())
    assert shape.adapter(4) == made


def test_flops_by_hand():
    """1 layer, width 2, one head of 2, mlp 3, vocabulary 5: q, k, v, o 4 weights each, the mlp 18,
    the head 10."""
    shape = ModelShape(1, 2, 3, 1, 1, 2, 5, True, 16)
    assert (shape.decoder, shape.head) == (34, 10)
    # 7 tokens, 3 of them scored, seeing 4 tokens on average: scores and sums are 4 · heads ·
    # head_dim · context a token
    assert shape.forward_flops(7, 3, context=4) == 2 * 34 * 7 + 2 * 10 * 3 + 4 * 2 * 7 * 4
    assert shape.training_flops(7, 3, lora=False) == 3 * (2 * 34 * 7 + 2 * 10 * 3)
    assert shape.training_flops(7, 3, lora=True) == 2 * (2 * 34 * 7 + 2 * 10 * 3)
    assert shape.cache_per_token == 2 * 2


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("lora", [True, False])
def test_what_is_kept_for_the_backward_pass(lora: bool, recompute: bool):
    """The storages that autograd keeps, weights not counted, against the estimate; what a token
    costs is the slope."""
    view, shape = _tiny()
    if lora:
        view.backbone.freeze()
        add_adapter(view.backbone, "policy", LoraSpec(2, 4.0), seed=0)
        view = View(view.backbone, "policy", LoraSpec(2, 4.0))
    view.train_mode()
    view.backbone.recompute_layers(recompute)
    weights = {p.untyped_storage().data_ptr() for p in view.backbone.model.parameters()}

    def kept(tokens: int) -> int:
        storages: dict[int, int] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        rows = tuple(TokenSequence((1, 2), tuple(range(3, 33))) for _ in range(tokens // 32))
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            hidden = view.hidden(Batch(rows, share_prompts=False))
        del hidden
        return sum(storages.values())

    slope = (kept(640) - kept(320)) / 320
    if recompute:  # torch holds the layers' inputs where no hook sees them
        assert slope < 0.3 * 4 * shape.kept_per_token()
    else:
        assert slope == pytest.approx(4 * shape.kept_per_token(), rel=0.15)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{}", "num_attention_heads"),
        ("[1]", "holds no JSON object"),
        ("{", "this file is not JSON"),
    ],
)
def test_a_configuration_that_says_no_size(text: str, problem: str, tmp_path: Path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=problem):
        ModelShape.read(tmp_path)


def test_the_text_part_of_a_configuration_with_several(tmp_path: Path):
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "mistral3", "text_config": SMOLLM2, "tie_word_embeddings": True})
    )
    assert ModelShape.read(tmp_path).parameters == 134_515_008
