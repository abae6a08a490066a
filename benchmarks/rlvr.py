"""Reinforcement learning with verifiable rewards, side by side: the task of
recipes/rlvr-arithmetic.yaml, its settings and budget.

    python benchmarks/rlvr.py                       # GRPO here and in TRL 1.16; then DAPO, RLOO,
        GSPO and PPO here
    python benchmarks/rlvr.py --seeds 0 1 2 --algorithms grpo --no-peer

Both sides train on the same problems from the same weights with the same reward, group size,
learning rate and adapters; every few steps each answers the held-out problems, on a clock that is
stopped meanwhile. The table has the accuracy at the end with its interval over problems, and the
training time after which an accuracy was reached and kept to the end.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rlvr_task import Curve, correct
from run import peer_python
from work import scratch

import burnish
from burnish.algorithms.recipes import ROWS
from burnish.config.online import Algorithm, OnlineTraining
from burnish.config.recipe import Recipe
from burnish.config.sections import Checkpointing
from burnish.data.tasks import task_rows
from burnish.models.adapters import LoraSpec
from burnish.models.backbone import load_backbone
from burnish.models.roles import adapter_roles
from burnish.models.sources import resolve
from burnish.records import Prompt, Reward, Rollout
from burnish.stages.sampling import prompt_sampler
from burnish.statistics.uncertainty import bootstrap_mean
from burnish.trainers.online import train_online
from burnish.trainers.online_settings import resolve_settings

HERE = Path(__file__).parent
TARGETS = (0.5, 0.6, 0.7, 0.75)
RECIPE = HERE.parent / "recipes" / "rlvr-arithmetic.yaml"


class LastNumber:
    """The reward of both sides."""

    def score(self, rollouts: Sequence[Rollout]) -> list[Reward]:
        """1 if the last number is right."""
        return [Reward(correct(r.completion.text, r.prompt.columns["answer"])) for r in rollouts]


def prompts_of(rows: Sequence[dict[str, Any]], side: str) -> list[Prompt]:
    """Rows as prompts."""
    return [
        Prompt(
            f"{side}{i}", ({"role": "user", "content": row["prompt"]},), {"answer": row["answer"]}
        )
        for i, row in enumerate(rows)
    ]


def ours(name: str, task: dict[str, Any], recipe: Recipe) -> list[dict[str, Any]]:
    """The curve of one algorithm."""
    how, seed = task["how"], task["seed"]
    trained = recipe.stages["grpo"]
    assert isinstance(trained, OnlineTraining)
    config = trained.model_copy(
        update={
            "algorithm": (
                trained.algorithm
                if name == "grpo"
                else Algorithm(name=name, beta=0.0, overlong="none")
            ),
            "steps": how["steps"],
            "checkpoint": Checkpointing(every=10**6),
        }
    )
    row = resolve_settings(config).algorithm
    backbone = load_backbone(task["model"])
    spec = LoraSpec(config.lora.r, config.lora.alpha)
    roles = adapter_roles(
        backbone, lora=spec, critic=row.needs_critic, reference=row.needs_reference, seed=seed
    )
    common = {"seed": seed, "max_length": recipe.model.max_length}
    sampler = prompt_sampler(roles.policy, config.sampling, **common, purpose="train")
    judge = prompt_sampler(
        roles.policy,
        config.sampling.model_copy(update={"quantization": "none"}),
        **common,
        purpose="measure",
    )
    heldout, versions = prompts_of(task["heldout"], "h"), iter(range(1, 10**6))

    def measure() -> list[float]:
        judge.load(roles.policy, version=next(versions))
        return [
            reward.value
            for reward in LastNumber().score(
                judge.generate(heldout, samples=how["heldout_samples"])
            )
        ]

    curve = Curve(measure, every=how["every"])
    curve.tick(0)
    train_online(
        roles,
        sampler,
        LastNumber(),
        prompts_of(task["train"], "t"),
        settings=resolve_settings(config),
        seed=seed,
        folder=scratch(),
        progress=lambda done, total, *_: curve.tick(done, last=done == total),
    )
    return curve.points


def peer(python: str, task: dict[str, Any]) -> list[dict[str, Any]]:
    """TRL's curve."""
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder) / "task.json", Path(folder) / "out.json"
        given.write_text(json.dumps(task))
        done = subprocess.run(
            [python, str(HERE / "rlvr_trl.py"), str(given), str(out)],
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise SystemExit(f"rlvr_trl.py failed:\n{done.stderr[-2000:]}")
        return json.loads(out.read_text())


def accuracy(values: Sequence[float], samples: int) -> dict[str, float]:
    """The mean with its interval over problems."""
    groups = [str(i // samples) for i in range(len(values))]
    return bootstrap_mean(torch.tensor(values).numpy(), groups=groups).to_dict()


def reached(points: Sequence[dict[str, Any]], target: float) -> float | None:
    """Seconds of training after which the accuracy was never again below the target."""
    since = None
    for point in points:
        good = sum(point["values"]) / len(point["values"]) >= target
        since = (point["seconds"] if since is None else since) if good else None
    return since


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--algorithms",
        nargs="*",
        choices=list(ROWS),
        default=["grpo", "dapo", "rloo", "gspo", "ppo"],
    )
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--steps", type=int)
    parser.add_argument("--every", type=int, default=5, help="steps between measurements")
    parser.add_argument("--heldout", type=int, help="held-out problems; all if not given")
    parser.add_argument("--samples", type=int, default=8, help="answers to each held-out problem")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--peer-python", help="the interpreter of an environment with trl[peft]==1.16.0"
    )
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--out", type=Path, help="where the curves go as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    recipe = burnish.load(RECIPE)
    online = recipe.stages["grpo"]
    assert isinstance(online, OnlineTraining)
    rows = list(task_rows(str(recipe.data.prompts)))
    steps = options.steps or online.steps
    how = {
        "steps": steps, "prompts": online.prompts_per_step, "group": online.responses_per_prompt,
        "new_tokens": online.sampling.max_new_tokens,
        "learning_rate": online.optimizer.learning_rate,
        "warmup_steps": round(online.optimizer.warmup * steps), "every": options.every,
        "heldout_samples": options.samples, "threads": options.threads,
    }  # fmt: skip
    heldout = [row for row in rows if row["split"] == "heldout"][: options.heldout]
    train = [row for row in rows if row["split"] == "train"]
    model = str(resolve(recipe.model.name, say=lambda line: print(line, file=sys.stderr)).folder)
    curves: dict[str, list[dict[str, Any]]] = {}
    for seed in options.seeds:
        task = {"model": model, "seed": seed, "how": how, "train": train, "heldout": heldout}
        if not options.no_peer:
            curves[f"TRL 1.16 grpo, seed {seed}"] = peer(
                options.peer_python or peer_python("trl"), task
            )
        for name in options.algorithms:
            curves[f"{name}, seed {seed}"] = ours(name, task, recipe)
            if options.out is not None:
                options.out.write_text(json.dumps(curves))
    show(curves, options.samples)


def show(curves: dict[str, list[dict[str, Any]]], samples: int) -> None:
    """The table."""
    print(
        "| run | accuracy before | after | steps | training time |"
        f" {' | '.join(f'to {t:.0%}' for t in TARGETS)} |"
    )
    print("|---" * (5 + len(TARGETS)) + "|")
    for name, points in curves.items():
        times = [reached(points, target) for target in TARGETS]
        before, after = (accuracy(point["values"], samples) for point in (points[0], points[-1]))
        cells = [
            name, f"{before['value']:.1%}",
            f"{after['value']:.1%} [{after['low']:.1%}, {after['high']:.1%}]",
            str(points[-1]["step"]),
            f"{points[-1]['seconds']:.0f} s",
            *("—" if seconds is None else f"{seconds:.0f} s" for seconds in times),
        ]  # fmt: skip
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
