"""The online loop: sample prompts, generate, score, turn into a batch, update, hand the weights
back to the sampler.

One loop for PPO, GRPO and its relatives, RLOO and REINFORCE++: an algorithm is a row of
`algorithms.recipes`, whose parts are looked up where they are needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from burnish.algorithms.advantages import RunningMoments
from burnish.algorithms.aggregate import aggregate, loss_denominator, token_weights
from burnish.algorithms.kl import adapt_beta, kl_estimate
from burnish.algorithms.policy_losses import ppo_value_loss
from burnish.algorithms.recipes import loss_of
from burnish.batch import Batch, TokenSequence
from burnish.data.curriculum import PromptSource
from burnish.data.prompts import Stream
from burnish.models.roles import Roles, View, take_over
from burnish.records import Prompt, Reward, Rollout
from burnish.runs.metrics import Writer
from burnish.trainers import stages
from burnish.trainers.gather import Sampler, Scorer, gather
from burnish.trainers.learner import Learner, Term
from burnish.trainers.loop import Loop, Progress, Stateful
from burnish.trainers.online_settings import OnlineSettings
from burnish.trainers.sft import nll_term
from burnish.trainers.tell import rollout_metrics
from burnish.trainers.watching import Watch, Watching

_LARGEST_PRIME = 2**64 - 59
"""The largest below 2^64, where torch's seeds end: modulo a prime, seeds that differ stay
different."""


def seed_of_step(seed: int, step: int) -> int:
    """The seed of one step's order of rollouts, in [0, 2^64), which is what torch takes, for any
    run's seed below 2^63."""
    return ((seed << 20) + step) % _LARGEST_PRIME


class Controller:
    """What the loop carries from step to step besides weights: β and the running moments of the
    rewards."""

    def __init__(self, beta: float) -> None:
        self.beta = beta
        self.moments = RunningMoments()

    def state_dict(self) -> dict[str, Any]:
        """β and the moments."""
        return {"beta": self.beta, "moments": self.moments.to_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put them back."""
        self.beta, self.moments = state["beta"], RunningMoments.from_dict(state["moments"])

    def adapt(self, settings: OnlineSettings, kl: float, *, completions: int) -> None:
        """β after a step whose completions were this far from the reference, where it adapts."""
        if settings.kl_target is not None and math.isfinite(kl):
            self.beta = adapt_beta(
                beta=self.beta,
                kl=kl,
                target=settings.kl_target,
                horizon=settings.kl_horizon,
                n_samples=completions,
            )


def train_online(
    roles: Roles,
    sampler: Sampler,
    scorer: Scorer,
    prompts: Sequence[Prompt],
    *,
    settings: OnlineSettings,
    seed: int,
    folder: Path,
    demonstrations: Sequence[TokenSequence] = (),
    on_rollouts: Callable[[int, Sequence[Rollout], Sequence[Reward]], None] = lambda *_: None,
    watch: Watch | None = None,
    progress: Progress | None = None,
    writers: Sequence[Writer] = (),
) -> None:
    """Train `roles.policy`, and `roles.critic` if there is one, in place; resumes what was begun in
    `folder`.

    `demonstrations` feed the ptx loss where its coefficient is not 0. `on_rollouts` sees every
    step's rollouts; `watch` looks at the policy before the first step and now and then after, and
    may end the training, raise β, or ask for the policy's best weights again.
    """
    policy, critic = _learners(roles, settings, seed=seed)
    controller = Controller(settings.algorithm.beta)
    curriculum = {} if settings.curriculum is None else settings.curriculum.model_dump()
    source = PromptSource(prompts, seed=seed, **curriculum)
    ptx = _ptx_batches(demonstrations, settings=settings, seed=seed)
    state: dict[str, Stateful] = {"policy": policy, "controller": controller, "source": source}
    if critic is not None:
        state["critic"] = critic
    if settings.reference_reset is not None and roles.reference is not None:
        state["reference"] = roles.reference
    watching = Watching(watch, policy, sampler)
    state |= watching.state
    loop = Loop(
        folder,
        total=settings.steps,
        checkpoint=settings.checkpoint,
        state=state,
        progress=progress,
        writers=writers,
    )
    for step in loop.steps():
        sampler.load(roles.policy, version=step)
        first = watching.before_training() if step == 0 else {}
        found = gather(source, sampler, scorer, settings=settings, step=step)
        # its copy of the weights is old after this step, and training needs the memory
        sampler.sleep()
        on_rollouts(step, found.sampled, found.sampled_rewards)
        prepared = stages.to_batch(
            found.rollouts,
            found.rewards,
            roles,
            settings=settings,
            beta=controller.beta,
            moments=controller.moments,
        )
        controller.moments = prepared.moments
        values = update(
            policy,
            critic,
            prepared.batch,
            ptx(step),
            settings=settings,
            seed=seed,
            step=step,
            beta=controller.beta,
        )
        told = {
            **prepared.metrics,
            **_of_all(found.sampled, found.sampled_rewards, settings),
            **found.metrics,
        }
        told = {**told, **values, "beta": controller.beta}
        controller.adapt(
            settings, prepared.metrics.get("kl_ref", math.nan), completions=len(found.rollouts)
        )
        if settings.reference_reset is not None and (step + 1) % settings.reference_reset == 0:
            assert roles.reference is not None
            take_over(roles.policy, roles.reference)
        decision = watching.after(step + 1)
        controller.beta *= decision.beta_factor
        if decision.stop:
            loop.stop()
        loop.log({**told, **first, **decision.metrics}, tokens=prepared.batch.trained_tokens)
    watching.end()
    for learner in (policy, critic):
        if learner is not None:
            learner.refuse_standstill()


def _learners(
    roles: Roles, settings: OnlineSettings, *, seed: int
) -> tuple[Learner, Learner | None]:
    row = settings.algorithm
    missing = [role for role in row.roles if getattr(roles, role) is None]
    if missing:
        raise ValueError(f"{row.name} needs a {missing[0]}, and these roles have none")
    policy = Learner(
        roles.policy,
        settings.optimizer,
        total_steps=settings.steps * settings.updates,
        name="policy",
        seed=seed,
    )
    if roles.critic is None:
        return policy, None
    rate, total = (
        settings.critic_learning_rate,
        settings.steps * settings.critic_epochs * settings.num_mini_batches,
    )
    critic = Learner(
        roles.critic,
        settings.optimizer,
        total_steps=total,
        learning_rate=rate,
        name="critic",
        seed=seed,
    )
    return policy, critic


def _of_all(
    rollouts: Sequence[Rollout], rewards: Sequence[Reward], settings: OnlineSettings
) -> dict[str, float]:
    """Metrics of everything that was sampled, where that is more than what is trained on: or a
    filter would flatter them."""
    if settings.algorithm.filter == "none":
        return {}
    return rollout_metrics(rollouts, rewards, size=settings.responses_per_prompt)


def update(
    policy: Learner,
    critic: Learner | None,
    batch: Batch,
    ptx: Batch | None,
    *,
    settings: OnlineSettings,
    seed: int,
    step: int,
    beta: float | None = None,
) -> dict[str, float]:
    """Several epochs of mini-batches over one batch of rollouts. Returns metrics averaged over the
    updates.

    Completions whose advantages are all zero have no gradient where the loss is nothing but
    advantages: they are not run, and count in the denominators as before.
    """
    generator = torch.Generator().manual_seed(seed_of_step(seed, step))
    history: list[dict[str, float]] = []
    for epoch in range(settings.epochs if len(batch) else 0):
        for mini in stages.deal_mini_batches(
            batch, count=settings.num_mini_batches, generator=generator
        ):
            values: dict[str, float] = {}
            if critic is not None and epoch < settings.critic_epochs:
                values |= _update_critic(critic, mini, settings=settings)
            if step >= settings.critic_warmup_steps:
                terms = policy_terms(policy.view, mini, settings=settings, beta=beta)
                if ptx is not None:
                    cuts = [
                        ptx.select(rows)
                        for rows in ptx.micro_batches(settings.optimizer.micro_batch_tokens)
                    ]
                    share = {"denominator": ptx.trained_tokens, "weight": settings.ptx_coef}
                    terms += [partial(nll_term, policy.view, piece, **share) for piece in cuts]
                values |= policy.update(terms)
            history.append(values)
        if (
            settings.target_kl is not None
            and history[-1].get("approx_kl", 0.0) > settings.target_kl
        ):
            break
    skipped = policy.skipped + (0 if critic is None else critic.skipped)
    return {**_means(history), "updates": len(history), "skipped_steps": skipped}


def policy_terms(
    view: View, mini: Batch, *, settings: OnlineSettings, beta: float | None = None
) -> list[Callable[[], Term]]:
    """The policy's loss on the batch of one optimizer step, a term a micro-batch."""
    live = mini
    if not settings.kl_in_loss and not settings.ent_coef:
        rows = mini.sequence_of_P[mini["advantages"] != 0].unique().tolist()
        live = mini if len(rows) == len(mini) else mini.select(rows) if rows else Batch(())
    share = {
        "denominator": mini.trained_tokens,
        "sequences": len(mini),
        "measured": live.trained_tokens,
        "settings": settings,
        "beta": beta,
    }
    pieces = [
        live.select(rows) for rows in live.micro_batches(settings.optimizer.micro_batch_tokens)
    ]
    return [partial(policy_term, view, piece, **share) for piece in pieces]


def policy_term(
    view: View,
    batch: Batch,
    *,
    denominator: int,
    settings: OnlineSettings,
    sequences: int = 0,
    measured: int | None = None,
    beta: float | None = None,
) -> Term:
    """The policy's loss on one micro-batch: surrogate, weighted; plus β·KL and minus the entropy
    bonus where they have a weight.

    Args:
        denominator: trained tokens of the whole batch of this optimizer step.
        sequences: its completions.
        measured: the tokens that statistics are averaged over; those of the whole batch if not
            given.
        beta: the penalty's weight; the row's if not given.
    """
    row = settings.algorithm
    scored = view.logprobs(batch, temperature=settings.sampling.temperature, entropy=True)
    now_P, sequence_of_P, columns = scored.logprobs_P, batch.sequence_of_P, batch.columns
    old_P = columns.get("old_logprobs", now_P.detach())
    loss = loss_of(
        row,
        logprobs=now_P,
        old_logprobs=old_P,
        advantages=columns["advantages"],
        sequence_of_P=sequence_of_P,
        sequences=len(batch),
    )
    shares = _clip_shares(loss.stats["ratio"], columns["advantages"], settings)
    per_token, stats = loss.per_token, {**loss.stats, **shares}
    weights_P, told = _importance(view, batch, columns, now_P, settings)
    stats |= told
    if weights_P is not None:
        per_token = per_token * weights_P
    total_of = partial(
        _averaged, batch=batch, row=row, settings=settings, tokens=denominator, sequences=sequences
    )
    policy_loss = total = total_of(per_token)
    assert scored.entropy_P is not None
    mean = partial(aggregate, denominator=denominator if measured is None else measured)
    entropy = mean(per_token=scored.entropy_P)
    sums = {"policy_loss": policy_loss.detach(), "entropy": entropy.detach()}
    if "ref_logprobs" in columns and "old_logprobs" not in columns:
        stats |= _distance(old_P, columns["ref_logprobs"])
        sums["kl_ref"] = stats["kl_ref_per_token"].sum() / max(1, sequences)
    sums |= {name: mean(per_token=value.float()) for name, value in stats.items()}
    if settings.kl_in_loss:
        penalty = _penalty(
            now_P,
            old_P,
            columns,
            sequence_of_P,
            batch,
            settings=settings,
            total_of=total_of,
            sequences=sequences,
        )
        total = total + (row.beta if beta is None else beta) * penalty
        sums["kl_loss"] = penalty.detach()
    if settings.ent_coef:
        total = total - settings.ent_coef * total_of(scored.entropy_P)
    return Term(total, sums)


def _distance(old_P: Tensor, ref_P: Tensor) -> dict[str, Tensor]:
    """How far the policy is from its reference [P], where that was not known before the loss."""
    kl_P = kl_estimate(logprobs=old_P, ref_logprobs=ref_P, estimator="k3")
    return {"kl_ref_per_token": old_P - ref_P, "kl": kl_P}


def value_term(view: View, batch: Batch, *, denominator: int, settings: OnlineSettings) -> Term:
    """The clipped value loss of one micro-batch."""
    loss = ppo_value_loss(
        values=view.values(batch),
        old_values=batch["values"],
        returns=batch["returns"],
        clip=settings.value_clip_range,
    )
    stats = {
        name: aggregate(per_token=value.float(), denominator=denominator)
        for name, value in loss.stats.items()
    }
    total = aggregate(per_token=loss.per_token, denominator=denominator)
    return Term(settings.vf_coef * total, stats)


def _update_critic(critic: Learner, mini: Batch, *, settings: OnlineSettings) -> dict[str, float]:
    pieces = [
        mini.select(rows) for rows in mini.micro_batches(settings.optimizer.micro_batch_tokens)
    ]
    share = {"denominator": mini.trained_tokens, "settings": settings}
    valued = critic.update(partial(value_term, critic.view, piece, **share) for piece in pieces)
    return {
        "value_loss": valued["loss"],
        "vf_clipfrac": valued["vf_clipfrac"],
        "critic_grad_norm": valued["grad_norm"],
    }


def _averaged(
    per_token: Tensor,
    *,
    batch: Batch,
    row: Any,
    settings: OnlineSettings,
    tokens: int,
    sequences: int,
) -> Tensor:
    """This micro-batch's part of the loss, by the row's aggregation."""
    weights_P = token_weights(kind=row.aggregation, counts_N=batch.counts_N)
    if weights_P is not None:
        per_token = per_token * weights_P
    whole = loss_denominator(
        kind=row.aggregation, tokens=tokens, sequences=sequences, constant=settings.longest
    )
    return aggregate(per_token=per_token, denominator=whole)


def _importance(
    view: View, batch: Batch, columns: Mapping[str, Tensor], now_P: Tensor, settings: OnlineSettings
) -> tuple[Tensor | None, dict[str, Tensor]]:
    """The weights [P] of this micro-batch's tokens, if any, and how far sampler and trainer are
    apart.

    With a single update the log-probabilities of the loss are those before the update: they serve
    where no pass was made for them, and measure the gap in any case, unless adapters drop.
    """
    stats: dict[str, Tensor] = {}
    if settings.updates == 1 and "sampler_logprobs" in columns and not view.drops:
        stats["sampler_gap_mean"] = (now_P.detach() - columns["sampler_logprobs"]).abs()
    if "importance" in columns:
        return columns["importance"], stats
    exact = settings.sampling.follows_the_model and view.backbone.samples_exactly
    if exact or "old_logprobs" in columns or settings.importance.kind == "none":
        return None, stats
    found = stages.importance_of(batch, now_P.detach(), settings=settings)
    return found.per_token, {
        **stats,
        "importance_mean": found.per_token,
        "importance_capped": found.stats["capped"],
    }


def _penalty(
    now_P: Tensor,
    old_P: Tensor,
    columns: Mapping[str, Tensor],
    sequence_of_P: Tensor,
    batch: Batch,
    *,
    settings: OnlineSettings,
    total_of: Callable[[Tensor], Tensor],
    sequences: int,
) -> Tensor:
    """KL(π ‖ π_ref) as a loss: per token and averaged as the surrogate is, or of whole completions
    and averaged over them."""
    estimator, ref_P = settings.algorithm.kl_estimator, columns["ref_logprobs"]
    if settings.algorithm.kl_level == "token":
        kl_P = kl_estimate(logprobs=now_P, ref_logprobs=ref_P, estimator=estimator)
        return total_of(kl_P * (now_P - old_P).exp() if settings.kl_ratio_factor else kl_P)
    add = lambda x: x.new_zeros(len(batch)).index_add(0, sequence_of_P, x)  # noqa: E731
    kl_N = kl_estimate(logprobs=add(now_P), ref_logprobs=add(ref_P), estimator=estimator)
    if settings.kl_ratio_factor:
        kl_N = kl_N * add(now_P - old_P).exp()
    return kl_N.sum() / sequences


def _clip_shares(
    ratio_P: Tensor, advantages_P: Tensor, settings: OnlineSettings
) -> dict[str, Tensor]:
    """Where the ratio's range binds, by TRL's names."""
    row = settings.algorithm
    low_P = (ratio_P < 1.0 - row.clip_low) & (advantages_P < 0)
    high_P = (ratio_P > 1.0 + row.clip_high) & (advantages_P > 0)
    return {
        "clip_ratio/low_mean": low_P,
        "clip_ratio/high_mean": high_P,
        "clip_ratio/region_mean": low_P | high_P,
    }


def _means(history: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each metric over the updates that have it."""
    names = dict.fromkeys(name for values in history for name in values)
    found = {name: [values[name] for values in history if name in values] for name in names}
    return {name: sum(values) / len(values) for name, values in found.items()}


def _ptx_batches(
    demonstrations: Sequence[TokenSequence], *, settings: OnlineSettings, seed: int
) -> Callable[[int], Batch | None]:
    if not settings.ptx_coef:
        return lambda _: None
    if not demonstrations:
        raise ValueError("ptx_coef is not 0, so demonstrations are needed")
    stream = Stream(
        demonstrations, seed=seed, batch_size=min(settings.ptx_batch_size, len(demonstrations))
    )
    return lambda step: Batch(tuple(stream.batch(step)))
