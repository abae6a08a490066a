"""What a run is asked for from Python and at the limits of its numbers: paths as text, the largest seed."""

from __future__ import annotations

from pathlib import Path

import pytest

import burnish
from burnish.config.bounds import Bounds
from burnish.config.recipe import Recipe
from burnish.runs.metrics import read_metrics

SMALL = [
    "model.name=tiny", "threads=1", "data.demonstrations=builtin:quickstart/demonstrations",
    "data.prompts=builtin:quickstart/prompts", "sft.epochs=0.1", "collect.prompts=4", "collect.sampling.max_new_tokens=4",
    "ppo.steps=1", "ppo.prompts_per_step=2", "ppo.sampling.max_new_tokens=4", "ppo.tricks.ptx_coefficient=0.1",
    "online.steps=1", "online.epochs=2", "online.mini_batches=2", "online.prompts_per_step=2", "online.curriculum={}",
    "online.responses_per_prompt=2", "online.sampling.max_new_tokens=4", "rewards=[{name: length}]",
    "preference.rounds=2", "preference.online.prompts=4", "preference.online.sampling.max_new_tokens=4",
]  # fmt: skip


def test_a_run_takes_its_folders_as_text(tmp_path: Path):
    recipe = burnish.load(None, *SMALL, "stages=[sft]")
    out = burnish.run(recipe, out=str(tmp_path / "first"))
    assert out == tmp_path / "first"
    lines: list[str] = []
    burnish.run(recipe, out=str(tmp_path / "second"), fork=str(out), say=lines.append)
    assert f"sft: taken over from {out}" in lines


def test_the_largest_seed_reaches_every_generator(tmp_path: Path):
    (bounds,) = (note for note in Recipe.model_fields["seed"].metadata if isinstance(note, Bounds))
    recipe = burnish.load(None, *SMALL, f"seed={bounds.le}", "stages=[sft, collect, reward, preference, ppo, online]")
    out = burnish.run(recipe, out=tmp_path / "run")
    assert read_metrics(out / "ppo" / "metrics.jsonl")
    assert read_metrics(out / "online" / "metrics.jsonl")


@pytest.mark.parametrize("seed", [0, 1, 2**43, 2**44, 2**44 + 1, 2**63 - 1])
def test_seeds_of_a_step_are_seeds_of_torch(seed: int):
    from burnish.trainers.online import seed_of_step

    assert 0 <= seed_of_step(seed, 999_999) < 2**64
    assert seed_of_step(seed, 3) == seed_of_step(seed, 2) + 1


def test_seeds_that_differ_give_steps_that_differ():
    from burnish.trainers.online import seed_of_step

    seeds = [0, 1, 2**44, 2**44 + 1, 2**63 - 1, 2**63 - 2]
    assert len({seed_of_step(seed, step) for seed in seeds for step in range(50)}) == len(seeds) * 50
    assert seed_of_step(5, 7) == (5 << 20) + 7
