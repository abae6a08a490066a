"""Stage 4: PPO of the SFT model against the reward model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from burnish.atomic import atomic_folder, write_text
from burnish.jsonio import json_lines
from burnish.models.adapters import LoraSpec
from burnish.models.heads import ScalarHead
from burnish.models.roles import Roles, View, adapter_roles, copy_roles
from burnish.models.weights import load_reward_adapter, load_reward_model, save_policy
from burnish.pipeline.context import Context
from burnish.pipeline.sampling import LocalSampler, end_tokens_of, fitting
from burnish.pipeline.sft import sequences_of
from burnish.records import Reward, Rollout
from burnish.rewards.base import prompt_text
from burnish.rewards.model import RewardModelScorer
from burnish.runs.metrics import read_metrics
from burnish.trainers.online import train_online

_CURVE = (
    "step", "reward", "reward_std", "kl_ref", "entropy", "approx_kl", "clipfrac", "explained_variance", "completion_length",
    "truncation_rate", "value_loss", "policy_loss", "beta",
)  # fmt: skip


def run(context: Context) -> None:
    """Train, save the policy (adapters merged) under `ppo/model`; metrics, samples and checkpoints beside it."""
    recipe, folder = context.recipe, context.stage("ppo")
    roles = build_roles(context)
    limit = recipe.ppo.optimiser.micro_batch_tokens
    sampler = LocalSampler(
        roles.policy, recipe.ppo.sampling, seed=recipe.seed, max_length=recipe.model.max_length, purpose="ppo",
        say=context.say_once,
    )  # fmt: skip
    assert roles.reward is not None
    scorer = RewardModelScorer(roles.reward, end_tokens=end_tokens_of(roles.policy.backbone), max_tokens=limit)
    ptx = recipe.ppo.tricks.ptx_coefficient
    conversations = (
        sequences_of(context, roles.policy.backbone, context.demonstrations.train, "demonstrations") if ptx else ()
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

    prompts = fitting(context, roles.policy.backbone, context.prompts.train, recipe.ppo.sampling, "prompts")
    context.say_repeats("ppo", recipe.ppo.prompts_per_step, len(prompts))
    train_online(
        roles, sampler, scorer, prompts, config=recipe.ppo, seed=recipe.seed, folder=folder,
        demonstrations=demonstrations, on_rollouts=keep_samples, progress=context.progress("ppo"), writers=context.writers("ppo"),
    )  # fmt: skip
    with atomic_folder(folder / "model") as scratch:
        save_policy(roles.policy, scratch, base=context.sft_model)
    rows = read_metrics(folder / "metrics.jsonl")
    context.finish(
        "ppo",
        {
            "mode": recipe.ppo.roles,
            "steps": len(rows),
            "rollouts": len(rows) * recipe.ppo.prompts_per_step * recipe.ppo.responses_per_prompt,
            "curve": [{name: row[name] for name in _CURVE if name in row} for row in rows],
        },
    )


def build_roles(context: Context) -> Roles:
    """The four models, on one backbone or as four copies; the critic starts as the reward model unless the recipe says not to."""
    recipe = context.recipe
    base, reward_folder = context.sft_model, context.stage("reward") / "model"
    from_reward_model = recipe.ppo.tricks.critic_from_reward_model
    if recipe.ppo.roles == "adapters":
        backbone = context.load(base)
        reward = load_reward_adapter(backbone, reward_folder)
        lora = LoraSpec(recipe.ppo.lora.r, recipe.ppo.lora.alpha)
        return adapter_roles(reward, lora=lora, critic_from_reward_model=from_reward_model, seed=recipe.seed)
    trained = partial(context.load, trained=True)
    reward = load_reward_model(reward_folder, context.load)
    if from_reward_model:
        critic = load_reward_model(reward_folder, trained)
    else:
        backbone = trained(base)
        critic = View(backbone, head=ScalarHead(backbone.width, zero=True))
    return copy_roles(trained(base), critic, reward, context.load(base))
