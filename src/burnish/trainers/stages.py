"""The stages between a rollout and a batch that can be trained on: functions, in the order they are called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.algorithms.advantages import RunningMoments, gae, normalise_rewards, shape_rewards, whiten
from burnish.algorithms.aggregate import explained_variance
from burnish.algorithms.kl import kl_estimate
from burnish.algorithms.policy_losses import truncated_importance
from burnish.batch import Batch, TokenSequence, groups_of
from burnish.config.schema import Ppo
from burnish.models.roles import Roles
from burnish.records import Reward, Rollout


@dataclass(frozen=True)
class Prepared:
    """A batch with every column PPO needs, the metrics of its rollouts, and the running moments after it."""

    batch: Batch
    metrics: dict[str, float]
    moments: RunningMoments


@torch.no_grad()
def column(of: Callable[[Batch], Tensor], batch: Batch, *, max_tokens: int) -> Tensor:
    """[P]: `of` run over micro-batches of `batch`."""
    return torch.cat([of(batch.select(rows)).cpu() for rows in batch.micro_batches(max_tokens)])


def to_batch(
    rollouts: Sequence[Rollout],
    rewards: Sequence[Reward],
    roles: Roles,
    *,
    config: Ppo,
    beta: float,
    moments: RunningMoments,
) -> Prepared:
    """Rollouts and their rewards -> log-probabilities, values, token rewards and advantages.

    The four log-probabilities of a token have four names: `sampler_logprobs` (the engine's), `old_logprobs` (the trainer's
    before this update; on policy with a single update they would equal the new ones, so the pass is skipped and the column
    is the sampler's, unless that drew from a truncated or penalised distribution or multiplies in less precision: then
    tokens are weighted by truncated importance), `ref_logprobs` (the reference's), and `logprobs`, computed in the loss.
    """
    limit, temperature = config.optimiser.micro_batch_tokens, config.sampling.temperature
    batch = Batch(tuple(TokenSequence(r.prompt_tokens, r.completion.tokens) for r in rollouts))
    sampler_P = torch.tensor([x for r in rollouts for x in r.completion.sampler_logprobs])
    ref_P = column(lambda b: roles.reference.logprobs(b, temperature=temperature).logprobs_P, batch, max_tokens=limit)
    values_P = column(roles.critic.values, batch, max_tokens=limit)
    old_P = sampler_P
    on_policy = config.sampling.follows_the_model and roles.policy.backbone.samples_exactly
    if config.epochs * config.mini_batches > 1 or not on_policy:
        old_P = column(lambda b: roles.policy.logprobs(b, temperature=temperature).logprobs_P, batch, max_tokens=limit)

    scores_B, moments = _scores(rollouts, rewards, config=config, moments=moments)
    kl_P = kl_estimate(logprobs=old_P, ref_logprobs=ref_P, estimator=config.kl.estimator)
    kl_BT, mask_BT = batch.padded(kl_P)
    values_BT, _ = batch.padded(values_P)
    rewards_BT = shape_rewards(scores_B=scores_B, kl_BT=kl_BT, mask_BT=mask_BT, beta=beta)
    estimate = gae(rewards_BT=rewards_BT, values_BT=values_BT, mask_BT=mask_BT, gamma=config.gamma, lam=config.lam)
    advantages_BT = _advantages(estimate.advantages_BT, mask_BT, config=config)

    log_ratio_P = old_P - ref_P
    metrics = {
        **_rollout_metrics(rollouts, rewards),
        "kl_ref": float(log_ratio_P.sum()) / len(rollouts),
        "kl_ref_per_token": float(log_ratio_P.mean()),
        "shaped_reward": float((rewards_BT * mask_BT).sum()) / len(rollouts),
        "explained_variance": float(explained_variance(values=values_BT, returns=estimate.returns_BT, mask=mask_BT)),
        "value_mean": float(values_P.mean()),
        "return_mean": float(estimate.returns_BT[mask_BT].mean()),
        "sampler_gap_mean": float((sampler_P - old_P).abs().mean()),
        "sampler_gap_max": float((sampler_P - old_P).abs().max()),
    }
    weights = {}
    if config.importance_cap is not None and not on_policy:
        importance = truncated_importance(old_logprobs=old_P, sampler_logprobs=sampler_P, cap=config.importance_cap)
        weights["importance"] = importance.per_token
        metrics |= {
            "importance_mean": float(importance.per_token.mean()),
            "importance_capped": float(importance.stats["capped"].mean()),
        }
    batch = batch.with_columns(
        sampler_logprobs=sampler_P, old_logprobs=old_P, ref_logprobs=ref_P, values=values_P,
        advantages=advantages_BT[mask_BT], returns=estimate.returns_BT[mask_BT], **weights,
    )  # fmt: skip
    return Prepared(batch, metrics, moments)


def mini_batches(batch: Batch, *, count: int, generator: torch.Generator) -> list[Batch]:
    """The sequences of a batch, shuffled and dealt into `count` parts.

    Completions of one prompt go together, so that a part runs the prompt once; where there are fewer prompts than parts,
    completions are dealt singly.
    """
    groups = list(groups_of(batch.sequences))
    if len(groups) < count:
        groups = [[row] for row in range(len(batch))]
    order = torch.randperm(len(groups), generator=generator).tolist() if count > 1 else list(range(len(groups)))
    dealt = [sorted(order[start::count]) for start in range(count)]
    return [batch.select([row for group in part for row in groups[group]]) for part in dealt]


def _scores(
    rollouts: Sequence[Rollout], rewards: Sequence[Reward], *, config: Ppo, moments: RunningMoments
) -> tuple[Tensor, RunningMoments]:
    """[B]: what each completion earned, after the tricks that act on it."""
    tricks = config.tricks
    scores_B = torch.tensor([reward.value for reward in rewards], dtype=torch.float32)
    if tricks.normalise_rewards:
        moments = moments.update(scores_B[scores_B.isfinite()])  # a bad score costs its step, not every later one
        scores_B = normalise_rewards(scores_B=scores_B, moments=moments, clip=None, shift_mean=False)
    if tricks.clip_rewards is not None:
        scores_B = scores_B.clamp(-tricks.clip_rewards, tricks.clip_rewards)
    cut_off = torch.tensor([r.completion.finish_reason == "length" for r in rollouts])
    return scores_B - tricks.missing_end_penalty * cut_off, moments


def _advantages(advantages_BT: Tensor, mask_BT: Tensor, *, config: Ppo) -> Tensor:
    tricks = config.tricks
    if tricks.normalise_advantages:
        advantages_BT = whiten(x=advantages_BT, mask=mask_BT)
    if tricks.clip_advantages is not None:
        advantages_BT = advantages_BT.clamp(-tricks.clip_advantages, tricks.clip_advantages)
    return advantages_BT


def _rollout_metrics(rollouts: Sequence[Rollout], rewards: Sequence[Reward]) -> dict[str, float]:
    lengths = [len(r.completion.tokens) for r in rollouts]
    values = torch.tensor([reward.value for reward in rewards])
    return {
        "reward": float(values.mean()),
        "reward_std": float(values.std(correction=0)),
        "completion_length": sum(lengths) / len(lengths),
        "completion_length_max": float(max(lengths)),
        "truncation_rate": sum(r.completion.finish_reason == "length" for r in rollouts) / len(rollouts),
    }
