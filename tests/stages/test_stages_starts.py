"""What binds a folder, and what a stage starts from: a start that made nothing binds nothing; DPO
needs no SFT stage."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import burnish
from burnish.cli.main import main
from burnish.errors import UserError
from burnish.models.tiny import tiny_model, tiny_tokenizer


@pytest.fixture
def data(tmp_path: Path) -> Path:
    pairs = [
        {"prompt": f"Say {i}.", "chosen": f"{i}, gladly.", "rejected": f"no {i}"} for i in range(24)
    ]
    demos = [{"prompt": f"Say {i}.", "completion": f"{i}, gladly."} for i in range(24)]
    for name, rows in (("pairs", pairs), ("demos", demos)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def _exit_of(*arguments: object) -> int:
    try:
        main([str(a) for a in arguments])
    except SystemExit as error:
        return int(error.code or 0)
    return 0


def _sft(data: Path) -> list[str]:
    return [
        "stages=[sft]", "threads=1", "sft.epochs=0.1", "sft.lora={r: 2, alpha: 4}",
        "data.heldout=0.3",
        f"data.demonstrations={data / 'demos.jsonl'}",
    ]  # fmt: skip


def test_a_start_that_failed_while_loading_binds_nothing(data: Path):
    broken = data / "model"
    tiny_model().save_pretrained(broken)
    tiny_tokenizer().save_pretrained(broken)
    (broken / "tokenizer.json").write_text("{}")
    with pytest.raises((UserError, Exception)):
        burnish.run(
            burnish.load(None, *_sft(data), f"model.name={broken}"),
            out=data / "run",
            memory_check=False,
        )
    out = burnish.run(
        burnish.load(None, *_sft(data), "model.name=tiny"), out=data / "run", memory_check=False
    )
    assert (out / "sft" / "stage.json").is_file()


def test_a_local_model_that_changes_between_two_starts_is_told(data: Path):
    model = data / "model"
    tiny_model().save_pretrained(model)
    tiny_tokenizer().save_pretrained(model)
    recipe = burnish.load(None, *_sft(data), f"model.name={model}")
    out = burnish.run(recipe, out=data / "run", memory_check=False)
    (model / "README.md").write_text("no part of the model")
    # touched, and the same
    (model / "config.json").write_bytes((model / "config.json").read_bytes())
    burnish.run(recipe, out=out, memory_check=False)
    weights = model / "model.safetensors"
    before = weights.read_bytes()
    for file, content in (
        (weights, before[:-1] + bytes([before[-1] ^ 1])),
        (model / "chat_template.jinja", b"{{ 1 }}"),
    ):
        kept = file.read_bytes() if file.exists() else None
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"the contents of model\.name changed\)"):
            burnish.run(recipe, out=out, memory_check=False)
        file.unlink() if kept is None else file.write_bytes(kept)
    burnish.run(recipe, out=out, memory_check=False)


def test_a_stage_with_steps_still_binds_and_a_lost_record_is_told(data: Path):
    recipe = burnish.load(None, *_sft(data), "model.name=tiny")
    out = burnish.run(recipe, out=data / "run", memory_check=False)
    (out / "sft" / "stage.json").unlink()  # begun, trained, not finished
    with pytest.raises(UserError, match="was run with other settings"):
        burnish.run(
            burnish.load(None, *_sft(data), "model.name=tiny", "seed=9"),
            out=out,
            memory_check=False,
        )
    for content in ("", "{", "[]", '{"inputs": 3, "seconds": 1}', '{"inputs": {}}'):
        (out / "sft" / "begun.json").write_text(content)
        with pytest.raises(UserError, match=f"Remove the folder {out / 'sft'} to run"):
            burnish.run(recipe, out=out, memory_check=False)
    shutil.rmtree(out / "sft")
    burnish.run(recipe, out=out, memory_check=False)


@pytest.mark.parametrize("loss", ["dpo", "kto"])
def test_preference_optimisation_straight_on_a_model(
    data: Path, capsys: pytest.CaptureFixture[str], loss: str
):
    arguments = (
        loss,
        f"data.comparisons={data / 'pairs.jsonl'}",
        "model.name=tiny",
        "threads=1",
        "data.heldout=0.3",
    )
    assert _exit_of(*arguments, f"{loss}.epochs=0.1", "--out", data / "run", "--quiet") == 0
    assert f"{loss}: starting from tiny as it is" in capsys.readouterr().err
    assert (data / "run" / loss / "model").is_dir()
    assert tuple(burnish.load(data / "run" / "recipe.yaml").stages) == (loss,)


def test_it_starts_from_the_folders_sft_model_where_there_is_one(
    data: Path, capsys: pytest.CaptureFixture[str]
):
    common = ("model.name=tiny", "threads=1", "data.heldout=0.3", "--out", data / "run", "--quiet")
    assert (
        _exit_of("sft", f"data.demonstrations={data / 'demos.jsonl'}", "sft.epochs=0.1", *common)
        == 0
    )
    assert (
        _exit_of("dpo", f"data.comparisons={data / 'pairs.jsonl'}", "dpo.epochs=0.1", *common) == 0
    )
    assert "as it is" not in capsys.readouterr().err
    assert tuple(burnish.load(data / "run" / "recipe.yaml").stages) == ("sft", "dpo")
    adapter = json.loads(
        (data / "run" / "dpo" / "model" / "adapter" / "adapter_config.json").read_text()
    )
    assert adapter["base_model_name_or_path"] == str(data / "run" / "sft" / "model")


def test_what_is_really_needed_is_said(data: Path, capsys: pytest.CaptureFixture[str]):
    assert (
        _exit_of(
            "ppo", f"data.prompts={data / 'demos.jsonl'}", "model.name=tiny", "--out", data / "a"
        )
        == 2
    )
    assert (
        "the stage ppo has no reward: it names none, and no stage before it makes a reward model."
        " Put a stage of the kind reward before it" in capsys.readouterr().err
    )
    (data / "r.yaml").write_text(
        "model: {name: tiny}\nstages: [sft, dpo]\ndata: {comparisons:"
        f" {data / 'pairs.jsonl'}}}\n"
    )
    assert _exit_of("dpo", "--config", data / "r.yaml", "--out", data / "b") == 2
    assert "the stage dpo needs sft first" in capsys.readouterr().err


def test_code_that_ends_the_process_does_not_end_a_stage_as_done(
    data: Path, capsys: pytest.CaptureFixture[str]
):
    (data / "leaves.py").write_text("def reward(completions, **_):\n    raise SystemExit(0)\n")
    arguments = (
        "grpo", f"data.prompts={data / 'demos.jsonl'}", "model.name=tiny", "threads=1",
        "grpo.steps=1", "data.heldout=0.3",
        "grpo.sampling.max_new_tokens=2", "data.split_column=null",
        f"grpo.rewards=[{{name: python, function: {data / 'leaves.py'}:reward}}]",
    )  # fmt: skip
    assert _exit_of(*arguments, "--out", data / "run", "--quiet") == 2
    assert not (data / "run" / "grpo" / "stage.json").exists()
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("burnish: ")]
    assert len(told) == 1
