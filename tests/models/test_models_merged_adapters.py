"""An adapter in a model's folder is merged as PEFT merges it, or refused by name."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from model_folders import random_llama, reconfigure, reweight, save
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaForCausalLM

from burnish.errors import UserError
from burnish.models import sources
from burnish.models.adapters import LoraSpec, add_adapter
from burnish.models.backbone import load_backbone
from burnish.models.loading.load import load_model
from burnish.models.roles import View
from burnish.models.tiny import tiny_model, tiny_tokenizer
from burnish.models.weights import save_model, save_policy

TOKENS = torch.arange(3, 40)[None]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save(tmp_path / "base")


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        return model(input_ids=TOKENS, use_cache=False).logits


def train(base: Path, folder: Path, config: Any, scale: float = 0.05) -> Tensor:
    """Save a random adapter of `base` and return the logits with it, unmerged."""
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: Any = get_peft_model(LlamaForCausalLM.from_pretrained(base), config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.requires_grad:
                    parameter.add_(
                        torch.randn_like(parameter) * (0.002 if "embed" in name else scale)
                    )
        model.save_pretrained(folder)
    return logits(model.eval())


def lora(**more: Any) -> LoraConfig:
    return LoraConfig(
        **{
            "r": 4,
            "lora_alpha": 8,
            "target_modules": ["q_proj", "v_proj"],
            "task_type": "CAUSAL_LM",
            **more,
        }
    )


MERGED = {
    "plain": lora(),
    "no task": lora(task_type=None),
    "rank and alpha patterns": lora(
        rank_pattern={"q_proj": 2}, alpha_pattern={"layers.1.self_attn.v_proj": 3}
    ),
    "rsLoRA": lora(use_rslora=True),
    "DoRA": lora(use_dora=True),
    "transposed by mistake": lora(fan_in_fan_out=True),
    "all linear layers": lora(target_modules="all-linear"),
    "one layer": lora(layers_to_transform=[1]),
    "a pattern": lora(target_modules=r".*\.mlp\.(up|down)_proj"),
    "head saved whole": lora(modules_to_save=["lm_head"]),
    "norms saved whole": lora(modules_to_save=["norm"]),
    "embedding and head": lora(target_modules=["q_proj", "embed_tokens", "lm_head"]),
    "some tokens": lora(trainable_token_indices=[3, 5]),
    "LoHa": peft.LoHaConfig(
        r=4, alpha=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"
    ),
    "LoKr": peft.LoKrConfig(
        r=4, alpha=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"
    ),
    "IA3": peft.IA3Config(
        target_modules=["k_proj", "down_proj"],
        feedforward_modules=["down_proj"],
        task_type="CAUSAL_LM",
    ),
    "OFT": peft.OFTConfig(oft_block_size=16, target_modules=["q_proj"], task_type="CAUSAL_LM"),
    "AdaLoRA": peft.AdaLoraConfig(
        init_r=4, target_r=2, total_step=10, target_modules=["q_proj"], task_type="CAUSAL_LM"
    ),
}


@pytest.mark.parametrize("name", MERGED)
def test_a_merged_adapter_answers_as_the_adapter_does(base: Path, tmp_path: Path, name: str):
    expected = train(base, tmp_path / "adapter", MERGED[name], 0.3 if name == "AdaLoRA" else 0.05)
    assert (expected - logits(random_llama())).abs().max() > 1e-3  # the adapter does something
    said: list[str] = []
    model = load_model(str(tmp_path / "adapter"), say=said.append).model
    torch.testing.assert_close(logits(model), expected, atol=1e-4, rtol=1e-4)
    assert any("merged into the weights" in line for line in said)
    assert not any("lora_" in key or "base_layer" in key for key in model.state_dict())
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    "config",
    [lora(bias="all"), lora(bias="lora_only"), lora(lora_bias=True)],
    ids=["all", "lora_only", "lora_bias"],
)
def test_biases_that_were_trained_are_merged(tmp_path: Path, config: LoraConfig):
    base = save(tmp_path / "base", random_llama(attention_bias=True))
    expected = train(base, tmp_path / "adapter", config)
    torch.testing.assert_close(
        logits(load_model(str(tmp_path / "adapter")).model), expected, atol=1e-4, rtol=1e-4
    )


def test_a_bias_that_the_base_has_no_place_for_is_refused(base: Path, tmp_path: Path):
    train(base, tmp_path / "adapter", lora(lora_bias=True))
    refused(tmp_path / "adapter", "cannot be merged into the weights .*no bias")


@pytest.mark.parametrize(
    "name", ["plain", "DoRA", "rsLoRA", "rank and alpha patterns", "head saved whole"]
)
def test_a_merged_adapter_has_the_weights_that_peft_merges(base: Path, tmp_path: Path, name: str):
    train(base, tmp_path / "adapter", MERGED[name])
    theirs: Any = PeftModel.from_pretrained(
        LlamaForCausalLM.from_pretrained(base), tmp_path / "adapter"
    )
    expected = theirs.merge_and_unload().state_dict()
    ours = load_model(str(tmp_path / "adapter")).model.state_dict()
    assert ours.keys() == expected.keys()
    for key, weight in expected.items():
        torch.testing.assert_close(ours[key], weight, atol=1e-6, rtol=1e-5, msg=key)


@pytest.mark.parametrize("name", ["plain", "head saved whole", "embedding and head", "some tokens"])
def test_tied_models_come_out_as_the_adapter_answers_and_are_saved_so(tmp_path: Path, name: str):
    base = save(tmp_path / "base", random_llama(tie_word_embeddings=True))
    expected = train(base, tmp_path / "adapter", MERGED[name])
    backbone = load_backbone(str(tmp_path / "adapter"))
    save_model(View(backbone), tmp_path / "merged")
    torch.testing.assert_close(
        logits(load_model(str(tmp_path / "merged")).model), expected, atol=1e-4, rtol=1e-4
    )


def test_an_adapter_beside_the_weights_is_merged_and_said(base: Path, tmp_path: Path):
    expected = train(base, tmp_path / "adapter", lora())
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(tmp_path / "adapter" / file, base / file)
    said: list[str] = []
    backbone = load_backbone(str(base), say=said.append)
    assert backbone.content_hash() != _hash_of_base(base)
    save_model(View(backbone), tmp_path / "merged")
    torch.testing.assert_close(
        logits(load_model(str(tmp_path / "merged")).model), expected, atol=1e-4, rtol=1e-4
    )
    assert said == [f"{base}: its adapter (LORA, rank 4) is merged into the weights"]


def _hash_of_base(base: Path) -> str:
    shutil.copytree(base, base.parent / "bare", ignore=shutil.ignore_patterns("adapter_*"))
    return load_backbone(str(base.parent / "bare")).content_hash()


def test_adapters_on_adapters_are_stacked_in_their_order(base: Path, tmp_path: Path):
    train(base, tmp_path / "first", lora())
    middle = save(tmp_path / "middle", load_model(str(tmp_path / "first")).model)
    expected = train(middle, tmp_path / "second", lora(target_modules=["up_proj"]))
    reconfigure(
        tmp_path / "second", "adapter_config.json", base_model_name_or_path=str(tmp_path / "first")
    )
    torch.testing.assert_close(
        logits(load_model(str(tmp_path / "second")).model), expected, atol=1e-4, rtol=1e-4
    )


def test_a_copy_of_the_adapter_beside_its_base_counts_once(base: Path, tmp_path: Path):
    expected = train(base, tmp_path / "adapter", lora())
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(tmp_path / "adapter" / file, base / file)
    torch.testing.assert_close(
        logits(load_model(str(tmp_path / "adapter")).model), expected, atol=1e-4, rtol=1e-4
    )


def test_a_merged_model_takes_an_adapter_of_its_own(base: Path, tmp_path: Path):
    """PEFT leaves no notes on it that the next adapter would trip over."""
    expected = train(base, tmp_path / "adapter", lora())
    backbone = load_backbone(str(tmp_path / "adapter"))
    add_adapter(backbone, "policy", LoraSpec(2, 4), seed=0)
    view = View(backbone, "policy", LoraSpec(2, 4))
    save_policy(view, tmp_path / "policy", base=str(tmp_path / "adapter"))
    torch.testing.assert_close(
        logits(load_model(str(tmp_path / "policy")).model), expected, atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(
        logits(load_model(str(tmp_path / "policy/adapter")).model), expected, atol=1e-4, rtol=1e-4
    )


def test_the_base_can_be_an_alias_a_path_from_here_or_beside_the_adapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    base = save(tmp_path / "work" / "base", tiny_model())
    expected = train(base, tmp_path / "work" / "adapter", lora())
    monkeypatch.chdir(tmp_path / "work")
    for name in ("tiny", "base", "./base", "../base", str(base)):
        reconfigure(
            tmp_path / "work" / "adapter", "adapter_config.json", base_model_name_or_path=name
        )
        torch.testing.assert_close(
            logits(load_model("adapter").model), expected, atol=1e-4, rtol=1e-4
        )


def test_tokens_that_were_added_in_training_grow_the_model(base: Path, tmp_path: Path):
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([f"<new {i}>" for i in range(9)])
    model: Any = LlamaForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(len(tokenizer))
    config = lora(modules_to_save=["embed_tokens", "lm_head"])
    adapted: Any = get_peft_model(model, config)
    adapted.save_pretrained(tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")
    expected = logits(adapted.eval())
    loaded = load_model(str(tmp_path / "adapter"))
    assert loaded.model.get_input_embeddings().weight.shape[0] == len(loaded.tokenizer) == 268
    torch.testing.assert_close(logits(loaded.model), expected, atol=1e-4, rtol=1e-4)


def refused(folder: Path, match: str) -> str:
    with pytest.raises(UserError, match=match) as error:
        load_backbone(str(folder))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "config",
    [
        peft.PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"),
        peft.PrefixTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"),
        peft.PromptEncoderConfig(
            num_virtual_tokens=4, encoder_hidden_size=16, task_type="CAUSAL_LM"
        ),
    ],
    ids=lambda config: str(config.peft_type.value),
)
def test_adapters_that_no_weights_stand_for_are_refused_by_kind(
    base: Path, tmp_path: Path, config: Any
):
    adapted: Any = get_peft_model(LlamaForCausalLM.from_pretrained(base), config)
    adapted.save_pretrained(tmp_path / "adapter")
    refused(tmp_path / "adapter", f"kind {config.peft_type.value} cannot be merged")


def test_an_adapter_that_looks_at_the_input_is_refused(base: Path, tmp_path: Path):
    """Activated LoRA acts only after some tokens: its merged weights would act on all."""
    train(base, tmp_path / "adapter", lora())
    reconfigure(tmp_path / "adapter", "adapter_config.json", alora_invocation_tokens=[5, 6])
    refused(tmp_path / "adapter", "cannot be merged into the weights")


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"peft_type": ...}, "kind of adapter"),
        ({"peft_type": "OF_TOMORROW"}, "cannot be loaded"),
        ({"task_type": "SEQ_CLS"}, "for the task SEQ_CLS"),
        ({"base_model_name_or_path": None}, "does not say of which model"),
        ({"base_model_name_or_path": 7}, "does not say of which model"),
        ({"base_model_name_or_path": "no/such-model"}, "base model of this adapter cannot be had.*no/such-model"),  # noqa: E501
        ({"base_model_name_or_path": "/no/such/folder"}, "base model of this adapter cannot be had.*/no/such/folder"),  # noqa: E501
        ({"target_modules": ["q_proj"]}, r"no place for .*v_proj"),
        ({"target_modules": ["q_proj", "v_proj", "up_proj"]}, r"it lacks .*up_proj"),
        ({"target_modules": ["nothing"]}, "does not fit the model"),
        ({"r": 8}, "does not fit the model.*8"),
        ({"r": "many"}, "does not fit the model|cannot be loaded"),
    ],
)  # fmt: skip
def test_adapter_settings_that_do_not_fit_are_named(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], match: str
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    train(base, tmp_path / "adapter", lora())
    refused(reconfigure(tmp_path / "adapter", "adapter_config.json", **fields), match)


def test_damaged_adapters_are_named(base: Path, tmp_path: Path):
    folder = tmp_path / "adapter"
    train(base, folder, lora())
    file, good = (
        folder / "adapter_model.safetensors",
        (folder / "adapter_model.safetensors").read_bytes(),
    )
    file.write_bytes(good[: len(good) // 2])
    refused(folder, "adapter_model.safetensors: this file is no whole safetensors file")
    file.write_bytes(good)
    weights = load_file(file)
    save_file(
        {k: v * float("nan") if "layers.1" in k else v.clone() for k, v in weights.items()}, file
    )
    refused(folder, r"layers\.1.* holds values that are not finite")
    file.unlink()
    refused(folder, "adapter_model.safetensors: this file of the weights is missing")
    (folder / "adapter_model.bin").write_bytes(b"\x80\x04")
    assert "safetensors" in refused(folder, "are a pickle")
    (folder / "adapter_config.json").write_text("{")
    refused(folder, "not JSON")


def test_an_adapter_that_names_itself_is_no_loop(base: Path, tmp_path: Path):
    folder = tmp_path / "adapter"
    train(base, folder, lora())
    reconfigure(folder, "adapter_config.json", base_model_name_or_path=str(folder))
    refused(folder, "names itself")
    shutil.copytree(folder, tmp_path / "other")
    reconfigure(folder, "adapter_config.json", base_model_name_or_path=str(tmp_path / "other"))
    refused(folder, "names itself")


def test_an_adapter_of_another_model_is_refused_and_names_its_own(base: Path, tmp_path: Path):
    train(base, tmp_path / "adapter", lora())
    other = save(tmp_path / "wider", random_llama(hidden_size=96))
    line = refused(
        reconfigure(
            tmp_path / "adapter", "adapter_config.json", base_model_name_or_path=str(other)
        ),
        "does not fit",
    )
    assert str(other) in line


def test_a_folder_of_adapters_names_them(base: Path, tmp_path: Path):
    train(base, tmp_path / "run" / "checkpoint-10", lora())
    line = refused(tmp_path / "run", "holds no model")
    assert str(tmp_path / "run" / "checkpoint-10") in line


def test_a_damaged_base_is_named_not_the_adapter(base: Path, tmp_path: Path):
    train(base, tmp_path / "adapter", lora())
    reweight(base, lambda w: {k: v for k, v in w.items() if "norm" not in k})
    assert str(base) in refused(tmp_path / "adapter", "missing")
    assert sources.resolve(str(tmp_path / "adapter")).adapters == (tmp_path / "adapter",)
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())[
        "base_model_name_or_path"
    ] == str(base)
