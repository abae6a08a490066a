"""Adapters of every shape against PEFT's own, which reads what is saved: logits, gradients, merged
weights, and what comes back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from burnish.batch import Batch, TokenSequence
from burnish.errors import UserError
from burnish.models.adapters import (
    LoraSpec,
    adapter_names,
    adapter_parameters,
    add_adapter,
    copy_adapter,
    load_adapter,
    save_adapter,
)
from burnish.models.backbone import Backbone
from burnish.models.roles import View
from burnish.models.tiny import tiny_model
from burnish.models.weights import merged

TOKENS = (258, 5, 6, 20, 21, 30, 31, 256)
BATCH = Batch((TokenSequence(TOKENS[:3], TOKENS[3:]),))
SHAPES = [
    LoraSpec(4, 8.0, targets=("q_proj", "v_proj")),
    LoraSpec(4, 8.0, rslora=True),
    LoraSpec(4, 8.0, dora=True),
    LoraSpec(3, 5.0, targets=("down_proj", "o_proj"), rslora=True, dora=True),
]


def view_of(tiny: Backbone, spec: LoraSpec, name: str = "policy") -> View:
    """A set whose every parameter has moved away from where it began."""
    tiny.freeze()
    add_adapter(tiny, name, spec, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in adapter_parameters(tiny, name).values():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    return View(tiny, name, spec)


@pytest.mark.parametrize("spec", SHAPES, ids=str)
def test_logits_and_gradients_are_those_of_the_saved_adapter_in_peft(
    tiny: Backbone, spec: LoraSpec, tmp_path: Path
):
    view = view_of(tiny, spec)
    save_adapter(tiny, "policy", spec, tmp_path, base="tiny", task_type="CAUSAL_LM")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["target_modules"] == sorted(spec.targets or tiny.kind.lora)
    assert (config["use_rslora"], config["use_dora"]) == (spec.rslora, spec.dora)
    peft = PeftModel.from_pretrained(tiny_model(), str(tmp_path), is_trainable=True).eval()
    logprobs = peft(input_ids=torch.tensor([TOKENS])).logits[0].log_softmax(dim=-1)
    theirs = logprobs[torch.arange(2, 7), list(TOKENS[3:])]
    view.train_mode()
    ours = view.logprobs(BATCH).logprobs_P
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    weights = torch.arange(1.0, 6.0)
    (ours * weights).sum().backward()
    (theirs * weights).sum().backward()
    gradients = {
        name.replace(".policy.", ".").replace(".policy", ""): parameter.grad
        for name, parameter in view.parameters().items()
    }
    count = 0
    for name, parameter in peft.named_parameters():
        if parameter.requires_grad:
            own = name.removeprefix("base_model.model.").replace(".default", "")
            torch.testing.assert_close(gradients[own], parameter.grad, atol=2e-5, rtol=1e-4)
            count += 1
    assert count == len(gradients)


@pytest.mark.parametrize("spec", SHAPES, ids=str)
def test_merged_weights_answer_as_the_adapter_does_and_it_comes_back(
    tiny: Backbone, spec: LoraSpec, tmp_path: Path
):
    view = view_of(tiny, spec)
    plain = tiny_model()
    plain.load_state_dict(dict(merged(view)), strict=False)
    with torch.no_grad():
        logprobs = plain(input_ids=torch.tensor([TOKENS])).logits[0].log_softmax(dim=-1)
        ours = view.logprobs(BATCH).logprobs_P
    expected = logprobs[torch.arange(2, 7), list(TOKENS[3:])]
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)
    save_adapter(tiny, "policy", spec, tmp_path, base="tiny", task_type="CAUSAL_LM")
    assert load_adapter(tiny, "again", tmp_path) == LoraSpec(
        spec.r, spec.alpha, spec.targets and tuple(sorted(spec.targets)), spec.rslora, spec.dora
    )
    with torch.no_grad():
        assert torch.equal(View(tiny, "again", spec).logprobs(BATCH).logprobs_P, ours)


def test_sets_on_different_layers_live_side_by_side(tiny: Backbone):
    first = view_of(tiny, LoraSpec(2, 4.0, targets=("q_proj",)), "first")
    with torch.no_grad():
        alone = first.logprobs(BATCH).logprobs_P
    second = view_of(tiny, LoraSpec(3, 4.0, targets=("down_proj",), dora=True), "second")
    assert set(adapter_names(tiny)) == {"first", "second"}
    assert not set(first.parameters()) & set(second.parameters())
    with torch.no_grad():
        assert torch.equal(first.logprobs(BATCH).logprobs_P, alone)
        assert not torch.equal(second.logprobs(BATCH).logprobs_P, alone)
    add_adapter(tiny, "third", LoraSpec(3, 4.0, targets=("down_proj",), dora=True), seed=4)
    copy_adapter(tiny, "second", "third")
    with torch.no_grad():
        copied = View(tiny, "third").logprobs(BATCH).logprobs_P
        assert torch.equal(copied, second.logprobs(BATCH).logprobs_P)


def test_layers_that_are_not_there_are_named(tiny: Backbone):
    with pytest.raises(UserError, match=r"lora\.targets.*'lm_head'.*q_proj, k_proj"):
        add_adapter(tiny, "policy", LoraSpec(2, 4.0, targets=("q_proj", "lm_head")), seed=0)
    assert adapter_names(tiny) == []


def test_a_rank_scaled_set_adds_up_with_others_on_export(tiny: Backbone, tmp_path: Path):
    from safetensors.torch import load_file

    from burnish.models.export import _config, _sum

    specs = [LoraSpec(4, 8.0, rslora=True), LoraSpec(2, 3.0, targets=("q_proj",))]
    loaded, expected = [], 0.0
    for number, spec in enumerate(specs):
        view = view_of(tiny, spec, f"set{number}")
        folder = tmp_path / str(number)
        save_adapter(tiny, f"set{number}", spec, folder, base="tiny", task_type="CAUSAL_LM")
        loaded.append((_config(folder), load_file(folder / "adapter_model.safetensors")))
        weight = dict(merged(view))["model.layers.0.self_attn.q_proj.weight"]
        bare = dict(merged(View(tiny)))["model.layers.0.self_attn.q_proj.weight"]
        expected = expected + weight - bare
    added = _sum(loaded)
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    torch.testing.assert_close(added[name.format("B")] @ added[name.format("A")], expected)
