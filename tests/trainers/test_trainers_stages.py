"""From rollouts to a batch: every column by hand, and how a batch is dealt."""

from __future__ import annotations

import pytest
import torch

from burnish.algorithms.advantages import RunningMoments
from burnish.batch import Batch, TokenSequence
from burnish.config.online import Algorithm, OnlineTraining
from burnish.models.adapters import LoraSpec, add_adapter
from burnish.models.backbone import Backbone
from burnish.models.heads import ScalarHead
from burnish.models.roles import Roles, View, adapter_roles
from burnish.records import Completion, Prompt, Reward, Rollout
from burnish.rewards.model import RewardModelScorer
from burnish.trainers import stages
from burnish.trainers.online import policy_terms
from burnish.trainers.online_settings import OnlineSettings, resolve_settings

SPEC = LoraSpec(4, 8.0)


@pytest.fixture
def roles(tiny: Backbone) -> Roles:
    add_adapter(tiny, "reward", SPEC, seed=3)
    reward = View(tiny, "reward", SPEC, ScalarHead(tiny.width, seed=1))
    roles = adapter_roles(tiny, lora=SPEC, critic=True, reference=True, reward=reward, seed=0)
    for name, parameter in roles.policy.parameters().items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(0))
    return roles


def _rollout(prompt: tuple[int, ...], tokens: tuple[int, ...], roles: Roles) -> Rollout:
    with torch.no_grad():
        logprobs = roles.policy.logprobs(
            Batch((TokenSequence(prompt, tokens),))
        ).logprobs_P.tolist()
    reason = "stop" if tokens[-1] == 256 else "length"
    return Rollout(Prompt("p", ()), prompt, Completion("", tokens, tuple(logprobs), reason), 0)


def ppo(algorithm: dict[str, object] | None = None, **settings: object) -> OnlineSettings:
    return resolve_settings(
        OnlineTraining(algorithm={"name": "ppo", **(algorithm or {})}, **settings)
    )  # type: ignore[arg-type]


def test_columns_and_metrics_by_hand(roles: Roles):
    rollouts = [_rollout((258, 5), (20, 21, 256), roles), _rollout((258, 6), (30, 31), roles)]
    settings = ppo(
        algorithm={"beta": 0.1, "whiten": False}, gamma=1.0, gae_lambda=1.0, missing_eos_penalty=2.0
    )
    prepared = stages.to_batch(
        rollouts,
        [Reward(1.5), Reward(0.5)],
        roles,
        settings=settings,
        beta=0.1,
        moments=RunningMoments(),
    )
    batch = prepared.batch
    with torch.no_grad():
        kl = batch["old_logprobs"] - roles.reference.logprobs(batch).logprobs_P
        values = roles.critic.values(batch)
    first, second = 1.5 - 0.1 * kl[:3], 0.5 - 2.0 - 0.1 * kl[3:]  # the second was cut off
    returns = [1.5 - 0.1 * float(kl[t:3].sum()) for t in range(3)] + [
        -1.5 - 0.1 * float(kl[t:].sum()) for t in (3, 4)
    ]
    assert first.shape[0] + second.shape[0] == batch.trained_tokens
    torch.testing.assert_close(batch["returns"], torch.tensor(returns), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        batch["advantages"], torch.tensor(returns) - values, atol=1e-4, rtol=1e-4
    )
    torch.testing.assert_close(batch["values"], values)
    assert prepared.metrics["kl_ref"] == pytest.approx(float(kl.sum()) / 2, abs=1e-4)
    assert prepared.metrics["reward"] == pytest.approx(1.0)
    assert prepared.metrics["truncation_rate"] == 0.5
    assert prepared.metrics["completion_length"] == 2.5


def test_old_logprobs_are_the_trainers_when_there_are_several_updates(roles: Roles):
    rollout = _rollout((258, 5), (20, 21, 256), roles)
    wrong = Rollout(
        rollout.prompt,
        rollout.prompt_tokens,
        Completion("", rollout.completion.tokens, (-1.0, -2.0, -3.0), "stop"),
        0,
    )
    for settings, expected in (
        (ppo(epochs=2), rollout.completion.sampler_logprobs),
        (ppo(), (-1.0, -2.0, -3.0)),
    ):
        batch = stages.to_batch(
            [wrong], [Reward(0.0)], roles, settings=settings, beta=0.0, moments=RunningMoments()
        ).batch
        assert batch["old_logprobs"].tolist() == pytest.approx(list(expected), abs=1e-4)
        assert batch["sampler_logprobs"].tolist() == [-1.0, -2.0, -3.0]


def test_a_single_update_takes_old_logprobs_from_the_loss_where_the_sampler_is_not_exact(
    roles: Roles,
):
    """The penalty stands in the loss, so no pass is made before it; loss, weights and distance are
    those of a run with the pass."""
    rollouts = [_rollout((258, 5), (20, 21, 256), roles), _rollout((258, 5), (30, 31), roles)]
    grpo = {
        "algorithm": Algorithm(name="grpo", beta=0.5),
        "responses_per_prompt": 2,
        "sampling": {"top_k": 3},
    }
    makes, adaptive = (
        resolve_settings(OnlineTraining(**grpo, **more)) for more in ({}, {"kl_target": 1.0})
    )
    batches = [
        stages.to_batch(
            rollouts,
            [Reward(1.0), Reward(0.0)],
            roles,
            settings=settings,
            beta=0.5,
            moments=RunningMoments(),
        )
        for settings in (makes, adaptive)
    ]
    assert "old_logprobs" not in batches[0].batch.columns
    assert "old_logprobs" in batches[1].batch.columns
    found = []
    for prepared, settings in zip(batches, (makes, adaptive), strict=True):
        (term,) = policy_terms(roles.policy, prepared.batch, settings=settings, beta=0.5)
        found.append(term())
    torch.testing.assert_close(found[0].loss, found[1].loss)
    for name in ("kl", "kl_ref", "kl_ref_per_token"):
        assert float(found[0].sums[name]) == pytest.approx(batches[1].metrics[name], abs=1e-5)
        assert name not in batches[0].metrics
    assert float(found[0].sums["importance_mean"]) == pytest.approx(
        batches[1].metrics["importance_mean"], abs=1e-5
    )


def test_reward_tricks_act_in_order(roles: Roles):
    rollouts = [_rollout((258, 5), (20, 256), roles), _rollout((258, 6), (30, 256), roles)]
    algorithm = {"beta": 0.0, "whiten": False}
    settings = ppo(
        algorithm=algorithm, gamma=1.0, gae_lambda=1.0, normalize_rewards=True, clip_rewards=1.2
    )
    prepared = stages.to_batch(
        rollouts,
        [Reward(1.0), Reward(5.0)],
        roles,
        settings=settings,
        beta=0.0,
        moments=RunningMoments(),
    )
    assert (prepared.moments.count, prepared.moments.mean, prepared.moments.std) == (2, 3.0, 2.0)
    assert prepared.batch["returns"].tolist() == pytest.approx([0.5, 0.5, 1.2, 1.2])


def test_a_score_that_is_not_a_number_does_not_poison_the_running_moments(roles: Roles):
    rollouts = [_rollout((258, 5), (20, 21, 256), roles) for _ in range(3)]
    rewards = [Reward(1.0), Reward(float("nan")), Reward(3.0)]
    settings = ppo(normalize_rewards=True)
    prepared = stages.to_batch(
        rollouts, rewards, roles, settings=settings, beta=0.0, moments=RunningMoments()
    )
    assert prepared.moments == RunningMoments().update(torch.tensor([1.0, 3.0]))
    assert torch.isnan(
        prepared.batch["advantages"]
    ).any()  # the learner skips and counts such a step


@pytest.mark.parametrize(("count", "together"), [(1, True), (2, True), (3, True), (6, False)])
def test_dealing_loses_nothing_and_keeps_a_prompts_completions_together(count: int, together: bool):
    sequences = tuple(TokenSequence((258, 10 + i // 2), (i,)) for i in range(6))
    batch = Batch(sequences, {"x": torch.arange(6.0)})
    parts = stages.deal_mini_batches(batch, count=count, generator=torch.Generator().manual_seed(0))
    assert len(parts) == count
    assert sorted(s.response[0] for part in parts for s in part.sequences) == list(range(6))
    assert all(
        part["x"].tolist() == [float(s.response[0]) for s in part.sequences] for part in parts
    )
    if together:
        assert all(len(part) % 2 == 0 for part in parts)


def test_a_cut_off_completion_is_scored_with_an_end_token(roles: Roles):
    scorer = RewardModelScorer(roles.reward, end_tokens=[256], max_tokens=64)
    cut, whole = _rollout((258, 5), (20, 21), roles), _rollout((258, 5), (20, 21, 256), roles)
    scores = scorer.score([cut, whole])
    assert scores[0].value == pytest.approx(scores[1].value, abs=1e-5)
    assert scorer.score([]) == []
