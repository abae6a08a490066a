"""Recipes as graphs on the tiny model: stages that start from, are held to and are paid by others;
what a change reaches."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import burnish
from burnish.config.recipe import Recipe
from burnish.errors import UserError
from burnish.models.weights import load_reward_model
from burnish.runs.metrics import read_metrics
from burnish.stages import inputs
from burnish.stages.context import Run
from burnish.stages.roles import build_roles

START = """
name: graph
threads: 1
model: {name: tiny, max_length: 512, device: cpu}
data: {demonstrations: HERE/demos.jsonl, prompts: HERE/prompts.jsonl, heldout: 0.3}
stages:
  sft: {epochs: 0.4, batch_size: 8, lora: {r: 2, alpha: 4}}
  sample: {count: 8, responses: 2, sampling: {max_new_tokens: 4}}
  compare: {}
"""
GRAPH = """
  helpful: {kind: reward, lora: {r: 2, alpha: 4}}
  terse: {kind: reward, comparisons: HERE/pairs.jsonl, sampling: {max_new_tokens: 4}, lora: {r: 2, alpha: 4}}
  dpo: {comparisons: compare, epochs: 0.5, batch_size: 2, lora: {r: 2, alpha: 4}, optimizer: {learning_rate: 1e-2}}
  sums:
    kind: grpo
    start: dpo
    reference: sft
    prompts: "task:arithmetic?digits=1&train=8&heldout=4"
    rewards:
      - {name: model, label: helpful, model: helpful}
      - {name: model, label: terse, model: terse}
    steps: 1
    prompts_per_step: 2
    responses_per_prompt: 2
    sampling: {max_new_tokens: 4}
  words:
    kind: grpo
    start: dpo
    prompts: HERE/prompts.jsonl
    rewards: [{name: length, free: 2, limit: 9}]
    steps: 1
    prompts_per_step: 2
    responses_per_prompt: 2
    sampling: {max_new_tokens: 4}
  ppo: {start: dpo, reward: helpful, steps: 1, prompts_per_step: 2, lora: {r: 2, alpha: 4}, sampling: {max_new_tokens: 4}}
  evaluate: {models: [dpo, words], count: 2, sampling: {max_new_tokens: 4}}
  report: {}
"""  # noqa: E501
ROUNDS = """
  rounds:
    repeat: 2
    stages:
      sample: {count: 6, responses: 2, sampling: {max_new_tokens: 4}}
      compare: {}
      dpo: {reference: previous, epochs: 2, batch_size: 2, lora: {r: 2, alpha: 4}, optimizer: {learning_rate: 1e-2},
            checkpoint: {every: 1}}
"""  # noqa: E501
PAID = """
  grpo:
    rewards: [{name: python, function: "HERE/paid.py:paid"}]
    steps: 4
    prompts_per_step: 2
    responses_per_prompt: 2
    sampling: {max_new_tokens: 4}
    checkpoint: {every: 1}
"""
RIGHT = (
    "def paid(completion_ids, **_):\n    return [float(ids[0] < 128) for ids in completion_ids]\n"
)
BROKEN = "steps = []\n" + RIGHT.replace(
    "    return",
    "    steps.append(0)\n    if len(steps) == 3:\n        raise RuntimeError('not this one')\n   "
    " return",
)


@dataclass
class Made:
    """A finished run, what it was made from, and what was said on the way."""

    recipe: Path
    folder: Path
    said: list[str]

    def load(self, *overrides: str) -> Recipe:
        return burnish.load(self.recipe, *overrides)

    def copy(self, to: Path) -> Path:
        return shutil.copytree(self.folder, to / "copy")

    def first_row(self, stage: str) -> dict[str, Any]:
        return read_metrics(self.folder / stage / "metrics.jsonl")[0]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graph")
    demos = [{"prompt": f"Say {i}.", "completion": f"{i}, gladly."} for i in range(20)]
    prompts = [
        {"prompt": f"Say {i} twice.", "split": "heldout" if i % 3 == 0 else "train"}
        for i in range(24)
    ]
    pairs = [
        {"prompt": f"Say {i}.", "chosen": f"{i}", "rejected": f"well, {i}, I should think"}
        for i in range(12)
    ]
    for name, rows in (("demos", demos), ("prompts", prompts), ("pairs", pairs)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, text in (
        ("graph", START + GRAPH),
        ("rounds", START + ROUNDS),
        ("paid", START[: START.index("  sft")] + PAID),
    ):
        (folder / f"{name}.yaml").write_text(text.replace("HERE", str(folder)))
    return folder


@pytest.fixture(scope="module")
def made(here: Path) -> Made:
    said: list[str] = []
    recipe = here / "graph.yaml"
    folder = burnish.run(
        burnish.load(recipe), out=here / "graph", say=said.append, memory_check=False
    )
    return Made(recipe, folder, said)


@pytest.fixture(scope="module")
def rounds(here: Path, made: Made) -> Made:
    said: list[str] = []
    recipe = here / "rounds.yaml"
    options = {
        "out": here / "rounds",
        "fork": made.folder,
        "say": said.append,
        "memory_check": False,
    }
    return Made(recipe, burnish.run(burnish.load(recipe), **options), said)


def _manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())


def test_two_stages_of_one_kind_have_prompts_and_random_numbers_of_their_own(made: Made):
    steps = {name: Run(made.load(), made.folder).step(name) for name in ("sums", "words")}
    assert steps["sums"].seed != steps["words"].seed
    said = {
        name: (made.folder / name / "samples" / "step-00001.jsonl").read_text() for name in steps
    }
    assert "Say" in said["words"]
    assert "Say" not in said["sums"]
    assert {one.columns.get("task") for one in steps["sums"].prompts.train} == {"arithmetic"}
    assert {one.columns.get("task") for one in steps["words"].prompts.train} == {None}


def test_a_policy_starts_from_one_stage_and_is_held_to_another(made: Made):
    """From dpo, held to sft: it is off its reference before its first step; held to where it
    starts, it is not."""
    run = Run(made.load(), made.folder)
    assert (
        run.step("dpo").start
        == run.step("sums").model("reference")
        == str(made.folder.resolve() / "sft" / "model")
    )
    assert abs(made.first_row("sums")["kl_ref"]) > 1e-4
    assert made.first_row("words")["kl_ref"] == pytest.approx(0.0, abs=1e-5)
    roles = build_roles(run.step("sums"))
    assert roles.policy.backbone.reference == str(made.folder.resolve() / "dpo" / "model")
    assert roles.reference is not None
    assert roles.reference.backbone.reference == str(made.folder.resolve() / "sft" / "model")


def test_two_reward_models_learn_from_different_comparisons_and_both_pay(made: Made):
    results = {
        name: json.loads((made.folder / name / "result.json").read_text())
        for name in ("helpful", "terse")
    }
    compared = json.loads((made.folder / "compare" / "result.json").read_text())
    helpful = results["helpful"]
    assert helpful["pairs_train"] + helpful["pairs_heldout"] <= compared["comparisons"]
    assert results["terse"]["pairs_train"] + results["terse"]["pairs_heldout"] == 12
    row = made.first_row("sums")
    assert row["rewards/helpful/mean"] != row["rewards/terse/mean"]
    assert row["reward"] == pytest.approx(
        row["rewards/helpful/mean"] + row["rewards/terse/mean"], abs=1e-5
    )


def test_a_critic_starts_at_zero_where_the_reward_model_stands_on_other_weights(made: Made):
    expected = (
        "ppo: the reward model stands on other weights than the policy, so the critic starts with a"
        " head that says 0"
    )
    assert expected in made.said
    run = Run(made.load(), made.folder)
    roles = build_roles(run.step("ppo"))
    assert roles.critic is not None
    assert roles.reward is not None
    assert all(not parameter.any() for parameter in roles.critic.head.parameters())
    alone = load_reward_model(made.folder / "helpful" / "model", run.load)
    for name, value in alone.backbone.model.state_dict().items():
        assert value.equal(roles.reward.backbone.model.state_dict()[name]), name
    said: list[str] = []
    same = build_roles(Run(made.load("ppo.start=sft"), made.folder, said.append).step("ppo"))
    assert said == []
    assert any(parameter.any() for parameter in same.critic.head.parameters())


def test_a_round_goes_on_from_the_one_before_and_is_held_to_it(rounds: Made):
    run = Run(rounds.load(), rounds.folder)
    model = {
        name: str(rounds.folder.resolve() / name / "model") for name in ("sft", "rounds.1.dpo")
    }
    assert [run.step(f"rounds.{number}.dpo").model("reference") for number in (1, 2)] == list(
        model.values()
    )
    asked = [
        (rounds.folder / f"rounds.{number}.sample" / "answers.jsonl").read_text()
        for number in (1, 2)
    ]
    assert asked[0] != asked[1]
    assert json.loads(asked[1].splitlines()[0])["models"] == ["rounds.1.dpo"] * 2
    for number in (1, 2):
        row = rounds.first_row(f"rounds.{number}.dpo")
        assert row["rewards/margins"] == pytest.approx(0.0, abs=1e-5)
    assert not any(line.startswith(("sft: starting", "sample: starting")) for line in rounds.said)


def test_a_kill_inside_a_repeated_stage_changes_nothing(rounds: Made, made: Made, tmp_path: Path):
    out = tmp_path / "killed"
    code = (
        "import os, signal, sys\nimport burnish\ndef watched(stage):\n    def at(done, *_):\n      "
        "  if stage == 'rounds.2.dpo' and done == 2:\n            os.kill(os.getpid(),"
        " signal.SIGKILL)\n    return at\nrecipe, out, fork ="
        " sys.argv[1:]\nburnish.run(burnish.load(recipe), out=out, fork=fork, progress=watched,"
        " memory_check=False)\n"
    )
    command = [sys.executable, "-c", code, str(rounds.recipe), str(out), str(made.folder)]
    died = subprocess.run(command, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert len(read_metrics(out / "rounds.2.dpo" / "metrics.jsonl")) == 2
    said: list[str] = []
    burnish.run(rounds.load(), out=out, say=said.append, memory_check=False)
    assert "rounds.1.dpo: done already" in said
    for path in rounds.folder.rglob("rounds.*/**/*"):
        if path.name in (
            "metrics.jsonl",
            "model.safetensors",
            "answers.jsonl",
            "comparisons.jsonl",
            "result.json",
        ):
            assert (out / path.relative_to(rounds.folder)).read_bytes() == path.read_bytes(), path


def test_a_changed_setting_refuses_its_stage_and_what_follows_alone(made: Made, tmp_path: Path):
    changed, out = made.load("words.steps=2"), made.copy(tmp_path)
    for stage in ("sums", "ppo"):
        burnish.run(changed, out=out, only=stage, memory_check=False)
    with pytest.raises(
        UserError, match=r"the stage words was run with other settings \(settings\.steps: 1 -> 2\)"
    ):
        burnish.run(changed, out=out, memory_check=False)

    said: list[str] = []
    fork = burnish.run(
        changed, out=tmp_path / "fork", fork=out, until="words", say=said.append, memory_check=False
    )
    taken = {line.partition(":")[0] for line in said if "taken over" in line}
    assert taken == {"sft", "sample", "compare", "helpful", "terse", "dpo", "sums", "ppo"}
    assert len(read_metrics(fork / "words" / "metrics.jsonl")) == 2
    # what was made with the stage as it was does not go with it as it is now
    shutil.rmtree(out / "words")
    with pytest.raises(
        UserError,
        match=r"the stage evaluate was run with other settings \(the input models changed\)",
    ):
        burnish.run(changed, out=out, memory_check=False)
    assert not (out / "words").exists()


def test_a_change_that_is_accepted_goes_on_and_is_on_record(made: Made, tmp_path: Path):
    out, changed, said = made.copy(tmp_path), made.load("dpo.epochs=0.75"), []
    burnish.run(changed, out=out, accept_change=True, say=said.append, memory_check=False)
    assert "dpo: goes on although settings.epochs: 0.5 -> 0.75" in said
    assert "evaluate: done already" in said
    assert _manifest(out)["accepted"] == {"dpo": ["settings.epochs: 0.5 -> 0.75"]}


def test_settings_that_change_no_number_change_no_stage(made: Made, tmp_path: Path):
    changes = (
        "dpo.eval_every=3",
        "dpo.optimizer.micro_batch_tokens=77",
        "words.checkpoint.every=7",
        "evaluate.samples=1",
    )
    said: list[str] = []
    burnish.run(made.load(*changes), out=made.copy(tmp_path), say=said.append, memory_check=False)
    assert not any("starting" in line for line in said if not line.startswith("report"))


def test_a_reward_that_raised_is_mended_and_the_stage_goes_on_where_it_was(
    here: Path, tmp_path: Path
):
    recipe, paid, out = burnish.load(here / "paid.yaml"), here / "paid.py", tmp_path / "run"
    paid.write_text(BROKEN)
    with pytest.raises(Exception, match="not this one"):
        burnish.run(recipe, out=out, memory_check=False)
    done = (out / "grpo" / "metrics.jsonl").read_bytes()
    assert len(done.splitlines()) == 2
    with pytest.raises(
        UserError, match=r"the stage grpo was run with other settings \(settings\.steps: 4 -> 5\)"
    ):
        burnish.run(burnish.load(here / "paid.yaml", "grpo.steps=5"), out=out, memory_check=False)
    paid.write_text(RIGHT)
    burnish.run(recipe, out=out, memory_check=False)
    whole = burnish.run(recipe, out=tmp_path / "whole", memory_check=False)
    for name in ("metrics.jsonl", "model/model.safetensors"):
        assert (out / "grpo" / name).read_bytes() == (whole / "grpo" / name).read_bytes()
    assert (out / "grpo" / "metrics.jsonl").read_bytes().startswith(done)
    # that it was made with two versions of the reward stays on record, whatever is run later
    burnish.run(recipe, out=out, memory_check=False)
    [mended] = _manifest(out)["accepted"]["grpo"]
    assert mended == f"the code of {paid}:paid changed"
    assert _manifest(whole)["accepted"] == {}


def test_other_code_of_the_package_is_said_and_no_finished_stage_is_refused(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out, said, of = made.copy(tmp_path), [], inputs._code

    def other(step):
        return {
            **of(step),
            **({"trainers.sft": "0" * 64} if step.node.kind == "sft" else {}),
        }

    monkeypatch.setattr(inputs, "_code", other)
    burnish.run(made.load(), out=out, say=said.append, memory_check=False)
    assert "sft: goes on although the code of trainers.sft changed" in said
    assert "sft: done already" in said
    assert _manifest(out)["accepted"] == {"sft": ["the code of trainers.sft changed"]}
    (out / "sft" / "stage.json").unlink()  # begun, and not finished: nothing is mixed
    with pytest.raises(
        UserError,
        match=r"the stage sft was run with other settings \(the code of trainers\.sft changed\)",
    ):
        burnish.run(made.load(), out=out, memory_check=False)
