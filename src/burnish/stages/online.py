"""Stage `online`: reinforcement learning by a row of the table of algorithms, from rewards or an environment's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from burnish.atomic import atomic_folder, write_text
from burnish.jsonio import json_lines
from burnish.models.adapters import LoraSpec
from burnish.models.heads import ScalarHead
from burnish.models.roles import Roles, View, policy_roles
from burnish.models.weights import save_policy
from burnish.records import Reward, Rollout
from burnish.rewards.base import prompt_text
from burnish.rewards.scorer import check_prompts
from burnish.runs.metrics import read_metrics
from burnish.stages.context import Step
from burnish.stages.rewards import build_scorer
from burnish.stages.roles import held_to
from burnish.stages.sampling import fitting
from burnish.stages.turns import make_sampler, with_pay
from burnish.trainers.online import train_online
from burnish.trainers.rules import rules_of

_CURVE = (
    "step", "reward", "reward_std", "frac_reward_zero_std", "kl_ref", "kl", "entropy", "approx_kl", "clipfrac", "explained_variance",
    "completion_length", "truncation_rate", "policy_loss", "value_loss", "grad_norm", "sampler_gap_mean", "beta",
)  # fmt: skip
_PREFIXES = ("rewards/", "verdicts/", "filter/", "curriculum/")
_SHOWN = 4


def run(step: Step) -> None:
    """Train, save the policy (adapters merged) under `model`; metrics, samples and checkpoints beside it."""
    folder, config = step.folder, step.settings
    rules = rules_of(config)  # what does not fit together is said before anything is loaded
    roles = build_roles(step)
    backbone = roles.policy.backbone
    prompts = fitting(step, backbone, step.prompts.train, config.sampling, "prompts")
    step.say_repeats(config.prompts_per_step, len(prompts))
    composed = build_scorer(step, config.rewards, backbone=backbone) if config.rewards else None
    try:
        for source in composed.sources if composed is not None else ():
            passed_over = check_prompts(source.part, source.reward, step.prompts.train, step.origins)
            if passed_over is not None:
                step.say_once(f"{step.name}: {passed_over}")
        train_online(
            roles,
            make_sampler(
                config.environment,
                roles.policy,
                config.sampling,
                seed=step.seed,
                max_length=step.recipe.model.max_length,
                purpose="online",
                say=step.say_once,
            ),
            with_pay(composed, config.environment),
            prompts,
            config=config,
            seed=step.seed,
            folder=folder,
            on_rollouts=lambda step, rollouts, rewards: _keep_samples(folder, step, rollouts, rewards),
            progress=step.progress(),
            writers=step.writers(),
        )
    finally:
        if composed is not None:
            composed.close()
    with atomic_folder(folder / "model") as scratch:
        save_policy(roles.policy, scratch, base=step.start)
    rows = read_metrics(folder / "metrics.jsonl")
    row = rules.algorithm
    step.finish(
        {
            "mode": config.roles,
            "algorithm": {name: getattr(row, name) for name in row.__dataclass_fields__},
            "roles": list(row.roles),
            "steps": len(rows),
            "rollouts": len(rows) * config.prompts_per_step * config.responses_per_prompt,
            "curve": [{name: value for name, value in r.items() if _kept(name)} for r in rows],
        },
    )


def build_roles(step: Step) -> Roles:
    """The policy, on what it starts from; critic and reference where they are needed."""
    config = step.settings
    row = rules_of(config).algorithm
    base = step.start
    if config.roles == "adapters":
        backbone = step.load(base)
        roles = policy_roles(
            backbone,
            lora=LoraSpec(config.lora.r, config.lora.alpha),
            critic=row.needs_critic,
            reference=row.needs_reference,
            moving=config.moving_reference is not None,
            seed=step.seed,
        )
        return held_to(step, roles)
    critic = reference = None
    if row.needs_critic:
        valuing = step.load(base, trained=True)
        critic = View(valuing, head=ScalarHead(valuing.width, zero=True))
    if row.needs_reference:
        frozen = step.load(step.model("reference"))
        frozen.freeze()
        reference = View(frozen)
    return Roles(policy=View(step.load(base, trained=True)), critic=critic, reference=reference)


def _keep_samples(folder: Path, step: int, rollouts: Sequence[Rollout], rewards: Sequence[Reward]) -> None:
    """The first few completions of every step, one file a step, so that a resumed run writes the same files."""
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
