"""Stage `ppo`: PPO of a policy against a reward model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from burnish.atomic import atomic_folder, write_text
from burnish.jsonio import json_lines
from burnish.models.adapters import LoraSpec
from burnish.models.heads import ScalarHead
from burnish.models.roles import Roles, View, adapter_roles, copy_roles, policy_roles
from burnish.models.weights import load_reward_adapter, load_reward_model, save_policy
from burnish.records import Reward, Rollout
from burnish.rewards.base import prompt_text
from burnish.rewards.model import RewardModelScorer
from burnish.runs.metrics import read_metrics
from burnish.stages.context import Step
from burnish.stages.roles import held_to, stands_on
from burnish.stages.sampling import LocalSampler, end_tokens_of, fitting
from burnish.stages.sft import sequences_of
from burnish.trainers.online import train_online

_CURVE = (
    "step", "reward", "reward_std", "kl_ref", "entropy", "approx_kl", "clipfrac", "explained_variance", "completion_length",
    "truncation_rate", "value_loss", "policy_loss", "beta",
)  # fmt: skip


def run(step: Step) -> None:
    """Train, save the policy (adapters merged) under `model`; metrics, samples and checkpoints beside it."""
    config, folder = step.settings, step.folder
    roles = build_roles(step)
    limit = config.optimiser.micro_batch_tokens
    sampler = LocalSampler(
        roles.policy, config.sampling, seed=step.seed, max_length=step.recipe.model.max_length, purpose="ppo",
        say=step.say_once,
    )  # fmt: skip
    assert roles.reward is not None
    scorer = RewardModelScorer(roles.reward, end_tokens=end_tokens_of(roles.policy.backbone), max_tokens=limit)
    ptx = config.tricks.ptx_coefficient
    conversations = (
        sequences_of(step, roles.policy.backbone, step.demonstrations.train, "demonstrations") if ptx else ()
    )
    demonstrations = [sequence for conversation in conversations for sequence in conversation]

    def keep_samples(step: int, rollouts: Sequence[Rollout], rewards: Sequence[Reward]) -> None:
        """The first few completions of every step, one file a step, so that a resumed run writes the same files."""
        rows = [
            {
                "step": step + 1,
                "prompt": prompt_text(r.prompt),
                "completion": r.completion.text,
                "reward": reward.value,
                "finish": r.completion.finish_reason,
            }
            for r, reward in list(zip(rollouts, rewards, strict=True))[:4]
        ]
        path = folder / "samples" / f"step-{step + 1:05d}.jsonl"
        write_text(path, json_lines(rows))

    prompts = fitting(step, roles.policy.backbone, step.prompts.train, config.sampling, "prompts")
    step.say_repeats(config.prompts_per_step, len(prompts))
    train_online(
        roles, sampler, scorer, prompts, config=config, seed=step.seed, folder=folder,
        demonstrations=demonstrations, on_rollouts=keep_samples, progress=step.progress(), writers=step.writers(),
    )  # fmt: skip
    with atomic_folder(folder / "model") as scratch:
        save_policy(roles.policy, scratch, base=step.start)
    rows = read_metrics(folder / "metrics.jsonl")
    step.finish(
        {
            "mode": config.roles,
            "steps": len(rows),
            "rollouts": len(rows) * config.prompts_per_step * config.responses_per_prompt,
            "curve": [{name: row[name] for name in _CURVE if name in row} for row in rows],
        },
    )


def build_roles(step: Step) -> Roles:
    """The four models, on one backbone or as copies; the critic starts as the reward model unless the recipe says not to."""
    config, start, reward_folder = step.settings, step.start, Path(step.model("reward"))
    from_reward_model = config.tricks.critic_from_reward_model
    if config.roles == "copies":
        return _copies(step, start, reward_folder, from_reward_model=from_reward_model)
    lora = LoraSpec(config.lora.r, config.lora.alpha)
    backbone = step.load(start)
    if stands_on(step, reward_folder, backbone):
        reward = load_reward_adapter(backbone, reward_folder)
        roles = adapter_roles(reward, lora=lora, critic_from_reward_model=from_reward_model, seed=step.seed)
    else:
        if from_reward_model:
            step.say(
                f"{step.name}: the reward model stands on other weights than the policy, so the critic starts with a head "
                "that says 0"
            )
        reward = load_reward_model(reward_folder, partial(step.load, exact=True))
        roles = policy_roles(backbone, lora=lora, critic=True, reference=True, seed=step.seed)
        roles = replace(roles, reward=reward)
    return held_to(step, roles)


def _copies(step: Step, start: str, reward_folder: Path, *, from_reward_model: bool) -> Roles:
    trained = partial(step.load, trained=True)
    reward = load_reward_model(reward_folder, step.load)
    if from_reward_model:
        critic = load_reward_model(reward_folder, trained)
    else:
        backbone = trained(start)
        critic = View(backbone, head=ScalarHead(backbone.width, zero=True))
    return copy_roles(trained(start), critic, reward, step.load(step.model("reference")))
