"""Which models of a stage can stand on one backbone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import burnish
from burnish.stages.context import Run
from burnish.stages.roles import stands_on


@pytest.mark.parametrize("named", ["runs/here", "absolute"])
@pytest.mark.parametrize(("start", "stands"), [("sft", True), ("base", False)])
def test_a_reward_model_of_this_run_is_known_by_its_stage_wherever_the_run_lies(
    named: str, start: str, stands: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A run that was copied holds adapters whose configuration names a folder that is gone."""
    monkeypatch.chdir(tmp_path)
    recipe = burnish.load(
        None, "stages=[sft, reward, ppo]", "data.comparisons=c.jsonl", f"ppo.start={start}"
    )
    step = Run(recipe, tmp_path / "run" if named == "absolute" else Path(named)).step("ppo")
    folder = Path(step.model("reward"))
    (folder / "adapter").mkdir(parents=True)
    (folder / "adapter" / "adapter_config.json").write_text(
        '{"base_model_name_or_path": "/gone/sft/model"}'
    )
    backbone: Any = SimpleNamespace(reference=step.start, quantization="none")
    assert stands_on(step, folder, backbone) is stands
