"""From the recipe's `rewards` to a scorer, and a small run that trains, evaluates and reports on
checked answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import burnish
from burnish.config.recipe import Recipe
from burnish.errors import UserError
from burnish.records import Completion, Prompt, Rollout
from burnish.rewards.scorer import CompositeScorer
from burnish.stages.context import Run
from burnish.stages.rewards import build_scorer
from burnish.stages.run import run

RECIPE = """
name: rl
threads: 1
model: {name: tiny, max_length: 256}
data:
  demonstrations: null
  prompts: ["task:arithmetic?digits=1&train=12&heldout=4", "task:edits?train=12&heldout=4"]
stages:
  grpo:
    rewards:
      - {name: maths, tags: [arithmetic]}
      - {name: task, tags: [edits]}
      - {name: length, free: 2, limit: 9, weight: 0.1}
    steps: 1
    prompts_per_step: 2
    responses_per_prompt: 2
    lora: {r: 2, alpha: 4}
    sampling: {max_new_tokens: 8}
  evaluate: {responses_per_prompt: 2, sampling: {max_new_tokens: 8}}
  report: {}
"""


def recipe(tmp_path: Path, *overrides: str) -> Recipe:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return burnish.load(path, *overrides)


def scorer_of(tmp_path: Path, *overrides: str) -> CompositeScorer:
    step = Run(recipe(tmp_path, *overrides), tmp_path).step("grpo")
    return build_scorer(step, step.settings.rewards)


def rollout(text: str, **columns) -> Rollout:
    prompt = Prompt(text, ({"role": "user", "content": "?"},), columns)
    return Rollout(prompt, (0,), Completion(text, (1, 2, 3), (), "stop"), 0)


def test_the_scorer_is_what_the_recipe_says(tmp_path):
    rewards = (
        "grpo.rewards=[{name: maths, weight: 2.0, gate: null}, {name: format, form: answer, gate:"
        " 1.0, weight: 0.1}, {name: length, label: short, free: 1, limit: 5, weight: 0.5, clip:"
        " [0.0, 0.25]}]"
    )
    scorer = scorer_of(tmp_path, rewards)
    assert scorer.names == ("maths", "format", "short")
    found = scorer.score([rollout("<answer>4</answer>", answer="4"), rollout("4", answer="4")])
    # three tokens: short = (5 − 3)/(5 − 1) = 0.5, clipped to 0.25. Gate open: 2 + 0.1 + 0.125;
    # shut: 0
    assert [r.value for r in found] == pytest.approx([2.225, 0.0])
    assert found[0].components == {"maths": 1.0, "format": 1.0, "short": 0.5}
    assert found[1].verdicts == {"maths": "correct", "format": "malformed"}


@pytest.mark.parametrize(
    ("rewards", "says"),
    [
        ("[{name: maths}, {name: maths}]", 'two rewards are called "maths"'),
        ("[{name: model}]", "needs a reward model, and no stage before it makes one"),
        ("[{name: model, model: /nowhere}]", "this folder holds no reward model"),
        ("[{name: python, function: 'nowhere.at:all'}]", 'there is no module "nowhere"'),
        ("[{name: http, url: 'file:///x'}]", "no http or https address"),
        ("[{name: format, pattern: '('}]", "no regular expression"),
        ("[{name: language, language: xx}]", 'does not know "xx"'),
    ],
)
def test_what_cannot_be_built_is_said_before_anything_is_trained(tmp_path, rewards, says):
    with pytest.raises(UserError) as error:
        scorer_of(tmp_path, f"grpo.rewards={rewards}")
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("rewards", "says"),
    [
        ("[{name: mathz}]", "maths"),
        ("[{name: maths, wieght: 1}]", "weight"),
        ("[{name: length, free: 9, limit: 3}]", "least ≤ free < limit"),
        ("[{name: length, scope: answer}]", "unit: words"),
        ("[{name: maths, clip: [1.0, 0.0]}]", "low must be less than high"),
    ],
)
def test_mistakes_in_the_recipe_are_named(tmp_path, rewards, says):
    with pytest.raises(UserError) as error:
        recipe(tmp_path, f"grpo.rewards={rewards}")
    assert says in str(error.value)


def test_a_run_on_checked_answers_ends_in_a_report(tmp_path):
    out = run(recipe(tmp_path), out=tmp_path / "out")
    found = json.loads((out / "evaluate" / "result.json").read_text())
    assert found["prompts"] == 8
    verifiable = found["verifiable"]
    assert verifiable["verifiers"] == ["maths", "task"]
    assert [m["name"] for m in verifiable["models"]] == ["base", "grpo"]
    for model in verifiable["models"]:
        assert set(model["pass_at"]) == {"1", "2"}
        # 8 prompts, 2 answers
        assert sum(sum(of.values()) for of in model["verdicts"].values()) == 16
        assert set(model["components"]) == {"maths", "task", "length"}
        assert set(model["by_tag"]) == {"arithmetic", "edits"}
    assert verifiable["maths_verifier"]["pairs"] >= 200
    assert [row["win_rate"]["value"] for row in verifiable["nulls"]] == [
        0.5
    ] * 4  # all wrong, as the tiny model's answers
    assert not verifiable["gameable"]
    assert all("gold" not in m or m["gold"] is None for m in found["models"])
    page = (out / "report.html").read_text()
    assert "Checked answers" in page
    assert "False positives" in page


def test_code_in_humanevals_form_is_judged_in_the_sandbox(tmp_path):
    try:
        scorer = scorer_of(tmp_path, "grpo.rewards=[{name: code, workers: 1}]")
    except UserError as error:
        pytest.skip(f"no sandbox here: {error}")
    hidden = (
        "def check(candidate):\n    assert candidate(1, 2) == 3\n    assert candidate(-1, 1) == 0\n"
    )
    columns = {"prompt": "def add(a, b):\n", "test": hidden, "entry_point": "add"}
    texts = [
        f"<think>hm</think>```python\ndef add(a, b):\n    return {body}\n```"
        for body in ("a + b", "3")
    ]
    try:
        found = scorer.score([rollout(text, **columns) for text in (*texts, "no program")])
    finally:
        scorer.close()
    assert [r.value for r in found] == [1.0, 0.0, 0.0]
    assert [r.verdicts["code"] for r in found] == ["correct", "wrong", "unparsed"]


def test_held_out_prompts_of_several_sources_come_in_turn(tmp_path):
    found = Run(recipe(tmp_path, "data.instruction=Be brief."), tmp_path).step("grpo").prompts
    assert [p.columns["task"] for p in found.heldout] == ["arithmetic", "edits"] * 4
    assert [p.columns["task"] for p in found.train] == ["arithmetic"] * 12 + ["edits"] * 12
    assert all(
        p.messages[-1]["content"].endswith("\n\nBe brief.") for p in (*found.train, *found.heldout)
    )


def test_two_sources_with_the_same_ids_are_refused(tmp_path):
    twice = recipe(tmp_path, 'data.prompts=["task:edits", "task:edits"]')
    with pytest.raises(UserError, match="two sources have a row called"):
        Run(twice, tmp_path).step("grpo").prompts  # noqa: B018
