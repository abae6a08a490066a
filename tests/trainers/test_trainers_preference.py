"""The preference trainer: losses by hand on the tiny model, metrics by hand, and what must not
matter."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish.batch import Batch, TokenSequence
from burnish.config.preference import PreferenceTraining
from burnish.models.adapters import LoraSpec, add_adapter
from burnish.models.backbone import Backbone, load_backbone
from burnish.models.roles import View
from burnish.models.tiny import tiny_model
from burnish.records import Comparison
from burnish.runs.metrics import read_metrics
from burnish.trainers.groups import RankedGroup
from burnish.trainers.preference import (
    Example,
    evaluate,
    means,
    prepare,
    score,
    terms,
    train_preferences,
)

LOSSES = ("dpo", "cdpo", "rdpo", "dpo_norm", "ipo", "hinge", "simpo", "kto", "orpo", "cpo")
SPEC = LoraSpec(4, 8.0)


def group(
    offset: int, lengths: tuple[int, ...], *pairs: Comparison, labels: tuple[float, ...] = ()
) -> RankedGroup:
    prompt = (258, 10 + offset, 40 + offset)
    answers = (
        TokenSequence(prompt, tuple((60 + 7 * offset + 3 * i + j) % 250 for j in range(n)))
        for i, n in enumerate(lengths)
    )
    return RankedGroup(tuple(answers), pairs, labels)


GROUPS = [
    group(0, (4, 7), Comparison(0, 1, 1.0)),
    group(1, (6, 3), Comparison(0, 1, 0.2, margin=0.1)),
    group(2, (5, 2, 8), Comparison(0, 1, 0.7), Comparison(0, 2, 1.0), Comparison(1, 2, 0.5)),
    group(3, (3, 3), Comparison(1, 0, 0.9)),
]


def config(loss: str, **more: Any) -> PreferenceTraining:
    options = {"name": loss, **more.pop("options", {})}
    return PreferenceTraining.model_validate({"loss": options, "batch_size": 2, **more})


def policy(backbone: Backbone) -> View:
    """An adapter set that has moved away from its backbone."""
    backbone.freeze()
    add_adapter(backbone, "policy", SPEC, seed=0)
    view = View(backbone, "policy", SPEC)
    generator = torch.Generator().manual_seed(5)
    for name, parameter in view.parameters().items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2, generator=generator)
    return view


def gradient(
    view: View, examples: list[Example], how: PreferenceTraining
) -> tuple[float, dict[str, torch.Tensor], dict[str, float]]:
    for parameter in view.train_mode():
        parameter.grad = None
    total, sums = 0.0, {}
    for term_of in terms(view, examples, config=how):
        term = term_of()
        term.loss.backward()
        total += float(term.loss.detach())
        for name, value in term.sums.items():
            sums[name] = sums.get(name, 0.0) + float(value)
    return (
        total,
        {n: p.grad.clone() for n, p in view.parameters().items() if p.grad is not None},
        means(sums),
    )


def ready(
    view: View, groups: list[RankedGroup], how: PreferenceTraining, *, measured: bool = False
) -> list[Example]:
    return prepare(View(view.backbone), groups, config=how, seed=1, cache=None, measured=measured)


def sums_of(view: View, sequences: list[TokenSequence]) -> list[float]:
    """Σ log π of each sequence, run alone."""
    with torch.no_grad():
        return [float(view.logprobs(Batch((s,))).logprobs_P.sum()) for s in sequences]


def nll(x: float) -> float:
    return math.log1p(math.exp(-x))


def test_dpo_on_a_model_by_hand(tiny: Backbone):
    """Two prompts; the second has three comparisons, one of them a tie: its loss is their mean."""
    view, how = policy(tiny), config("dpo", margin=0.3)
    groups = [GROUPS[1], GROUPS[2]]
    sequences = [s for g in groups for s in g.sequences]
    h = [
        a - b for a, b in zip(sums_of(view, sequences), sums_of(View(tiny), sequences), strict=True)
    ]

    def pair(w: int, lo: int, p: float, margin: float) -> float:
        d = 0.1 * (h[w] - h[lo]) - margin
        return p * nll(d) + (1 - p) * nll(-d)

    first = pair(1, 0, 0.8, 0.1 + 0.3 * 0.6)  # p = 0.2 of the first: the second is better, with 0.8
    second = (pair(2, 3, 0.7, 0.3 * 0.4) + pair(2, 4, 1.0, 0.3) + pair(3, 4, 0.5, 0.0)) / 3
    total, _, metrics = gradient(view, ready(view, groups, how), how)
    assert total == pytest.approx((first + second) / 2, rel=1e-5)
    # metrics: each prompt's decided pairs, weighing 1 and 2 · ⅓
    rewards = [0.1 * x for x in h]
    assert metrics["rewards/chosen"] == pytest.approx(
        (rewards[1] + 2 / 3 * rewards[2]) / (5 / 3), abs=1e-5
    )
    assert metrics["rewards/rejected"] == pytest.approx(
        (rewards[0] + (rewards[3] + rewards[4]) / 3) / (5 / 3), abs=1e-5
    )
    right = [float(rewards[a] > rewards[b]) for a, b in ((1, 0), (2, 3), (2, 4))]
    assert metrics["rewards/accuracies"] == pytest.approx(
        (right[0] + (right[1] + right[2]) / 3) / (5 / 3), abs=1e-6
    )
    assert metrics["falls/chosen"] == pytest.approx(
        (float(h[1] < 0) + 2 / 3 * float(h[2] < 0)) / (5 / 3), abs=1e-6
    )
    assert metrics["kl_from_reference"] == pytest.approx(-sum(h) / 5, abs=1e-4)
    assert metrics["length/chosen"] == pytest.approx((3 + 2 / 3 * 5) / (5 / 3), rel=1e-6)


def test_strength_as_weight_and_hard_labels_by_hand(tiny: Backbone):
    view = policy(tiny)
    h = [
        a - b
        for a, b in zip(
            sums_of(view, list(GROUPS[1].sequences)),
            sums_of(View(tiny), list(GROUPS[1].sequences)),
            strict=True,
        )
    ]
    d = 0.1 * (h[1] - h[0]) - 0.1
    for more, expected in (
        ({"soft_labels": False}, nll(d)),
        ({"weight_by_strength": True}, 0.6 * (0.8 * nll(d) + 0.2 * nll(-d))),
        ({"weight_by_strength": True, "soft_labels": False}, 0.6 * nll(d)),
    ):
        how = config("dpo", **more)
        assert gradient(view, ready(view, [GROUPS[1]], how), how)[0] == pytest.approx(
            expected, rel=1e-5
        )


@pytest.mark.parametrize("average", ["answer", "batch", "sum"])
@pytest.mark.parametrize("prompt", [False, True])
def test_sft_term_by_hand(tiny: Backbone, average: str, prompt: bool):
    """CPO of two certain pairs, chosen answers of 4 and 3 tokens; the prompt has 3, of which 2 can
    be scored."""
    view = policy(tiny)
    groups = [GROUPS[0], group(5, (2, 3), Comparison(1, 0, 1.0))]
    how = config("cpo", options={"sft": {"weight": 0.5, "average": average, "prompt": prompt}})
    sequences = [s for g in groups for s in g.sequences]
    alone = sums_of(view, sequences)
    prompts = sums_of(view, [TokenSequence(s.prompt[:1], s.prompt[1:]) for s in sequences])
    preference = (nll(0.1 * (alone[0] - alone[1])) + nll(0.1 * (alone[3] - alone[2]))) / 2
    whole = [-(a + (b if prompt else 0.0)) for a, b in zip(alone, prompts, strict=True)]
    tokens = [4 + 2 * prompt, 3 + 2 * prompt]
    sft = {
        "answer": (whole[0] / tokens[0] + whole[3] / tokens[1]) / 2,
        "batch": (whole[0] + whole[3]) / sum(tokens),
        "sum": (whole[0] + whole[3]) / 2,
    }[average]
    total, _, metrics = gradient(view, ready(view, groups, how), how)
    assert total == pytest.approx(preference + 0.5 * sft, rel=1e-5)
    assert metrics["nll_loss"] == pytest.approx(sft, rel=1e-5)


def test_kto_on_a_model_by_hand(tiny: Backbone):
    view = policy(tiny)
    how = config("kto", options={"desirable_weight": 1.5})
    groups = [GROUPS[0], GROUPS[2], group(6, (4,), labels=(0.0,))]
    examples = ready(view, groups, how)
    strangers = [e.stranger for e in examples]
    assert all(
        s is not None and s.prompt == e.group.sequences[0].prompt
        for s, e in zip(strangers, examples, strict=True)
    )
    own = [{s.response for s in g.sequences} for g in groups]
    assert all(s.response not in own[i] for i, s in enumerate(strangers))
    sequences = [s for g in groups for s in g.sequences]
    h = [
        a - b for a, b in zip(sums_of(view, sequences), sums_of(View(tiny), sequences), strict=True)
    ]
    z_h = [
        a - b for a, b in zip(sums_of(view, strangers), sums_of(View(tiny), strangers), strict=True)
    ]
    z = max(0.0, sum(z_h) / 3)
    sigma = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
    # of the ranking: 0 beats 1 with 0.7 and 2 with 1; 1 and 2 tie
    p = [1.0, 0.0, (0.7 + 1.0) / 2, (0.3 + 0.5) / 2, (0.0 + 0.5) / 2, 0.0]
    per = [
        q * 1.5 * (1 - sigma(0.1 * (x - z))) + (1 - q) * (1 - sigma(0.1 * (z - x)))
        for q, x in zip(p, h, strict=True)
    ]
    total, _, metrics = gradient(view, examples, how)
    assert total == pytest.approx(sum(per) / 6, rel=1e-5)
    assert metrics["kl"] == pytest.approx(z, abs=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_cutting_and_ordering_change_nothing(loss: str):
    """Micro-batches, the order of the batch, packing and sharing of prompts: the same loss,
    gradient and metrics."""
    sft = {"weight": 0.3, "average": "batch"}
    options = {"options": {"sft": sft}}
    whole = config(loss, **options, optimizer={"micro_batch_tokens": 10_000})
    found = []
    for how, order in (
        (whole, [0, 1, 2, 3]),
        (config(loss, **options, optimizer={"micro_batch_tokens": 14}), [0, 1, 2, 3]),
        (whole, [2, 0, 3, 1]),
        (config(loss, **options, optimizer={"micro_batch_tokens": 1}), [3, 2, 1, 0]),
    ):
        view = policy(load_backbone("tiny"))
        examples = ready(view, GROUPS, how)
        found.append(gradient(view, [examples[i] for i in order], how))
    expected = found[0]
    assert max(float(g.abs().max()) for g in expected[1].values()) > 1e-4
    for total, gradients, metrics in found[1:]:
        assert total == pytest.approx(expected[0], rel=1e-5)
        assert metrics == pytest.approx(expected[2], rel=1e-4, abs=1e-5)
        for name, value in gradients.items():
            # Sums in another order: some units in the last place of the largest summand.
            near = 2e-6 * max(1.0, 100 * float(expected[1][name].abs().max()))
            torch.testing.assert_close(value, expected[1][name], atol=near, rtol=1e-4)


def test_padding_changes_nothing(tiny: Backbone):
    """The packed pass against transformers' own model on a right-padded batch."""
    view = View(tiny)
    sequences = [s for g in GROUPS for s in g.sequences]
    found = [
        x
        for s in score(view, ready(view, GROUPS, config("dpo")), config=config("dpo"))
        for x in s.logprobs
    ]
    width = max(map(len, sequences))
    rows = torch.tensor([[*s.prompt, *s.response, *[257] * (width - len(s))] for s in sequences])
    mask = torch.tensor([[1] * len(s) + [0] * (width - len(s)) for s in sequences])
    with torch.no_grad():
        logp_BTV = tiny_model()(input_ids=rows, attention_mask=mask).logits.log_softmax(-1)
    for logp, row, s, ours in zip(logp_BTV, rows.tolist(), sequences, found, strict=True):
        theirs = sum(float(logp[t - 1, row[t]]) for t in range(len(s.prompt), len(s)))
        assert ours == pytest.approx(theirs, abs=1e-3)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("dpo", math.log(2)),
        ("cdpo", math.log(2)),
        ("dpo_norm", math.log(2)),
        ("ipo", 25.0),
        ("hinge", 1.0),
        ("kto", 0.5),
    ],
)
def test_the_first_step_of_the_trainer_starts_where_the_papers_say(
    tmp_path: Path, loss: str, expected: float
):
    """On the real code path, full fine-tuning, certain labels: log 2, 1/(4τ²) with τ = 0.1, 1,
    λ/2."""
    view = View(load_backbone("tiny"))
    how = config(loss, soft_labels=False, lora=None, epochs=1.0, optimizer={"warmup": 0.0})
    groups = [
        GROUPS[0],
        GROUPS[3],
        group(7, (5, 4), Comparison(0, 1, 1.0)),
        group(8, (2, 4), Comparison(1, 0, 1.0)),
    ]
    examples = ready(view, groups, how)
    train_preferences(
        view,
        examples,
        ready(view, groups[:2], how, measured=True),
        config=how,
        seed=0,
        folder=tmp_path,
    )
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert rows[0]["loss"] == pytest.approx(expected, rel=1e-5)
    assert rows[0]["rewards/margins"] == pytest.approx(0.0, abs=1e-5)
    assert rows[0]["eval_loss_before"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_training_raises_the_margin(tmp_path: Path, loss: str):
    view = View(load_backbone("tiny"))
    how = config(
        loss,
        lora=None,
        epochs=10.0,
        soft_labels=False,
        optimizer={"learning_rate": 3e-3, "warmup": 0.0},
    )
    pairs = [
        GROUPS[0],
        GROUPS[3],
        group(7, (5, 4), Comparison(0, 1, 1.0)),
        group(8, (2, 4), Comparison(1, 0, 1.0)),
    ]
    before = evaluate(view, ready(view, pairs, how, measured=True), config=how)
    measured = ready(view, pairs, how, measured=True)
    train_preferences(view, ready(view, pairs, how), measured, config=how, seed=0, folder=tmp_path)
    after = evaluate(view, measured, config=how)
    assert after["rewards/margins"] > before["rewards/margins"] + 0.01
    assert after["rewards/accuracies"] >= before["rewards/accuracies"]
    assert after["loss"] < before["loss"]


def test_reference_free_losses_run_no_reference(tiny: Backbone, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the reference was run")

    monkeypatch.setattr("burnish.trainers.preference.cached_answer_logprobs", refuse)
    for loss in ("simpo", "orpo", "cpo"):
        assert all(e.reference is None for e in ready(View(tiny), GROUPS, config(loss)))
    with pytest.raises(AssertionError, match="was run"):
        ready(View(tiny), GROUPS, config("dpo"))


def test_with_an_adapter_the_reference_is_the_backbone_alone(tiny: Backbone):
    plain = ready(View(tiny), GROUPS, config("dpo"))
    view = policy(tiny)
    under = ready(view, GROUPS, config("dpo"))
    assert [e.reference for e in under] == [e.reference for e in plain]
    moved = score(view, under, config=config("dpo"))
    assert any(
        abs(a - b) > 0.01
        for s, e in zip(moved, under, strict=True)
        for a, b in zip(s.logprobs, e.reference, strict=True)
    )


def test_scores_are_what_the_loss_sees(tiny: Backbone):
    view = policy(tiny)
    for loss in LOSSES:
        how = config(loss)
        examples = ready(view, GROUPS, how, measured=True)
        scored = score(view, examples, config=how)
        metrics = evaluate(view, examples, config=how)
        weights, chosen = [], []
        for e, s in zip(examples, scored, strict=True):
            for c in e.group.comparisons:
                if c.probability != 0.5:
                    weights.append(1 / len(e.group.comparisons))
                    chosen.append(s.rewards[c.first if c.probability > 0.5 else c.second])
        mean = sum(w * r for w, r in zip(weights, chosen, strict=True)) / sum(weights)
        assert metrics["rewards/chosen"] == pytest.approx(mean, rel=1e-4, abs=1e-5), loss


def test_a_tie_teaches_no_paired_loss_anything(tiny: Backbone):
    """At p = ½ and at the reference the gradient is 0: neither answer is pushed up."""
    for loss in ("dpo", "ipo"):
        view = View(load_backbone("tiny"))
        how = config(loss)
        tie = replace(GROUPS[0], comparisons=(Comparison(0, 1, 0.5),))
        _, gradients, metrics = gradient(view, ready(view, [tie], how), how)
        assert max(float(g.abs().max()) for g in gradients.values()) < 1e-5
        assert "rewards/accuracies" not in metrics
