"""Trainings of a tiny model, each as one process does it and as ranks do: what is compared is what
they return."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from burnish.batch import Batch, TokenSequence
from burnish.config.online import OnlineTraining
from burnish.config.preference import PreferenceTraining
from burnish.config.sections import ComparedPasses, Optimizer, Passes
from burnish.execution.group import Deadlines, run_group
from burnish.execution.shards import shard
from burnish.models.adapters import LoraSpec, add_adapter
from burnish.models.backbone import Backbone, load_backbone
from burnish.models.heads import ScalarHead
from burnish.models.roles import Roles, View, adapter_roles
from burnish.models.trunk import full
from burnish.models.weights import save_policy, save_reward_model
from burnish.ranks import first, gathered, rank
from burnish.records import Comparison, Prompt, Reward, Rollout
from burnish.rewards.model import RewardModelScorer
from burnish.runs.metrics import read_metrics
from burnish.stages.sampling import end_tokens_of, prompt_sampler
from burnish.trainers.gather import FirstSampler
from burnish.trainers.groups import RankedGroup
from burnish.trainers.learner import Learner, Term
from burnish.trainers.online import train_online
from burnish.trainers.online_settings import resolve_settings
from burnish.trainers.preference import prepare, train_preferences
from burnish.trainers.reward_model import train_reward_model
from burnish.trainers.sft import nll_term, train_sft

LORA = LoraSpec(4, 8.0)
SEQUENCES = tuple(
    TokenSequence((258, 10 + i % 2), tuple(range(20 + i, 24 + 2 * i))) for i in range(6)
)
OPTIMIZER = {"learning_rate": 3e-3, "warmup": 0.0, "schedule": "constant"}
UNEVEN = 24
"""Tokens at once: three micro-batches or so, which two ranks do not share evenly."""


def on_ranks(
    work: Callable[[], Any],
    world: int = 2,
    *,
    train: float = 60.0,
    watch: Callable[[list[int]], None] = lambda _: None,
) -> Any:
    """What `work` gives on rank 0 of `world`."""
    alone = partial(_on_one_thread, work)
    return run_group(alone, world=world, deadline=Deadlines(120, train), watch=watch)


def _on_one_thread(work: Callable[[], Any], _: Callable[[Any], None]) -> Any:
    torch.set_num_threads(1)
    return work()


def policy(backbone: Backbone, kind: str) -> View:
    """A role on the backbone: `full` trains every weight, `lora` an adapter set that has moved;
    with `head` in its name it has one."""
    head = ScalarHead(backbone.width, seed=1) if "head" in kind else None
    if "full" in kind:
        return View(backbone, head=head)
    backbone.freeze()
    add_adapter(backbone, "policy", LORA, seed=0)
    view = View(backbone, "policy", LORA, head)
    generator = torch.Generator().manual_seed(5)
    for name, parameter in view.parameters().items():
        if "lora_B" in name:  # 0 at the start, where A has no gradient
            torch.nn.init.normal_(parameter, std=0.2, generator=generator)
    return view


def weights(view: View) -> dict[str, torch.Tensor]:
    """What the role has learnt, whole."""
    return {name: full(p.detach()).clone() for name, p in view.parameters().items()}


def terms(view: View, pieces: Sequence[Sequence[int]]) -> list[Callable[[], Term]]:
    batch = Batch(SEQUENCES)
    how = {"denominator": batch.trained_tokens}
    return [partial(nll_term, view, batch.select(list(rows)), **how) for rows in pieces]


def updates(kind: str, pieces: Sequence[Sequence[int]], *, recompute: bool = False) -> Any:
    """(metrics, weights) of three updates on a batch that is cut into these pieces."""
    view = policy(load_backbone("tiny"), kind)
    shard(view)
    how = Optimizer(learning_rate=1e-3, gradient_checkpointing=recompute)
    learner = Learner(view, how, total_steps=10)
    return [learner.update(terms(view, pieces)) for _ in range(3)], weights(view)


def nan_on_one_rank() -> Any:
    """(metrics of a step in which the second rank's term is no number, and of the next; skipped
    steps; whether the weights are those of before)."""
    view = policy(load_backbone("tiny"), "lora")
    shard(view)
    learner = Learner(view, Optimizer(learning_rate=1e-3), total_steps=10)
    before = weights(view)
    sound, broken = terms(view, [[0, 1], [2, 3]])

    def bad() -> Term:
        term = broken()
        return Term(term.loss * (float("nan") if rank() == 1 else 1.0), term.sums)

    first_step = learner.update([sound, bad])
    same = all(torch.equal(before[name], tensor) for name, tensor in weights(view).items())
    return first_step, learner.update([sound, broken]), learner.skipped, same


def state_of(kind: str, folder: Path, *, before: Path | None, steps: int) -> Any:
    """(metrics, weights) of further updates behind the checkpoint in `before`, if there is one;
    leaves a checkpoint in `folder`."""
    from burnish.runs.checkpoint import Checkpoints, load_state

    view = policy(load_backbone("tiny"), kind)
    shard(view)
    learner = Learner(view, Optimizer(learning_rate=1e-3), total_steps=10)
    if before is not None:
        newest = Checkpoints(before, keep=2).latest()
        assert newest is not None
        learner.load_state_dict(load_state(newest[1], like=learner.state_dict()))
    metrics = [learner.update(terms(view, [[0, 1, 2], [3, 4, 5]])) for _ in range(steps)]
    Checkpoints(folder, keep=2).save(learner.step, learner.state_dict())
    return metrics, weights(view)


def sft(kind: str, folder: Path) -> Any:
    view = policy(load_backbone("tiny"), kind)
    shard(view)
    config = Passes(
        epochs=1.0, batch_size=4, eval_every=1,
        optimizer=Optimizer(micro_batch_tokens=UNEVEN, **OPTIMIZER),
    )  # fmt: skip
    train_sft(view, SEQUENCES, SEQUENCES[:3], config=config, seed=0, folder=folder)
    return read_metrics(folder / "metrics.jsonl"), weights(view)


def _group(offset: int, lengths: tuple[int, ...], *pairs: Comparison) -> RankedGroup:
    prompt = (258, 10 + offset, 40 + offset)
    answers = (
        TokenSequence(prompt, tuple((60 + 7 * offset + 3 * i + j) % 250 for j in range(n)))
        for i, n in enumerate(lengths)
    )
    return RankedGroup(tuple(answers), pairs)


GROUPS = [
    _group(0, (4, 7), Comparison(0, 1, 1.0)),
    _group(1, (6, 3), Comparison(0, 1, 0.2)),
    _group(2, (5, 2, 8), Comparison(0, 1, 0.7), Comparison(0, 2, 1.0)),
    _group(3, (3, 3), Comparison(1, 0, 0.9)),
]


def reward(kind: str, folder: Path) -> Any:
    view = policy(load_backbone("tiny"), f"{kind} head")
    shard(view)
    how = Optimizer(micro_batch_tokens=UNEVEN, **OPTIMIZER)
    config = ComparedPasses(epochs=2.0, batch_size=3, eval_every=1, optimizer=how)
    train_reward_model(view, GROUPS, GROUPS[:3], config=config, seed=0, folder=folder)
    return read_metrics(folder / "metrics.jsonl"), weights(view)


def preferences(kind: str, folder: Path, *, loss: str) -> Any:
    backbone = load_backbone("tiny")
    how = {"micro_batch_tokens": UNEVEN, **OPTIMIZER}
    config = PreferenceTraining.model_validate(
        {"loss": {"name": loss}, "batch_size": 3, "epochs": 2.0, "eval_every": 1, "optimizer": how}
    )
    share = {"config": config, "seed": 0, "cache": folder / "cache"}
    train = prepare(View(backbone), GROUPS, **share)
    heldout = prepare(View(backbone), GROUPS[:3], measured=True, **share)
    view = policy(backbone, kind)
    shard(view)
    train_preferences(view, train, heldout, config=config, seed=0, folder=folder)
    return read_metrics(folder / "metrics.jsonl"), weights(view)


class LowBytes:
    """Paid: the share of tokens below 64. Asked on rank 0 alone it would differ on another."""

    def score(self, rollouts: Sequence[Rollout]) -> list[Reward]:
        """One for each."""
        return [
            Reward(sum(t < 64 for t in r.completion.tokens) / len(r.completion.tokens))
            for r in rollouts
        ]


def _copies(config: OnlineTraining) -> Roles:
    row = resolve_settings(config).algorithm
    valuing, frozen = load_backbone("tiny"), load_backbone("tiny")
    frozen.freeze()
    head = ScalarHead(valuing.width, zero=True)
    return Roles(
        policy=View(load_backbone("tiny")),
        critic=View(valuing, head=head) if row.needs_critic else None,
        reference=View(frozen) if row.needs_reference else None,
    )


def _on_one_backbone(config: OnlineTraining) -> Roles:
    row = resolve_settings(config).algorithm
    backbone, scoring = load_backbone("tiny"), None
    if row.needs_critic:
        backbone.freeze()
        add_adapter(backbone, "reward", LORA, seed=3)
        scoring = View(backbone, "reward", LORA, ScalarHead(backbone.width, seed=2))
    return adapter_roles(
        backbone, lora=LORA, critic=row.needs_critic, reference=row.needs_reference,
        moving=config.moving_reference is not None, reward=scoring, seed=0,
    )  # fmt: skip


def online(
    kind: str,
    folder: Path,
    *,
    steps: int = 2,
    on_rollouts: Callable[..., None] = lambda *_: None,
    **changes: Any,
) -> Any:
    """GRPO and the like are paid by a function, PPO on one backbone by a reward model on it."""
    settings: Mapping[str, Any] = {
        "algorithm": {"name": "grpo", "beta": 0.05}, "prompts_per_step": 2,
        "responses_per_prompt": 3,
        "epochs": 2, "num_mini_batches": 2, "sampling": {"max_new_tokens": 5},
        "critic_learning_rate": 1e-3,
        "optimizer": {"micro_batch_tokens": 64, **OPTIMIZER}, "checkpoint": {"every": 1}, **changes,
    }  # fmt: skip
    config = OnlineTraining.model_validate({"steps": steps, **settings})
    roles = _copies(config) if "full" in kind else _on_one_backbone(config)
    shard(roles.policy, roles.critic, roles.reward, roles.reference)
    make = partial(
        prompt_sampler, roles.policy, config.sampling, seed=0, max_length=256, purpose="test"
    )
    scorer: Any = LowBytes()
    if roles.reward is not None:
        ends = end_tokens_of(roles.policy.backbone)
        scorer = RewardModelScorer(roles.reward, end_tokens=ends, max_tokens=64)
    prompts = [Prompt(f"p{i}", ({"role": "user", "content": f"{i}"},)) for i in range(8)]
    train_online(
        roles, FirstSampler(roles.policy, make), scorer, prompts, settings=resolve_settings(config),
        seed=0, folder=folder, on_rollouts=on_rollouts,
    )  # fmt: skip
    rows = read_metrics(folder / "metrics.jsonl") if first() else []
    return rows, weights(roles.policy)


def files_of(kind: str, folder: Path) -> Any:
    """Saves the role as a policy and as a reward model; the hash of its weights."""
    view = policy(load_backbone("tiny"), f"{kind} head")
    shard(view)
    save_policy(view, folder / "policy", base="tiny")
    save_reward_model(view, folder / "reward", base="tiny")
    return view.backbone.content_hash()


TRAININGS: dict[str, Callable[[Path], Any]] = {
    "sft, adapters": partial(sft, "lora"),
    "sft, every weight": partial(sft, "full"),
    "reward model": partial(reward, "lora"),
    "dpo": partial(preferences, "lora", loss="dpo"),
    "kto, every weight": partial(preferences, "full", loss="kto"),
    "grpo": partial(online, "lora"),
    "grpo, copies": partial(
        online, "full", algorithm={"name": "grpo", "kl": "loss", "beta": 0.05},
        moving_reference={"every": 1}, ent_coef=0.01,
    ),
    "dapo": partial(online, "lora", algorithm={"name": "dapo"}, resample_rounds=2),
    "ppo": partial(online, "lora", algorithm={"name": "ppo", "beta": 0.05}),
    "ppo, copies": partial(online, "full", algorithm={"name": "ppo", "beta": 0.05}),
}  # fmt: skip


def every(works: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """All of them, one after the other: processes that are there already cost nothing."""
    return {name: work() for name, work in works.items()}


def dying(folder: Path, *, times: int) -> Any:
    """GRPO in which the second rank is killed in the middle of an update of the second step,
    `times` times; every start leaves a line in `starts`."""
    starts = folder / "starts"
    if first():
        folder.mkdir(parents=True, exist_ok=True)
        with starts.open("a") as file:
            file.write("start\n")
    gathered(None)
    count = len(starts.read_text().splitlines())

    def kill_later(step: int, *_: Any) -> None:
        if step == 1 and rank() == 1 and count <= times:
            threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGKILL)).start()

    return online("lora", folder, steps=3, on_rollouts=kill_later)


def refusing(error: Exception) -> None:
    """The second rank raises, and the first waits for it."""
    if rank() == 1:
        raise error
    gathered(None)


def silent(seconds: float) -> None:
    """The second rank does not come."""
    if rank() == 1:
        time.sleep(seconds)
    gathered(None)
