"""What the online family is told: PPO, GRPO and its relatives, RLOO and REINFORCE++. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from burnish.config.bounds import (
    BatchSize,
    Bounds,
    ClipRange,
    Coefficient,
    Count,
    CountOrNone,
    DualClip,
    Finite,
    Horizon,
    LearningRate,
    NonNegativeFinite,
    PositiveCoefficient,
    PositiveFinite,
    Probability,
    Repeats,
    Responses,
    Tokens,
)
from burnish.config.sections import (
    Checkpointing,
    Lora,
    Optimizer,
    Sampling,
    Section,
    check_step,
)
from burnish.config.watch import Watch
from burnish.errors import UserError
from burnish.own_code import own

AlgorithmName = Literal[
    "ppo", "grpo", "dr-grpo", "dapo", "gspo", "cispo", "rloo", "reinforce++", "reinforce++-baseline"
]


OwnName = Annotated[str, Field(pattern=r"^.+:.+$", max_length=4096)]
"""package.module:NAME or folder/file.py:NAME."""


class Algorithm(Section):
    """A row of the table of algorithms, and what is exchanged in it. None everywhere: as the row
    has it (docs/online.md)."""

    name: AlgorithmName | OwnName = "grpo"
    """The row, or `file.py:NAME` for one of your own (docs/extending.md). It comes with settings of
    its own for what is left out: `ppo` takes 32 prompts_per_step with one response each, a
    missing_eos_penalty of 1, adapters of rank 8 (alpha 16), Adam's eps 1e-5 and a checkpoint every
    5 steps."""
    advantage: Literal["gae", "to_go", "group_normalized", "group_mean", "leave_one_out"] | None = (
        None
    )
    """gae: from a critic. to_go: the rewards still to come. group_normalized: (R − mean)/std of the
    prompt's completions.
    group_mean: R − mean. leave_one_out: R − mean of the others."""
    whiten: bool | None = None
    """Whiten advantages over all tokens of the batch (population variance)."""
    loss: Literal["clip", "sequence_clip", "cispo", "reinforce"] | None = None
    """clip: PPO's, a ratio for each token. sequence_clip: GSPO's, a ratio for each completion.
    cispo: −sg(clip(ratio))·A·log π.
    reinforce: −A·log π."""
    aggregation: Literal["token", "sequence", "constant", "sum"] | None = None
    """token: the mean over all tokens of an update. sequence: the mean of each completion, then
    over completions. constant: the sum over completions × `sampling.max_new_tokens`. sum: the sum
    over tokens, the mean over completions."""
    kl: Literal["none", "reward", "loss"] | None = None
    """Where the penalty for leaving the reference, β·KL(π ‖ π_ref), stands: in the reward, in the
    loss, or nowhere."""
    kl_estimator: Literal["k1", "k2", "k3"] | None = None
    """k1 = log π/π_ref for the reward; as a loss k2 gives the gradient of KL(π ‖ π_ref), k3 of
    KL(π_ref ‖ π), k1 none."""
    kl_level: Literal["token", "sequence"] | None = None
    """token: each token's estimate, added up. sequence: one estimate from the completion's whole
    log-ratio."""
    kl_ratio_factor: bool = False
    """Multiply the penalty in the loss by π/π_old, which keeps it unbiased when several updates are
    made (arXiv:2512.02556)."""
    beta: Coefficient | None = None
    """β: how strongly leaving the reference is penalised. 0: no penalty, and no reference is
    kept."""
    filter: Literal["none", "mixed"] | None = None
    """mixed: train on groups whose rewards differ only, and sample others in place of the rest
    (DAPO's dynamic sampling)."""
    overlong: Literal["none", "shape", "mask"] | None = None
    """shape: a completion within `overlong_cache` tokens of the longest loses up to 1. mask: one
    that was cut off is left out of the loss, not of its group."""
    clip_low: ClipRange | None = None
    """How far a token's probability ratio π/π_old may fall before it stops counting: it is clipped
    below 1 − this."""
    clip_high: ClipRange | None = None
    """How far the ratio π/π_old may rise before it stops counting: it is clipped above 1 + this."""
    dual_clip: DualClip | None = None
    """Lower bound c·A for negative advantages (arXiv:1912.09729), with the loss clip."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        return {"name": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _is_there(self) -> Algorithm:
        try:
            row = self.own()
        except UserError as error:
            raise ValueError(
                f"the algorithm {self.name} cannot be had: {error.problem}".rstrip(".")
            ) from None
        missing = [
            part
            for part in ("advantage", "loss", "aggregation")
            if row is not None and not hasattr(row, part)
        ]
        if missing:
            raise ValueError(
                f"the algorithm {self.name} has no {missing[0]}, so it is no row of an algorithm"
            )
        return self

    def own(self) -> Any:
        """The row of one's own that it names, imported; None: it names one of the table."""
        return own(self.name, field="algorithm.name", fresh=False) if ":" in self.name else None

    def exchanged(self) -> dict[str, Any]:
        """The parts of the row that are not as the row has them."""
        given = self.model_dump(exclude={"name", "kl_ratio_factor"})
        return {part: value for part, value in given.items() if value is not None}


class Importance(Section):
    """Correction of rollouts whose log-probabilities are not the trainer's: truncated, penalised,
    made in bfloat16 or int8.

    `sampler_gap_mean` in the metrics says how far the two are apart, whether or not anything is
    corrected.
    """

    kind: Literal["truncate", "mask", "none"] = "truncate"
    """truncate: the loss is weighted by min(w, cap), w = π_trainer/π_sampler. mask: by w, and by 0
    where w > cap."""
    level: Literal["token", "sequence"] = "token"
    """Whether w is a token's or its whole completion's."""
    cap: PositiveFinite = 2.0
    """The largest weight that a token or completion may have."""


class Curriculum(Section):
    """Sample prompts less that are always right or always wrong: with probability floor + (1 −
    floor)·4p(1 − p).

    p is the prompt's pass rate so far, (right + 1)/(tried + 2), whose counts decay at each visit.
    """

    floor: Annotated[float, Bounds(ge=0.001, le=1.0)] = 0.1
    """The least probability with which a prompt is taken when its turn comes."""
    decay: Probability = 0.5
    """What earlier visits count for at the next: 0 forgets them."""


class MovingReference(Section):
    """Let the reference follow the policy, so that the penalty restrains each stretch and not the
    whole run (arXiv:2505.24864)."""

    every: Count
    """Steps between two resets: the reference takes over the policy's weights."""


class Conversation(Section):
    """Rollouts of several turns: what the policy writes is answered by an environment, whose tokens
    are not trained."""

    name: str
    """calculator, or package.module:Class for one of your own."""
    max_turns: Annotated[int, Bounds(ge=1, le=64)] = 4
    """At most this many turns of the policy; `sampling.max_new_tokens` is for each."""
    weight: Finite = 1.0
    """Weight of what the environment pays, added to the other rewards."""


_ROW_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "ppo": {
        "prompts_per_step": 32,
        "responses_per_prompt": 1,
        "missing_eos_penalty": 1.0,
        "lora": Lora(r=8, alpha=16.0),
        "optimizer": Optimizer(
            learning_rate=1e-4, schedule="constant", betas=(0.9, 0.95), eps=1e-5
        ),
        "checkpoint": Checkpointing(every=5),
    },
}


class OnlineTraining(Section):
    """What the online loop is told, by a row of the table of algorithms."""

    algorithm: Algorithm = Algorithm()
    """Which algorithm (docs/algorithms.md), and which of its parts are exchanged;
    a name stands for the row as it is."""
    share_backbone: bool = True
    """One frozen backbone, the policy (and a critic) as LoRA sets on it; off: full models, every
    weight trained."""
    steps: Count = 100
    """How many times prompts are answered, scored and learnt from: one step is one batch of
    rollouts."""
    prompts_per_step: BatchSize = 8
    """How many prompts are answered in each step."""
    responses_per_prompt: Responses = 8
    """Completions of each prompt: the size of a group, 2 to 64 where they are compared with one
    another."""
    epochs: Repeats = 1
    """How often each batch of rollouts is learnt from before new ones are drawn."""
    critic_epochs: Repeats | None = None
    """Of those, the critic's; None: all. A pass of the critic costs nearly as much as the
    policy's."""
    num_mini_batches: BatchSize = 1
    """Optimizer steps in each of those passes: the batch is divided into this many parts."""
    sampling: Sampling = Sampling()
    """How rollouts are drawn."""
    environment: Conversation | None = None
    """What answers the policy between its turns; None: rollouts are single turns."""
    importance: Importance = Importance()
    """What is done about tokens whose probability differs between the engine that sampled them and
    the model that is trained."""
    lora: Lora = Lora(r=16, alpha=32.0)
    """The policy's adapters, trained in place of its weights (with `share_backbone: true`)."""
    optimizer: Optimizer = Optimizer(learning_rate=1e-4, schedule="constant", betas=(0.9, 0.95))
    """How the policy's weights are updated: AdamW, its learning rate and schedule."""
    kl_target: PositiveCoefficient | None = None
    """Adapt β towards this KL (nats per completion), as arXiv:1909.08593 does. None: β stays."""
    kl_horizon: Horizon = 10_000.0
    """How slowly β adapts, in completions."""
    moving_reference: MovingReference | None = None
    """Let the reference follow the policy. None: it stays the model that the stage began with."""
    pass_at: Finite = 1.0
    """A completion passes if its reward is at least this: for counts of groups that are all right
    or all wrong, and the curriculum."""
    resample_rounds: Annotated[int, Bounds(ge=0, le=100)] = 4
    """With the filter mixed: how often prompts are drawn again in place of groups without variance.
    What is still missing then is done without; the metrics `filter/*` count it."""
    curriculum: Curriculum | None = None
    """Draw prompts of middling difficulty more often. None: every prompt is drawn as often as the
    others."""
    overlong_cache: Tokens | None = None
    """The last tokens of the longest completion in which overlong: shape takes effect. None: a
    fifth, as in the paper."""
    missing_eos_penalty: NonNegativeFinite = 0.0
    """What a completion that was cut off before its end loses of its reward."""
    normalize_rewards: bool = False
    """Divide rewards by their running standard deviation, so that their scale does not matter."""
    clip_rewards: PositiveFinite | None = None
    """Clip rewards (after normalizing) to ± this, against outliers. None: they stay as they are."""
    clip_advantages: PositiveFinite | None = None
    """Clip advantages to ± this, against outliers. None: they stay as they are."""
    ent_coef: Coefficient = 0.0
    """What is paid for staying undecided (entropy), against a policy that writes one answer only;
    0: nothing."""
    ptx_coef: Coefficient = 0.0
    """Weight of the SFT loss on demonstrations, against the alignment tax (γ of
    arXiv:2203.02155)."""
    ptx_batch_size: BatchSize = 8
    """Demonstrations in each step for the SFT loss of `ptx_coef`."""
    target_kl: PositiveCoefficient | None = None
    """Leave a batch early when the approximate KL of a pass exceeds this."""
    critic_learning_rate: LearningRate = 1e-4
    """The critic's, where there is one; the rest of its optimizer is the policy's."""
    critic_warmup_steps: CountOrNone = 0
    """Steps at the start in which only the critic learns and the policy stays as it is."""
    critic_from_reward_model: bool = True
    """Start the critic as the model in `reward`, where there is one; off: as the policy with a head
    that says 0, a normalized reward's mean."""
    gamma: Probability = 1.0
    """Discount of later rewards, for the advantages gae and to_go; 1: none."""
    gae_lambda: Probability = 0.95
    """GAE's λ: 1 believes the rewards that came, less leans on the critic's guesses and varies less
    (arXiv:1506.02438)."""
    value_clip_range: PositiveFinite | None = 0.2
    """Values may move this far from the old ones before their loss is clipped; None switches it
    off."""
    vf_coef: PositiveCoefficient = 1.0
    """What the critic's loss counts for beside the policy's."""
    checkpoint: Checkpointing = Checkpointing()
    """How often the whole state is saved, to go on from after an interruption."""
    watch: Watch | None = None
    """A judge that training does not use, which ends the training where the reward rises and
    answers get no better (docs/watch.md). None: nobody watches."""

    @classmethod
    def defaults_of(cls, algorithm: str) -> dict[str, Any]:
        """What a stage of this row has for settings that are left out, where that is not the
        section's own default."""
        return dict(_ROW_DEFAULTS.get(algorithm, {}))

    @model_validator(mode="after")
    def _as_the_row_has_it(self) -> OnlineTraining:
        # afterwards: a validator before would turn JSON's lists into Python's, which strictness
        # does not take for tuples
        for name, value in self.defaults_of(self.algorithm.name).items():
            if name not in self.model_fields_set:
                object.__setattr__(self, name, value)
        return self

    @model_validator(mode="after")
    def _consistent(self) -> OnlineTraining:
        completions = self.prompts_per_step * self.responses_per_prompt
        check_step(completions, num_mini_batches=self.num_mini_batches)
        if self.kl_target is not None and self.kl_horizon < completions:
            raise ValueError(
                "kl_horizon is less than the completions of a step (prompts_per_step ×"
                " responses_per_prompt), so that β would leap"
            )
        if self.critic_epochs is not None and self.critic_epochs > self.epochs:
            raise ValueError("critic_epochs is more than epochs")
        if self.sampling.greedy is not None:
            raise ValueError(
                f"sampling.{self.sampling.greedy}: nothing is learnt from greedy rollouts"
            )
        if self.lora.quantization != "none" and not self.share_backbone:
            raise ValueError(
                "lora.quantization is of the frozen matrices under adapters, and without"
                " share_backbone every weight is trained: leave one of the two out"
            )
        cache = self.overlong_cache
        if cache is not None and cache > self.sampling.max_new_tokens:
            raise ValueError("overlong_cache is more than sampling.max_new_tokens")
        return self
