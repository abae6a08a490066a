"""Frozen matrices in 8 and 4 bits: codes by hand, values and gradients of the matrices that they
stand for, and bitsandbytes' own where it is installed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import families
from adapted import adapted_policy
from burnish.batch import Batch, TokenSequence
from burnish.errors import UserError
from burnish.generation.base import Request, SamplingParams
from burnish.generation.engine import make_engine
from burnish.models import backbone as loading
from burnish.models import quantized
from burnish.models.adapters import LoraSpec
from burnish.models.backbone import Backbone, load_backbone
from burnish.models.quantized import QuantizedLinear, by_kernel, frozen_weights
from burnish.models.roles import View, adapter_roles
from burnish.models.stored import BITS
from burnish.models.weights import merge_on_demand, save_policy

KINDS = ("int8", "int4", "nf4")
SPEC = LoraSpec(2, 4.0)
BATCH = Batch((TokenSequence((7, 5, 6), (20, 21, 3)), TokenSequence((7, 5, 6), (9, 10, 11, 12))))


def _linear(weight: Tensor, kind: Any, bias: Tensor | None = None, **options: Any) -> Any:
    return QuantizedLinear(weight, bias, kind=kind, products=options.get("products", weight.dtype))


def test_int8_by_hand():
    linear = _linear(
        torch.tensor([[1.27, -0.64, 0.0], [0.0, 0.0, 0.0], [2.54, 0.03, -2.54]]), "int8"
    )
    assert linear.codes.tolist() == [[127, -64, 0], [0, 0, 0], [127, 2, -127]]
    assert linear.scales.tolist() == pytest.approx([0.01, 1e-30, 0.02])
    expected = torch.tensor([[1.27, -0.64, 0.0], [0.0, 0.0, 0.0], [2.54, 0.04, -2.54]])
    torch.testing.assert_close(linear.weight, expected)


def test_int4_by_hand():
    """A row of 70: two groups, of which the second has 6 numbers."""
    row = torch.zeros(70)
    row[0], row[1], row[2], row[63], row[64], row[69] = 7.0, -3.2, 0.4, -7.0, 14.0, 5.1
    linear = _linear(row[None], "int4")
    assert linear.scales.tolist() == [[7.0, 14.0]]
    assert linear.codes.shape == (1, 64)
    found = linear.weight[0]
    assert found.shape == (70,)
    assert found[[0, 1, 2, 63, 64, 69]].tolist() == pytest.approx([7, -3, 0, -7, 14, 6], abs=1e-5)
    assert int(found.count_nonzero()) == 5


def test_nf4_takes_the_nearest_of_sixteen_levels():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(8, 128, generator=generator)
    groups = weight.view(8, 2, 64)
    largest = groups.abs().amax(2, keepdim=True)
    levels = torch.tensor(quantized._NF4)
    nearest = levels[(groups / largest)[..., None].sub(levels).abs().argmin(-1)] * largest
    torch.testing.assert_close(_linear(weight, "nf4").weight, nearest.view(8, 128))


@pytest.mark.parametrize(("kind", "error"), [("int8", 0.008), ("int4", 0.12), ("nf4", 0.10)])
def test_how_much_is_lost_of_a_normal_matrix_and_how_much_it_takes(kind: Any, error: float):
    weight = torch.randn(300, 200, generator=torch.Generator().manual_seed(0))
    linear = _linear(weight, kind)
    lost = float((linear.weight - weight).norm() / weight.norm())
    assert 0.5 * error < lost < error
    filled = 200 if kind == "int8" else 256
    bits = 8 * (linear.codes.numel() + 4 * linear.scales.numel()) / (300 * filled)
    assert bits == pytest.approx(BITS[kind] + (32 / 200 if kind == "int8" else 0))


def test_bitsandbytes_has_the_same_codes_and_gives_the_same_weights():
    functional: Any = pytest.importorskip("bitsandbytes.functional")
    weight = torch.randn(48, 128, generator=torch.Generator().manual_seed(0))
    linear = _linear(weight, "nf4")
    codes, state = functional.quantize_4bit(weight, blocksize=64, quant_type="nf4")
    assert torch.equal(codes.flatten(), linear.codes.flatten())
    assert torch.equal(state.absmax, linear.scales.flatten())
    torch.testing.assert_close(by_kernel(linear.codes, linear.scales, 128), linear.weight)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("products", [torch.float32, torch.bfloat16])
def test_values_and_gradients_are_those_of_the_widened_matrix(
    kind: Any, bias: bool, products: torch.dtype
):
    generator = torch.Generator().manual_seed(0)
    weight, offset = torch.randn(9, 70, generator=generator), torch.randn(9, generator=generator)
    linear = _linear(weight, kind, offset if bias else None, products=products)
    x = torch.randn(2, 5, 70, generator=generator, requires_grad=True)
    down = torch.randn(2, 5, 9, generator=generator)
    y = linear(x)
    (ours,) = torch.autograd.grad((y * down).sum(), x)
    wide = linear.weight.to(products)
    other = nn.functional.linear(
        x.to(products), wide, offset.to(products) if bias else None
    ).float()
    (theirs,) = torch.autograd.grad((other * down).sum(), x)
    torch.testing.assert_close(y, other, atol=1e-5, rtol=1e-5)
    tight = products == torch.float32
    torch.testing.assert_close(ours, theirs, atol=1e-5 if tight else 0.1, rtol=1e-5)
    assert linear.codes.dtype in (torch.int8, torch.uint8)
    assert not [name for name, _ in linear.named_parameters() if name != "bias"]


def _policy(backbone: Backbone, spec: LoraSpec = SPEC) -> View:
    view = adapted_policy(backbone, spec)
    view.train_mode()
    return view


def _gradients(view: View) -> tuple[Tensor, list[Tensor]]:
    logprobs = view.logprobs(BATCH).logprobs_P
    logprobs.sum().backward()
    gradients = []
    for parameter in view.parameters().values():
        assert parameter.grad is not None
        gradients.append(parameter.grad)
    return logprobs.detach(), gradients


def _widened(backbone: Backbone) -> Backbone:
    """The same model with plain matrices of what the codes stand for."""
    for module in list(backbone.decoder.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, QuantizedLinear):
                plain = nn.Linear(child.in_features, child.out_features, child.bias is not None)
                plain.weight = nn.Parameter(child.weight, requires_grad=False)
                plain.bias = child.bias
                setattr(module, name, plain)
    return backbone


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "spec", [SPEC, replace(SPEC, targets=("q_proj",)), replace(SPEC, dora=True)]
)
@pytest.mark.parametrize("name", ["qwen2", "phi3", "mixtral", "lfm2"])
def test_a_models_numbers_and_gradients_are_those_of_the_widened_model(
    kind: Any, spec: LoraSpec, name: str, tmp_path: Path
):
    folder = str(families.save_random_model(name, tmp_path))
    if spec.targets and name == "phi3":
        spec = replace(spec, targets=("qkv_proj",))
    ours = _policy(load_backbone(folder, quantization=kind), spec)
    assert frozen_weights(ours.backbone.model)
    theirs = _policy(_widened(load_backbone(folder, quantization=kind)), spec)
    (mine, my_gradients), (other, other_gradients) = _gradients(ours), _gradients(theirs)
    torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-5)
    for one, two in zip(my_gradients, other_gradients, strict=True):
        torch.testing.assert_close(one, two, atol=2e-4, rtol=1e-3)
    assert ours.backbone.parameter_count == theirs.backbone.parameter_count
    merged, expected = merge_on_demand(ours), merge_on_demand(theirs)
    assert merged.keys() == expected.keys()
    for weight in merged:
        torch.testing.assert_close(merged[weight](), expected[weight]())


def test_nothing_wide_is_kept_for_the_backward_pass(tiny: Backbone):
    """The sizes of all tensors that autograd saves: none is a matrix of the decoder."""
    backbone = load_backbone("tiny", quantization="int8")
    view = _policy(backbone, replace(SPEC, targets=("q_proj",)))
    shapes = {tuple(m.codes.shape) for m in frozen_weights(backbone.model).values()}
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        view.logprobs(BATCH)
    assert saved
    wide = [t for t in saved if tuple(t.shape) in shapes and t.is_floating_point()]
    assert not [t for t in wide if t.numel() > 64 * len(BATCH.layout.tokens_T)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_engines_sample_what_is_trained(kind: Any, dtype: str, tmp_path: Path):
    folder = str(families.save_random_model("llama", tmp_path))
    products = getattr(torch, dtype)
    view = _policy(load_backbone(folder, quantization=kind, products=products))
    assert view.backbone.samples_exactly == (dtype == "float32")
    engine = make_engine(view, end_tokens=frozenset({256}))
    requests = [Request((5, 6, 7 + k), seed=k) for k in range(4)]
    completions = engine.generate(requests, SamplingParams(6))
    rows = tuple(
        TokenSequence(r.prompt_tokens, c.tokens) for r, c in zip(requests, completions, strict=True)
    )
    with torch.no_grad():
        trainer = view.logprobs(Batch(rows)).logprobs_P
    sampler = torch.tensor([x for c in completions for x in c.sampler_logprobs])
    assert float((trainer - sampler).abs().mean()) < (1e-4 if dtype == "float32" else 0.05)


def test_roles_share_one_quantized_backbone():
    base = load_backbone("tiny", quantization="nf4")
    roles = adapter_roles(base, lora=SPEC, critic=True, reference=True, seed=0)
    assert roles.critic is not None
    assert roles.reference is not None
    with torch.no_grad():  # B is 0: the policy is the reference
        torch.testing.assert_close(
            roles.policy.logprobs(BATCH).logprobs_P, roles.reference.logprobs(BATCH).logprobs_P
        )
        assert roles.critic.values(BATCH).abs().max() == 0


def test_what_is_written_is_what_was_trained(tmp_path: Path):
    folder = str(families.save_random_model("qwen2", tmp_path / "base"))
    view = _policy(load_backbone(folder, quantization="nf4"))
    save_policy(view, tmp_path / "out", base=folder)
    assert "quantization_config" not in json.loads((tmp_path / "out" / "config.json").read_text())
    with torch.no_grad():
        expected = view.logprobs(BATCH).logprobs_P
        merged = View(load_backbone(str(tmp_path / "out"))).logprobs(BATCH).logprobs_P
        on_base = View(load_backbone(str(tmp_path / "out" / "adapter"))).logprobs(BATCH).logprobs_P
    torch.testing.assert_close(merged, expected, atol=1e-4, rtol=1e-4)
    gap = float((on_base - expected).abs().mean())
    assert 1e-4 < gap < 2.0  # the adapter by itself stands on the base as it was published


def test_hashes_tell_quantized_weights_apart():
    hashes = {load_backbone("tiny", quantization=kind).content_hash() for kind in KINDS}
    hashes |= {load_backbone("tiny").content_hash()}
    assert len(hashes) == 4


def test_a_quantized_model_of_bfloat16_is_small(tmp_path: Path):
    families.random_model("qwen2").to(torch.bfloat16).save_pretrained(tmp_path)
    families.tiny_tokenizer().save_pretrained(tmp_path)
    backbone = load_backbone(str(tmp_path), quantization="int8")
    assert backbone.embeddings.dtype == torch.bfloat16
    assert backbone.products == backbone.stream == torch.float32
    save_policy(_policy(backbone), tmp_path / "out", base="b")
    kinds = {tensor.dtype for tensor in load_file(tmp_path / "out" / "model.safetensors").values()}
    assert kinds == {torch.bfloat16}


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loading, "world", lambda: 2)
    with pytest.raises(UserError, match=r"not shared out.*lora\.quantization: none"):
        load_backbone("tiny", quantization="int8")
