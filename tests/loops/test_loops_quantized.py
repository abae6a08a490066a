"""Every trainer on frozen matrices in few bits, with dropout: killed at every stage, it goes on
to the same bits; and near to what float32 learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import burnish
from burnish.errors import UserError
from burnish.models.quantized import frozen_weights
from burnish.runs.metrics import read_metrics
from burnish.stages.context import Run
from burnish.trainers.learner import Learner

RECIPE = """
name: quantized
threads: 1
model: {{name: tiny, max_length: 512, dtype: {dtype}}}
data: {{demonstrations: builtin:quickstart/demonstrations, prompts: builtin:quickstart/prompts, limit: 24}}
stages:
  sft: {{lora: {lora}, max_steps: 4, batch_size: 4, optimizer: {{learning_rate: 3e-3}}, checkpoint: {{every: 1}}}}
  sample: {{count: 8, sampling: {{max_new_tokens: 6}}}}
  compare: {{}}
  reward: {{lora: {lora}, max_steps: 3, batch_size: 4, optimizer: {{learning_rate: 1e-2}}, checkpoint: {{every: 1}}}}
  dpo: {{start: sft, lora: {lora}, max_steps: 3, batch_size: 4, checkpoint: {{every: 1}}}}
  ppo: {{start: sft, lora: {lora}, steps: 2, prompts_per_step: 4, num_mini_batches: 1, sampling: {{max_new_tokens: 6}}, checkpoint: {{every: 1}}}}
  grpo: {{start: sft, rewards: [{{name: model, model: reward}}], lora: {lora}, steps: 2, prompts_per_step: 2, responses_per_prompt: 2, sampling: {{max_new_tokens: 6}}, checkpoint: {{every: 1}}}}
"""  # noqa: E501
TRAINED = ("sft", "reward", "dpo", "ppo", "grpo")


class Killed(BaseException):
    """Stands for a kill."""


def _recipe(folder: Path, quantization: str, dtype: str = "float32", dropout: float = 0.1) -> Any:
    path = folder / "recipe.yaml"
    lora = f"{{r: 2, alpha: 4, dropout: {dropout}, quantization: {quantization}}}"
    path.write_text(RECIPE.format(lora=lora, dtype=dtype))
    return burnish.load(path)


def _assert_same(one: Path, other: Path) -> None:
    for stage in TRAINED:
        assert read_metrics(one / stage / "metrics.jsonl") == read_metrics(
            other / stage / "metrics.jsonl"
        )
        for name in ("model/model.safetensors", "model/adapter/adapter_model.safetensors"):
            mine, theirs = load_file(one / stage / name), load_file(other / stage / name)
            assert mine.keys() == theirs.keys()
            for key, tensor in mine.items():
                assert torch.equal(tensor, theirs[key]), (stage, key)


@pytest.mark.parametrize(
    ("quantization", "dtype"), [("int8", "float32"), ("nf4", "bfloat16"), ("int4", "float32")]
)
def test_every_trainer_runs_and_resumes_to_the_same_bits(
    quantization: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recipe, update, made, held = _recipe(tmp_path, quantization, dtype), Learner.update, [0], []
    load = Run.load

    def watched(self: Run, *given: Any, **options: Any) -> Any:
        backbone = load(self, *given, **options)
        held.append((options.get("quantization"), len(frozen_weights(backbone.model))))
        return backbone

    def dying(learner: Learner, terms: Any) -> dict[str, float]:
        made[0] += 1
        if made[0] % 3 == 0:
            raise Killed
        return update(learner, terms)

    monkeypatch.setattr(Run, "load", watched)
    burnish.run(recipe, out=tmp_path / "whole")
    assert [count for how, count in held if how == quantization].count(14) >= len(TRAINED)
    assert not [count for how, count in held if how in (None, "none") and count]
    kills = 0
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "update", dying)
        for _ in range(40):
            try:
                burnish.run(recipe, out=tmp_path / "killed")
                break
            except Killed:
                kills += 1
    assert kills >= 5
    _assert_same(tmp_path / "whole", tmp_path / "killed")


def test_what_is_learnt_is_near_to_what_float32_learns(tmp_path: Path):
    losses: dict[str, list[float]] = {}
    for name in ("none", "int8", "nf4"):
        (tmp_path / name).mkdir()
        recipe = _recipe(tmp_path / name, name, dropout=0.0)
        burnish.run(recipe, out=tmp_path / name / "run", until="sft")
        rows = read_metrics(tmp_path / name / "run" / "sft" / "metrics.jsonl")
        losses[name] = [row["loss"] for row in rows] + [rows[-1]["eval_loss"]]
    for exact, in_8, in_4 in zip(*losses.values(), strict=True):
        assert in_8 == pytest.approx(exact, rel=1e-3)
        assert in_4 == pytest.approx(exact, rel=0.02)
        assert in_8 != exact
        assert in_4 != exact


def test_a_recipe_that_has_no_frozen_matrices_is_refused(tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "model: {name: tiny}\ndata: {prompts: builtin:quickstart/prompts}\nstages:\n"
        "  grpo: {share_backbone: false, lora: {quantization: int8},"
        " rewards: [{name: length}]}\n"
    )
    with pytest.raises(UserError, match=r"lora\.quantization is of the frozen matrices"):
        burnish.load(path)
