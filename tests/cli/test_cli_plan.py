"""`burnish plan` as a user types it, and `burnish run` refusing what cannot fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from burnish.cli.main import app, main
from burnish.planning import machine

ROOT = Path(__file__).parents[2]
SEVEN_BILLION = {
    "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8,
    "vocab_size": 32000, "tie_word_embeddings": False, "max_position_embeddings": 32768,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)


def test_the_plan_of_a_recipe():
    shown = CliRunner().invoke(app, ["plan", "recipes/tiny.yaml"])
    assert shown.exit_code == 0
    for text in (
        "sft",
        "sample",
        "compare",
        "reward",
        "ppo",
        "evaluate",
        "policy adapter",
        "whole run",
        "rankings of",
    ):
        assert text in shown.output
    assert not Path("runs/tiny/plan").exists()


def test_the_plan_of_a_model_that_is_not_here(tmp_path: Path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps(SEVEN_BILLION))
    arguments = [
        "plan",
        "recipes/quickstart.yaml",
        "ppo.share_backbone=false",
        "--model-config",
        str(config),
    ]
    shown = CliRunner().invoke(app, [*arguments, "--gpus", "1", "--gpu-memory", "24"])
    assert shown.exit_code == 1
    assert "7,241.7 M parameters" in shown.output
    assert "This cannot fit: the stage" in shown.output
    shown = CliRunner().invoke(app, [*arguments, "--gpus", "16"])
    assert shown.exit_code == 0
    assert "a step of ppo on 16 GPUs" in shown.output
    assert "16 in turns" in shown.output
    assert "train, " in shown.output
    slow = CliRunner().invoke(app, [*arguments, "--gpus", "16", "--gpu-link", "1.25"])
    assert slow.exit_code == 0
    assert slow.output != shown.output
    tiny = CliRunner().invoke(app, [*arguments, "--gpus", "2", "--gpu-memory", "8"])
    assert tiny.exit_code == 1
    assert "no way to give the GPUs out" in tiny.output


def test_a_run_that_cannot_fit_is_refused_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(machine, "free_memory", lambda: 0.3e9)
    out = tmp_path / "run"
    with pytest.raises(SystemExit) as exit_:
        main(["run", "recipes/tiny.yaml", "--out", str(out), "--quiet"])
    assert exit_.value.code == 2
    said = capsys.readouterr().err
    assert "GB of memory; 0.3 GB are free" in said
    assert [path.name for path in out.iterdir()] == [".lock"]  # nothing was begun


def test_the_check_can_be_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "free_memory", lambda: 0.3e9)
    out = tmp_path / "run"
    options = ["--out", str(out), "--until", "sft", "--no-memory-check", "--quiet"]
    with pytest.raises(SystemExit) as exit_:
        main(["run", "recipes/tiny.yaml", *options, "sft.epochs=0.1"])
    assert exit_.value.code == 0
    assert (out / "sft" / "stage.json").is_file()
