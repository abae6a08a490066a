"""The stage online on the tiny model: every row trains, resumes bit for bit after kill -9, and
learns what it is paid for."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import burnish
from burnish.algorithms.recipes import ROWS
from burnish.config.online import OnlineTraining
from burnish.errors import UserError
from burnish.models.backbone import load_backbone
from burnish.models.heads import ScalarHead
from burnish.models.roles import Roles, View
from burnish.records import Prompt, Reward, Rollout
from burnish.runs.metrics import read_metrics
from burnish.stages.sampling import prompt_sampler
from burnish.trainers.online import train_online
from burnish.trainers.online_settings import resolve_settings

RECIPE = """
name: online
threads: 1
model: {name: tiny, max_length: 256}
data: {demonstrations: null, prompts: "task:arithmetic?digits=2&train=30&heldout=10"}
stages:
  online:
    rewards: [{name: python, function: "FOLDER/paid.py:low_bytes", label: low}, {name: length, free: 2, limit: 9, weight: 0.3}]
    steps: 5
    prompts_per_step: 3
    responses_per_prompt: 4
    lora: {r: 4, alpha: 8}
    sampling: {max_new_tokens: 8}
    optimizer: {learning_rate: 1e-3}
    checkpoint: {every: 1}
"""  # noqa: E501

EVERYTHING = [
    "online.algorithm={name: dapo, kl: loss, kl_estimator: k2, beta: 0.05, dual_clip: 3.0}",
    "online.curriculum={floor: 0.3}", "online.epochs=2",
    "online.num_mini_batches=2", "online.moving_reference={every: 2}", "online.resample_rounds=2",
    "online.ent_coef=0.01",
    "online.pass_at=0.5", "online.kl_target=1.0", "online.normalize_rewards=true",
]  # fmt: skip


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("online")
    code = (
        "def low_bytes(completion_ids, **_):\n    return [sum(t < 64 for t in ids) / len(ids) for"
        " ids in completion_ids]\n"
    )
    (folder / "paid.py").write_text(code)
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.replace("FOLDER", str(folder)))
    return path


def _start(recipe: Path, out: Path) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "burnish",
        "run",
        str(recipe),
        "--out",
        str(out),
        "--quiet",
        *EVERYTHING,
    ]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def _outcome(folder: Path) -> dict[str, bytes]:
    found = {
        name: (folder / "online" / name).read_bytes()
        for name in ("metrics.jsonl", "model/model.safetensors")
    }
    return found | {p.name: p.read_bytes() for p in (folder / "online" / "samples").iterdir()}


def test_kill_9_and_the_same_command_end_with_the_same_numbers(recipe_file: Path, tmp_path: Path):
    """Cursor, curriculum, moving reference, adapting β, running moments, Adam: all of it comes
    back."""
    whole, killed, rng = tmp_path / "whole", tmp_path / "killed", random.Random(0)
    done = _start(recipe_file, whole)
    output = done.communicate(timeout=300)[0]
    assert done.returncode == 0, output
    rows = read_metrics(whole / "online" / "metrics.jsonl")
    assert rows[-1]["curriculum/passed_over"] >= 0
    assert len({row["beta"] for row in rows}) > 1
    for target in (1, 3):
        process = _start(recipe_file, killed)
        while (
            process.poll() is None
            and len(read_metrics(killed / "online" / "metrics.jsonl")) < target
        ):
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.1))
        assert process.poll() is None, process.communicate()[0]
        process.send_signal(signal.SIGKILL)
        process.communicate()
    last = _start(recipe_file, killed)
    output = last.communicate(timeout=300)[0]
    assert last.returncode == 0, output
    expected, found = _outcome(whole), _outcome(killed)
    assert expected.keys() == found.keys()
    assert [name for name in expected if expected[name] != found[name]] == []


@pytest.mark.parametrize("name", sorted(ROWS))
def test_every_row_runs_as_it_stands(recipe_file: Path, tmp_path: Path, name: str):
    recipe = burnish.load(recipe_file, f"online.algorithm={{name: {name}}}", "online.steps=2")
    out = burnish.run(recipe, out=tmp_path / "run")
    result = json.loads((out / "online" / "result.json").read_text())
    row = ROWS[name]
    assert result["algorithm"]["name"] == name
    assert result["roles"] == list(row.roles)
    first = read_metrics(out / "online" / "metrics.jsonl")[0]
    for metric in (
        "reward",
        "reward_std",
        "frac_reward_zero_std",
        "rewards/length/mean",
        "completions/mean_length",
        "completions/clipped_ratio",
        "clip_ratio/region_mean",
        "entropy",
        "grad_norm",
        "ratio",
        "sampler_gap_mean",
    ):
        assert metric in first
    assert first["ratio"] == pytest.approx(1.0, abs=1e-4)
    assert first["sampler_gap_mean"] < 1e-4
    assert ("kl" in first) == row.needs_reference
    assert ("value_loss" in first) == row.needs_critic


def test_full_copies_with_a_reference_that_moves(recipe_file: Path, tmp_path: Path):
    recipe = burnish.load(
        recipe_file,
        "online.share_backbone=false",
        "online.steps=3",
        "online.moving_reference={every: 2}",
        "online.optimizer.learning_rate=1e-3",
    )
    rows = read_metrics(burnish.run(recipe, out=tmp_path / "run") / "online" / "metrics.jsonl")
    assert rows[0]["kl_ref"] == pytest.approx(0.0, abs=1e-4)
    assert abs(rows[1]["kl_ref"]) > 1e-4
    # it has just taken over the policy's weights
    assert rows[2]["kl_ref"] == pytest.approx(0.0, abs=1e-4)


def test_the_command_of_an_algorithm_is_the_stage_with_its_name(
    recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    from burnish.cli.main import main

    with pytest.raises(SystemExit) as left:
        main([
            "rloo", "--config", str(recipe_file), "--out", str(tmp_path / "run"), "--quiet",
            "rloo.start=base", "rloo.steps=1",
            "rloo.rewards=[{name: length, free: 2, limit: 9}]", "rloo.prompts_per_step=2",
            "rloo.sampling.max_new_tokens=4",
        ])  # fmt: skip
    assert left.value.code == 0
    assert not (tmp_path / "run" / "online").exists()
    result = json.loads((tmp_path / "run" / "rloo" / "result.json").read_text())
    assert result["algorithm"]["name"] == "rloo"
    assert result["algorithm"]["advantage"] == "leave_one_out"


def test_what_cannot_be_is_said_before_anything_is_loaded(recipe_file: Path, tmp_path: Path):
    with pytest.raises(UserError, match="at least 2"):
        burnish.run(
            burnish.load(recipe_file, "online.responses_per_prompt=1"), out=tmp_path / "run"
        )
    assert not (tmp_path / "run" / "online").exists()
    with pytest.raises(UserError, match="the stage online has no reward"):
        burnish.run(burnish.load(recipe_file, "online.rewards=[]"), out=tmp_path / "run")
    assert not (tmp_path / "run" / "online").exists()


class LowBytes:
    """Paid: the share of tokens below 64, of which a random model writes a quarter."""

    def score(self, rollouts: Sequence[Rollout]) -> list[Reward]:
        return [
            Reward(sum(t < 64 for t in r.completion.tokens) / len(r.completion.tokens))
            for r in rollouts
        ]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("grpo", {"beta": 0.001}), ("grpo", {"beta": 0.001, "loss": "cispo", "kl_estimator": "k2", "clip_high": 4.0}), ("dapo", {}),  # noqa: E501
        ("rloo", {"beta": 0.001}), ("reinforce++", {"beta": 0.001}), ("gspo", {}), ("ppo", {"beta": 0.001}),  # noqa: E501
    ],
)  # fmt: skip
def test_it_learns_what_it_is_paid_for(name: str, changes: dict[str, object], tmp_path: Path):
    """From a quarter to most of the tokens in a dozen small steps, from a random model."""
    config = OnlineTraining(
        algorithm={"name": name, "overlong": "none", **changes},
        steps=12,
        prompts_per_step=4,
        responses_per_prompt=8,
        sampling={"max_new_tokens": 4},
        optimizer={"learning_rate": 1e-2, "schedule": "constant", "warmup": 0.0},
        critic_learning_rate=1e-2,
        checkpoint={"every": 1000},
        pass_at=0.99,
        missing_eos_penalty=0.0,
    )
    settings = resolve_settings(config)
    row = settings.algorithm
    # every weight is trained: adapters below a final norm and frozen embeddings can hardly move a
    # random model's words
    valuing, frozen = load_backbone("tiny"), load_backbone("tiny")
    frozen.freeze()
    roles = Roles(
        policy=View(load_backbone("tiny")),
        critic=(
            View(valuing, head=ScalarHead(valuing.width, zero=True)) if row.needs_critic else None
        ),
        reference=View(frozen) if row.needs_reference else None,
    )
    sampler = prompt_sampler(roles.policy, config.sampling, seed=0, max_length=256, purpose="test")
    prompts = [Prompt(f"p{i}", ({"role": "user", "content": f"{i}"},)) for i in range(8)]
    train_online(roles, sampler, LowBytes(), prompts, settings=settings, seed=0, folder=tmp_path)
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert rows[0]["reward"] < 0.4
    assert rows[-1]["reward"] > 0.7
