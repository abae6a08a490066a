"""Reward models of several members, from training to whatever reads one, on the tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import burnish
from burnish.batch import Batch, TokenSequence
from burnish.errors import UserError
from burnish.models.backbone import load_backbone
from burnish.models.ensemble import RewardEnsemble
from burnish.models.weights import load_reward_model, rule_of
from burnish.runs.metrics import read_metrics
from burnish.trainers.learner import Learner

RECIPE = """
name: members
threads: 1
model: {name: tiny, max_length: 256}
data: {prompts: builtin:quickstart/prompts, heldout: 0.25}
stages:
  sample: {count: 8, responses: 2, sampling: {max_new_tokens: 6}}
  compare: {}
  reward: {members: 3, combine: min, decorrelate: length, lora: {r: 2, alpha: 4}, batch_size: 4, optimizer: {learning_rate: 1e-2}, checkpoint: {every: 1}}
  again: {kind: compare, answers: sample, by: {reward: reward}}
  ppo: {start: base, steps: 1, prompts_per_step: 4, lora: {r: 2, alpha: 4}, sampling: {max_new_tokens: 6}}
  grpo: {start: base, rewards: [{name: model, model: reward}], steps: 1, prompts_per_step: 2, responses_per_prompt: 2, lora: {r: 2, alpha: 4}, sampling: {max_new_tokens: 6}}
  select: {answers: sample, reward: reward}
  evaluate: {models: [ppo], count: 3, sampling: {max_new_tokens: 6}, samples: 1}
  report: {}
"""  # noqa: E501
BATCH = Batch((TokenSequence((3, 4), (5, 6, 7)), TokenSequence((3, 4), (9,))))


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("members") / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def _result(run: Path, stage: str) -> dict[str, Any]:
    return json.loads((run / stage / "result.json").read_text())


def test_whatever_reads_a_reward_model_reads_its_members(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Killed while the second member learns, too: the folder is that of a run left alone."""
    recipe, update, left = burnish.load(recipe_file), Learner.update, [5]

    def dying(learner: Learner, terms: Any) -> dict[str, float]:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return update(learner, terms)

    whole = burnish.run(recipe, out=tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "update", dying)
        with pytest.raises(KeyboardInterrupt):
            burnish.run(recipe, out=tmp_path / "killed", until="reward")
    killed = burnish.run(recipe, out=tmp_path / "killed", until="reward")
    for name in (
        "model.safetensors",
        "scoring.json",
        *(f"members/{n}/adapter/adapter_model.safetensors" for n in range(3)),
    ):
        assert (killed / "reward/model" / name).read_bytes() == (
            whole / "reward/model" / name
        ).read_bytes()

    found = _result(whole, "reward")
    assert (found["members"], found["combine"], len(found["length_slopes"])) == (3, "min", 3)
    assert len(set(found["length_slopes"])) == 3
    assert found["spread"] > 0.0
    for stage, name in (("ppo", "reward_spread"), ("grpo", "reward_spread")):
        [row] = read_metrics(whole / stage / "metrics.jsonl")
        assert row[f"rewards/{name}/mean"] > 0.0
    assert _result(whole, "again")["prompts"] > 0
    assert _result(whole, "select")["kept"] > 0
    assert any(judge["name"] == "reward model" for judge in _result(whole, "evaluate")["judges"])
    page = (whole / "report.html").read_text()
    assert "Members" in page
    assert "Length taken out" in page
    # a copied run scores the same
    model = load_reward_model(whole / "reward/model", load_backbone)
    assert isinstance(model, RewardEnsemble)
    scores_3N = torch.stack([view.scores(BATCH) for view in model.views])
    assert float(scores_3N.detach().std(dim=0).min()) > 0.0
    both = recipe_file.with_name("merge.yaml")
    own = whole / "reward" / "model"
    both.write_text(
        f"name: m\nmodel: {{name: tiny}}\nstages: {{merge: {{models: [{own}, {own}]}}}}\n"
    )
    with pytest.raises(UserError, match="no weights that could be averaged"):
        burnish.run(burnish.load(both), out=tmp_path / "merged")


def test_averaged_weights_are_one_reward_model(recipe_file: Path, tmp_path: Path):
    recipe = burnish.load(
        recipe_file, "reward.combine=weights", "reward.decorrelate=none", "reward.members=2"
    )
    run = burnish.run(recipe, out=tmp_path / "run", until="ppo")
    folder = run / "reward" / "model"
    assert rule_of(folder) is None
    assert not isinstance(load_reward_model(folder, load_backbone), RewardEnsemble)
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (4, 8)
    assert (folder / "members" / "1" / "head.safetensors").is_file()
    [row] = read_metrics(run / "ppo" / "metrics.jsonl")
    assert "rewards/reward_spread/mean" not in row


def test_members_that_cannot_be_are_refused(recipe_file: Path):
    with pytest.raises(UserError, match="needs several members"):
        burnish.load(recipe_file, "reward.members=1")
    with pytest.raises(UserError, match="adapters on one backbone"):
        burnish.load(recipe_file, "reward.lora=null")
