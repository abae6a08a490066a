"""Running one stage: what a start before it has left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from burnish.config.recipe_file import load_recipe
from burnish.execution.journal import JOURNAL
from burnish.runs.stage_record import begin
from burnish.stages.context import Run
from burnish.stages.run_stage import run_stage


@pytest.mark.parametrize(("before", "kept"), [({"seed": 1}, True), ({"seed": 2}, False)])
def test_rollouts_drawn_by_weights_that_will_not_come_again_go(
    before: dict[str, Any], kept: bool, tmp_path: Path
):
    recipe = load_recipe(
        None,
        ["model.name=tiny", "stages={sample: {count: 1, prompts: builtin:quickstart/prompts}}"],
    )
    this = Run(recipe, tmp_path)
    folder = this.place("sample")
    (folder / JOURNAL).mkdir(parents=True)
    (folder / JOURNAL / "rollouts").write_text("of the start before")
    begin(folder, before, seconds=1.0, accepted=())
    run_stage(this, "sample", {"seed": 1}, ())
    assert (folder / JOURNAL).exists() == kept
