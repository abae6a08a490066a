"""What a run is asked for from Python and at the limits of its numbers: paths as text, the largest
seed."""

from __future__ import annotations

from pathlib import Path

import pytest

import burnish
from burnish.config.bounds import Bounds
from burnish.config.recipe import Recipe
from burnish.runs.metrics import read_metrics

DATA = [
    "model.name=tiny", "threads=1", "data.demonstrations=builtin:quickstart/demonstrations",
    "data.prompts=builtin:quickstart/prompts",
]  # fmt: skip
EVERY_KIND = """
stages:
  sft: {epochs: 0.1}
  sample: {count: 4, sampling: {max_new_tokens: 4}}
  compare: {}
  reward: {}
  dpo: {}
  rounds: {repeat: 1, stages: {sample: {count: 4, sampling: {max_new_tokens: 4}}, compare: {}, dpo: {}}}
  ppo: {steps: 1, prompts_per_step: 2, sampling: {max_new_tokens: 4}, ptx_coef: 0.1}
  grpo: {steps: 1, epochs: 2, num_mini_batches: 2, prompts_per_step: 2, curriculum: {}, responses_per_prompt: 2,
         sampling: {max_new_tokens: 4}, rewards: [{name: length}]}
"""  # noqa: E501


def test_a_run_takes_its_folders_as_text(tmp_path: Path):
    recipe = burnish.load(None, *DATA, "stages=[sft]", "sft.epochs=0.1")
    out = burnish.run(recipe, out=str(tmp_path / "first"))
    assert out == tmp_path / "first"
    lines: list[str] = []
    burnish.run(recipe, out=str(tmp_path / "second"), fork=str(out), say=lines.append)
    assert f"sft: taken over from {out}" in lines


def test_the_largest_seed_reaches_every_generator(tmp_path: Path):
    (bounds,) = (note for note in Recipe.model_fields["seed"].metadata if isinstance(note, Bounds))
    (tmp_path / "recipe.yaml").write_text(EVERY_KIND)
    recipe = burnish.load(tmp_path / "recipe.yaml", *DATA, f"seed={bounds.le}")
    out = burnish.run(recipe, out=tmp_path / "run")
    assert read_metrics(out / "ppo" / "metrics.jsonl")
    assert read_metrics(out / "grpo" / "metrics.jsonl")


@pytest.mark.parametrize("seed", [0, 1, 2**43, 2**44, 2**44 + 1, 2**63 - 1])
def test_seeds_of_a_step_are_seeds_of_torch(seed: int):
    from burnish.trainers.online import seed_of_step

    assert 0 <= seed_of_step(seed, 999_999) < 2**64
    assert seed_of_step(seed, 3) == seed_of_step(seed, 2) + 1


def test_seeds_that_differ_give_steps_that_differ():
    from burnish.trainers.online import seed_of_step

    seeds = [0, 1, 2**44, 2**44 + 1, 2**63 - 1, 2**63 - 2]
    assert (
        len({seed_of_step(seed, step) for seed in seeds for step in range(50)}) == len(seeds) * 50
    )
    assert seed_of_step(5, 7) == (5 << 20) + 7
