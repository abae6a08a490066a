"""Packing is exact: no sequence sees its neighbours, and sharing a prompt changes nothing."""

from __future__ import annotations

import pytest
import torch

from burnish.batch import Batch, TokenSequence
from burnish.models.adapters import LoraSpec, add_adapter
from burnish.models.backbone import Backbone
from burnish.models.heads import ScalarHead
from burnish.models.roles import View

SEQUENCES = (
    TokenSequence((258, 10, 11, 12), (20, 21, 22, 256)),
    TokenSequence((258, 10, 11, 12), (30, 256)),
    TokenSequence((258, 40), (50, 51, 52), (True, False, True)),
)


def _gradients(view: View, batch: Batch) -> list[torch.Tensor]:
    parameters = view.train_mode()
    scored = view.logprobs(batch, entropy=True)
    (scored.logprobs_P.sum() + scored.entropy_P.sum() + view.scores(batch).sum()).backward()
    found = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]
    for parameter in parameters:
        parameter.grad = None
    return found


@pytest.fixture
def view(tiny: Backbone) -> View:
    return View(tiny, head=ScalarHead(tiny.width))


def test_packed_equals_one_at_a_time(view: View):
    packed = view.logprobs(Batch(SEQUENCES)).logprobs_P
    alone = torch.cat([view.logprobs(Batch((s,))).logprobs_P for s in SEQUENCES])
    torch.testing.assert_close(packed, alone, atol=1e-5, rtol=1e-5)


def test_packed_equals_the_models_own_forward(view: View):
    """The oracle: transformers' eager attention, one unpadded sequence at a time, log_softmax of
    its logits."""
    packed = view.logprobs(Batch(SEQUENCES[:2]), temperature=0.7).logprobs_P
    model = view.backbone.model
    model.set_attn_implementation("eager")
    expected = []
    for s in SEQUENCES[:2]:
        logits = (
            model(torch.tensor([s.prompt + s.response])).logits[0, len(s.prompt) - 1 : -1] / 0.7
        )
        expected.append(logits.log_softmax(-1).gather(1, torch.tensor(s.response)[:, None])[:, 0])
    torch.testing.assert_close(packed, torch.cat(expected), atol=1e-5, rtol=1e-5)


def test_gradients_do_not_depend_on_sharing_or_packing(view: View):
    shared = _gradients(view, Batch(SEQUENCES))
    unshared = _gradients(view, Batch(SEQUENCES, share_prompts=False))
    alone = [
        sum(parts)
        for parts in zip(*(_gradients(view, Batch((s,))) for s in SEQUENCES), strict=True)
    ]
    for a, b, c in zip(shared, unshared, alone, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(a, c, atol=1e-4, rtol=1e-4)


def test_changing_a_neighbour_changes_nothing_else(view: View):
    before = view.logprobs(Batch(SEQUENCES)).logprobs_P[:6]
    neighbour = TokenSequence((258, 99, 98), (97, 96, 95, 94, 93))
    after = view.logprobs(Batch((*SEQUENCES[:2], neighbour))).logprobs_P[:6]
    torch.testing.assert_close(before, after, atol=1e-6, rtol=1e-6)


def test_only_one_adapter_is_active_and_none_is_the_bare_model(tiny: Backbone):
    bare = View(tiny).logprobs(Batch(SEQUENCES)).logprobs_P
    tiny.freeze()
    for name in ("policy", "critic"):
        add_adapter(tiny, name, LoraSpec(4, 8.0), seed=1)
    policy = View(tiny, "policy", LoraSpec(4, 8.0))
    # B = 0 at the start
    torch.testing.assert_close(policy.logprobs(Batch(SEQUENCES)).logprobs_P, bare)
    for name, parameter in policy.parameters().items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(0))
    assert (policy.logprobs(Batch(SEQUENCES)).logprobs_P - bare).abs().max() > 0.01
    torch.testing.assert_close(
        View(tiny, "critic", LoraSpec(4, 8.0)).logprobs(Batch(SEQUENCES)).logprobs_P, bare
    )
    torch.testing.assert_close(View(tiny).logprobs(Batch(SEQUENCES)).logprobs_P, bare)


def test_a_frozen_backbone_gets_no_gradient(tiny: Backbone):
    tiny.freeze()
    add_adapter(tiny, "policy", LoraSpec(4, 8.0), seed=1)
    view = View(tiny, "policy", LoraSpec(4, 8.0))
    view.train_mode()
    view.logprobs(Batch(SEQUENCES)).logprobs_P.sum().backward()
    with_gradient = {n for n, p in tiny.model.named_parameters() if p.grad is not None}
    assert with_gradient == set(view.parameters())


def test_the_head_is_normalized_to_mean_0_std_1():
    head = ScalarHead(8, seed=3)
    hidden = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    head.normalize(head(hidden))
    head.normalize(head(hidden) * 1.0)  # twice is once
    scores = head(hidden).double()
    assert scores.mean().abs() < 1e-5
    assert abs(scores.std(correction=0) - 1) < 1e-5


def test_equal_scores_cannot_be_normalized():
    with pytest.raises(ValueError, match="every score is the same"):
        ScalarHead(4).normalize(torch.ones(3))
