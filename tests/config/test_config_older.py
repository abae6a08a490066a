"""Recipes of the older form: one error that says so and holds the same recipe in today's form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import burnish
from burnish.errors import UserError

OLDER = {
    "reward and PPO": (
        (
            "name: a\nstages: [sft, collect, reward, ppo, evaluate, report]\ncollect: {prompts: 8,"
            " panel: {size: 4}}\nppo: {steps: 3, lam: 0.9, roles: copies, optimiser: {warmup: 0.2},"
            " sampling: {products: model}}\nevaluate: {prompts: 9}\nmodel: {products:"
            " bfloat16}\ntrackers: [wandb]\n"
        ),
        {
            "sft": "sft",
            "sample": "sample",
            "compare": "compare",
            "reward": "reward",
            "ppo": "online",
            "evaluate": "evaluate",
            "report": "report",
        },
    ),
    "the stages that once were the default ones": (
        "sft: {epochs: 3}\n",
        {
            "sft": "sft",
            "sample": "sample",
            "compare": "compare",
            "reward": "reward",
            "ppo": "online",
            "evaluate": "evaluate",
            "report": "report",
        },
    ),
    "comparisons that people made": (
        (
            "data: {comparisons: c.jsonl}\nstages: [sft, collect, preference]\npreference: {loss:"
            " {name: simpo, gamma: 2}}\n"
        ),
        {"sft": "sft", "simpo": "preference"},
    ),
    "rounds": (
        (
            "stages: [sft, collect, reward, preference]\npreference: {rounds: 2, online: {judge:"
            " reward_model, prompts: 5}}\n"
        ),
        {
            "sft": "sft",
            "sample": "sample",
            "compare": "compare",
            "reward": "reward",
            "rounds.1.dpo": "preference",
            "rounds.2.sample": "sample",
            "rounds.2.compare": "compare",
            "rounds.2.dpo": "preference",
        },
    ),
    "rewards": (
        (
            "stages: [online, evaluate]\nrewards: [{name: maths, weight: 2}]\nonline: {algorithm:"
            " {name: dapo}, steps: 4}\n"
        ),
        {"dapo": "online", "evaluate": "evaluate"},
    ),
    "rewards of an evaluation alone": (
        "stages: [evaluate]\nrewards: [{name: maths}]\n",
        {"evaluate": "evaluate"},
    ),
}


def told(tmp_path: Path, text: str) -> str:
    path = tmp_path / "old.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        burnish.load(path)
    return str(caught.value)


def in_todays_form(tmp_path: Path, text: str) -> Any:
    """What the error prints below its first line, loaded."""
    first, _, below = told(tmp_path, text).partition("\n")
    assert first.startswith(f"{tmp_path}/old.yaml: this recipe is of an older form")
    (tmp_path / "new.yaml").write_text(below)
    return burnish.load(tmp_path / "new.yaml")


@pytest.mark.parametrize("case", OLDER)
def test_the_error_holds_a_recipe_that_loads(tmp_path: Path, case: str):
    text, kinds = OLDER[case]
    assert {
        name: settings.kind for name, settings in in_todays_form(tmp_path, text).stages.items()
    } == kinds


def test_what_was_set_is_set(tmp_path: Path):
    stages = in_todays_form(tmp_path, OLDER["reward and PPO"][0]).stages
    assert (stages["sample"].count, stages["compare"].by[0].panel.size) == (8, 4)
    assert (stages["ppo"].steps, stages["evaluate"].count) == (3, 9)
    assert (
        stages["ppo"].gae_lambda,
        stages["ppo"].share_backbone,
        stages["ppo"].optimizer.warmup,
    ) == (0.9, False, 0.2)
    stages = in_todays_form(tmp_path, OLDER["comparisons that people made"][0]).stages
    assert (stages["simpo"].loss.name, stages["simpo"].loss.gamma) == ("simpo", 2)
    stages = in_todays_form(tmp_path, OLDER["rounds"][0]).stages
    assert (stages["rounds.2.sample"].count, stages["rounds.2.compare"].by[0].panel) == (5, None)
    stages = in_todays_form(tmp_path, OLDER["rewards"][0]).stages
    assert (
        stages["dapo"].rewards[0].weight,
        stages["dapo"].algorithm.name,
        stages["dapo"].steps,
    ) == (2, "dapo", 4)


def test_every_policy_starts_where_it_did(tmp_path: Path):
    from burnish.config.graph import graph_of

    recipe = in_todays_form(
        tmp_path, "stages: [sft, collect, reward, preference, ppo]\npreference: {rounds: 2}\n"
    )
    graph = graph_of(recipe)
    starts = {node.name: node.inputs["start"][0].shown for node in graph if "start" in node.inputs}
    assert starts == {
        "sft": "base", "reward": "sft", "rounds.1.dpo": "sft", "rounds.2.dpo": "rounds.1.dpo",
        "ppo": "sft",
    }  # fmt: skip
    assert [
        graph[name].inputs["reference"][0].shown for name in ("rounds.1.dpo", "rounds.2.dpo")
    ] == ["sft", "sft"]
    assert graph["rounds.2.sample"].inputs["models"][0].shown == "rounds.1.dpo"


def test_a_mistake_in_an_older_recipe_is_told_as_one(tmp_path: Path):
    assert told(tmp_path, "stages: [sft]\nsft: {epochs: x}\n").endswith(
        '"sft.epochs": expected a number, given "x".'
    )


def test_a_key_of_the_older_form_beside_stages_of_todays_is_an_unknown_key(tmp_path: Path):
    text = "stages: {grpo: {}}\nrewards: [{name: maths}]\n"
    assert told(tmp_path, text).endswith(
        'row 2, field "rewards": there is no such key. Did you mean "grpo.rewards"?'
    )
