"""Stage `online`: reinforcement learning by a row of the table of algorithms, from rewards or an
environment's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from burnish.atomic import shared_folder, write_text
from burnish.batch import TokenSequence
from burnish.config.online import OnlineTraining
from burnish.execution.shards import shard
from burnish.jsonio import json_lines
from burnish.models.backbone import Backbone
from burnish.models.ensemble import members_of
from burnish.models.roles import Roles, View
from burnish.models.weights import save_policy
from burnish.ranks import first
from burnish.records import Reward, Rollout
from burnish.rewards.base import prompt_text
from burnish.rewards.model import RewardModelScorer, ScopedModelReward
from burnish.rewards.scorer import CompositeScorer, check_prompts
from burnish.runs.metrics import read_metrics
from burnish.stages.context import Step
from burnish.stages.engines import engine_findings, journalled, probed, served_engine
from burnish.stages.rewards import build_scorer
from burnish.stages.roles import build_roles
from burnish.stages.sampling import end_tokens_of, fitting
from burnish.stages.sft import sequences_of
from burnish.stages.turns import make_sampler, with_pay
from burnish.stages.watch import PREFIX, PolicyWatch, watched
from burnish.trainers.gather import FirstSampler, Sampler, Scorer
from burnish.trainers.online import train_online
from burnish.trainers.online_settings import resolve_settings

_CURVE = (
    "step", "reward", "reward_std", "frac_reward_zero_std", "kl_ref", "kl", "entropy", "approx_kl",
    "clipfrac", "explained_variance",
    "completion_length", "truncation_rate", "policy_loss", "value_loss", "grad_norm",
    "sampler_gap_mean", "beta",
)  # fmt: skip
_PREFIXES = ("rewards/", "verdicts/", "filter/", "curriculum/", PREFIX)
_SHOWN = 4


def run(step: Step) -> None:
    """Train, save the policy (adapters merged) under `model`; metrics, samples and checkpoints
    beside it."""
    folder, config = step.folder, step.settings
    # what does not fit together is said before anything is loaded
    settings = resolve_settings(config)
    roles = build_roles(step)
    backbone, row = roles.policy.backbone, settings.algorithm
    prompts = fitting(step, backbone, step.prompts.train, config.sampling, "prompts")
    step.say_repeats(config.prompts_per_step, len(prompts))
    composed = build_scorer(step, config.rewards, backbone=backbone) if config.rewards else None
    try:
        paying = () if roles.reward is None else members_of(roles.reward)
        shard(roles.policy, roles.critic, roles.reference, *paying, *_models_of(composed))
        _say_what_is_passed_over(step, composed)
        scorer = _scorer(roles, composed, config)
        with (
            _sampler(step, roles.policy, row.name) as sampler,
            watched(step, roles, sampler, scorer, composed) as watch,
        ):
            train_online(
                roles,
                sampler,
                scorer,
                prompts,
                settings=settings,
                seed=step.seed,
                folder=folder,
                demonstrations=_imitated(step, backbone) if config.ptx_coef else (),
                on_rollouts=partial(_keep_samples, folder),
                watch=watch,
                progress=step.progress(),
                writers=step.writers(),
            )
    finally:
        if composed is not None:
            composed.close()
    _say_how_it_ended(step, watch)
    with shared_folder(folder / "model") as scratch:
        save_policy(roles.policy, scratch, base=step.start)
    rows = read_metrics(folder / "metrics.jsonl")
    seen = {} if watch is None else {"watch": watch.findings(len(rows))}
    step.finish(
        {
            "mode": "adapters" if config.share_backbone else "copies",
            "algorithm": row.parts(),
            "roles": list(row.roles),
            "steps": len(rows),
            "rollouts": len(rows) * config.prompts_per_step * config.responses_per_prompt,
            "curve": [{name: value for name, value in r.items() if _kept(name)} for r in rows],
            **seen,
            **engine_findings(folder),
        },
    )


@contextmanager
def _sampler(step: Step, policy: View, algorithm: str) -> Iterator[Sampler]:
    """What samples the policy: with an engine in this process, or with those that the recipe asks
    for."""
    config = step.settings
    with served_engine(step, policy, config.sampling) as engine:
        make = partial(
            make_sampler,
            config.environment,
            policy,
            config.sampling,
            seed=step.seed,
            max_length=step.recipe.model.max_length,
            # recorded results have drawn from these streams
            purpose="ppo" if algorithm == "ppo" else "online",
            engine=engine,
            say=step.say_once,
        )
        sampler = probed(step, policy, FirstSampler(policy, make), engine)
        with journalled(step, sampler) as kept:
            yield kept


def _say_how_it_ended(step: Step, watch: PolicyWatch | None) -> None:
    """One line where a watch has ended the training, or keeps another policy than the last."""
    if watch is None:
        return
    found = watch.findings(step.settings.steps)
    kept, stopped = found["kept_step"], found["stopped_at"]
    if stopped is not None:
        why = found["alarms"][-1]["why"]
        of = "that of the last" if kept == step.settings.steps else f"that after step {kept}"
        step.say(
            f"{step.name}: stopped by its watch after step {stopped} of {step.settings.steps}:"
            f" {why}; its policy is {of}"
        )
    elif kept < step.settings.steps:
        step.say(
            f"{step.name}: its policy is that after step {kept}, which {found['judge']} liked best"
        )


def _models_of(composed: CompositeScorer | None) -> list[View]:
    """The reward models among the composed rewards."""
    rewards = [] if composed is None else [source.reward for source in composed.sources]
    models = [reward.view for reward in rewards if isinstance(reward, ScopedModelReward)]
    return [view for model in models for view in members_of(model)]


def _say_what_is_passed_over(step: Step, composed: CompositeScorer | None) -> None:
    """Say which of the rewards judge only some of the prompts."""
    for source in () if composed is None else composed.sources:
        passed_over = check_prompts(source.part, source.reward, step.prompts.train, step.origins)
        if passed_over is not None:
            step.say_once(f"{step.name}: {passed_over}")


def _scorer(roles: Roles, composed: CompositeScorer | None, config: OnlineTraining) -> Scorer:
    """What the loop asks: the reward model among the roles, or the composed rewards and what an
    environment pays."""
    if roles.reward is None:
        return with_pay(composed, config.environment)
    ends = end_tokens_of(roles.policy.backbone)
    return RewardModelScorer(
        roles.reward, end_tokens=ends, max_tokens=config.optimizer.micro_batch_tokens
    )


def _imitated(step: Step, backbone: Backbone) -> list[TokenSequence]:
    """The demonstrations of the ptx loss, a sequence for each turn that is trained."""
    conversations = sequences_of(step, backbone, step.demonstrations.train, "demonstrations")
    return [sequence for conversation in conversations for sequence in conversation]


def _keep_samples(
    folder: Path, step: int, rollouts: Sequence[Rollout], rewards: Sequence[Reward]
) -> None:
    """The first few completions of every step, one file a step, so that a resumed run writes the
    same files."""
    if not first():
        return
    rows = [
        {
            "step": step + 1,
            "prompt": prompt_text(r.prompt),
            "completion": r.completion.text,
            "reward": reward.value,
            "components": dict(reward.components),
            "verdicts": dict(reward.verdicts),
            **({"notes": dict(reward.notes)} if reward.notes else {}),
            "finish": r.completion.finish_reason,
        }
        for r, reward in list(zip(rollouts, rewards, strict=True))[:_SHOWN]
    ]
    path = folder / "samples" / f"step-{step + 1:05d}.jsonl"
    write_text(path, json_lines(rows))


def _kept(name: str) -> bool:
    return name in _CURVE or name.startswith(_PREFIXES)
