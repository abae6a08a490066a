"""The JSON Schema for editors: it takes every recipe that the loader takes, and refuses the slips
that somebody types."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from burnish.config import shipped
from burnish.config.editor_schema import editor_schema
from burnish.config.recipe_file import load_recipe
from burnish.config.yaml_file import YamlFile, yaml_of

jsonschema = pytest.importorskip("jsonschema")
ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = editor_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def _values(text: str, folder: Path) -> Any:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return YamlFile.read(path).values


def _slips(validator: Any, values: Any) -> list[tuple[str, str]]:
    return [(error.json_path, error.message) for error in validator.iter_errors(values)]


@pytest.mark.parametrize("name", shipped.names())
def test_every_shipped_recipe_is_taken(name: str, validator: Any) -> None:
    assert _slips(validator, YamlFile.read(shipped.recipe_path(name)).values) == []


@pytest.mark.parametrize("name", ["quickstart", "dpo-rounds", "calculator", "constitutional"])
def test_a_recipe_with_every_value_is_taken(name: str, validator: Any, tmp_path: Path) -> None:
    recipe = load_recipe(shipped.recipe_path(name))
    text = yaml_of(recipe.model_dump(mode="json"))
    assert "optimizer" in text
    assert _slips(validator, _values(text, tmp_path)) == []


def test_every_recipe_of_the_documentation_is_taken(validator: Any, tmp_path: Path) -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    texts = [
        part
        for page in pages
        for block in _BLOCK.findall(page.read_text(encoding="utf-8"))
        for part in block.split("---\n")
    ]
    assert len(texts) > 15
    for text in texts:
        assert _slips(validator, _values(text, tmp_path)) == [], text


@pytest.mark.parametrize(
    ("recipe", "place", "word"),
    [
        ("sed: 1\nstages: [sft]", "$", "sed"),
        ("model: {nam: tiny}\nstages: [sft]", "$.model", "nam"),
        ("stages: {sft: {epoch: 1}}", "$.stages.sft", "epoch"),
        ("stages: {ppo: {step: 3}}", "$.stages.ppo", "step"),
        ("stages: {grpo: {algorithm: {bta: 1}}}", "$.stages.grpo.algorithm", "bta"),
        ("stages: {dpo: {loss: {gamma: 1}}}", "$.stages.dpo.loss", "gamma"),
        ("stages: {simpo: {loss: {tau: 1}}}", "$.stages.simpo.loss", "tau"),
        ("stages: {mine: {kind: kto, loss: {tau: 1}}}", "$.stages.mine.loss", "tau"),
        ("stages: {mine: {kind: dpoo}}", "$.stages.mine.kind", "dpoo"),
        ("stages: {mine: {}}", "$.stages.mine", "kind"),
        ("stages: [sft, dop]", "$.stages[1]", "dop"),
        ("stages: {sft: {optimizer: {lr: 1}}}", "$.stages.sft.optimizer", "lr"),
        ("stages: {sft: {batch_size: 0}}", "$.stages.sft.batch_size", "0"),
        ("stages: {sft: {epochs: two}}", "$.stages.sft.epochs", "two"),
        ("stages: {compare: {by: jury}}", "$.stages.compare.by", "panel"),
        ("stages: {compare: {by: {panel: {sise: 3}}}}", "$.stages.compare.by.panel", "sise"),
        ("stages: {grpo: {rewards: [{name: math}]}}", "$.stages.grpo.rewards[0].name", "math"),
        ("stages: {grpo: {rewards: [{name: maths, colum: a}]}}", "$.stages.grpo.rewards[0]", "colum"),  # noqa: E501
        ("stages: {r: {repeat: 0, stages: [sft]}}", "$.stages.r.repeat", "0"),
        ("stages: {r: {repeat: 2, stages: {sft: {epoch: 1}}}}", "$.stages.r.stages.sft", "epoch"),
    ],
)  # fmt: skip
def test_a_slip_is_refused_where_it_stands(
    recipe: str, place: str, word: str, validator: Any, tmp_path: Path
) -> None:
    slips = _slips(validator, _values(recipe, tmp_path))
    assert any(where == place and word in message for where, message in slips), slips


def test_what_only_a_stage_of_ones_own_knows_is_let_through(validator: Any) -> None:
    stages = {"mine": {"kind": "shortest.py:STAGE", "anything": 1}, "dpo": {"loss": "squared.py:L"}}
    assert _slips(validator, {"stages": stages}) == []
