"""From a recipe to a graph: what every stage reads, what is filled in, and what each wrong
reference is told as."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from recipe_inputs import NEEDED

import burnish
from burnish.config.families import FAMILIES
from burnish.config.graph import Graph, graph_of
from burnish.config.kinds import KINDS
from burnish.config.recipe_file import load_recipe
from burnish.config.short import dump_short
from burnish.config.yaml_file import dump_yaml
from burnish.errors import UserError

RECIPES = Path(__file__).parents[2] / "recipes"
ROUNDS = """
data: {prompts: p.jsonl, demonstrations: d.jsonl}
stages:
  sft: {}
  reward: {comparisons: c.jsonl}
  rounds:
    repeat: 3
    stages:
      sample: {models: [previous], count: 7}
      compare: {by: {reward: reward}}
      dpo: {reference: sft}
  evaluate: {models: [base, sft, rounds.1.dpo, rounds.dpo]}
"""


def graph(*overrides: str, text: str = "", folder: Path | None = None) -> Graph:
    path = None
    if folder is not None:
        path = folder / "recipe.yaml"
        path.write_text(text)
    return graph_of(burnish.load(path, *overrides))


def read(found: Graph, stage: str, slot: str) -> list[str]:
    """What stands in a slot, as the recipe would name it."""
    return [one.shown for one in found[stage].inputs[slot]]


def refusal(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        burnish.load(None, *overrides)
    return str(caught.value)


def test_what_is_left_out_is_the_newest_of_its_type():
    found = graph("stages=[sft, sample, compare, reward, dpo, ppo, grpo, evaluate]")
    assert read(found, "sft", "start") == ["base"]
    assert read(found, "sample", "models") == ["sft"]
    assert read(found, "compare", "answers") == ["sample"]
    assert read(found, "reward", "start") == ["sft"]
    assert read(found, "reward", "comparisons") == ["compare"]
    assert read(found, "dpo", "start") == ["sft"]
    assert read(found, "ppo", "start") == ["dpo"]  # a reward model is no policy
    assert read(found, "ppo", "reward") == ["reward"]
    assert read(found, "grpo", "start") == ["ppo"]
    assert read(found, "evaluate", "models") == ["base", "sft", "dpo", "ppo", "grpo"]
    assert read(found, "evaluate", "reward") == ["reward"]
    assert read(found, "evaluate", "reference") == ["sft"]


def test_where_nothing_is_before_it_is_base_nothing_or_a_source_of_data():
    found = graph("stages=[sample, dpo, evaluate]")
    assert read(found, "sample", "models") == read(found, "dpo", "start") == ["base"]
    assert read(found, "dpo", "comparisons") == []  # the recipe's own source
    assert read(found, "evaluate", "reward") == []
    assert read(found, "evaluate", "reference") == ["base"]


def test_a_policy_is_held_to_what_it_starts_from():
    found = graph("stages=[sft, dpo, reward, ppo]", "ppo.start=sft")
    assert read(found, "dpo", "reference") == ["sft"]
    assert read(found, "ppo", "reference") == ["sft"]
    assert read(graph("stages=[sft, dpo]", "dpo.reference=base"), "dpo", "reference") == ["base"]


def test_references_by_name_to_base_and_to_folders(tmp_path: Path):
    (tmp_path / "mine").mkdir()
    found = graph(
        "stages={a: {kind: sft}, b: {kind: sft, start: base}, c: {kind: dpo, start: a}, d: {kind:"
        " dpo, start: owner/name}}",
        f"c.reference={tmp_path / 'mine'}",
    )
    assert [read(found, name, "start") for name in "abcd"] == [
        ["base"],
        ["base"],
        ["a"],
        ["owner/name"],
    ]
    assert found["d"].inputs["start"][0].stage is None
    assert read(found, "c", "reference") == [str(tmp_path / "mine")]
    assert found["c"].parents == ("a",)
    assert found.ancestors("c") == ("a",)


def test_a_stage_by_name_goes_before_a_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sft").mkdir()
    assert graph("stages=[sft, dpo]", "dpo.start=sft")["dpo"].inputs["start"][0].stage == "sft"


def test_reward_models_among_rewards():
    one = (
        "grpo.rewards=[{name: maths}, {name: model}, {name: model, label: b, model: first}, {name:"
        " model, label: c, model: a/b}]"
    )
    found = graph("stages={first: {kind: reward}, reward: {}, grpo: {}}", one)
    assert {
        key: read(found, "grpo", key) for key in found["grpo"].inputs if key.startswith("rewards")
    } == {
        "rewards.1": ["reward"],
        "rewards.2": ["first"],
        "rewards.3": ["a/b"],
    }


def test_an_evaluation_has_the_judges_of_the_newest_stage_trained_on_rewards():
    changes = (
        "stages={reward: {}, grpo: {rewards: [{name: model}], pass_at: 0.5}, newer: {kind: reward},"
        " evaluate: {}}"
    )
    found = graph(changes)
    settings = found["evaluate"].settings
    assert [one.name for one in settings.rewards] == ["model"]
    assert settings.pass_at == 0.5
    assert read(found, "evaluate", "rewards.0") == [
        "reward"
    ]  # what grpo was trained on, not the newer one
    own = graph(changes, "evaluate.rewards=[{name: length}]")["evaluate"]
    assert [one.name for one in own.settings.rewards] == ["length"]
    assert own.settings.pass_at == 1.0


def test_rounds_are_written_out_and_each_reads_its_own(tmp_path: Path):
    found = graph(text=ROUNDS, folder=tmp_path)
    inner = [
        f"rounds.{number}.{name}" for number in (1, 2, 3) for name in ("sample", "compare", "dpo")
    ]
    assert list(found.nodes) == ["sft", "reward", *inner, "evaluate"]
    assert [read(found, f"rounds.{n}.sample", "models") for n in (1, 2, 3)] == [
        ["sft"],
        ["rounds.1.dpo"],
        ["rounds.2.dpo"],
    ]
    assert [read(found, f"rounds.{n}.dpo", "start") for n in (1, 2, 3)] == [
        ["sft"],
        ["rounds.1.dpo"],
        ["rounds.2.dpo"],
    ]
    for number in (1, 2, 3):
        assert read(found, f"rounds.{number}.compare", "answers") == [f"rounds.{number}.sample"]
        assert read(found, f"rounds.{number}.compare", "by.0.reward") == ["reward"]
        assert read(found, f"rounds.{number}.dpo", "reference") == ["sft"]
        assert read(found, f"rounds.{number}.dpo", "comparisons") == [f"rounds.{number}.compare"]
    assert read(found, "evaluate", "models") == [
        "base",
        "sft",
        "rounds.1.dpo",
        "rounds.3.dpo",
    ]  # rounds.dpo: the last


def test_previous_by_name_and_a_stage_of_the_same_round_before_one_outside():
    stages = (
        "{dpo: {comparisons: c.jsonl}, r: {repeat: 2, stages: {sample: {models: [previous.dpo,"
        " dpo]}, compare: {}, dpo: {}}}}"
    )
    found = graph(f"stages={stages}")
    assert read(found, "r.1.sample", "models") == ["dpo", "dpo"]
    assert read(found, "r.2.sample", "models") == [
        "r.1.dpo",
        "dpo",
    ]  # its own round has no dpo before it
    inside = graph(
        "stages={sft: {}, r: {repeat: 2, stages: {sft: {demonstrations: d.jsonl}, sample: {models:"
        " [sft]}}}}"
    )
    assert read(inside, "r.2.sample", "models") == ["r.2.sft"]


def test_rounds_inside_rounds():
    changes = [
        "stages={a: {repeat: 2, stages: {sft: {}, b: {repeat: 2, stages: [sample]}}}}",
        "data.prompts=p.jsonl",
    ]
    found = graph(*changes, "a.b.sample.count=3", "a.2.b.1.sample.count=5")
    counts = {node.name: node.settings.count for node in found if node.kind == "sample"}
    assert counts == {
        "a.1.b.1.sample": 3,
        "a.1.b.2.sample": 3,
        "a.2.b.1.sample": 5,
        "a.2.b.2.sample": 3,
    }
    assert read(found, "a.2.b.2.sample", "models") == ["a.2.sft"]


def test_overrides_by_name_and_by_round(tmp_path: Path):
    changes = [
        "rounds.sample.count=5",
        "rounds.2.sample.count=9",
        "rounds.3.dpo.epochs=4",
        "evaluate.count=3",
    ]
    found = graph(*changes, text=ROUNDS, folder=tmp_path)
    assert [found[f"rounds.{n}.sample"].settings.count for n in (1, 2, 3)] == [5, 9, 5]
    assert [found[f"rounds.{n}.dpo"].settings.epochs for n in (1, 2, 3)] == [1, 1, 4]
    assert found["evaluate"].settings.count == 3
    assert list(
        graph("rounds.repeat=1", text=ROUNDS.replace("rounds.dpo", "sft"), folder=tmp_path).nodes
    )[-2:] == [
        "rounds.1.dpo",
        "evaluate",
    ]


def test_an_override_names_an_item_of_a_list_that_is_there_by_default():
    stages: Any = burnish.load(
        None, "stages=[sft, reward, ppo]", "sft.optimizer.betas.1=0.5", "ppo.optimizer.betas.0=0.1"
    ).stages
    assert stages["sft"].optimizer.betas == (0.9, 0.5)
    assert stages["ppo"].optimizer.betas == (0.1, 0.95)


def test_an_override_adds_stages_and_null_empties_a_section():
    assert list(burnish.load(None, "stages=[sft]", "stages.dpo.lora=null").stages) == ["sft", "dpo"]
    stages: Any = burnish.load(None, "dpo.lora=null", "stages=[sft, dpo]").stages
    assert stages["dpo"].lora is None
    assert burnish.load(None, "stages={sft: null, dpo: }") == burnish.load(
        None, "stages=[sft, dpo]"
    )


@pytest.mark.parametrize("name", [*KINDS, *FAMILIES])
def test_a_name_says_the_kind_and_a_kind_may_have_any_name(name: str):
    before, own = {"sample": {}, "reward": {}}, NEEDED.get(name, {})
    plain: Any = burnish.load(None, f"stages={json.dumps({**before, name: own})}").stages[name]
    mine = {**before, "mine": {"kind": name, **own}}
    assert burnish.load(None, f"stages={json.dumps(mine)}").stages["mine"] == plain
    family, key = FAMILIES.get(name, (name, None))
    assert plain.kind == family
    assert key is None or getattr(plain, key).name == name


def test_who_compares_is_the_panel_or_whoever_is_named():
    for by in ("panel", "{panel: {size: 7}}", "{reward: reward}"):
        (judge,) = graph("stages=[sample, reward, compare]", f"compare.by={by}")[
            "compare"
        ].settings.by
        assert (judge.panel is None) == ("reward" in by)
    assert "panel and reward would compare: name one" in refusal(
        "stages=[sample, reward, compare]", "compare.by={panel: {}, reward: reward}"
    )


@pytest.mark.parametrize("said", ["panel", "{panel: {size: 9}}", "{reward: reward}"])
def test_an_override_of_who_compares_takes_the_place_of_what_the_recipe_says(
    said: str, tmp_path: Path
):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"stages: {{sample: {{}}, reward: {{comparisons: c.jsonl}}, compare: {{by: {said}}}}}"
    )

    def judges(change: str) -> list[tuple[str, Any]]:
        by = graph_of(burnish.load(path, change))["compare"].settings.by
        return [(one.called, getattr(one, one.called)) for one in by]

    for change in ("compare.by={reward: reward}", "compare.by.reward=reward"):
        assert judges(change) == [("reward", "reward")]
    ((called, panel),) = judges("compare.by.panel.annotators_per_item=2")
    assert (called, panel.size, panel.annotators_per_item) == ("panel", 9 if "9" in said else 5, 2)
    assert [one for one, _ in judges("compare.by=[{panel: {}, share: 0.5}, {reward: reward}]")] == [
        "panel",
        "reward",
    ]


def test_what_select_and_merge_make_follows_from_what_they_are_told():
    pairs = graph(
        "stages=[reward, sample, select, dpo, sft]",
        "select.make=pairs",
        "sft.demonstrations=d.jsonl",
    )
    assert read(pairs, "dpo", "comparisons") == ["select"]
    chosen = graph("stages=[reward, sample, select, sft]")
    assert read(chosen, "sft", "demonstrations") == ["select"]
    stages = "{a: {kind: reward}, b: {kind: reward}, merge: {models: [a, b]}, ppo: {}}"
    assert read(graph(f"stages={stages}"), "ppo", "reward") == ["merge"]
    assert read(
        graph(f"stages={stages.replace('kind: reward', 'kind: sft')}", "ppo.reward=a/b"),
        "ppo",
        "start",
    ) == ["merge"]


def test_data_is_inherited_from_the_newest_stage_that_names_some():
    changes = [
        "stages={sample: {}, a: {kind: sample, prompts: a.jsonl}, sft: {}, grpo: {}}",
        "data.prompts=own.jsonl",
    ]
    found = graph(*changes, "grpo.prompts=[b.jsonl, {source: c.jsonl}]")
    assert [found[name].data.prompts for name in ("sample", "a", "sft")] == [
        "own.jsonl",
        "a.jsonl",
        "a.jsonl",
    ]
    assert [getattr(one, "source", one) for one in found["grpo"].data.prompts] == [
        "b.jsonl",
        "c.jsonl",
    ]  # type: ignore[union-attr]
    made = graph(
        "stages=[sample, compare, dpo, reward]",
        "dpo.comparisons=compare",
        "data.comparisons=c.jsonl",
    )
    assert made["dpo"].data.comparisons == "c.jsonl"
    assert read(made, "dpo", "comparisons") == ["compare"]


def test_stages_of_one_kind_have_different_seeds_and_others_do_not_move_them():
    names = "{a: {kind: sample}, b: {kind: sample}, c: {kind: sample}, sft: {}}"
    seeds = {node.name: node.seed for node in graph(f"stages={names}", "seed=5")}
    assert len({seeds[name] for name in "abc"}) == 3
    assert (seeds["a"], seeds["sft"]) == (5, 5)
    more = "{sft: {}, reward: {comparisons: c.jsonl}, a: {kind: sample}, b: {kind: sample}}"
    assert {node.name: node.seed for node in graph(f"stages={more}", "seed=5")}["b"] == seeds["b"]
    largest = [node.seed for node in graph(f"stages={names}", f"seed={2**63 - 1}")]
    assert all(0 <= seed < 2**63 for seed in largest)


LATER = "stages=[sft, sample, compare, reward, dpo, evaluate]"


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ([LATER, "dpo.start=evaluate"], "the stage evaluate comes after dpo, so it cannot be read here. Fits: sft, base, or a folder."),  # noqa: E501
        ([LATER, "dpo.start=reward"], "the stage dpo needs a policy here, and reward makes a reward model. Fits: sft, base, or"),  # noqa: E501
        ([LATER, "dpo.start=dpo"], "the stage dpo cannot read what it makes itself."),
        ([LATER, "dpo.start=sfft"], 'there is no stage "sfft" before dpo. Did you mean "sft"? Fits: sft, base, or a folder.'),  # noqa: E501
        ([LATER, "dpo.comparisons=sample"], "needs comparisons here, and sample makes answers. Fits: compare, or a path or a hub id."),  # noqa: E501
        ([LATER, "evaluate.models=[sft, compare]"], "needs a policy here, and compare makes comparisons."),  # noqa: E501
        ([LATER, "compare.by={reward: reward}"], "the stage reward comes after compare"),
        ([LATER, "sft.start=previous"], "previous is the round before, and the stage sft stands in no rounds."),  # noqa: E501
        (["stages=[sft, compare]"], "the stage compare needs answers, and no stage before it makes one. Put a stage of the kind sample"),  # noqa: E501
        (["stages=[grpo]", "grpo.rewards=[{name: model}]"], "the stage grpo needs a reward model, and no stage before it makes"),  # noqa: E501
        (["stages={r: {repeat: 2, stages: {sample: {models: [previous.dpo]}}}}"], 'there is no stage "previous.dpo" before r.1.sample.'),  # noqa: E501
        (["stages={r: {repeat: 2, stages: {sample: {models: [r.sft]}}}}"], 'there is no stage "r.sft" before r.1.sample.'),  # noqa: E501
        ([LATER, f"sft.start={'a' * 4000}"], 'there is no stage "aaa'),
        ([LATER, "evaluate.models=[]"], "expected 1 or more items, given []."),
    ],
)  # fmt: skip
def test_a_wrong_reference_names_the_override_the_place_and_what_fits(
    overrides: list[str], told: str
):
    said = refusal(*overrides)
    assert told in said
    assert said.startswith("override ")
    assert re.search(r'field "stages\.\w', said)
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("stage", "row", "field"),
    [
        ("dpo: {start: reward}", 5, "stages.dpo.start"),
        ("evaluate: {models: [sft, x]}", 5, "stages.evaluate.models.1"),
        ("r: {repeat: 2, stages: {dpo: {\n start: x}}}", 6, "stages.r.1.dpo.start"),
        (
            "grpo:\n    rewards:\n    - {name: maths}\n    - {name: model, model: sft}",
            8,
            "stages.grpo.rewards.1.model",
        ),
        ("compare: {}", 5, "stages.compare.answers"),
    ],
)
def test_a_wrong_reference_in_a_file_names_the_line(
    tmp_path: Path, stage: str, row: int, field: str
):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"seed: 1\nstages:\n  sft: {{}}\n  reward: {{}}\n  {stage}\n")
    with pytest.raises(UserError, match=re.escape(f'recipe.yaml, row {row}, field "{field}": ')):
        burnish.load(path)


@pytest.mark.parametrize(
    "name",
    ["base", "previous", "seed", "data", "a/b", "../x", "a.b", "1", "", "recipe.yaml", "é", "a b"],
)
def test_names_that_no_stage_can_have(name: str):
    assert "no stage can be called" in refusal(f'stages={{"{name}": {{kind: sft}}}}')


def test_rounds_have_a_number_and_stages():
    for rounds in (
        "{repeat: 2}",
        "{repeat: 0, stages: [sft]}",
        "{repeat: true, stages: [sft]}",
        "{stages: [sft]}",
        "{repeat: 101, stages: [sft]}",
        "{repeat: 2, stages: [sft], count: 1}",
        "{repeat: 2, stages: []}",
    ):
        assert "rounds are {repeat: N, stages: {...}}, with N from 1 to 100." in refusal(
            f"stages={{r: {rounds}}}"
        )
    deep = "{repeat: 100, stages: {a: {repeat: 100, stages: {b: {repeat: 100, stages: [sft]}}}}}"
    assert "these are more than 1000 stages" in refusal(f"stages={{r: {deep}}}")


def test_a_list_of_stages_as_an_override_takes_those_with_the_settings_they_have(tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "stages: {sft: {epochs: 3}, sample: {}, rounds: {repeat: 2, stages: {sft: {epochs: 4}, kto:"
        " {comparisons: c.jsonl}}}}"
    )
    stages: Any = burnish.load(path, "stages=[sft, report]").stages
    assert (list(stages), stages["sft"].epochs) == (["sft", "report"], 3)
    stages = burnish.load(path, "rounds.stages=[sft]", "stages=[rounds]").stages
    assert [(name, one.epochs) for name, one in stages.items()] == [
        ("rounds.1.sft", 4),
        ("rounds.2.sft", 4),
    ]


def test_stages_as_a_list():
    assert burnish.load(None, "stages=[sft, report]") == burnish.load(
        None, "stages={sft: {}, report: {}}"
    )
    assert "a list of different names" in refusal("stages=[sft, sft]")
    assert "a list of different names" in refusal("stages=sft")
    assert "stages is empty" in refusal()


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_written_short_or_whole_loads_to_the_same(path: Path, tmp_path: Path):
    recipe = burnish.load(path)
    (tmp_path / "whole.yaml").write_text(dump_yaml(recipe))
    assert burnish.load(tmp_path / "whole.yaml") == recipe
    (tmp_path / "short.yaml").write_text(dump_short(recipe))
    short = burnish.load(tmp_path / "short.yaml")
    assert short.model_dump(exclude={"stages"}) == recipe.model_dump(exclude={"stages"})
    # references that name what is taken anyway are left out, and mean the same
    references = {slot.key for kind in KINDS.values() for slot in kind.slots}
    for one, other in zip(graph_of(short), graph_of(recipe), strict=True):
        assert (one.name, one.kind, one.inputs, one.data, one.seed) == (
            other.name, other.kind, other.inputs, other.data, other.seed,
        )  # fmt: skip
        assert one.settings.model_dump(exclude=references) == other.settings.model_dump(
            exclude=references
        )
    assert len(dump_short(recipe)) < len(dump_yaml(recipe)) / 2


def test_short_is_without_what_would_be_filled_in():
    changes = [
        "stages=[sft, dpo, kto]",
        "dpo.start=sft",
        "dpo.loss.beta=0.3",
        "kto.start=sft",
        "model.name=tiny",
    ]
    assert (
        dump_short(burnish.load(None, *changes))
        == "name: run\nmodel:\n  name: tiny\nstages:\n  sft: {}\n  dpo:\n    loss:\n      beta:"
        " 0.3\n  kto:\n    start: sft\n"
    )


def test_a_stage_is_put_at_the_end_and_others_are_left_out():
    assert list(load_recipe(None, ["stages=[sft]"], also="grpo").stages) == ["sft", "grpo"]
    assert list(load_recipe(RECIPES / "tiny.yaml", keep=["sft", "sample"]).stages) == [
        "sft",
        "sample",
    ]


def test_the_short_form_keeps_the_sources_that_stages_name(tmp_path: Path):
    path = tmp_path / "r.yaml"
    path.write_text(
        "stages:\n  sft: {demonstrations: mine.jsonl, start: base}\n  grpo: {prompts:"
        " 'task:arithmetic', rewards: [{name: maths}]}\n  evaluate: {}\n"
    )
    short = tmp_path / "short.yaml"
    short.write_text(dump_short(load_recipe(path)))
    assert "mine.jsonl" in short.read_text()
    assert "start" not in short.read_text()
    read = [
        [(node.inputs, node.data) for node in graph_of(load_recipe(one))] for one in (path, short)
    ]
    assert read[0] == read[1]


def test_a_model_of_an_evaluation_may_be_called_something_else():
    models = '[first=tiny, "served=http://127.0.0.1:8000/v1#big", mine=sft]'
    made = graph(
        "stages=[sft, evaluate]",
        "data.demonstrations=d.jsonl",
        f"evaluate.models={models}",
        "evaluate.reference=first=tiny",
    )
    read = made["evaluate"].inputs
    assert [(one.shown, one.stage, one.outside) for one in read["models"]] == [
        ("first", None, "tiny"),
        ("served", None, "http://127.0.0.1:8000/v1#big"),
        ("mine", "sft", None),
    ]
    assert read["reference"][0].shown == "first"
    with pytest.raises(UserError, match="there is no stage"):
        graph(
            "stages=[sft, evaluate]", "data.demonstrations=d.jsonl", "evaluate.models=[mine=sfft]"
        )
