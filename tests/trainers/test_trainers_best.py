"""Steps in place of epochs, the weights of the best evaluation, and the end of patience: by hand,
and the same after a run that was killed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from burnish.batch import TokenSequence
from burnish.config.sections import Checkpointing, Passes
from burnish.errors import UserError
from burnish.models.adapters import LoraSpec, add_adapter
from burnish.models.backbone import load_backbone
from burnish.models.heads import ScalarHead
from burnish.models.roles import View
from burnish.records import Comparison
from burnish.runs.metrics import read_metrics
from burnish.stages.kinds.reward import RewardModel
from burnish.stages.kinds.sft import Sft
from burnish.trainers.best import Best
from burnish.trainers.groups import RankedGroup
from burnish.trainers.learner import Diverged
from burnish.trainers.passes import steps_of, train_in_passes
from burnish.trainers.reward_model import score_groups, train_reward_model
from burnish.trainers.sft import nll_term, train_sft

EXAMPLES = [TokenSequence((258, 5 + i), (20 + i, 21, 256)) for i in range(6)]


class Killed(Exception):
    """Stands for a kill."""


def policy() -> View:
    backbone = load_backbone("tiny")
    backbone.freeze()
    add_adapter(backbone, "sft", LoraSpec(2, 4.0), seed=0)
    return View(backbone, "sft", LoraSpec(2, 4.0))


def train(
    folder: Path, losses: list[float], *, kill_at: int | None = None, **settings: Any
) -> tuple[View, list[dict[str, torch.Tensor]]]:
    """A run whose evaluations give these losses, one a step, and the weights at each of them."""
    from functools import partial

    from burnish.batch import Batch

    view, seen = policy(), []
    config = Passes(
        batch_size=2,
        eval_every=1,
        checkpoint=Checkpointing(every=2),
        max_steps=len(losses),
        **settings,
    )

    def terms(examples: Any) -> Iterator[Any]:
        batch = Batch(tuple(examples))
        yield partial(nll_term, view, batch, denominator=batch.trained_tokens)

    def evaluate() -> dict[str, float]:
        step = len(read_metrics(folder / "metrics.jsonl")) if seen or kill_at is None else len(seen)
        if kill_at is not None and step == kill_at:
            raise Killed
        seen.append({name: tensor.clone() for name, tensor in view.state_dict().items()})
        return {"eval_loss": losses[min(step, len(losses) - 1)]}

    train_in_passes(
        view,
        EXAMPLES,
        terms=terms,
        cost=len,
        evaluate=evaluate,
        at_start=False,
        config=config,
        seed=1,
        folder=folder,
    )
    return view, seen


def assert_same(view: View, weights: dict[str, torch.Tensor]) -> None:
    for name, tensor in view.state_dict().items():
        assert torch.equal(tensor, weights[name]), name


def test_steps_stand_in_place_of_epochs():
    assert steps_of(examples=10, batch_size=4, epochs=2.0) == 5
    assert steps_of(examples=10, batch_size=4, epochs=2.0, max_steps=3) == 3
    assert steps_of(examples=10, batch_size=4, epochs=2.0, max_steps=50) == 50
    assert Passes(max_steps=50, batch_size=4).examples(10) == 200
    assert Passes(max_steps=50, batch_size=16).examples(10) == 500
    assert Passes(epochs=0.5).examples(10) == 5


def test_the_best_weights_are_kept_and_the_last_otherwise(tmp_path: Path):
    losses = [3.0, 2.0, 2.5, 1.5, 4.0]
    view, seen = train(tmp_path / "best", losses, keep="best")
    assert_same(view, seen[3])
    assert len(seen) == 5  # nothing is evaluated whose result nobody takes
    view, seen = train(tmp_path / "last", losses)
    assert len(seen) == 5
    assert_same(view, seen[4])
    again, _ = train(tmp_path / "best", losses, keep="best")  # there is no step left
    assert_same(again, {**train(tmp_path / "third", losses, keep="best")[0].state_dict()})


def test_patience_ends_a_run_and_a_tie_is_no_better(tmp_path: Path):
    losses = [3.0, 2.0, 2.0, 2.1, 1.0, 0.5]
    view, seen = train(tmp_path / "a", losses, patience=2, keep="best")
    assert len(read_metrics(tmp_path / "a" / "metrics.jsonl")) == 4
    assert_same(view, seen[1])
    view, seen = train(tmp_path / "b", losses, patience=2)
    assert_same(view, seen[3])
    train(tmp_path / "c", losses, patience=3)
    assert len(read_metrics(tmp_path / "c" / "metrics.jsonl")) == 6


def test_an_evaluation_that_is_no_number_is_never_the_best(tmp_path: Path):
    view, seen = train(tmp_path, [math.nan, 2.0, math.inf, 3.0], keep="best")
    assert_same(view, seen[1])


def test_a_run_that_was_killed_ends_with_the_same_weights(tmp_path: Path):
    losses = [3.0, 2.0, 2.2, 2.1, 2.3, 2.5]
    whole, _ = train(tmp_path / "whole", losses, keep="best", patience=4)
    with pytest.raises(Killed):
        train(tmp_path / "killed", losses, keep="best", patience=4, kill_at=3)
    resumed, _ = train(tmp_path / "killed", losses, keep="best", patience=4)
    assert_same(resumed, dict(whole.state_dict()))
    rows = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "killed")]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 6


def test_accuracy_is_better_where_it_is_higher():
    best = Best(policy(), Passes(keep="best", best_by="accuracy"))
    assert not best.evaluated({"eval_loss": 1.0, "eval_accuracy": 0.5}, 1)
    best.evaluated({"eval_loss": 0.5, "eval_accuracy": 0.4}, 2)
    best.evaluated({"eval_loss": 2.0, "eval_rewards/accuracies": 0.6}, 3)
    assert best.state_dict()["kept"]["best"] == 3
    with pytest.raises(UserError, match=r"best_by.*no accuracy"):
        best.evaluated({"eval_loss": 1.0}, 4)


@pytest.mark.parametrize(("key", "value"), [("keep", "best"), ("patience", 2)])
def test_nothing_held_out_is_said_before_the_first_step(key: str, value: Any, tmp_path: Path):
    view, nothing = policy(), {"seed": 0, "folder": tmp_path}
    with pytest.raises(UserError, match=rf'"{key}".*nothing is held out'):
        train_sft(view, EXAMPLES, [], config=Sft(kind="sft", **{key: value}), **nothing)
    with pytest.raises(UserError, match="nothing is held out"):
        train_reward_model(
            view, [], [], config=RewardModel(kind="reward", **{key: value}), **nothing
        )


@pytest.mark.parametrize("earlier", [False, True])
def test_scores_told_of_a_reward_model_are_those_of_its_weights(earlier: bool, tmp_path: Path):
    backbone = load_backbone("tiny")
    backbone.freeze()
    add_adapter(backbone, "reward", LoraSpec(2, 4.0), seed=0)
    view = View(backbone, "reward", LoraSpec(2, 4.0), ScalarHead(backbone.width, seed=0))
    answers = (TokenSequence((258, 5), (20, 21, 256)), TokenSequence((258, 5), (90, 256)))
    groups = [RankedGroup(answers, (Comparison(0, 1, 1.0),))]
    config = RewardModel.model_validate(
        {"kind": "reward", "max_steps": 3, "eval_every": 1, "keep": "best",
         "optimizer": {"learning_rate": 1e-3, "warmup": 0.0, "schedule": "constant"}}
    )  # fmt: skip
    other = [RankedGroup(answers, (Comparison(0, 1, 0.0),))]  # what is learnt is wrong of these
    heldout = other if earlier else groups
    told = train_reward_model(view, groups, heldout, config=config, seed=0, folder=tmp_path)
    if earlier:
        assert told is None
        return
    assert told is not None
    assert torch.equal(told, score_groups(view, heldout, config=config))


def test_supervised_training_ends_with_the_step_that_it_says(tmp_path: Path):
    view = policy()
    config = Sft.model_validate(
        {"kind": "sft", "max_steps": 8, "eval_every": 2, "batch_size": 3, "keep": "best",
         "optimizer": {"learning_rate": 0.1, "warmup": 0.0, "schedule": "constant"}}
    )  # fmt: skip
    train_sft(view, EXAMPLES[:4], EXAMPLES[4:], config=config, seed=0, folder=tmp_path)
    from burnish.trainers.sft import mean_nll

    rows = [row for row in read_metrics(tmp_path / "metrics.jsonl") if "eval_loss" in row]
    assert len(rows) == 4
    best = min(row["eval_loss"] for row in rows)
    assert mean_nll(view, EXAMPLES[4:], max_tokens=4096) == pytest.approx(best, rel=1e-6)


def test_patience_that_ends_with_a_loss_that_is_no_number_is_no_success(tmp_path: Path):
    losses = [math.nan] * 5
    with pytest.raises(Diverged):
        train(tmp_path / "last", losses, patience=1)
    _, seen = train(tmp_path / "best", [3.0, math.nan, math.nan, 2.0], patience=1, keep="best")
    assert len(seen) > 1  # it ends with the weights of a loss that was one
