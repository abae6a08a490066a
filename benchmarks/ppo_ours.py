"""Burnish's PPO on the benchmark workload, through the same loop as `burnish ppo`; prints one JSON object."""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from prompts import texts

from burnish.config.schema import Checkpointing, Ppo, Sampling
from burnish.generation.base import Request, SamplingParams, request_seed
from burnish.generation.native import NativeEngine
from burnish.models.adapters import LoraSpec, add_adapter
from burnish.models.backbone import load_backbone
from burnish.models.heads import ScalarHead
from burnish.models.roles import Roles, View, adapter_roles, copy_roles
from burnish.records import Prompt, Rollout
from burnish.rewards.model import RewardModelScorer
from burnish.trainers.online import train_ppo

PARAMS = SamplingParams(64, min_new_tokens=64)


class PlainSampler:
    """Exactly 64 tokens after the plain text of each prompt, as the peer writes them."""

    def __init__(self, view: View) -> None:
        self._tokenizer = view.backbone.tokenizer
        self._engine = NativeEngine(view, end_tokens=frozenset({self._tokenizer.eos_token_id}))

    def load(self, view: View, *, version: int) -> None:
        self._engine.load(view, version=version)

    def generate(self, prompts: Sequence[Prompt], *, samples: int, round: int) -> list[Rollout]:
        tokens = [tuple(self._tokenizer(p.messages[0]["content"])["input_ids"]) for p in prompts]
        requests = [Request(t, request_seed(round, p.id)) for p, t in zip(prompts, tokens, strict=True)]
        completions = self._engine.generate(requests, PARAMS)
        return [Rollout(p, t, c, self._engine.version) for p, t, c in zip(prompts, tokens, completions, strict=True)]


def roles_of(model: str, mode: str) -> Roles:
    backbone = load_backbone(model)
    if mode == "copies":
        critic, reward = (load_backbone(model) for _ in range(2))
        return copy_roles(
            load_backbone(model),
            View(critic, head=ScalarHead(critic.width)),
            View(reward, head=ScalarHead(reward.width)),
            backbone,
        )
    spec = LoraSpec(16, 32.0)
    backbone.freeze()
    add_adapter(backbone, "reward", spec, seed=0)
    return adapter_roles(View(backbone, "reward", spec, ScalarHead(backbone.width)), lora=spec, seed=0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--roles", choices=["adapters", "copies"], default="adapters")
    options = parser.parse_args()
    torch.set_num_threads(2)
    roles = roles_of(options.model, options.roles)
    prompts = [Prompt(f"p{i}", ({"role": "user", "content": text},)) for i, text in enumerate(texts(32))]
    config = Ppo(
        roles=options.roles,
        steps=options.steps + 1,
        prompts_per_step=32,
        sampling=Sampling(max_new_tokens=64),
        checkpoint=Checkpointing(every=1000),
    )
    scorer = RewardModelScorer(roles.reward, end_tokens=[roles.policy.backbone.tokenizer.eos_token_id], max_tokens=2048)
    ends: list[float] = []
    tokens: list[int] = []

    def progress(done: int, total: int, count: int, values: object) -> None:
        ends.append(time.perf_counter())
        tokens.append(count)

    train_ppo(
        roles,
        PlainSampler(roles.policy),
        scorer,
        prompts,
        config=config,
        seed=0,
        folder=Path(tempfile.mkdtemp()),
        progress=progress,
    )
    steps = sorted(b - a for a, b in pairwise(ends[:-1]))  # the last step ends with the checkpoint
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps({"step_s": steps[len(steps) // 2], "peak_gb": peak, "tokens": tokens[0]}))


if __name__ == "__main__":
    main()
