"""The online loop: sample prompts, generate, score, turn into a batch, update, hand the weights back to the sampler.

The algorithm is PPO (arXiv:1707.06347, arXiv:2203.02155).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch

from burnish.algorithms.advantages import RunningMoments
from burnish.algorithms.aggregate import aggregate
from burnish.algorithms.kl import adapt_beta
from burnish.algorithms.policy_losses import ppo_policy_loss, ppo_value_loss
from burnish.batch import Batch, TokenSequence
from burnish.config.schema import Ppo
from burnish.data.prompts import Stream
from burnish.models.roles import Roles, View
from burnish.records import Prompt, Reward, Rollout
from burnish.runs.metrics import Writer
from burnish.trainers import stages
from burnish.trainers.learner import Learner, Term
from burnish.trainers.loop import Loop, Progress
from burnish.trainers.sft import nll_term


class Sampler(Protocol):
    """Writes completions with the policy's weights."""

    def generate(self, prompts: Sequence[Prompt], *, samples: int, round: int) -> list[Rollout]:
        """`samples` completions of each prompt, those of one prompt side by side; `round` varies the random numbers."""
        ...

    def load(self, view: View, *, version: int) -> None:
        """Take over new weights."""
        ...


class Scorer(Protocol):
    """Rewards rollouts."""

    def score(self, rollouts: Sequence[Rollout]) -> list[Reward]:
        """One reward for each."""
        ...


class Controller:
    """What the loop carries from step to step besides weights: β and the running moments of the rewards."""

    def __init__(self, beta: float) -> None:
        self.beta = beta
        self.moments = RunningMoments()

    def state_dict(self) -> dict[str, Any]:
        """β and the moments."""
        return {"beta": self.beta, "moments": self.moments.to_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put them back."""
        self.beta, self.moments = state["beta"], RunningMoments.from_dict(state["moments"])


def train_ppo(
    roles: Roles,
    sampler: Sampler,
    scorer: Scorer,
    prompts: Sequence[Prompt],
    *,
    config: Ppo,
    seed: int,
    folder: Path,
    demonstrations: Sequence[TokenSequence] = (),
    on_rollouts: Callable[[int, Sequence[Rollout], Sequence[Reward]], None] = lambda *_: None,
    progress: Progress | None = None,
    writers: Sequence[Writer] = (),
) -> None:
    """Train `roles.policy` and `roles.critic` in place; resumes what was begun in `folder`.

    `demonstrations` feed the ptx loss where its coefficient is not 0. `on_rollouts` sees every step's rollouts.
    """
    updates = config.steps * config.epochs * config.mini_batches
    policy = Learner(roles.policy, config.optimiser, total_steps=updates)
    critic = Learner(roles.critic, config.optimiser, total_steps=updates, learning_rate=config.critic_learning_rate)
    controller = Controller(config.kl.beta)
    stream = Stream(prompts, seed=seed, batch_size=config.prompts_per_step)
    ptx = _ptx_batches(demonstrations, config=config, seed=seed)
    state = {"policy": policy, "critic": critic, "controller": controller}
    loop = Loop(
        folder, total=config.steps, checkpoint=config.checkpoint, state=state, progress=progress, writers=writers
    )
    for step in loop.steps():
        sampler.load(roles.policy, version=step)
        rollouts = sampler.generate(stream.batch(step), samples=config.responses_per_prompt, round=step)
        rewards = scorer.score(rollouts)
        on_rollouts(step, rollouts, rewards)
        prepared = stages.to_batch(
            rollouts, rewards, roles, config=config, beta=controller.beta, moments=controller.moments
        )
        controller.moments = prepared.moments
        values = update(policy, critic, prepared.batch, ptx(step), config=config, seed=seed, step=step)
        loop.log({**prepared.metrics, **values, "beta": controller.beta}, tokens=prepared.batch.trained_tokens)
        if config.kl.target is not None and math.isfinite(prepared.metrics["kl_ref"]):
            controller.beta = adapt_beta(
                beta=controller.beta,
                kl=prepared.metrics["kl_ref"],
                target=config.kl.target,
                horizon=config.kl.horizon,
                n_samples=len(rollouts),
            )


def update(
    policy: Learner, critic: Learner, batch: Batch, ptx: Batch | None, *, config: Ppo, seed: int, step: int
) -> dict[str, float]:
    """Several epochs of mini-batches over one batch of rollouts. Returns metrics averaged over the updates."""
    limit = config.optimiser.micro_batch_tokens
    generator = torch.Generator().manual_seed((seed << 20) + step)
    history: list[dict[str, float]] = []
    for _ in range(config.epochs):
        for mini in stages.mini_batches(batch, count=config.mini_batches, generator=generator):
            pieces = [mini.select(rows) for rows in mini.micro_batches(limit)]
            share = {"denominator": mini.trained_tokens, "config": config}
            valued = critic.update(partial(value_term, critic.view, piece, **share) for piece in pieces)
            values = {
                "value_loss": valued["loss"],
                "vf_clipfrac": valued["vf_clipfrac"],
                "critic_grad_norm": valued["grad_norm"],
            }
            if step >= config.tricks.critic_warmup_steps:
                terms = [partial(policy_term, policy.view, piece, **share) for piece in pieces]
                if ptx is not None:
                    cuts = [ptx.select(rows) for rows in ptx.micro_batches(limit)]
                    weight = config.tricks.ptx_coefficient
                    terms += [
                        partial(nll_term, policy.view, piece, denominator=ptx.trained_tokens, weight=weight)
                        for piece in cuts
                    ]
                values |= policy.update(terms)
            history.append(values)
        if config.target_kl is not None and history[-1].get("approx_kl", 0.0) > config.target_kl:
            break
    names = dict.fromkeys(name for values in history for name in values)
    means = {name: sum(v.get(name, 0.0) for v in history) / len(history) for name in names}
    return {**means, "updates": len(history), "skipped_steps": policy.skipped + critic.skipped}


def policy_term(view: View, batch: Batch, *, denominator: int, config: Ppo) -> Term:
    """The clipped surrogate, minus the entropy bonus where it has a weight, of one micro-batch."""
    scored = view.logprobs(batch, temperature=config.sampling.temperature, entropy=True)
    loss = ppo_policy_loss(
        logprobs=scored.logprobs_P,
        old_logprobs=batch["old_logprobs"],
        advantages=batch["advantages"],
        clip_low=config.clip,
        clip_high=config.clip,
        dual_clip=config.dual_clip,
    )
    assert scored.entropy_P is not None
    per_token = loss.per_token * batch["importance"] if "importance" in batch.columns else loss.per_token
    total = aggregate(per_token=per_token, mask=None, denominator=denominator)
    entropy = aggregate(per_token=scored.entropy_P, mask=None, denominator=denominator)
    stats = {
        name: aggregate(per_token=value.float(), mask=None, denominator=denominator)
        for name, value in loss.stats.items()
    }
    sums = {"policy_loss": total.detach(), "entropy": entropy.detach(), **stats}
    if config.tricks.entropy_coefficient:
        total = total - config.tricks.entropy_coefficient * entropy
    return Term(total, sums)


def value_term(view: View, batch: Batch, *, denominator: int, config: Ppo) -> Term:
    """The clipped value loss of one micro-batch."""
    loss = ppo_value_loss(
        values=view.values(batch), old_values=batch["values"], returns=batch["returns"], clip=config.value_clip
    )
    stats = {
        name: aggregate(per_token=value.float(), mask=None, denominator=denominator)
        for name, value in loss.stats.items()
    }
    total = aggregate(per_token=loss.per_token, mask=None, denominator=denominator)
    return Term(config.value_coefficient * total, stats)


def _ptx_batches(demonstrations: Sequence[TokenSequence], *, config: Ppo, seed: int) -> Callable[[int], Batch | None]:
    if not config.tricks.ptx_coefficient:
        return lambda _: None
    if not demonstrations:
        raise ValueError("ppo.tricks.ptx_coefficient is not 0, so demonstrations are needed")
    stream = Stream(demonstrations, seed=seed, batch_size=config.tricks.ptx_batch_size)
    return lambda step: Batch(tuple(stream.batch(step)))
