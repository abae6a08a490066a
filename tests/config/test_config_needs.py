from __future__ import annotations

import pytest

import burnish
from burnish.config.graph import graph_of
from burnish.config.needs import require_sources
from burnish.errors import UserError

# What a recipe says, the stage that lacks something, and the key that is asked for.
LACKING = {
    "sft": (["stages=[sft]"], "sft", "data.demonstrations"),
    "prompts are no demonstrations": (["stages=[sft]", "data.prompts=p.jsonl"], "sft",
        "data.demonstrations"),
    "sample": (["stages=[sft, sample]", "data.demonstrations=d.jsonl"], "sample", "data.prompts"),
    "revise": (["stages={revise: {constitution: c.txt}}", "data.demonstrations=d.jsonl"], "revise",
        "data.prompts"),
    "reward": (["stages=[reward]", "data.prompts=p.jsonl"], "reward", "data.comparisons"),
    "preference": (["stages=[dpo]"], "dpo", "data.comparisons"),
    "online": (["stages=[grpo]", "grpo.rewards=[{name: maths}]"], "grpo", "data.prompts"),
    "online beside demonstrations": (
        ["stages=[sft, grpo]", "grpo.rewards=[{name: maths}]", "sft.demonstrations=d.jsonl"],
        "grpo", "data.prompts",
    ),
    "evaluate": (["stages=[evaluate]"], "evaluate", "data.prompts"),
    "ptx": (
        ["stages=[sample, compare, reward, ppo]", "data.prompts=p.jsonl", "ppo.ptx_coef=0.1"],
        "ppo",
        "data.demonstrations",
    ),
    "a later stage's source is no earlier one's": (
        ["stages=[sample, grpo]", "grpo.prompts=p.jsonl"], "sample", "data.prompts",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LACKING)
def test_a_source_that_no_recipe_names_is_asked_for(case: str):
    changes, stage, key = LACKING[case]
    recipe = burnish.load(None, *changes)
    with pytest.raises(
        UserError, match=rf'field "{key}": the stage {stage} needs .* Give '
    ) as caught:
        require_sources(graph_of(recipe), recipe.stages)
    assert "builtin:quickstart/" in str(caught.value) or key == "data.comparisons"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        ["stages=[sft]", "data.demonstrations=d.jsonl"],
        ["stages=[sft]", "sft.demonstrations=d.jsonl"],
        ["stages=[sft, evaluate, report]", "data.demonstrations=d.jsonl"],
        ["stages=[sft, evaluate, report]", "sft.demonstrations=d.jsonl"],
        ["stages=[sft, reward, ppo, evaluate]", "data.comparisons=c.jsonl"],
        ["stages=[dpo]", "data.comparisons=c.jsonl"],
        ["stages=[dpo]", "dpo.comparisons=c.jsonl"],
        ["stages=[dpo, evaluate]", "data.comparisons=c.jsonl"],
        ["stages=[dpo]", "data.store=s.sqlite", "data.project=p"],
        ["stages=[sample, compare, reward, ppo]", "data.prompts=p.jsonl"],
        ["stages=[sample, compare, reward, ppo]", "sample.prompts=p.jsonl"],
        ["stages=[report]"],
    ],
)
def test_no_stage_is_asked_for_what_it_does_not_read(changes: list[str]):
    recipe = burnish.load(None, *changes)
    require_sources(graph_of(recipe), recipe.stages)


def test_no_recipe_begins_with_data_of_ours():
    data = burnish.load(None, "stages=[report]").data
    assert [data.demonstrations, data.prompts, data.comparisons, data.store] == [None] * 4
