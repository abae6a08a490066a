"""A model stored in bfloat16 stays so in memory and where it is written; its numbers are those of
the same weights in float32."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

import families
from adapted import adapted_policy
from burnish.batch import Batch, TokenSequence
from burnish.errors import UserError
from burnish.generation.base import Request, SamplingParams
from burnish.generation.engine import make_engine
from burnish.models import backbone as loading
from burnish.models.adapters import LoraSpec
from burnish.models.backbone import Backbone, load_backbone
from burnish.models.heads import ScalarHead
from burnish.models.roles import View
from burnish.models.weights import merge_on_demand, save_policy, save_reward_model
from burnish.stages.export import export

SPEC = LoraSpec(2, 4.0)
BATCH = Batch((TokenSequence((7, 5, 6), (20, 21, 3)), TokenSequence((7, 5, 6), (9, 10, 11, 12))))


def _stored(name: str, folder: Path, dtype: torch.dtype = torch.bfloat16, **changes: Any) -> Path:
    model = families.random_model(name, **changes).to(torch.bfloat16).to(dtype)
    model.save_pretrained(folder)
    families.tiny_tokenizer().save_pretrained(folder)
    return folder


def _bytes(backbone: Backbone) -> int:
    tensors = [*backbone.model.parameters(), *backbone.model.buffers()]
    return sum(t.numel() * t.element_size() for t in {id(t): t for t in tensors}.values())


def _policy(backbone: Backbone) -> View:
    view = adapted_policy(backbone, SPEC)
    view.train_mode()
    return view


def _gradients(view: View) -> tuple[Tensor, list[Tensor]]:
    found = view.logprobs(BATCH, entropy=True)
    assert found.entropy_P is not None
    (found.logprobs_P.sum() + found.entropy_P.sum()).backward()
    return found.logprobs_P.detach(), [p.grad for p in view.parameters().values()]  # type: ignore[misc]


@pytest.mark.parametrize("name", [*families.SETTINGS])
def test_every_family_is_held_as_it_is_stored(name: str, tmp_path: Path):
    """Loading compares its logits with transformers' own, in float32."""
    folder = _stored(name, tmp_path)
    narrow = load_backbone(str(folder), products=torch.bfloat16)
    wide = load_backbone(str(folder))
    linears = [m for m in narrow.decoder.modules() if type(m) is torch.nn.Linear]
    assert linears
    assert all(m.weight.dtype == torch.bfloat16 for m in linears)
    kept = {id(m.weight) for m in narrow.model.modules() if type(m) is torch.nn.Linear}
    if type(narrow.model.get_input_embeddings()) is torch.nn.Embedding:
        kept.add(id(narrow.model.get_input_embeddings().weight))
        assert narrow.embeddings.dtype == torch.bfloat16
    rest = [p for p in narrow.model.parameters() if id(p) not in kept]
    linear_biases = {id(m.bias) for m in linears if m.bias is not None}
    assert all(p.dtype == torch.float32 for p in rest if id(p) not in linear_biases)
    for (name_, ours), (_, theirs) in zip(
        narrow.model.named_buffers(), wide.model.named_buffers(), strict=True
    ):
        assert torch.equal(ours, theirs), name_  # frequencies, say: never rounded
    assert narrow.stream == torch.float32
    assert View(narrow).hidden(BATCH).dtype == torch.float32


@pytest.mark.parametrize("name", ["qwen2", "llama", "cohere", "phi3", "mixtral"])
def test_numbers_and_gradients_are_those_of_a_float32_embedding_and_head(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Of the same numbers stored in float32, whose matrices are rounded at loading: to nothing."""
    folders = [_stored(name, tmp_path / str(d), d) for d in (torch.bfloat16, torch.float32)]
    narrow = load_backbone(str(folders[0]), products=torch.bfloat16)
    monkeypatch.setattr(loading, "narrow_ends", lambda model: None)
    wide = load_backbone(str(folders[1]), products=torch.bfloat16)
    assert narrow.embeddings.dtype == torch.bfloat16
    assert wide.embeddings.dtype == torch.float32
    ours, theirs = (_gradients(_policy(b)) for b in (narrow, wide))
    torch.testing.assert_close(ours[0], theirs[0], atol=2e-5, rtol=2e-5)
    for mine, other in zip(ours[1], theirs[1], strict=True):
        torch.testing.assert_close(mine, other, atol=2e-4, rtol=1e-3)


def test_it_takes_half_of_the_memory(tmp_path: Path):
    folder = str(_stored("qwen2", tmp_path))
    narrow, wide = load_backbone(folder, products=torch.bfloat16), load_backbone(folder)
    assert _bytes(narrow) < 0.52 * _bytes(wide)


def test_an_embedding_that_would_change_stays_wide(tmp_path: Path):
    families.save_random_model("qwen2", tmp_path)
    backbone = load_backbone(str(tmp_path), products=torch.bfloat16)
    assert backbone.embeddings.dtype == torch.float32
    assert backbone.saved == torch.float32


@pytest.mark.parametrize("name", ["llama", "olmo2"])
def test_engines_sample_what_is_trained(name: str, tmp_path: Path):
    """The native engine (llama) and transformers' (olmo2), also after a sleep."""
    view = _policy(load_backbone(str(_stored(name, tmp_path)), products=torch.bfloat16))
    engine = make_engine(view, end_tokens=frozenset({256}))
    requests = [Request((5, 6, 7 + k), seed=k) for k in range(4)]
    for version in (1, 2):
        completions = engine.generate(requests, SamplingParams(6))
        rows = tuple(
            TokenSequence(r.prompt_tokens, c.tokens)
            for r, c in zip(requests, completions, strict=True)
        )
        with torch.no_grad():
            trainer = view.logprobs(Batch(rows)).logprobs_P
        sampler = torch.tensor([x for c in completions for x in c.sampler_logprobs])
        assert float((trainer - sampler).abs().mean()) < 0.05
        engine.sleep()
        engine.load(merge_on_demand(view), version=version)


def _dtypes(file: Path) -> set[str]:
    with safe_open(file, framework="pt") as opened:
        return {str(opened.get_slice(name).get_dtype()) for name in opened.keys()}  # noqa: SIM118


@pytest.mark.parametrize("trained", [False, True])
def test_what_is_written_has_the_precision_of_the_base(trained: bool, tmp_path: Path):
    folder = str(_stored("qwen2", tmp_path / "base"))
    backbone = load_backbone(folder, products=torch.bfloat16, trained=trained)
    view = View(backbone) if trained else _policy(backbone)
    save_policy(view, tmp_path / "out", base=folder)
    assert _dtypes(tmp_path / "out" / "model.safetensors") == {"BF16"}
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"
    if not trained:
        assert _dtypes(tmp_path / "out" / "adapter" / "adapter_model.safetensors") == {"F32"}
    again = View(load_backbone(str(tmp_path / "out"), products=torch.bfloat16))
    with torch.no_grad():
        gap = (again.logprobs(BATCH).logprobs_P - view.logprobs(BATCH).logprobs_P).abs()
    assert float(gap.max()) < 0.05
    export(str(tmp_path / "out"), tmp_path / "wide", dtype="float32")
    assert _dtypes(tmp_path / "wide" / "model.safetensors") == {"F32"}


def test_a_float32_recipe_writes_float32_and_other_bases_keep_theirs(tmp_path: Path):
    narrow, wide = (
        str(_stored("qwen2", tmp_path / str(d), d)) for d in (torch.bfloat16, torch.float32)
    )
    for number, (base, products, expected) in enumerate(
        ((narrow, None, "F32"), (wide, torch.bfloat16, "F32"), (narrow, torch.bfloat16, "BF16"))
    ):
        out = tmp_path / str(number)
        save_policy(_policy(load_backbone(base, products=products)), out, base=base)
        assert _dtypes(out / "model.safetensors") == {expected}


def test_a_reward_model_is_written_so_and_scores_the_same(tmp_path: Path):
    from burnish.models.weights import load_reward_model

    folder = str(_stored("qwen2", tmp_path / "base"))
    view = _policy(load_backbone(folder, products=torch.bfloat16))
    view = View(view.backbone, "policy", SPEC, ScalarHead(view.backbone.width, seed=1))
    save_reward_model(view, tmp_path / "out", base=folder)
    assert _dtypes(tmp_path / "out" / "model.safetensors") == {"BF16"}
    with torch.no_grad():
        expected, found = view.scores(BATCH), load_reward_model(tmp_path / "out").scores(BATCH)
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0.05)


def test_weights_that_a_stored_float16_cannot_hold_are_an_error(tmp_path: Path):
    families.random_model("qwen2").half().save_pretrained(tmp_path / "base")
    families.tiny_tokenizer().save_pretrained(tmp_path / "base")
    view = _policy(load_backbone(str(tmp_path / "base"), products=torch.bfloat16))
    save_policy(view, tmp_path / "fits", base="b")
    assert _dtypes(tmp_path / "fits" / "model.safetensors") == {"F16"}
    with torch.no_grad():
        for parameter in view.parameters().values():
            parameter.mul_(1e4)
    with pytest.raises(UserError, match=r"too large for float16.*model\.dtype: float32"):
        save_policy(view, tmp_path / "bursts", base="b")
