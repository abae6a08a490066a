"""bfloat16 products: what is rounded and what is not, how far the numbers move, and the correction
for it."""

from __future__ import annotations

import math

import pytest
import torch

from burnish.algorithms.policy_losses import truncated_importance
from burnish.batch import Batch, TokenSequence
from burnish.generation.base import Request, SamplingParams
from burnish.generation.native import NativeEngine
from burnish.models.adapters import LoraSpec, adapter_parameters, add_adapter
from burnish.models.backbone import load_backbone
from burnish.models.precision import narrowed, packed
from burnish.models.roles import View
from burnish.models.thin import Thin
from burnish.models.weights import merge_on_demand, merged

SPEC = LoraSpec(4, 8.0)
BATCH = Batch(tuple(TokenSequence((5, 6, 7), tuple(range(10 + k, 30 + k))) for k in range(3)))


def _view(products: torch.dtype | None) -> View:
    backbone = load_backbone("tiny", products=products)
    backbone.freeze()
    add_adapter(backbone, "policy", SPEC, seed=0)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(1)
        for parameter in adapter_parameters(backbone, "policy").values():
            parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    view = View(backbone, "policy", SPEC)
    view.train_mode()
    return view


def test_only_the_decoders_matrices_are_rounded():
    view = _view(torch.bfloat16)
    narrow = {n for n, p in view.backbone.model.named_parameters() if p.dtype == torch.bfloat16}
    assert narrow
    assert all(n.endswith("base_layer.weight") for n in narrow)
    assert all(p.dtype == torch.float32 for p in view.parameters().values())
    assert view.hidden(BATCH).dtype == torch.float32
    assert not view.backbone.samples_exactly
    assert _view(None).backbone.samples_exactly


def test_numbers_and_gradients_move_as_little_as_rounding_explains():
    exact, rounded = _view(None), _view(torch.bfloat16)
    results = []
    for view in (exact, rounded):
        logprobs = view.logprobs(BATCH).logprobs_P
        logprobs.mean().backward()
        results.append(
            (logprobs.detach(), torch.cat([p.grad.flatten() for p in view.parameters().values()]))
        )
    (logprobs, gradient), (near_logprobs, near_gradient) = results
    assert 0 < (logprobs - near_logprobs).abs().max() < 0.02
    assert torch.nn.functional.cosine_similarity(gradient, near_gradient, dim=0) > 0.999
    assert float(near_gradient.norm() / gradient.norm()) == pytest.approx(1.0, abs=0.02)


def test_merged_weights_keep_what_the_adapter_learned():
    """In bfloat16 a small change of a large weight would be rounded away; the merged matrix is
    float32."""
    view = _view(torch.bfloat16)
    weights = dict(merged(view))
    q = "model.layers.0.self_attn.q_proj.weight"
    assert weights[q].dtype == torch.float32
    bare = dict(merged(View(view.backbone)))[q].float()
    assert 0 < (weights[q] - bare).abs().max() < 0.1


def test_the_sampler_stays_near_the_trainer():
    view = _view(torch.bfloat16)
    engine = NativeEngine.of(view, end_tokens=frozenset({256}))
    requests = [Request((5, 6, 7 + k), seed=k) for k in range(4)]
    completions = engine.generate(requests, SamplingParams(12))
    rows = tuple(
        TokenSequence(r.prompt_tokens, c.tokens) for r, c in zip(requests, completions, strict=True)
    )
    trainer = view.logprobs(Batch(rows)).logprobs_P
    sampler = torch.tensor([x for c in completions for x in c.sampler_logprobs])
    assert 0 < (trainer - sampler).abs().max() < 0.02
    with torch.no_grad():
        for parameter in view.parameters().values():
            parameter.mul_(3.0)
    engine.load(
        merge_on_demand(view), version=1
    )  # packed matrices are replaced, not left as they were
    again = engine.generate(requests, SamplingParams(12))
    assert [c.tokens for c in again] != [c.tokens for c in completions]


def test_products_are_those_of_the_rounded_numbers():
    x, weight = torch.randn(5, 64), torch.randn(64, 96).bfloat16()
    wanted = x.bfloat16().double() @ weight.double()
    for form in (weight, packed(weight)):
        assert Thin(form).product(x).dtype == torch.float32
        assert torch.allclose(Thin(form).product(x).double(), wanted, rtol=2**-7, atol=0.05)
    assert torch.equal(Thin(weight.float()).product(x), x @ weight.float())


def test_an_input_that_changed_is_rounded_again():
    x = torch.randn(3, 4)
    first = narrowed(x, torch.bfloat16)
    assert narrowed(x, torch.bfloat16) is first
    x.mul_(2.0)
    assert torch.equal(narrowed(x, torch.bfloat16), x.bfloat16())
    assert narrowed(x, torch.float32) is x


def test_truncated_importance_by_hand():
    """Ratios ½, 1 and 4 under a cap of 2."""
    sampler = torch.zeros(3, dtype=torch.float64)
    weight = truncated_importance(
        old_logprobs=torch.tensor([math.log(0.5), 0.0, math.log(4.0)], dtype=torch.float64),
        sampler_logprobs=sampler,
        cap=2.0,
    )
    assert weight.per_token.tolist() == pytest.approx([0.5, 1.0, 2.0])
    assert weight.stats["capped"].tolist() == [0.0, 0.0, 1.0]


def test_importance_weights_undo_the_samplers_bias():
    """Enumerated: Σ_y μ(y) min(π/μ, ∞) f(y) = Σ_y π(y) f(y)."""
    mu = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    pi = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    f = torch.tensor([1.0, -2.0, 4.0], dtype=torch.float64)
    weight = truncated_importance(
        old_logprobs=pi.log(), sampler_logprobs=mu.log(), cap=1e9
    ).per_token
    assert float((mu * weight * f).sum()) == pytest.approx(float((pi * f).sum()))


def test_where_every_weight_learns_masters_stay_wide():
    """The products are those of the frozen decoder, to the bit; what learns, and its gradient, is
    float32."""
    frozen, trained = (
        load_backbone("tiny", products=torch.bfloat16, trained=t) for t in (False, True)
    )
    view = View(trained)
    assert all(p.dtype == torch.float32 for p in view.train_mode())
    logprobs = view.logprobs(BATCH).logprobs_P
    assert torch.equal(logprobs, View(frozen).logprobs(BATCH).logprobs_P)
    assert not trained.samples_exactly
    logprobs.mean().backward()
    exact = View(load_backbone("tiny"))
    exact.train_mode()
    exact.logprobs(BATCH).logprobs_P.mean().backward()
    near, wide = (
        torch.cat([p.grad.flatten() for p in v.parameters().values()]) for v in (view, exact)
    )
    assert near.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(near, wide, dim=0) > 0.999
    name = "model.layers.0.mlp.up_proj.weight"
    before = view.parameters()[name].detach().clone()
    torch.optim.SGD(view.parameters().values(), lr=1e-4).step()
    after = view.parameters()[name].detach()
    assert (after != before).float().mean() > 0.5
    assert (
        after.bfloat16() != before.bfloat16()
    ).float().mean() < 0.1  # a bfloat16 weight would have stayed where it was


def test_the_sampler_takes_over_wide_masters():
    view = View(load_backbone("tiny", products=torch.bfloat16, trained=True))
    engine = NativeEngine.of(view, end_tokens=frozenset({256}))
    request = Request((5, 6, 7), seed=0)
    (before,) = engine.generate([request], SamplingParams(4))
    with torch.no_grad():
        for weight in view.parameters().values():
            weight.mul_(1.5)
    engine.load(merge_on_demand(view), version=1)
    (after,) = engine.generate([request], SamplingParams(4))
    assert before.sampler_logprobs != after.sampler_logprobs
    told = view.logprobs(Batch((TokenSequence(request.prompt_tokens, after.tokens),))).logprobs_P
    assert told.tolist() == pytest.approx(after.sampler_logprobs, abs=0.05)
