"""The stages between a rollout and a batch that can be trained on: functions, in the order they are
called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from burnish.algorithms.advantages import (
    RunningMoments,
    normalize_rewards,
    overlong_penalty,
    whiten,
)
from burnish.algorithms.aggregate import explained_variance
from burnish.algorithms.kl import kl_estimate
from burnish.algorithms.policy_losses import Loss, importance_weights
from burnish.algorithms.recipes import Earned, advantages_of
from burnish.batch import Batch, TokenSequence, groups_of
from burnish.models.roles import Roles, View
from burnish.ranks import dealt
from burnish.records import Reward, Rollout
from burnish.trainers.online_settings import OnlineSettings
from burnish.trainers.tell import rollout_metrics


@dataclass(frozen=True)
class Prepared:
    """A batch with every column the algorithm needs, the metrics of its rollouts, and the running
    moments after it."""

    batch: Batch
    metrics: dict[str, float]
    moments: RunningMoments


@torch.no_grad()
def column(of: Callable[[Batch], Tensor], batch: Batch, *, max_tokens: int) -> Tensor:
    """[P]: `of` run over micro-batches of `batch`, which are dealt among the ranks."""
    pieces = [batch.select(rows) for rows in batch.micro_batches(max_tokens)]
    return torch.cat(dealt(of, pieces))


def to_batch(
    rollouts: Sequence[Rollout],
    rewards: Sequence[Reward],
    roles: Roles,
    *,
    settings: OnlineSettings,
    beta: float,
    moments: RunningMoments,
) -> Prepared:
    """Rollouts and their rewards -> log-probabilities, values, token rewards and advantages.

    Rollouts come in groups of `responses_per_prompt`; those whose reward is not counted are left
    out before anything else.

    The four log-probabilities of a token have four names: `sampler_logprobs` (the engine's),
    `old_logprobs` (the trainer's before this update), `ref_logprobs` (the reference's), and
    `logprobs`, computed in the loss. With a single update the old ones equal the new, so their pass
    is skipped: the column is then the sampler's, if a reference
    needs it and the sampler drew from the model's own distribution, or is left out, and the loss
    takes its own (unless the reward or an adaptive β needs them earlier, or adapters drop: then
    those of the loss are of a model that is not whole). Where the sampler
    truncated, penalised or multiplied in less precision, tokens get importance weights.
    """
    numbers_B = torch.arange(len(rollouts)) // settings.responses_per_prompt
    counted = [i for i, reward in enumerate(rewards) if reward.counted]
    metrics = rollout_metrics(rollouts, rewards, size=settings.responses_per_prompt)
    rollouts, rewards, groups_B = (
        [rollouts[i] for i in counted],
        [rewards[i] for i in counted],
        numbers_B[counted],
    )
    if not rollouts:
        return Prepared(Batch(()), metrics, moments)
    batch = _with_log_probabilities(rollouts, roles, settings=settings)
    scores_B, moments = _scores(rollouts, rewards, settings=settings, moments=moments)
    batch, told = _with_advantages(batch, scores_B, groups_B, settings=settings, beta=beta)
    batch, apart = _with_importance(batch, roles, settings=settings)
    metrics |= {**told, **apart}
    if settings.algorithm.overlong == "mask":
        whole = [i for i, r in enumerate(rollouts) if r.completion.finish_reason != "length"]
        metrics["completions/masked"] = float(len(rollouts) - len(whole))
        batch = batch.select(whole) if whole else Batch(())
    return Prepared(batch, metrics, moments)


def _exact(roles: Roles, settings: OnlineSettings) -> bool:
    """Whether the sampler drew from the model's own distribution."""
    return settings.sampling.follows_the_model and roles.policy.backbone.samples_exactly


def _with_log_probabilities(
    rollouts: Sequence[Rollout], roles: Roles, *, settings: OnlineSettings
) -> Batch:
    """The rollouts with the sampler's log-probabilities, and the reference's, the critic's values
    and the trainer's where the algorithm needs them before the loss."""
    limit, temperature = settings.optimizer.micro_batch_tokens, settings.sampling.temperature
    batch = Batch(tuple(sequence_of(r) for r in rollouts))

    def scored(view: View) -> Tensor:
        of = lambda b: view.logprobs(b, temperature=temperature).logprobs_P  # noqa: E731
        return column(of, batch, max_tokens=limit)

    sampler_P = torch.tensor([x for r in rollouts for x in r.completion.sampler_logprobs])
    columns = {"sampler_logprobs": sampler_P}
    reference, exact = roles.reference, _exact(roles, settings)
    if reference is not None:
        columns["ref_logprobs"] = scored(reference)
    if roles.critic is not None:
        columns["values"] = column(roles.critic.values, batch, max_tokens=limit)
    # what the loss takes for its own is then of a model with less in it than the one that sampled
    drops = roles.policy.drops
    asked = reference is not None and not settings.loss_knows_kl
    if settings.updates > 1 or ((asked or drops) and not exact):
        columns["old_logprobs"] = scored(roles.policy)
    elif exact and (reference is not None or drops):
        columns["old_logprobs"] = sampler_P
    return batch.with_columns(**columns)


def _with_importance(
    batch: Batch, roles: Roles, *, settings: OnlineSettings
) -> tuple[Batch, dict[str, float]]:
    """The batch with the weights that correct for the sampler, where it needs them, and how far
    sampler and trainer are apart."""
    if "old_logprobs" not in batch.columns:
        return batch, {}
    old_P, sampler_P = batch["old_logprobs"], batch["sampler_logprobs"]
    if roles.policy.drops and old_P is sampler_P:
        return batch, {}
    gap_P = (sampler_P - old_P).abs()
    metrics = {"sampler_gap_mean": float(gap_P.mean()), "sampler_gap_max": float(gap_P.max())}
    if _exact(roles, settings) or settings.importance.kind == "none":
        return batch, metrics
    importance = importance_of(batch, old_P, settings=settings)
    return batch.with_columns(importance=importance.per_token), {
        **metrics,
        "importance_mean": float(importance.per_token.mean()),
        "importance_capped": float(importance.stats["capped"].mean()),
    }


def importance_of(batch: Batch, old_P: Tensor, *, settings: OnlineSettings) -> Loss:
    """The weights that correct for the sampler."""
    how = settings.importance
    return importance_weights(
        old_logprobs=old_P,
        sampler_logprobs=batch["sampler_logprobs"],
        cap=how.cap,
        kind=how.kind,
        level=how.level,
        sequence_of_P=batch.sequence_of_P,
        sequences=len(batch),
    )


def deal_mini_batches(batch: Batch, *, count: int, generator: torch.Generator) -> list[Batch]:
    """The sequences of a batch, shuffled and dealt into `count` parts, fewer where there are fewer
    sequences.

    Completions of one prompt go together, so that a part runs the prompt once; where there are
    fewer prompts than parts, completions are dealt singly.
    """
    groups = list(groups_of(batch.sequences))
    if len(groups) < count:
        groups = [[row] for row in range(len(batch))]
    order = (
        torch.randperm(len(groups), generator=generator).tolist()
        if count > 1
        else list(range(len(groups)))
    )
    dealt = [sorted(order[start::count]) for start in range(min(count, len(groups)))]
    return [batch.select([row for group in part for row in groups[group]]) for part in dealt]


def sequence_of(rollout: Rollout) -> TokenSequence:
    """A rollout as the learner takes it; what an environment wrote is run and not trained."""
    completion = rollout.completion
    return TokenSequence(rollout.prompt_tokens, completion.tokens, completion.response_mask or None)


def _scores(
    rollouts: Sequence[Rollout],
    rewards: Sequence[Reward],
    *,
    settings: OnlineSettings,
    moments: RunningMoments,
) -> tuple[Tensor, RunningMoments]:
    """[B]: what each completion earned, after everything that acts on it."""
    scores_B = torch.tensor([reward.value for reward in rewards], dtype=torch.float32)
    if settings.normalize_rewards:
        # a bad score costs its step, not every later one
        moments = moments.update(scores_B[scores_B.isfinite()])
        scores_B = normalize_rewards(scores_B=scores_B, moments=moments)
    if settings.clip_rewards is not None:
        scores_B = scores_B.clamp(-settings.clip_rewards, settings.clip_rewards)
    cut_off = torch.tensor([r.completion.finish_reason == "length" for r in rollouts])
    scores_B = scores_B - settings.missing_eos_penalty * cut_off
    if settings.algorithm.overlong == "shape":
        lengths_B = torch.tensor([r.completion.drawn for r in rollouts], dtype=torch.float32)
        shaping = overlong_penalty(
            lengths_B=lengths_B, longest=settings.longest, cache=settings.overlong_cache
        )
        scores_B = scores_B + shaping
    return scores_B, moments


def _with_advantages(
    batch: Batch, scores_B: Tensor, groups_B: Tensor, *, settings: OnlineSettings, beta: float
) -> tuple[Batch, dict[str, float]]:
    """The batch with `advantages` (and `returns`, where there is a critic), and what there is to
    say of them."""
    row, metrics = settings.algorithm, dict[str, float]()
    kl_P = torch.zeros(batch.trained_tokens)
    if "ref_logprobs" in batch.columns and "old_logprobs" in batch.columns:
        log_ratio_P = batch["old_logprobs"] - batch["ref_logprobs"]
        metrics |= {
            "kl_ref": float(log_ratio_P.sum()) / len(batch),
            "kl_ref_per_token": float(log_ratio_P.mean()),
            "kl": float(
                kl_estimate(
                    logprobs=batch["old_logprobs"],
                    ref_logprobs=batch["ref_logprobs"],
                    estimator="k3",
                ).mean()
            ),
        }
        if settings.kl_in_reward:
            kl_P = _penalty(batch, settings=settings)
    kl_BT, mask_BT = batch.padded(kl_P)
    values_BT = batch.padded(batch["values"])[0] if "values" in batch.columns else None
    earned = Earned(
        scores_B, groups_B, kl_BT, mask_BT, values_BT, beta, settings.gamma, settings.gae_lambda
    )
    advantages_BT, returns_BT = advantages_of(row, earned)
    columns = {}
    if values_BT is not None:
        explained = explained_variance(values=values_BT, returns=returns_BT, mask=mask_BT)
        metrics |= {
            "explained_variance": float(explained),
            "value_mean": float(batch["values"].mean()),
            "return_mean": float(returns_BT[mask_BT].mean()),
        }
        columns["returns"] = returns_BT[mask_BT]
    penalties_B = beta * (kl_BT * mask_BT).sum(dim=1)
    metrics["shaped_reward"] = float((scores_B - penalties_B).mean())
    if row.whiten:
        advantages_BT = whiten(x=advantages_BT, mask=mask_BT)
    if settings.clip_advantages is not None:
        advantages_BT = advantages_BT.clamp(-settings.clip_advantages, settings.clip_advantages)
    return batch.with_columns(advantages=advantages_BT[mask_BT], **columns), metrics


def _penalty(batch: Batch, *, settings: OnlineSettings) -> Tensor:
    """[P]: the estimate of KL(π ‖ π_ref) at each token, or that of the whole completion at its
    last."""
    estimator = settings.algorithm.kl_estimator
    old_P, ref_P = batch["old_logprobs"], batch["ref_logprobs"]
    if settings.algorithm.kl_level == "token":
        return kl_estimate(logprobs=old_P, ref_logprobs=ref_P, estimator=estimator)
    add = lambda x: x.new_zeros(len(batch)).index_add(0, batch.sequence_of_P, x)  # noqa: E731
    whole_B = kl_estimate(logprobs=add(old_P), ref_logprobs=add(ref_P), estimator=estimator)
    penalty_P = torch.zeros_like(old_P)
    penalty_P[batch.counts_N.cumsum(0) - 1] = whole_B
    return penalty_P
