"""Dropout in training: the same step however a batch is cut, and the same run after a kill."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish.algorithms.advantages import RunningMoments
from burnish.batch import Batch, TokenSequence
from burnish.config.online import Algorithm, OnlineTraining
from burnish.config.sections import Checkpointing, Optimizer, Passes
from burnish.models.adapters import LoraSpec, add_adapter
from burnish.models.backbone import Backbone, load_backbone
from burnish.models.roles import View, adapter_roles
from burnish.records import Completion, Prompt, Reward, Rollout
from burnish.runs.metrics import read_metrics
from burnish.trainers import learner as learning
from burnish.trainers import stages
from burnish.trainers.learner import Learner
from burnish.trainers.online import update
from burnish.trainers.online_settings import resolve_settings
from burnish.trainers.sft import mean_nll, nll_term, train_sft

SPEC = LoraSpec(4, 8.0, dropout=0.4)
SEQUENCES = tuple(
    TokenSequence((258, 10 + i % 2), tuple(range(20 + i, 24 + 2 * i))) for i in range(6)
)
MICRO = 8


def _policy(dropout: float = 0.4, seed: int = 0) -> View:
    backbone = load_backbone("tiny")
    backbone.freeze()
    spec = LoraSpec(4, 8.0, dropout=dropout)
    add_adapter(backbone, "policy", spec, seed=seed)
    return View(backbone, "policy", spec)


def _trained(
    limit: int, *, seed: int = 0, dropout: float = 0.4, steps: int = 3, **optimizer: Any
) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    view = _policy(dropout)
    settings = Optimizer(learning_rate=0.01, warmup=0.0, **optimizer)
    learner, batch = Learner(view, settings, total_steps=steps, seed=seed), Batch(SEQUENCES)
    cuts = [batch.select(rows) for rows in batch.micro_batches(limit)]
    share = {"denominator": batch.trained_tokens}
    values = [
        learner.update([partial(nll_term, view, piece, **share) for piece in cuts])
        for _ in range(steps)
    ]
    return values, dict(view.state_dict())


def test_micro_batches_change_nothing_and_seeds_do():
    (whole, weights), (cut, others) = _trained(10_000), _trained(MICRO)
    for a, b in zip(whole, cut, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-4)
    for name, weight in weights.items():
        torch.testing.assert_close(weight, others[name], atol=1e-4, rtol=1e-3)
    assert whole[0]["loss"] == _trained(10_000, dropout=0.0)[0][0]["loss"]  # B is 0 at the start
    assert whole[1]["loss"] != pytest.approx(_trained(10_000, seed=1)[0][1]["loss"], rel=1e-4)
    assert whole[1]["loss"] != pytest.approx(_trained(10_000, dropout=0.0)[0][1]["loss"], rel=1e-4)


def test_layers_that_are_run_again_draw_the_same():
    (kept, weights), (again, others) = _trained(MICRO), _trained(MICRO, gradient_checkpointing=True)
    assert kept == again
    for name, weight in weights.items():
        assert torch.equal(weight, others[name])


class Killed(Exception):
    """Stands for a kill."""


def test_a_run_that_was_killed_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = Passes(
        batch_size=2, max_steps=6, eval_every=2, checkpoint=Checkpointing(every=2),
        optimizer=Optimizer(learning_rate=0.01, micro_batch_tokens=MICRO),
    )  # fmt: skip

    def run(folder: Path) -> View:
        view = _policy()
        train_sft(view, SEQUENCES[:4], SEQUENCES[4:], config=config, seed=3, folder=folder)
        return view

    whole = run(tmp_path / "whole")
    made, original = [], Learner.update

    def dying(self: Learner, terms: Any) -> dict[str, float]:
        made.append(1)
        if len(made) == 4:
            raise Killed
        return original(self, terms)

    monkeypatch.setattr(learning.Learner, "update", dying)
    with pytest.raises(Killed):
        run(tmp_path / "killed")
    torch.manual_seed(99)  # another process has other numbers in its generators
    resumed = run(tmp_path / "killed")
    assert len(made) == 4 + 4  # from the second step on
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name
    rows = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "killed")]
    assert rows[0] == rows[1]
    # what is evaluated is the whole model
    end = mean_nll(resumed, SEQUENCES[4:], max_tokens=MICRO)
    assert rows[0][-1]["eval_loss"] == pytest.approx(end, rel=1e-6)


def _batch(
    policy: View, critic: View | None, sampling: dict[str, Any], **settings: Any
) -> tuple[Any, Any]:
    from burnish.models.roles import Roles

    made = OnlineTraining(
        algorithm=Algorithm(name="ppo" if critic else "grpo", beta=0.1),
        responses_per_prompt=1 if critic else 2,
        sampling=sampling, **settings,
    )  # fmt: skip
    resolved = resolve_settings(made)
    rollouts = []
    for tokens in ((20, 21, 256), (30, 31)):
        with torch.no_grad():
            drawn = policy.logprobs(Batch((TokenSequence((258, 5), tokens),))).logprobs_P.tolist()
        completion = Completion("", tokens, tuple(drawn), "stop")
        rollouts.append(Rollout(Prompt("p", ()), (258, 5), completion, 0))
    roles = Roles(policy=policy, critic=critic, reference=View(policy.backbone))
    prepared = stages.to_batch(
        rollouts, [Reward(1.0), Reward(0.0)], roles, settings=resolved, beta=0.1,
        moments=RunningMoments(),
    )  # fmt: skip
    return prepared, resolved


@pytest.mark.parametrize("sampling", [{}, {"top_k": 3}])
def test_old_logprobs_are_of_the_whole_model(tiny: Backbone, sampling: dict[str, Any]):
    """With a single update too, where without dropout those of the loss would do."""
    roles = adapter_roles(tiny, lora=SPEC, critic=False, reference=True, seed=0)
    for name, parameter in roles.policy.parameters().items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(0))
    prepared, settings = _batch(roles.policy, None, sampling)
    with torch.no_grad():
        whole = roles.policy.logprobs(prepared.batch).logprobs_P
    torch.testing.assert_close(prepared.batch["old_logprobs"], whole, atol=1e-4, rtol=1e-4)
    learner = Learner(roles.policy, Optimizer(), total_steps=1)
    values = update(
        learner, None, prepared.batch, None, settings=settings, seed=0, step=0, beta=0.1
    )
    assert values["ratio"] != pytest.approx(1.0, abs=1e-4)  # the loss is of a model with holes
    assert "sampler_gap_mean" not in values
    assert prepared.metrics.get("sampler_gap_max", 0.0) < 1e-4


def test_policy_and_critic_learn_beside_each_other(tiny: Backbone):
    results = []
    for limit in (MICRO, 10_000):
        roles = adapter_roles(load_backbone("tiny"), lora=SPEC, critic=True, reference=True, seed=0)
        optimizer = Optimizer(learning_rate=0.01, warmup=0.0, micro_batch_tokens=limit)
        prepared, settings = _batch(roles.policy, roles.critic, {}, optimizer=optimizer, epochs=2)
        assert roles.critic is not None
        learners = [Learner(v, optimizer, total_steps=4) for v in (roles.policy, roles.critic)]
        results.append(
            update(*learners, prepared.batch, None, settings=settings, seed=0, step=0, beta=0.1)
        )
    assert results[0].keys() == results[1].keys()
    for name, value in results[0].items():
        assert value == pytest.approx(results[1][name], rel=2e-3, abs=1e-5), name
