"""`burnish options`, as somebody types it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from burnish.algorithms.recipes import ROWS
from burnish.cli.main import app, main


def _said(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["options", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_an_option_has_its_type_default_and_paper() -> None:
    lines = _said("simpo.loss.gamma").splitlines()
    assert lines == [
        "simpo.loss.gamma",
        "  γ: by how much the chosen answer's reward must lead.",
        "  type     number ≥ 0 and ≤ 10000",
        "  default  1.0",
        "  paper    arXiv:2405.14734",
    ]


@pytest.mark.parametrize("row", list(ROWS))
def test_a_part_that_is_left_to_the_row_has_the_rows_value(row: str) -> None:
    text = _said(f"{row}.algorithm.beta")
    assert f"null, which is {ROWS[row].beta}, as {row} has it" in text
    assert ROWS[row].paper in text


def test_without_a_key_there_are_the_sections_and_the_kinds() -> None:
    text = _said()
    for word in ("model", "stages", "sft", "evaluate", "reinforce++-baseline", "simpo"):
        assert word in text


def test_a_stage_lists_its_options_and_sections_are_opened_by_name() -> None:
    text = _said("ppo")
    assert "ppo.prompts_per_step" in text
    assert "[32]" in text
    assert "ppo.optimizer.betas" not in text
    assert "ppo.optimizer.betas" in _said("ppo.optimizer")


def test_a_last_word_alone_names_its_places() -> None:
    assert "reward.optimizer.learning_rate" in _said("learning_rate")


def test_options_that_differ_by_kind_are_all_told() -> None:
    text = _said("grpo.rewards.timeout")
    assert "(of maths)" in text
    assert "(of http)" in text


@pytest.mark.parametrize(
    ("key", "hint"),
    [("grpo.algorithm.bta", "grpo.algorithm.beta"), ("num_generations", "responses_per_prompt")],
)
def test_what_is_no_option_is_an_error_in_one_line(
    key: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["options", key])
    assert ended.value.code == 2
    text = capsys.readouterr().err
    assert key in text
    assert hint in text
    assert text.count("\n") == 1


def test_the_schema_for_editors_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    schema = json.loads(_said("--json-schema"))
    assert schema["$schema"].endswith("2020-12/schema")
    assert {"model", "stages"} <= schema["properties"].keys()
    with pytest.raises(SystemExit):
        main(["options", "sft", "--json-schema"])
    assert "Leave the key out" in capsys.readouterr().err
