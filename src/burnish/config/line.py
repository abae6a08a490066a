"""Recipes in which each kind of stage stands once, in a fixed order, and the graph that says the
same. Torch-free."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from burnish.config.bounds import (
    BatchSize,
    ClipRange,
    Coefficient,
    Count,
    CountOrNone,
    DualClip,
    Epochs,
    Horizon,
    LearningRate,
    NonNegativeFinite,
    PositiveCoefficient,
    PositiveFinite,
    Probability,
    Ranked,
    Repeats,
    Responses,
    Seed,
    Threads,
)
from burnish.config.hints import RENAMED
from burnish.config.making import Panel, Taste
from burnish.config.narrow import is_list, is_section
from burnish.config.online import OnlineTraining
from burnish.config.preference import PreferenceTraining
from burnish.config.rewards import RewardSpec
from burnish.config.scale import Scale
from burnish.config.schema import Data, Model
from burnish.config.sections import (
    Checkpointing,
    ComparedPasses,
    EvaluationSampling,
    Lora,
    Optimizer,
    Passes,
    Sampling,
    Section,
    check_step,
)


class LineKl(Section):
    """The penalty for leaving the reference, inside the reward: −β · estimate, per token."""

    beta: Coefficient = 0.05
    """β, or its start when it adapts."""
    estimator: Literal["k1", "k2", "k3"] = "k1"
    """k1 = log π/π_ref is unbiased and the right one inside a reward."""
    target: PositiveCoefficient | None = None
    """Adapt β towards this KL (nats per completion), as arXiv:1909.08593 does. None: β stays."""
    horizon: Horizon = 10_000.0
    """How slowly β adapts, in completions."""


class LineTricks(Section):
    """What keeps PPO stable in practice ("Secrets of RLHF", arXiv:2307.04964). Each can be switched
    off."""

    normalize_advantages: bool = True
    """Whiten advantages over the batch (population variance)."""
    clip_advantages: PositiveFinite | None = None
    """Clip whitened advantages to ± this."""
    normalize_rewards: bool = False
    """Divide scores by their running standard deviation."""
    clip_rewards: PositiveFinite | None = None
    """Clip scores (after normalizing) to ± this."""
    critic_from_reward_model: bool = True
    """Start the critic as the reward model; off: as the SFT model with a head that says 0, a
    normalized reward's mean."""
    critic_warmup_steps: CountOrNone = 0
    """Steps in which only the critic learns."""
    missing_eos_penalty: NonNegativeFinite = 1.0
    """Taken from the score of a completion that has no end token."""
    ptx_coef: Coefficient = 0.0
    """Weight of the SFT loss on demonstrations (the paper's γ), against the alignment tax."""
    ptx_batch_size: BatchSize = 8
    """Demonstrations per step for it."""
    ent_coef: Coefficient = 0.0
    """Weight of the entropy bonus."""


class LinePpo(Section):
    """Proximal policy optimisation (arXiv:1707.06347) against the reward model
    (arXiv:2203.02155)."""

    share_backbone: bool = True
    """One frozen backbone, the roles as LoRA sets on it; off: four full models, every weight
    trained."""
    steps: Count = 100
    """Batches of rollouts."""
    prompts_per_step: BatchSize = 32
    """Prompts in a batch of rollouts."""
    responses_per_prompt: Responses = 1
    """Completions of each."""
    epochs: Repeats = 1
    """Passes over each batch of rollouts; the paper makes one, the field's default is 4."""
    critic_epochs: Repeats | None = None
    """Of those, the critic's; None: all. A pass of the critic costs nearly as much as the
    policy's."""
    num_mini_batches: BatchSize = 1
    """Optimizer steps in each pass."""
    sampling: Sampling = Sampling()
    """How rollouts are drawn."""
    importance_cap: PositiveFinite | None = 2.0
    """Where rollouts were truncated or penalised, or made in bfloat16 or int8, tokens are weighted
    by min(π_trainer/π_sampler, this). None: not at all. The metrics `sampler_gap_*` say how far the
    two are apart."""
    lora: Lora = Lora()
    """The policy's adapters (`share_backbone: true`)."""
    optimizer: Optimizer = Optimizer(
        learning_rate=1e-4, schedule="constant", betas=(0.9, 0.95), eps=1e-5
    )
    """The policy's optimizer."""
    critic_learning_rate: LearningRate = 1e-4
    """The critic's learning rate; the rest of its optimizer is the policy's."""
    gamma: Probability = 1.0
    """Discount."""
    gae_lambda: Probability = 0.95
    """GAE's λ (arXiv:1506.02438)."""
    clip: ClipRange = 0.2
    """ε of the clipped policy loss."""
    dual_clip: DualClip | None = None
    """Lower bound c·A for negative advantages (arXiv:1912.09729); None switches it off."""
    value_clip_range: PositiveFinite | None = 0.2
    """Values may move this far from the old ones before their loss is clipped; None switches it
    off."""
    vf_coef: PositiveCoefficient = 1.0
    """Weight of the value loss."""
    target_kl: PositiveCoefficient | None = None
    """Leave a batch early when the approximate KL of a pass exceeds this."""
    kl: LineKl = LineKl()
    """The penalty against the reference."""
    tricks: LineTricks = LineTricks()
    """Options that keep it stable."""
    checkpoint: Checkpointing = Checkpointing(every=5)
    """Checkpoints."""

    @model_validator(mode="after")
    def _mini_batches_fit(self) -> LinePpo:
        completions = self.prompts_per_step * self.responses_per_prompt
        check_step(completions, num_mini_batches=self.num_mini_batches)
        if self.kl.target is not None and self.kl.horizon < completions:
            raise ValueError(
                "kl.horizon is less than the completions of a step (prompts_per_step ×"
                " responses_per_prompt), so that β would leap"
            )
        if self.critic_epochs is not None and self.critic_epochs > self.epochs:
            raise ValueError("critic_epochs is more than epochs")
        if self.sampling.greedy is not None:
            raise ValueError(
                f"sampling.{self.sampling.greedy}: PPO learns nothing from greedy rollouts"
            )
        return self


class Collect(Section):
    """Sampling responses from the SFT model and having them ranked."""

    prompts: Count | None = None
    """How many training prompts get responses; None: all."""
    responses_per_prompt: Ranked = 4
    """K: every ranking of K gives K(K−1)/2 comparisons."""
    sampling: Sampling = Sampling()
    """How the responses are drawn."""
    panel: Panel = Panel()
    """Who ranks them."""
    reliability_weighted: bool = True
    """Weight each vote by its annotator's estimated reliability; off: every vote counts the
    same."""


class LineEvaluate(Section):
    """Base, SFT and PPO policy on held-out prompts."""

    prompts: Count | None = None
    """How many held-out prompts; None: all."""
    responses_per_prompt: Responses = 1
    """Completions of each prompt and model; intervals are clustered by prompt."""
    sampling: EvaluationSampling = EvaluationSampling()
    """How the models are sampled."""
    base: bool = True
    """Evaluate the untrained model as well."""
    samples: CountOrNone = 8
    """How many prompts the report shows side by side."""


class Rounds(Section):
    """Iterated preference optimisation: after the first round the policy's own answers are compared
    and trained on."""

    prompts: Count | None = None
    """Training prompts that each later round answers (a different part each time); None: all."""
    responses_per_prompt: Ranked = 4
    """Answers to each."""
    sampling: Sampling = Sampling()
    """How they are drawn."""
    judge: Literal["panel", "reward_model"] = "panel"
    """panel: the simulated annotators of `collect` rank them. reward_model: p = σ(score difference)
    by the stage `reward`."""
    reference: Literal["start", "previous"] = "start"
    """What the later rounds are held to: the model the first began from, or the round before."""


class LinePreference(PreferenceTraining):
    """Preference optimisation of the SFT model on comparisons."""

    rounds: Repeats = 1
    """1: train on the comparisons that are there. More: iterate, as `online` says."""
    online: Rounds = Rounds()
    """The rounds after the first."""

    @model_validator(mode="after")
    def _answers_differ(self) -> LinePreference:
        if self.rounds > 1 and self.online.sampling.greedy is not None:
            raise ValueError(
                f"online.sampling.{self.online.sampling.greedy}: equal answers leave nothing to"
                " compare"
            )
        return self


class LineSft(Passes):
    """Supervised fine-tuning."""

    epochs: Epochs = 2.0
    """Passes over the demonstrations."""
    lora: Lora | None = Lora(r=16, alpha=32.0)
    """None trains every weight."""
    optimizer: Optimizer = Optimizer(learning_rate=5e-4)
    """The optimizer."""


class LineReward(ComparedPasses):
    """The reward model."""

    batch_size: BatchSize = 8
    """Prompts per step, each with all its responses and comparisons."""
    lora: Lora | None = Lora()
    """None trains every weight."""
    optimizer: Optimizer = Optimizer(learning_rate=3e-4)
    """The optimizer."""
    normalize: bool = True
    """Set the head's gain and bias so that the SFT model's completions score mean 0 and standard
    deviation 1."""


def in_todays_words(value: Any, at: str = "") -> Any:
    """A recipe of the older form with the keys that it has today."""
    if is_list(value):
        return [in_todays_words(one, at) for one in value]
    if not is_section(value):
        return value
    found: dict[str, Any] = {}
    for key, inner in value.items():
        if key == "roles" and inner in ("adapters", "copies"):
            found["share_backbone"] = inner == "adapters"
        elif key == "products":
            found["dtype" if at == "model" else "quantization"] = (
                "none" if inner == "model" else inner
            )
        else:
            found[RENAMED.get(key, key)] = in_todays_words(inner, key)
    return found


class LineRecipe(Section):
    """A recipe of the form in which each kind of stage stands once, in a fixed order (`config.line`
    turns it into a graph)."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)] = "run"
    """Names the run's folder."""
    seed: Seed = 0
    """Everything random follows from it."""
    threads: Threads | None = None
    """CPU threads; None: as many as there are cores. A run resumes bit for bit with the same
    number."""
    stages: tuple[
        Literal["sft", "collect", "reward", "preference", "ppo", "online", "evaluate", "report"],
        ...,
    ] = (
        "sft",
        "collect",
        "reward",
        "ppo",
        "evaluate",
        "report",
    )
    """Which stages run; always in this order."""
    report_to: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Where metrics go besides metrics.jsonl."""
    model: Model = Model()
    """The model."""
    scale: Scale = Scale()
    """How many processes train."""
    data: Data = Data()
    """The data."""
    sft: LineSft = LineSft()
    """Supervised fine-tuning."""
    collect: Collect = Collect()
    """Collecting comparisons."""
    taste: Taste = Taste()
    """What the simulated annotators like."""
    reward: LineReward = LineReward()
    """The reward model."""
    preference: LinePreference = LinePreference()
    """Preference optimisation: DPO and its relatives."""
    ppo: LinePpo = LinePpo()
    """PPO."""
    rewards: tuple[RewardSpec, ...] = ()
    """What the stage online earns: a list, each entry of the kind that its name says
    (docs/rewards.md)."""
    online: OnlineTraining = OnlineTraining()
    """Reinforcement learning by any row of the table of algorithms, from any rewards."""
    evaluate: LineEvaluate = LineEvaluate()
    """Evaluation."""

    @model_validator(mode="after")
    def _consistent(self) -> LineRecipe:
        if not self.stages:
            raise ValueError("stages is empty, so there is nothing to run")
        twice = next((stage for stage in self.stages if self.stages.count(stage) > 1), None)
        if twice is not None:
            raise ValueError(f"stages names {twice} twice; each stage runs once")
        if {"ppo", "online"} <= set(self.stages) and self.online.algorithm.name == "ppo":
            raise ValueError(
                "the stages ppo and online would both end in a policy called ppo: leave one of"
                " them out"
            )
        if "online" in self.stages and not self.rewards and self.online.environment is None:
            raise ValueError(
                "the stage online needs a reward: add one to rewards, for instance rewards: [{name:"
                " maths}]"
            )
        weights = [one.weight for one in self.rewards]
        weights += [self.online.environment.weight] if self.online.environment is not None else []
        if "online" in self.stages and not any(weights):
            raise ValueError(
                "every reward of the stage online has the weight 0, so nothing is learnt: give one"
                " a weight"
            )
        if self.ppo.share_backbone and "ppo" in self.stages and self.reward.lora is None:
            raise ValueError(
                "ppo.share_backbone is true, which needs a reward model that is an adapter: set"
                " reward.lora, or ppo.share_backbone: false"
            )
        iterated = "preference" in self.stages and self.preference.rounds > 1
        if (
            iterated
            and self.preference.online.judge == "reward_model"
            and "reward" not in self.stages
        ):
            raise ValueError(
                "preference.online.judge is reward_model, which needs the stage reward"
            )
        return self
