"""Every file of a run, damaged in every way a disk or a person can: one line that says what to do,
or the same result."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import burnish
from burnish.errors import UserError
from burnish.models.backbone import load_backbone
from burnish.runs.stage_record import verify_if_stage
from burnish.stages.report import gather, write_report
from burnish.stages.serve import model_of

RECIPE = """
name: damage
threads: 1
model: {name: tiny, max_length: 512, device: cpu}
data: {demonstrations: DEMOS, prompts: PROMPTS, heldout: 0.3}
stages:
  sft: {epochs: 0.4, batch_size: 8, lora: {r: 2, alpha: 4}, checkpoint: {every: 10}}
  sample: {count: 12, responses: 2, sampling: {max_new_tokens: 4}}
  compare: {by: panel}
  reward: {epochs: 1, batch_size: 8, lora: {r: 2, alpha: 4}, checkpoint: {every: 10}}
  ppo: {steps: 1, prompts_per_step: 2, epochs: 1, num_mini_batches: 1, lora: {r: 2, alpha: 4}, sampling: {max_new_tokens: 4}}
  evaluate: {count: 3, sampling: {max_new_tokens: 4}, samples: 1}
  report: {}
"""  # noqa: E501


def _flip(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def _folder(path: Path, _: random.Random) -> None:
    path.unlink()
    path.mkdir()


WAYS: dict[str, Callable[[Path, random.Random], object]] = {
    "empty": lambda path, _: path.write_bytes(b""),
    "half": lambda path, _: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "flipped": _flip,
    "removed": lambda path, _: path.unlink(),
    "a folder": _folder,
    "unreadable": lambda path, _: path.chmod(0),
}


class Runs:
    """A run that lacks its evaluation, a finished one, and what is due of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        demos = [
            {"prompt": f"What is {i} plus {i}?", "completion": f"It is {2 * i}."} for i in range(20)
        ]
        prompts = [
            {"prompt": f"Say {i}.", "split": "heldout" if i % 3 == 0 else "train"}
            for i in range(18)
        ]
        for name, rows in (("demos", demos), ("prompts", prompts)):
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        text = RECIPE.replace("DEMOS", str(folder / "demos.jsonl")).replace(
            "PROMPTS", str(folder / "prompts.jsonl")
        )
        (folder / "recipe.yaml").write_text(text)
        self.recipe = burnish.load(folder / "recipe.yaml")
        self.partial = burnish.run(
            self.recipe, out=folder / "partial", until="ppo", memory_check=False
        )
        self.whole = folder / "whole"
        shutil.copytree(self.partial, self.whole)
        burnish.run(self.recipe, out=self.whole, memory_check=False)
        self.due = self.evaluation(self.whole)
        self.facts = self.reported(self.whole)

    @staticmethod
    def evaluation(run: Path) -> object:
        return json.loads((run / "evaluate" / "result.json").read_text())

    @staticmethod
    def reported(run: Path) -> object:
        write_report(run)
        found = gather(run)
        return {
            key: value
            for key, value in found.items()
            if key not in ("created", "command", "folder")
        }

    def resume(self, run: Path) -> object:
        burnish.run(self.recipe, out=run, memory_check=False)
        return self.evaluation(run)

    def fork(self, run: Path) -> object:
        out = run.with_name("forked")
        burnish.run(self.recipe, out=out, fork=run, memory_check=False)
        return self.evaluation(out)

    def chat(self, run: Path) -> object:
        model = model_of(str(run))
        verify_if_stage(Path(model))
        backbone = load_backbone(model)
        return {name: value.sum().item() for name, value in backbone.model.state_dict().items()}

    def cases(self) -> Iterator[tuple[str, str, str]]:
        """(reader, file, way)"""
        for name in _names(self.partial):
            for way in WAYS:
                yield "resume", name, way
                yield "fork", name, way
        for name in _names(self.whole):
            for way in WAYS:
                yield "report", name, way
                if not name.startswith(
                    ("sft/", "sample/", "compare/", "reward/", "evaluate/", "report/")
                ):
                    yield "chat", name, way

    def outcome(self, reader: str, name: str, way: str, scratch: Path) -> str | None:
        """None if all is well; else what is wrong."""
        run = scratch / "run"
        shutil.copytree(self.whole if reader in ("report", "chat") else self.partial, run)
        WAYS[way](run / name, random.Random(f"{name} {way}"))
        read = {
            "resume": self.resume,
            "fork": self.fork,
            "report": self.reported,
            "chat": self.chat,
        }[reader]
        try:
            found = read(run)
        except UserError as error:
            return "several lines" if "\n" in str(error) else None
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        finally:
            if (run / name).is_file():
                (run / name).chmod(0o600)
        due = {"resume": self.due, "fork": self.due, "report": self.facts, "chat": None}[reader]
        if reader == "chat":
            due = self.chat(self.whole)
        return None if found == due else "another result"


def _names(run: Path) -> list[str]:
    return sorted(path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("damage"))


def _faults(runs: Runs, cases: list[tuple[str, str, str]], scratch: Path) -> list[str]:
    faults = []
    for number, case in enumerate(cases):
        place = scratch / str(number)
        place.mkdir()
        fault = runs.outcome(*case, place)
        if fault is not None:
            faults.append(f"{' / '.join(case)}: {fault}")
        shutil.rmtree(place)
    return faults


def test_the_files_that_matter_most_damaged(runs: Runs, tmp_path: Path):
    names = (
        "sft/model/model.safetensors", "sft/model/tokenizer.json",
        "sft/model/generation_config.json", "sft/result.json",
        "reward/model/head.safetensors", "ppo/model/model.safetensors", "ppo/begun.json",
        "ppo/stage.json", "recipe.yaml",
        "manifest.json", "sample/answers.jsonl", "compare/comparisons.jsonl",
        "compare/annotations.sqlite", ".lock",
    )  # fmt: skip
    rng = random.Random(0)
    cases = [
        ("resume", name, way)
        for name in names
        for way in rng.sample(["flipped", "empty", "half", "a folder"], 2)
    ]
    cases += [(reader, name, way) for reader in ("fork", "report") for name, way in (
        ("sft/model/model.safetensors", "flipped"), ("sft/result.json", "half"),
        ("sft/stage.json", "flipped"),
        ("recipe.yaml", "half"), ("manifest.json", "empty"),
    )]  # fmt: skip
    cases += [
        ("report", name, "removed")
        for name in ("compare/stage.json", "report/stage.json", "manifest.json")
    ]
    cases += [
        ("chat", f"ppo/model/{name}", "flipped")
        for name in ("model.safetensors", "config.json", "tokenizer.json")
    ]
    assert _faults(runs, cases, tmp_path) == []


@pytest.mark.slow
@pytest.mark.skipif(
    "BURNISH_SLOW" not in os.environ, reason="a quarter of an hour: set BURNISH_SLOW=1"
)
def test_every_file_damaged_in_every_way(runs: Runs, tmp_path: Path):
    cases = list(runs.cases())
    faults = _faults(runs, cases, tmp_path)
    print(f"\n{len(cases)} cases, {len(cases) - len(faults)} right")
    print("\n".join(faults))
    assert faults == []


def test_a_file_beside_a_finished_model_is_told(runs: Runs, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(runs.partial, run)
    (run / "sft" / "model" / "adapter_config.json").write_text("{}")
    with pytest.raises(
        UserError, match=r"adapter_config\.json: this file was put there after the stage sft"
    ):
        burnish.run(runs.recipe, out=run, memory_check=False)
    with pytest.raises(UserError, match=r"was put there"):
        verify_if_stage(run / "sft" / "model")


def test_the_way_out_that_is_named_works(runs: Runs, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(runs.partial, run)
    _flip(run / "reward" / "model" / "head.safetensors", random.Random(1))
    with pytest.raises(
        UserError, match=f"Remove the folder {run / 'reward'} and run the recipe again"
    ):
        burnish.run(runs.recipe, out=run, memory_check=False)
    shutil.rmtree(run / "reward")
    assert runs.resume(run) == runs.due
