"""What is not in the table of model types is refused at once, by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from burnish.errors import UserError
from burnish.models.backbone import load_backbone
from burnish.models.supported import SUPPORTED, read_model_type

ELSEWHERE = (
    "gpt_neox",
    "opt",
    "bloom",
    "mpt",
    "mamba",
    "stablelm",
    "nemotron",
    "gpt2",
    "falcon",
    "t5",
    "nonsense",
)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_other_types_are_refused_before_weights_are_looked_for(name: str, tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": name}))
    with pytest.raises(UserError, match=f"models of type {name} are not supported") as refused:
        load_backbone(str(tmp_path))
    assert all(known in str(refused.value) for known in SUPPORTED)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no model configuration"),
        ("[]", "names no model type"),
        ('{"model_type": 3}', "names no model type"),
    ],
)
def test_a_configuration_that_names_no_type_is_one_line(text: str, message: str, tmp_path: Path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=message) as refused:
        read_model_type(tmp_path)
    assert str(tmp_path / "config.json") in str(refused.value)
