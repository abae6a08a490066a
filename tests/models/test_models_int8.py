"""8-bit products: the integers by hand, how far the numbers move, rows that do not see one another,
and the correction."""

from __future__ import annotations

import pytest
import torch

from burnish.batch import Batch, TokenSequence
from burnish.errors import UserError
from burnish.generation.base import Request, SamplingParams, request_seed
from burnish.generation.native import NativeEngine
from burnish.models import int8
from burnish.models.adapters import LoraSpec, add_adapter
from burnish.models.backbone import Backbone, load_backbone
from burnish.models.int8 import Int8Matrix
from burnish.models.roles import View
from burnish.models.weights import merge_on_demand

pytestmark = pytest.mark.skipif(not int8.available(), reason="no 8-bit products here")
REQUESTS = [Request(tuple([258, *range(40, 40 + 3 + k % 5)]), request_seed(k)) for k in range(12)]


def _engine(view: View, **options: int) -> NativeEngine:
    return NativeEngine.of(view, end_tokens=frozenset({256}), products=torch.int8, **options)


def test_a_product_by_hand():
    weight_NK = torch.tensor([[127.0, -63.5], [0.0, 2.0]])  # scales 1 and 2/127
    x_MK = torch.tensor([[1.27, 0.635]])  # scale 0.01: 127 and 63.5, which rounds up to 64
    # row 1: 127·127 + 64·(−64) (−63.5 rounds to even) = 12,033, times 1 · 0.01; row 2: 64 · 127 ·
    # (2/127) · 0.01 = 1.28
    found = Int8Matrix.of(weight_NK).product(x_MK)
    torch.testing.assert_close(found, torch.tensor([[120.33, 1.28]]))


def test_products_are_those_of_the_rounded_numbers():
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(7, 96, generator=generator), torch.randn(160, 96, generator=generator)
    x_scale, w_scale = (
        x.abs().amax(dim=1, keepdim=True) / 127,
        weight.abs().amax(dim=1, keepdim=True) / 127,
    )
    whole_x, whole_w = torch.floor(x / x_scale + 0.5), torch.round(weight / w_scale)
    wanted = (whole_x.double() @ whole_w.double().T) * x_scale.double() * w_scale.double().T
    matrix = Int8Matrix.of(weight)
    torch.testing.assert_close(matrix.product(x), wanted.float(), rtol=1e-5, atol=1e-5)
    out = torch.empty(7, 160)
    assert matrix.product(x, out=out) is out
    torch.testing.assert_close(out, wanted.float(), rtol=1e-5, atol=1e-5)
    # Rounding moves a number by at most half a step, and the errors of a row add up like random
    # ones.
    exact = x @ weight.T
    assert float((out - exact).norm() / exact.norm()) < 0.02


def test_a_row_gives_the_same_bits_in_any_company():
    x, matrix = torch.randn(33, 64), Int8Matrix.of(torch.randn(48, 64))
    together = matrix.product(x)
    for row in (0, 7, 32):
        assert torch.equal(matrix.product(x[row : row + 1])[0], together[row])


def test_rows_and_columns_of_zeros_give_zeros():
    weight, x = torch.randn(16, 32), torch.randn(4, 32)
    weight[3], x[2] = 0.0, 0.0
    found = Int8Matrix.of(weight).product(x)
    assert found.isfinite().all()
    assert not found[:, 3].any()
    assert not found[2].any()


def test_where_there_are_no_such_products_it_says_so(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(
        UserError,
        match=r"no 8-bit products here: .*the model is on meta.*sampling\.quantization to auto",
    ):
        Int8Matrix.of(torch.randn(4, 4, device="meta"))
    monkeypatch.setattr(int8, "lacking", lambda: "a reason")
    with pytest.raises(UserError, match="no 8-bit products here: a reason"):
        Int8Matrix.of(torch.randn(4, 4))


def test_a_processor_that_sums_pairs_in_16_bits_is_found_out(monkeypatch: pytest.MonkeyPatch):
    """What oneDNN does without VNNI units: two products at a time, of bytes without sign and bytes
    with, saturated."""
    assert int8.lacking() is None
    weights: list[torch.Tensor] = []

    def saturating(x_MK: torch.Tensor, packed: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        products = x_MK.int()[:, None] * weights[-1].int()
        pairs = products.unflatten(-1, (-1, 2)).sum(-1).clamp(-(2**15), 2**15 - 1)
        return (pairs.sum(-1) - 128 * weights[-1].int().sum(-1)).float()

    monkeypatch.setattr(int8, "_prepack", lambda weight: weights.append(weight) or weight)
    monkeypatch.setattr(int8, "_multiply", saturating)
    assert "VNNI" in str(int8.lacking.__wrapped__())
    monkeypatch.setattr(int8, "_multiply", lambda *_: torch.ops.onednn.no_such_operator())
    assert "torch" in str(int8.lacking.__wrapped__())


def test_the_same_request_gives_the_same_tokens_in_any_company(tiny: Backbone):
    params = SamplingParams(16)
    together = _engine(View(tiny)).generate(REQUESTS, params)
    few = _engine(View(tiny), max_rows=3, prefill_tokens=8).generate(REQUESTS, params)
    assert [c.tokens for c in together] == [c.tokens for c in few]


def test_the_sampler_is_near_the_trainer_and_follows_its_weights():
    backbone = load_backbone("tiny")
    backbone.freeze()
    add_adapter(backbone, "policy", LoraSpec(4, 8.0), seed=0)
    view = View(backbone, "policy", LoraSpec(4, 8.0))
    engine = _engine(view)
    for version in (1, 2):
        for name, parameter in view.parameters().items():
            if "lora_B" in name:
                torch.nn.init.normal_(
                    parameter, std=0.1 * version, generator=torch.Generator().manual_seed(version)
                )
        engine.load(merge_on_demand(view), version=version)
        completions = engine.generate(REQUESTS, SamplingParams(12))
        rows = (
            TokenSequence(r.prompt_tokens, c.tokens)
            for r, c in zip(REQUESTS, completions, strict=True)
        )
        trainer = view.logprobs(Batch(tuple(rows))).logprobs_P
        sampler = torch.tensor([x for c in completions for x in c.sampler_logprobs])
        assert 0 < float((trainer - sampler).detach().abs().mean()) < 0.02


def test_a_head_that_was_trained_is_rounded_anew(tiny: Backbone):
    engine = _engine(View(tiny))
    before = engine.generate(REQUESTS, SamplingParams(8, temperature=0.0))
    with torch.no_grad():
        tiny.embeddings.mul_(2.0)
    engine.load(merge_on_demand(View(tiny)), version=1)
    fresh = _engine(View(tiny)).generate(REQUESTS, SamplingParams(8, temperature=0.0))
    after = engine.generate(REQUESTS, SamplingParams(8, temperature=0.0))
    first, new, same = (
        torch.tensor([c.sampler_logprobs for c in completions])
        for completions in (before, fresh, after)
    )
    # Not the same to the bit: the fresh engine fits its rounding to the weights that it was made
    # with.
    assert float((same - new).abs().mean()) < 0.05 * float((same - first).abs().mean())


def test_channels_that_are_far_larger_than_the_rest_cost_less_when_their_size_is_known():
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(64, 128, generator=generator), torch.randn(96, 128, generator=generator)
    x[:, 5] *= 100.0
    exact, peaks = x @ weight.T, x.abs().amax(dim=0)
    plain, fitted = (
        float((Int8Matrix.of(weight, p).product(x) - exact)[:, :].norm() / exact.norm())
        for p in (None, peaks)
    )
    assert fitted < 0.5 * plain


@pytest.mark.real
def test_the_real_models_distribution_is_near(smollm: Backbone):
    """Mean distance of log-probabilities on text that the 8-bit sampler wrote itself: 0.16 nats a
    token were measured."""
    prompts = [
        smollm.tokenizer(text)["input_ids"]
        for text in ("How do I boil an egg?", "Name three rivers.")
    ]
    requests = [Request(tuple(p), request_seed(k)) for p in prompts for k in range(4)]
    completions = _engine(View(smollm)).generate(requests, SamplingParams(24))
    rows = (
        TokenSequence(r.prompt_tokens, c.tokens) for r, c in zip(requests, completions, strict=True)
    )
    with torch.no_grad():
        trainer = View(smollm).logprobs(Batch(tuple(rows))).logprobs_P
    sampler = torch.tensor([x for c in completions for x in c.sampler_logprobs])
    assert float((trainer - sampler).abs().mean()) < 0.25
