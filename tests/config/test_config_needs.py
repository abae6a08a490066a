from __future__ import annotations

import pytest

import burnish
from burnish.config.needs import require_sources
from burnish.errors import UserError

# What a recipe says, the stage that lacks something, and the key that is asked for.
LACKING = {
    "sft": (["stages=[sft]"], "sft", "data.demonstrations"),
    "prompts are no demonstrations": (["stages=[sft]", "data.prompts=p.jsonl"], "sft", "data.demonstrations"),
    "collect": (["stages=[sft, collect]", "data.demonstrations=d.jsonl"], "collect", "data.prompts"),
    "reward": (["stages=[reward]", "data.prompts=p.jsonl"], "reward", "data.comparisons"),
    "preference": (["stages=[preference]"], "preference", "data.comparisons"),
    "online": (["stages=[online]", "rewards=[{name: maths}]"], "online", "data.prompts"),
    "online beside demonstrations": (
        ["stages=[sft, online]", "rewards=[{name: maths}]", "data.demonstrations=d.jsonl"], "online", "data.prompts",
    ),
    "evaluate": (["stages=[evaluate]"], "evaluate", "data.prompts"),
    "ptx": (
        ["stages=[collect, reward, ppo]", "data.prompts=p.jsonl", "ppo.tricks.ptx_coefficient=0.1"], "ppo",
        "data.demonstrations",
    ),
    "nothing at all": ([], "sft", "data.demonstrations"),
}  # fmt: skip


@pytest.mark.parametrize("case", LACKING)
def test_a_source_that_no_recipe_names_is_asked_for(case: str):
    changes, stage, key = LACKING[case]
    recipe = burnish.load(None, *changes)
    with pytest.raises(UserError, match=rf'field "{key}": the stage {stage} needs .* Give ') as caught:
        require_sources(recipe, recipe.stages)
    assert "builtin:quickstart/" in str(caught.value) or key == "data.comparisons"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        ["stages=[sft]", "data.demonstrations=d.jsonl"],
        ["stages=[sft, evaluate, report]", "data.demonstrations=d.jsonl"],
        ["stages=[sft, reward, ppo, evaluate]", "data.comparisons=c.jsonl"],
        ["stages=[preference]", "data.comparisons=c.jsonl"],
        ["stages=[preference, evaluate]", "data.comparisons=c.jsonl"],
        ["stages=[preference]", "data.store=s.sqlite", "data.project=p"],
        ["stages=[sft, collect, reward, ppo]", "data.comparisons=c.jsonl"],
        ["stages=[collect, reward, ppo]", "data.prompts=p.jsonl"],
        ["stages=[report]"],
    ],
)
def test_no_stage_is_asked_for_what_it_does_not_read(changes: list[str]):
    recipe = burnish.load(None, *changes)
    require_sources(recipe, recipe.stages)


def test_no_recipe_begins_with_data_of_ours():
    data = burnish.load(None).data
    assert [data.demonstrations, data.prompts, data.comparisons, data.store] == [None] * 4
