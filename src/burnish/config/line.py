"""Recipes in which each kind of stage stands once, in a fixed order, and the graph that says the same. Torch-free."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from burnish.config.bounds import Count, CountOrNone, Ranked, Repeats, Responses, Seed, Threads
from burnish.config.making import Panel, Taste
from burnish.config.online import Online
from burnish.config.preference import Preference
from burnish.config.rewards import RewardSpec
from burnish.config.schema import Data, Model, Ppo, RewardModel, Sft
from burnish.config.sections import EvaluationSampling, Sampling, Section


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
    """Weight each vote by its annotator's estimated reliability; off: every vote counts the same."""


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
    """Iterated preference optimisation: after the first round the policy's own answers are compared and trained on."""

    prompts: Count | None = None
    """Training prompts that each later round answers (a different part each time); None: all."""
    responses_per_prompt: Ranked = 4
    """Answers to each."""
    sampling: Sampling = Sampling()
    """How they are drawn."""
    judge: Literal["panel", "reward_model"] = "panel"
    """panel: the simulated annotators of `collect` rank them. reward_model: p = σ(score difference) by the stage `reward`."""
    reference: Literal["start", "previous"] = "start"
    """What the later rounds are held to: the model the first began from, or the round before."""


class LinePreference(Preference):
    """Preference optimisation of the SFT model on comparisons."""

    rounds: Repeats = 1
    """1: train on the comparisons that are there. More: iterate, as `online` says."""
    online: Rounds = Rounds()
    """The rounds after the first."""

    @model_validator(mode="after")
    def _answers_differ(self) -> LinePreference:
        if self.rounds > 1 and self.online.sampling.greedy is not None:
            raise ValueError(f"online.sampling.{self.online.sampling.greedy}: equal answers leave nothing to compare")
        return self


class LineRecipe(Section):
    """A recipe of the form in which each kind of stage stands once, in a fixed order (`config.line` turns it into a graph)."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)] = "run"
    """Names the run's folder."""
    seed: Seed = 0
    """Everything random follows from it."""
    threads: Threads | None = None
    """CPU threads; None: as many as there are cores. A run resumes bit for bit with the same number."""
    stages: tuple[Literal["sft", "collect", "reward", "preference", "ppo", "online", "evaluate", "report"], ...] = (
        "sft",
        "collect",
        "reward",
        "ppo",
        "evaluate",
        "report",
    )
    """Which stages run; always in this order."""
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Where metrics go besides metrics.jsonl."""
    model: Model = Model()
    """The model."""
    data: Data = Data()
    """The data."""
    sft: Sft = Sft()
    """Supervised fine-tuning."""
    collect: Collect = Collect()
    """Collecting comparisons."""
    taste: Taste = Taste()
    """What the simulated annotators like."""
    reward: RewardModel = RewardModel()
    """The reward model."""
    preference: LinePreference = LinePreference()
    """Preference optimisation: DPO and its relatives."""
    ppo: Ppo = Ppo()
    """PPO."""
    rewards: tuple[RewardSpec, ...] = ()
    """What the stage online earns: a list, each entry of the kind that its name says (docs/rewards.md)."""
    online: Online = Online()
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
            raise ValueError("the stages ppo and online would both end in a policy called ppo: leave one of them out")
        if "online" in self.stages and not self.rewards and self.online.environment is None:
            raise ValueError(
                "the stage online needs a reward: add one to rewards, for instance rewards: [{name: maths}]"
            )
        weights = [one.weight for one in self.rewards]
        weights += [self.online.environment.weight] if self.online.environment is not None else []
        if "online" in self.stages and not any(weights):
            raise ValueError(
                "every reward of the stage online has the weight 0, so nothing is learnt: give one a weight"
            )
        if self.ppo.roles == "adapters" and "ppo" in self.stages and self.reward.lora is None:
            raise ValueError(
                "ppo.roles is adapters, which needs a reward model that is an adapter: set reward.lora, or ppo.roles: copies"
            )
        iterated = "preference" in self.stages and self.preference.rounds > 1
        if iterated and self.preference.online.judge == "reward_model" and "reward" not in self.stages:
            raise ValueError("preference.online.judge is reward_model, which needs the stage reward")
        return self
