"""What the online loop is told: the recipe's section, resolved once, with the parts of its
algorithm's row."""

from __future__ import annotations

from dataclasses import dataclass

from burnish.algorithms.recipes import Algorithm, resolve
from burnish.config.online import Algorithm as Section
from burnish.config.online import Curriculum, Importance, OnlineTraining
from burnish.config.sections import Checkpointing, Optimizer, Sampling
from burnish.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineSettings:
    """The parts of the algorithm and the numbers around it; the recipe's docstrings say what each
    means."""

    algorithm: Algorithm
    steps: int
    prompts_per_step: int
    responses_per_prompt: int
    epochs: int
    critic_epochs: int
    num_mini_batches: int
    sampling: Sampling
    importance: Importance
    optimizer: Optimizer
    critic_learning_rate: float
    critic_warmup_steps: int
    gamma: float
    gae_lambda: float
    value_clip_range: float | None
    vf_coef: float
    target_kl: float | None
    kl_target: float | None
    kl_horizon: float
    kl_ratio_factor: bool
    normalize_rewards: bool
    clip_rewards: float | None
    clip_advantages: float | None
    missing_eos_penalty: float
    ent_coef: float
    checkpoint: Checkpointing
    longest: int
    overlong_cache: int = 1
    ptx_coef: float = 0.0
    ptx_batch_size: int = 1
    reference_reset: int | None = None
    resample_rounds: int = 0
    curriculum: Curriculum | None = None
    pass_at: float = 1.0

    @property
    def updates(self) -> int:
        """Optimizer steps on each batch of rollouts."""
        return self.epochs * self.num_mini_batches

    @property
    def kl_in_loss(self) -> bool:
        """Whether the loss holds a penalty."""
        return self.algorithm.kl == "loss" and self.algorithm.needs_reference

    @property
    def loss_knows_kl(self) -> bool:
        """Whether nothing asks for the distance from the reference before the loss, with a single
        update, has it."""
        return self.kl_in_loss and self.kl_target is None

    @property
    def kl_in_reward(self) -> bool:
        """Whether the reward holds a penalty."""
        return self.algorithm.kl == "reward"


_AS_THEY_ARE = (
    "steps", "prompts_per_step", "responses_per_prompt", "epochs", "num_mini_batches", "sampling",
    "optimizer", "critic_learning_rate",
    "gamma", "gae_lambda", "value_clip_range", "vf_coef", "target_kl", "checkpoint",
)  # fmt: skip


def resolve_settings(config: OnlineTraining) -> OnlineSettings:
    """What a section of the recipe states. Raises UserError where its parts do not fit together."""
    algorithm = algorithm_of(config.algorithm)
    turns = 1 if config.environment is None else config.environment.max_turns
    longest = config.sampling.max_new_tokens * turns
    if algorithm.needs_groups and config.responses_per_prompt < 2:
        problem = (
            f"{algorithm.name} compares the completions of a prompt, so it needs at least 2 of"
            " them."
        )
        raise UserError(problem, field="online.responses_per_prompt", hint="8 is a usual number.")
    if algorithm.filter == "mixed" and config.responses_per_prompt < 2:
        problem = (
            "the filter mixed keeps groups whose rewards differ, so a group needs at least 2"
            " completions."
        )
        raise UserError(problem, field="online.responses_per_prompt")
    if config.moving_reference is not None and not algorithm.needs_reference:
        problem = (
            f"{algorithm.name} has no penalty as it is set, so there is no reference that could"
            " move."
        )
        raise UserError(
            problem,
            field="online.moving_reference",
            hint="Set algorithm.kl and algorithm.beta, or drop it.",
        )
    hint = "Set algorithm.kl and algorithm.beta, or drop it."
    _check_target(algorithm, config.kl_target, field="online.kl_target", hint=hint)
    moving = config.moving_reference
    return OnlineSettings(
        algorithm=algorithm,
        importance=config.importance,
        critic_warmup_steps=config.critic_warmup_steps if algorithm.needs_critic else 0,
        kl_target=config.kl_target,
        kl_horizon=config.kl_horizon,
        kl_ratio_factor=config.algorithm.kl_ratio_factor,
        normalize_rewards=config.normalize_rewards,
        clip_rewards=config.clip_rewards,
        clip_advantages=config.clip_advantages,
        missing_eos_penalty=config.missing_eos_penalty,
        ent_coef=config.ent_coef,
        longest=longest,
        overlong_cache=config.overlong_cache or max(1, longest // 5),
        reference_reset=None if moving is None else moving.every,
        resample_rounds=config.resample_rounds if algorithm.filter == "mixed" else 0,
        curriculum=config.curriculum,
        pass_at=config.pass_at,
        ptx_coef=config.ptx_coef,
        ptx_batch_size=config.ptx_batch_size,
        critic_epochs=config.epochs if config.critic_epochs is None else config.critic_epochs,
        **{name: getattr(config, name) for name in _AS_THEY_ARE},
    )


def _check_target(algorithm: Algorithm, target: float | None, *, field: str, hint: str) -> None:
    if target is not None and not algorithm.needs_reference:
        problem = f"{algorithm.name} has no penalty as it is set, so there is no β to adapt."
        raise UserError(problem, field=field, hint=hint)


def algorithm_of(section: Section) -> Algorithm:
    """The row that a section names, of the table or a user's own, with what the section exchanges
    in it.

    Raises UserError where there is no such row, or its parts do not fit together.
    """
    named = section.own()
    if named is not None and not isinstance(named, Algorithm):
        problem = f"{section.name} is {type(named).__name__}, which is no row of an algorithm."
        raise UserError(
            problem,
            field="online.algorithm.name",
            hint="A row is a burnish.algorithms.recipes.Algorithm.",
        )
    try:
        return resolve(named or section.name, section.exchanged())
    except ValueError as error:
        raise UserError(f"{error}.", field="online.algorithm") from None
