"""What is wrong in the settings alone ends a command with exit code 2 and one line, before any
stage has begun."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from burnish.cli import main as cli

EVERY = "stages=[sft, sample, compare, reward, dpo, ppo, grpo, evaluate]"
PAIRS = "data={comparisons: c.jsonl, demonstrations: d.jsonl}"
DAPO = "grpo.algorithm.name=dapo"
RECIPE = """
model: {name: tiny}
threads: 1
data: {demonstrations: d.jsonl, prompts: p.jsonl, heldout: 0.3}
stages:
  sft: {epochs: 0.1}
  grpo: {steps: 1, rewards: [{name: length}]}
"""
ROUNDS = "stages={rounds: {repeat: 2, stages: {sample: {}, compare: {}, dpo: {}}}}"
MINE = """
number = 3

class Needs:
    def __init__(self, more): ...
    def __call__(self, completions, **columns): ...

class Silent: ...
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO_SUCH_TOKEN", raising=False)
    demos = [{"prompt": f"Say {i}.", "completion": f"{i}, with pleasure."} for i in range(20)]
    prompts = [{"prompt": f"Say {i} twice."} for i in range(18)]
    pairs = [row | {"chosen": "Yes.", "rejected": "No."} for row in prompts]
    for name, rows in (("d", demos), ("p", prompts), ("c", pairs)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path


def rewards(what: str) -> list[str]:
    return [f"grpo.rewards=[{what}]"]


SETTINGS: list[tuple[list[str], str]] = [
    (["grpo.algorithm.kl_estimator=k1"], "k1 in the loss has an expected gradient of zero"),
    (["grpo.algorithm.name=gspo", "grpo.algorithm.dual_clip=3"],
        "dual_clip belongs to the loss clip"),
    (["grpo.algorithm={name: grpo, loss: reinforce, dual_clip: 3}"],
        "dual_clip belongs to the loss clip"),
    (["grpo.responses_per_prompt=1"], "grpo compares the completions of a prompt"),
    (["grpo.algorithm={name: reinforce++, filter: mixed}", "grpo.responses_per_prompt=1"],
        "the filter mixed"),
    ([DAPO, "grpo.moving_reference={every: 2}"], "no reference that could move"),
    ([DAPO, "grpo.kl_target=1"], "no β to adapt"),
    ([DAPO, "grpo.algorithm.beta=0.1"], "beta is 0.1, but dapo has no penalty"),
    ([DAPO, "grpo.algorithm.kl=loss"], "kl is loss, but beta is 0 in dapo"),
    ([EVERY, "ppo.kl_target=1", "ppo.algorithm.beta=0"], "no β to adapt"),
    (["grpo.sampling.top_k=1"], "sampling.top_k is 1: nothing is learnt"),
    (["grpo.sampling.min_p=1"], "sampling.min_p is 1: nothing is learnt"),
    ([EVERY, "ppo.sampling.temperature=0"], "sampling.temperature is 0: nothing is learnt"),
    ([EVERY, "ppo.sampling.top_k=1"], "sampling.top_k is 1: nothing is learnt"),
    ([ROUNDS, "rounds.sample.sampling.top_k=1"], "the answers to a prompt are all the same"),
    ([EVERY, "sample.sampling.temperature=0"], "the answers to a prompt are all the same"),
    ([EVERY, "sample.sampling.top_k=1"], "the answers to a prompt are all the same"),
    ([EVERY, "compare.by.panel.annotators_per_item=6"],
        "annotators_per_item is 6, and the panel's size is 5"),
    ([EVERY, "compare.by.panel.size=2"], "annotators_per_item is 3, and the panel's size is 2"),
    (["model.max_length=64"], "grpo.sampling.max_new_tokens is 64 of 64 tokens in all"),
    ([EVERY, "sample.sampling.max_new_tokens=512"], "sample.sampling.max_new_tokens is 512 of 512"),
    ([EVERY, "ppo.sampling.max_new_tokens=600"], "ppo.sampling.max_new_tokens is 600 of 512"),
    ([EVERY, "evaluate.sampling.max_new_tokens=600"],
        "evaluate.sampling.max_new_tokens is 600 of 512"),
    ([ROUNDS, "rounds.2.sample.sampling.max_new_tokens=600"],
        "rounds.2.sample.sampling.max_new_tokens is 600 of 512"),
    (["stages=[sft, ppo]"],
        "the stage ppo has no reward: it names none, and no stage before it makes a reward model"),
    ([EVERY, "sample.responses=1"],
        "the stage sample makes one answer to a prompt, so compare has nothing to compare"),
    ([EVERY, "ppo.reward=nowhere/model"], "this folder holds no reward model"),
    ([EVERY, "compare.by={reward: nowhere/model}"], "this folder holds no reward model"),
    (["grpo.rewards=[]"], "the stage grpo has no reward"),
    ([PAIRS, "stages=[sft, reward]", "reward.sampling.max_new_tokens=600"],
        "reward.sampling.max_new_tokens is 600 of 512"),
    (["stages=[evaluate]", "evaluate.base=false"], "no model to evaluate"),
    (["grpo.environment={name: nothing}"], 'no environment "nothing"'),
    (["report_to=[wandb]"], "the tracker wandb is not installed"),
    (rewards("{name: format, form: null}"),
        'field "grpo.rewards.0.form": needs a form or a pattern'),
    (rewards('{name: length}, {name: format, form: null, pattern: "("}'),
        'field "grpo.rewards.1.pattern": is no regular'),
    (rewards("{name: language, language: xx}"),
        'field "grpo.rewards.0.language": the language reward does not know "xx"'),
    (rewards('{name: http, url: "ftp://x"}'),
        'field "grpo.rewards.0.url": "ftp://x" is no http or https address'),
    (rewards('{name: http, url: "http://["}'), "is no http or https address"),
    (rewards('{name: http, url: "http://"}'), "is no http or https address"),
    (rewards('{name: http, url: "http://a b"}'), "is no http or https address"),
    (rewards('{name: http, url: "http://x", token_variable: NO_SUCH_TOKEN}'),
        'field "grpo.rewards.0.token_variable"'),
    (rewards("{name: length}, {name: length}"), 'two rewards are called "length"'),
    (rewards("{name: length, label: a}, {name: maths, label: a}"), 'two rewards are called "a"'),
    (rewards("{name: length, weight: 0}"), "every reward of the stage grpo has the weight 0"),
    (rewards("{name: model}"), "needs a reward model, and no stage before it makes one"),
    (rewards("{name: model, model: nowhere/model}"), "this folder holds no reward model"),
    (rewards("{name: model, model: nowhere}"),
        'field "stages.grpo.rewards.0.model": there is no stage "nowhere" before grpo'),
    (rewards('{name: python, function: "mine"}'), "names no function"),
    (rewards('{name: python, function: "mine.py:nothing"}'), 'has no "nothing"'),
    (rewards('{name: python, function: "mine.py:number"}'),
        '"number" is int, which cannot be called'),
    (rewards('{name: python, function: "mine.py:Silent"}'), 'the class "Silent" has no __call__'),
    (rewards('{name: python, function: "mine.py:Needs"}'),
        'the class "Needs" cannot be made without arguments'),
]  # fmt: skip
ONLY_WHEN_RUN: list[
    tuple[list[str], str]
] = [  # what a dry run, which reads nothing, does not look at
    (["model.device=cuda:99"], "model.device"),
    (["model.chat_template=nowhere.jinja"], 'field "model.chat_template": cannot be read'),
]


def ends(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str]:
    with pytest.raises(SystemExit) as end:
        cli.main(["run", "recipe.yaml", "--out", "made", *arguments])
    return end.value.code, capsys.readouterr().err.strip()


@pytest.mark.parametrize(("changes", "said"), SETTINGS)
def test_a_dry_run_refuses_it(
    folder: Path, changes: list[str], said: str, capsys: pytest.CaptureFixture[str]
):
    code, told = ends(capsys, "--dry-run", *changes)
    assert code == 2
    assert said in told.splitlines()[-1]
    assert len(told.splitlines()) == 1
    assert not (folder / "made").exists()


@pytest.mark.parametrize(("changes", "said"), [*SETTINGS, *ONLY_WHEN_RUN])
def test_a_run_refuses_it_before_any_stage(
    folder: Path, changes: list[str], said: str, capsys: pytest.CaptureFixture[str]
):
    code, told = ends(capsys, "--quiet", *changes)
    assert code == 2
    assert said in told.splitlines()[-1]
    assert "starting" not in told
    assert not list((folder / "made").glob("*/*"))


def test_settings_that_only_look_alike_are_taken(folder: Path):
    for changes in (
        ["grpo.algorithm.beta=0"],
        ["grpo.algorithm={name: grpo, kl: none, beta: 0.1}"],
        ["grpo.algorithm={name: dapo, kl: loss, kl_estimator: k3, beta: 0.1}"],
        ["grpo.algorithm={name: reinforce++}", "grpo.responses_per_prompt=1"],
        ["grpo.sampling.top_k=2"],
        ["model.max_length=65"],
        [EVERY, "compare.by.panel={size: 3, annotators_per_item: 3}"],
        ["grpo.rewards=[{name: length, weight: 0}, {name: repetition}]"],
        ["grpo.rewards=[{name: length, weight: 0}]", "grpo.environment={name: calculator}"],
        ['grpo.rewards=[{name: http, url: "http://[::1]:8000/score?key=a"}]'],
        ["stages=[evaluate]"],
        [
            PAIRS,
            "stages=[sft, reward]",
            "reward.normalize=false",
            "reward.sampling.max_new_tokens=600",
        ],
        ["stages=[sft, sample, compare, reward]", "reward.sampling.max_new_tokens=600"],
    ):
        with pytest.raises(SystemExit) as end:
            cli.main(["run", "recipe.yaml", "--dry-run", *changes])
        assert end.value.code == 0, changes
    assert not (folder / "made").exists()
