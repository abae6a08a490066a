"""The learner: how a batch is cut changes no gradient; bad numbers are skipped and counted;
schedules by hand."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

from burnish.batch import Batch, TokenSequence
from burnish.config.online import Algorithm, OnlineTraining
from burnish.config.sections import Optimizer
from burnish.generation.base import Request, SamplingParams
from burnish.generation.native import NativeEngine
from burnish.models import int8
from burnish.models.adapters import LoraSpec, add_adapter
from burnish.models.backbone import Backbone, load_backbone
from burnish.models.heads import ScalarHead
from burnish.models.roles import View
from burnish.models.weights import merge_on_demand
from burnish.records import Comparison
from burnish.stages.kinds.reward import RewardModel
from burnish.trainers.groups import RankedGroup
from burnish.trainers.learner import Diverged, Learner, Term, schedule
from burnish.trainers.online import policy_term, value_term
from burnish.trainers.online_settings import resolve_settings
from burnish.trainers.reward_model import bradley_terry_term
from burnish.trainers.sft import mean_nll, nll_term

SEQUENCES = tuple(
    TokenSequence((258, 10 + i % 2), tuple(range(20 + i, 24 + 2 * i))) for i in range(6)
)


def _weights_after(terms_of, settings: Optimizer) -> dict[str, torch.Tensor]:
    """The parameters of a fresh model after one step whose gradient is not clipped."""
    backbone = load_backbone("tiny")
    view = View(backbone, head=ScalarHead(backbone.width, seed=1))
    parameters = view.train_mode()
    for term_of in terms_of(view):
        term_of().loss.backward()
    return {
        n: p.grad
        for (n, p) in zip(view.parameters(), parameters, strict=True)
        if p.grad is not None
    }


@pytest.mark.parametrize("lora", [False, True])
def test_layers_run_again_give_the_same_gradient(lora: bool):
    gradients = []
    for recompute in (False, True):
        backbone = load_backbone("tiny")
        if lora:
            backbone.freeze()
            add_adapter(backbone, "policy", LoraSpec(4, 8.0), seed=0)
        view = View(backbone, "policy", LoraSpec(4, 8.0)) if lora else View(backbone)
        learner = Learner(view, Optimizer(gradient_checkpointing=recompute), total_steps=1)
        assert (
            any(layer.gradient_checkpointing for layer in backbone.model.model.layers) == recompute
        )
        batch = Batch(SEQUENCES)
        nll_term(view, batch, denominator=batch.trained_tokens).loss.backward()
        gradients.append([p.grad for p in learner.view.parameters().values()])
    for kept, again in zip(*gradients, strict=True):
        assert torch.equal(kept, again)


def _train(view: View) -> None:
    """Two large steps."""
    learner = Learner(view, Optimizer(learning_rate=0.02, warmup=0.0), total_steps=2)
    batch = Batch(SEQUENCES)
    for _ in range(2):
        learner.update([partial(nll_term, view, batch, denominator=batch.trained_tokens)])


def test_a_step_shows_in_the_version_of_every_weight(tiny: Backbone):
    """By which others know that what they made of a weight is out of date."""
    view = View(tiny)
    before = {name: (p._version, p.detach().clone()) for name, p in view.parameters().items()}
    _train(view)
    for name, parameter in view.parameters().items():
        version, weight = before[name]
        assert not torch.equal(parameter, weight)
        assert parameter._version > version


@pytest.mark.skipif(not int8.available(), reason="no 8-bit products here")
def test_an_8_bit_engine_follows_a_head_that_is_trained(tiny: Backbone):
    view = View(tiny)
    engine = NativeEngine.of(view, end_tokens=frozenset({256}), products=torch.int8)
    _train(view)
    engine.load(merge_on_demand(view), version=1)
    requests = [Request((258, 40 + k), k) for k in range(8)]
    completions = engine.generate(requests, SamplingParams(12))
    rows = (
        TokenSequence(r.prompt_tokens, c.tokens) for r, c in zip(requests, completions, strict=True)
    )
    sampler = torch.tensor([x for c in completions for x in c.sampler_logprobs])
    assert (
        float((view.logprobs(Batch(tuple(rows))).logprobs_P - sampler).detach().abs().mean()) < 0.1
    )


def _assert_same_gradient(whole, cut) -> None:
    a, b = _weights_after(whole, Optimizer()), _weights_after(cut, Optimizer())
    assert a.keys() == b.keys()
    assert max(float(x.abs().max()) for x in a.values()) > 1e-3
    for name in a:
        torch.testing.assert_close(a[name], b[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("limit", [8, 20, 30])
def test_sft_gradient_does_not_depend_on_micro_batches(limit: int):
    batch = Batch(SEQUENCES)
    cuts = [batch.select(rows) for rows in batch.micro_batches(limit)]
    assert len(cuts) > 1
    _assert_same_gradient(
        lambda view: [partial(nll_term, view, batch, denominator=batch.trained_tokens)],
        lambda view: [
            partial(nll_term, view, cut, denominator=batch.trained_tokens) for cut in cuts
        ],
    )


def test_ppo_gradient_does_not_depend_on_micro_batches_or_sharing():
    generator = torch.Generator().manual_seed(0)
    count = Batch(SEQUENCES).trained_tokens
    columns = {
        name: torch.randn(count, generator=generator)
        for name in ("advantages", "returns", "values")
    }
    columns["old_logprobs"] = -5.5 + 0.3 * torch.randn(count, generator=generator)
    settings = resolve_settings(OnlineTraining(algorithm=Algorithm(name="ppo"), ent_coef=0.1))
    batch = Batch(SEQUENCES, columns)
    alone = [
        Batch((s,), {n: c.split(batch.counts_N.tolist())[i] for n, c in columns.items()})
        for i, s in enumerate(SEQUENCES)
    ]

    def terms(view: View, pieces: list[Batch]) -> list:
        share = {"denominator": count, "settings": settings}
        return [
            partial(f, view, piece, **share) for piece in pieces for f in (policy_term, value_term)
        ]

    _assert_same_gradient(lambda view: terms(view, [batch]), lambda view: terms(view, alone))
    unshared = Batch(SEQUENCES[::2] + SEQUENCES[1::2])
    order = [0, 2, 4, 1, 3, 5]
    assert unshared.micro_batches(10_000) == [[0, 1, 2, 3, 4, 5]]
    _assert_same_gradient(
        lambda view: terms(view, [batch]), lambda view: terms(view, [batch.select(order)])
    )


def test_reward_gradient_does_not_depend_on_micro_batches():
    def group(offset: int, pairs: tuple[Comparison, ...]) -> RankedGroup:
        prompt = (258, offset)
        return RankedGroup(
            tuple(TokenSequence(prompt, (offset + i, 30 + i)) for i in range(3)), pairs
        )

    groups = [
        group(10, (Comparison(0, 1, 1.0), Comparison(0, 2, 0.7), Comparison(1, 2, 0.5))),
        group(11, (Comparison(2, 1, 0.2),)),
    ]
    config = RewardModel(margin=0.3)
    _assert_same_gradient(
        lambda view: [partial(bradley_terry_term, view, groups, config=config, prompts=2)],
        lambda view: [
            partial(bradley_terry_term, view, [g], config=config, prompts=2) for g in groups
        ],
    )


def test_reward_loss_by_hand(tiny: Backbone):
    view = View(tiny, head=ScalarHead(tiny.width))
    sequences = tuple(TokenSequence((258, 10), (20 + i,)) for i in range(3))
    s = view.scores(Batch(sequences)).tolist()
    group = RankedGroup(sequences, (Comparison(0, 1, 1.0), Comparison(0, 2, 0.25)))
    term = bradley_terry_term(view, [group], config=RewardModel(margin=0.5), prompts=4)
    nll = lambda x: math.log1p(math.exp(-x))  # noqa: E731
    first = nll(s[0] - s[1] - 0.5)  # margin 0.5 · |2·1 − 1|, towards the first
    lead = s[0] - s[2] + 0.25  # margin 0.5 · |2·0.25 − 1|, towards the second
    second = 0.25 * nll(lead) + 0.75 * nll(-lead)
    assert term.loss.item() == pytest.approx((first + second) / 2 / 4, rel=1e-5)


def test_hard_labels_take_the_majority(tiny: Backbone):
    view = View(tiny, head=ScalarHead(tiny.width))
    sequences = tuple(TokenSequence((258, 10), (20 + i,)) for i in range(2))
    soft = RankedGroup(sequences, (Comparison(0, 1, 0.6),))
    hard = RankedGroup(sequences, (Comparison(0, 1, 1.0),))
    loss = [
        bradley_terry_term(view, [g], config=RewardModel(soft_labels=s), prompts=1).loss
        for g, s in ((soft, False), (hard, True))
    ]
    torch.testing.assert_close(loss[0], loss[1])


def test_mean_nll_is_the_token_mean(tiny: Backbone):
    view = View(tiny)
    batch = Batch(SEQUENCES)
    with torch.no_grad():
        expected = -float(view.logprobs(batch).logprobs_P.mean())
    assert mean_nll(view, SEQUENCES, max_tokens=15) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("constant", [0.5, 1, 1, 1, 1, 1]),
        ("linear", [0.5, 1, 1, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1, 1, 0.8535534, 0.5, 0.1464466]),
    ],
)
def test_schedule_by_hand(kind: str, expected: list[float]):
    assert [schedule(step=s, total=6, warmup=0.3, kind=kind) for s in range(6)] == pytest.approx(
        expected
    )


def test_a_step_with_a_bad_number_changes_nothing_and_too_many_stop(tiny: Backbone):
    view = View(tiny)
    learner = Learner(view, Optimizer(max_skipped_steps=2), total_steps=10)
    before = {n: p.clone() for n, p in view.state_dict().items()}

    def bad() -> Term:
        return Term(sum(p.sum() for p in view.parameters().values()) * float("nan"), {})

    for _ in range(2):
        assert math.isnan(learner.update([bad])["loss"])
    assert learner.skipped == 2
    assert all(torch.equal(before[n], p) for n, p in view.state_dict().items())
    batch = Batch(SEQUENCES)
    # a good step forgives
    learner.update([partial(nll_term, view, batch, denominator=batch.trained_tokens)])
    for _ in range(2):
        learner.update([bad])
    with pytest.raises(Diverged, match="3 updates in a row, up to number 6"):
        learner.update([bad])


def test_gradient_is_clipped_globally(tiny: Backbone):
    view = View(tiny)
    learner = Learner(view, Optimizer(max_grad_norm=1e-3), total_steps=1)
    seen: list[float] = []
    step = learner._optimizer.step

    def spy() -> None:
        seen.append(
            math.sqrt(
                sum(
                    float((p.grad**2).sum())
                    for p in view.parameters().values()
                    if p.grad is not None
                )
            )
        )
        step()

    learner._optimizer.step = spy
    batch = Batch(SEQUENCES)
    stats = learner.update([partial(nll_term, view, batch, denominator=batch.trained_tokens)])
    assert stats["grad_norm"] > 0.1
    assert seen == pytest.approx([1e-3], rel=1e-2)
