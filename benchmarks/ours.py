"""Burnish on one workload, through the code that its commands run; prints one JSON object."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from safetensors.torch import save_file
from work import (
    BATCH,
    BETA_DPO,
    BETA_GRPO,
    GROUP,
    HH_BATCH,
    LORA_ALPHA,
    LORA_RANK,
    NEW_TOKENS,
    PPO_PROMPTS,
    PROMPTS,
    Clock,
    arguments,
    batch,
    mean,
    median_rate,
    report,
    reward,
    scratch,
    texts,
)

from burnish.batch import TokenSequence
from burnish.config.online import Algorithm, OnlineTraining
from burnish.config.preference import Dpo, PreferenceTraining
from burnish.config.sections import Checkpointing, Optimizer, Sampling
from burnish.generation.base import Request, SamplingParams, request_seed
from burnish.generation.native import NativeEngine
from burnish.models.adapters import LoraSpec, add_adapter, save_adapter
from burnish.models.backbone import Backbone, load_backbone
from burnish.models.device import resolve
from burnish.models.heads import ScalarHead
from burnish.models.precision import NAMES
from burnish.models.roles import Roles, View, adapter_roles
from burnish.models.weights import merge_on_demand
from burnish.records import Comparison, Prompt, Reward, Rollout
from burnish.rewards.model import RewardModelScorer
from burnish.stages.kinds.reward import RewardModel
from burnish.stages.kinds.sft import Sft
from burnish.trainers.groups import RankedGroup
from burnish.trainers.online import train_online
from burnish.trainers.online_settings import resolve_settings
from burnish.trainers.preference import prepare, score, train_preferences
from burnish.trainers.reward_model import score_sequences, train_reward_model
from burnish.trainers.sft import train_sft

PARAMS = SamplingParams(NEW_TOKENS, min_new_tokens=NEW_TOKENS)
SPEC = LoraSpec(LORA_RANK, float(LORA_ALPHA))
NEVER = Checkpointing(every=10_000)
OPTIONS = arguments("generate", "sft", "reward", "dpo", "grpo", "ppo", "hh", "hh-dpo")


def load() -> Backbone:
    """The model on the device and multiplying in the precision that are asked for."""
    whole = OPTIONS.workload not in ("generate", "ppo") and not OPTIONS.lora
    whole = whole or (OPTIONS.workload == "ppo" and OPTIONS.roles == "copies")
    return load_backbone(
        OPTIONS.model,
        products=NAMES[OPTIONS.products],
        trained=whole,
        device=resolve(OPTIONS.device),
    )


def trained(backbone: Backbone, *, head: bool = False) -> View:
    """The role that learns: an adapter set on the frozen backbone, or every weight."""
    scalar = ScalarHead(backbone.width, seed=OPTIONS.seed) if head else None
    if not OPTIONS.lora:
        return View(backbone, head=scalar)
    backbone.freeze()
    add_adapter(backbone, "policy", SPEC, seed=OPTIONS.seed)
    return View(backbone, "policy", SPEC, scalar)


def optimizer(**changes: Any) -> Optimizer:
    """A constant rate, no warm-up."""
    how = {"learning_rate": OPTIONS.learning_rate, "schedule": "constant", "warmup": 0.0}
    how |= {"gradient_checkpointing": OPTIONS.recompute, "micro_batch_tokens": OPTIONS.micro}
    return Optimizer(**{**how, **changes})


def rows() -> dict[str, list[dict[str, Any]]]:
    """The pairs, as tokens."""
    return json.loads(OPTIONS.rows.read_text())


def answer(row: dict[str, Any], side: str) -> TokenSequence:
    """One side of a pair."""
    return TokenSequence(tuple(row["prompt_ids"]), tuple(row[f"{side}_ids"]))


def ranked(row: dict[str, Any]) -> RankedGroup:
    """A pair as the trainers take it."""
    return RankedGroup((answer(row, "chosen"), answer(row, "rejected")), (Comparison(0, 1, 1.0),))


def engine_of(view: View) -> NativeEngine:
    """The native engine with this role's weights."""
    products = torch.int8 if OPTIONS.sampler == "int8" else None
    return NativeEngine.of(
        view, end_tokens=frozenset({view.backbone.tokenizer.eos_token_id}), products=products
    )


def progress(clock: Clock) -> Callable[[int, int, int, dict[str, float]], None]:
    """What the loops tell after each step, to the clock."""
    return lambda done, total, tokens, values: clock.tick(values.get("loss"))


def timed(clock: Clock, **values: object) -> None:
    """A training workload's report; the last step of a loop ends with evaluation and a checkpoint,
    so it is not timed."""
    clock.ends = clock.ends[:-1]
    report(step_s=clock.step_s, steps=len(clock.losses), loss=mean(clock.losses), **values)


def generate() -> None:
    """Sampling; and greedy completions, to be compared."""
    backbone = load()
    engine = engine_of(View(backbone))

    def write(count: int, temperature: float = 1.0) -> list[list[int]]:
        requests = [
            Request(tuple(backbone.tokenizer(text)["input_ids"]), i)
            for i, text in enumerate(batch(count))
        ]
        params = SamplingParams(NEW_TOKENS, temperature=temperature, min_new_tokens=NEW_TOKENS)
        return [list(completion.tokens) for completion in engine.generate(requests, params)]

    rates = median_rate(write, OPTIONS.steps)
    report(rates=rates, greedy=write(BATCH, 0.0))


def sft() -> None:
    """The chosen answers as demonstrations."""
    examples = [answer(row, "chosen") for row in rows()["train"]]
    config = Sft(
        epochs=1, batch_size=BATCH, eval_every=10_000, optimizer=optimizer(), checkpoint=NEVER
    )
    clock = Clock()
    train_sft(
        trained(load()), examples, examples[:1], config=config, seed=0, folder=scratch(),
        progress=progress(clock),
    )  # fmt: skip
    timed(clock)


def reward_model() -> None:
    """Bradley–Terry; `hh` makes one pass with a falling rate and scores held-out pairs."""
    hh = OPTIONS.workload == "hh"
    data = rows()
    view, clock = trained(load(), head=True), Clock()
    config = RewardModel(
        batch_size=HH_BATCH if hh else BATCH,
        eval_every=10_000,
        optimizer=optimizer(schedule="linear" if hh else "constant"),
        checkpoint=NEVER,
    )
    if OPTIONS.start is not None and view.head is not None:
        save_adapter(
            view.backbone, "policy", SPEC, OPTIONS.start, base=OPTIONS.model, task_type="SEQ_CLS"
        )
        save_file({"score": view.head.linear.weight.detach()}, OPTIONS.start / "score.safetensors")
    began = time.perf_counter()
    train_reward_model(
        view,
        [ranked(row) for row in data["train"]],
        [],
        config=config,
        seed=OPTIONS.seed,
        folder=scratch(),
        progress=progress(clock),
    )
    found: dict[str, object] = {
        "train_s": time.perf_counter() - began,
        "first_loss": clock.losses[0],
    }
    if hh:
        sides = [answer(row, side) for row in data["heldout"] for side in ("chosen", "rejected")]
        scores = score_sequences(view, sides, max_tokens=2048).reshape(-1, 2)
        found["differences"] = (scores[:, 0] - scores[:, 1]).tolist()
    timed(clock, **found)


def dpo() -> None:
    """One update a step; the reference is the model as it begins, run once over all pairs (its time
    is shared out).

    `hh-dpo` makes one pass with a falling rate and scores held-out pairs.
    """
    hh = OPTIONS.workload == "hh-dpo"
    data = rows()
    pairs = {
        name: [ranked(row) for row in data[name]]
        for name in ("train", *(["heldout"] if hh else []))
    }
    config = PreferenceTraining(
        loss=Dpo(beta=BETA_DPO),
        batch_size=BATCH,
        eval_every=10_000,
        optimizer=optimizer(schedule="linear" if hh else "constant"),
        checkpoint=NEVER,
    )
    view, clock = trained(load()), Clock()
    began = time.perf_counter()
    examples = prepare(
        View(view.backbone), pairs["train"], config=config, seed=OPTIONS.seed, cache=None
    )
    reference_s = (time.perf_counter() - began) / (len(examples) / BATCH)
    train_preferences(
        view,
        examples,
        [],
        config=config,
        seed=OPTIONS.seed,
        folder=scratch(),
        progress=progress(clock),
    )
    found: dict[str, object] = {
        "train_s": time.perf_counter() - began,
        "first_loss": clock.losses[0],
    }
    clock.ends = [end + number * reference_s for number, end in enumerate(clock.ends)]
    if hh:
        heldout = prepare(View(view.backbone), pairs["heldout"], config=config, seed=0, cache=None)
        scored = [one.rewards for one in score(view, heldout, config=config)]
        found["differences"] = [chosen - rejected for chosen, rejected in scored]
    timed(clock, **found)


def grpo() -> None:
    """The online loop with the row grpo."""
    backbone, clock = load(), Clock()
    if OPTIONS.lora:
        roles = adapter_roles(
            backbone, lora=SPEC, critic=False, reference=True, moving=False, seed=0
        )
    else:
        frozen = load()
        frozen.freeze()
        roles = Roles(policy=View(backbone), critic=None, reference=View(frozen))
    config = OnlineTraining(
        algorithm=Algorithm(name="grpo", beta=BETA_GRPO),
        share_backbone=OPTIONS.lora,
        steps=OPTIONS.steps + 2,
        prompts_per_step=PROMPTS,
        responses_per_prompt=GROUP,
        optimizer=optimizer(),
        checkpoint=NEVER,
        sampling=Sampling(max_new_tokens=NEW_TOKENS, quantization=OPTIONS.sampler),
    )
    train_online(
        roles,
        PlainSampler(roles.policy),
        LetterScorer(),
        chats(PROMPTS * (OPTIONS.steps + 2)),
        settings=resolve_settings(config),
        seed=0,
        folder=scratch(),
        progress=progress(clock),
    )
    timed(clock)


class LetterScorer:
    """The reward that both sides pay."""

    def score(self, rollouts: Sequence[Rollout]) -> list[Reward]:
        return [Reward(reward(r.completion.text)) for r in rollouts]


def chats(count: int) -> list[Prompt]:
    return [
        Prompt(f"p{i}", ({"role": "user", "content": text},)) for i, text in enumerate(texts(count))
    ]


class PlainSampler:
    """Exactly 64 tokens after the plain text of each prompt, as the peer writes them."""

    def __init__(self, view: View) -> None:
        self._tokenizer = view.backbone.tokenizer
        self._engine = engine_of(view)

    def load(self, view: View, *, version: int) -> None:
        self._engine.load(merge_on_demand(view), version=version)

    def sleep(self) -> None:
        self._engine.sleep()

    def generate(self, prompts: Sequence[Prompt], *, samples: int, round: int) -> list[Rollout]:
        tokens = [tuple(self._tokenizer(p.messages[0]["content"])["input_ids"]) for p in prompts]
        jobs = [(p, t, k) for p, t in zip(prompts, tokens, strict=True) for k in range(samples)]
        completions = self._engine.generate(
            [Request(t, request_seed(round, p.id, k)) for p, t, k in jobs], PARAMS
        )
        return [
            Rollout(p, t, c, self._engine.version)
            for (p, t, _), c in zip(jobs, completions, strict=True)
        ]


def ppo_roles() -> Roles:
    """The four models, two ways."""
    backbone = load()
    if OPTIONS.roles == "copies":
        critic, judge = (View(one, head=ScalarHead(one.width)) for one in (load(), load()))
        for frozen in (judge.backbone, backbone):
            frozen.freeze()
        return Roles(View(load()), critic, judge, View(backbone))
    backbone.freeze()
    add_adapter(backbone, "reward", SPEC, seed=0)
    judge = View(backbone, "reward", SPEC, ScalarHead(backbone.width))
    return adapter_roles(backbone, lora=SPEC, critic=True, reference=True, reward=judge, seed=0)


def ppo() -> None:
    """One update of policy and critic a step."""
    roles, clock = ppo_roles(), Clock()
    prompts = chats(PPO_PROMPTS)
    config = OnlineTraining(
        algorithm=Algorithm(name="ppo"),
        share_backbone=OPTIONS.roles == "adapters",
        steps=OPTIONS.steps + 2,
        prompts_per_step=PPO_PROMPTS,
        sampling=Sampling(max_new_tokens=NEW_TOKENS, quantization=OPTIONS.sampler),
        optimizer=optimizer(),
        critic_learning_rate=OPTIONS.learning_rate,
        checkpoint=NEVER,
    )
    ends = [roles.policy.backbone.tokenizer.eos_token_id]
    train_online(
        roles,
        PlainSampler(roles.policy),
        RewardModelScorer(roles.reward, end_tokens=ends, max_tokens=2048),
        prompts,
        settings=resolve_settings(config),
        seed=0,
        folder=scratch(),
        progress=progress(clock),
    )
    timed(clock)


WORKLOADS = {
    "generate": generate, "sft": sft, "reward": reward_model, "hh": reward_model, "dpo": dpo,
    "hh-dpo": dpo, "grpo": grpo, "ppo": ppo,
}  # fmt: skip

if __name__ == "__main__":
    torch.set_num_threads(2)
    WORKLOADS[OPTIONS.workload]()
