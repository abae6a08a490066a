"""The whole way with people in it, as examples/people.py goes it: every command and every page, on
the tiny model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from burnish.annotation.store import Store
from scripts import load_script

EXAMPLE = Path(__file__).parents[2] / "examples" / "people.py"
ITEMS = 14


def test_from_labels_in_a_browser_to_a_policy_and_its_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("playwright.sync_api")
    if not (shutil.which("chromium") or shutil.which("chromium-browser")):
        pytest.skip("Chromium is not installed")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    people = load_script(EXAMPLE)
    demos = [{"prompt": f"Say {i}.", "completion": f"{i}, with pleasure."} for i in range(20)]
    prompts = [
        {"prompt": f"Say {i} twice.", "split": "heldout" if i > ITEMS else "train"}
        for i in range(20)
    ]
    for name, rows in (("demos", demos), ("prompts", prompts)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "run"
    small = [
        "model.name=tiny", "model.max_length=400", "threads=1",
        f"data.demonstrations={tmp_path}/demos.jsonl",
        f"data.prompts={tmp_path}/prompts.jsonl", "data.heldout=0.3", "sft.epochs=0.2",
        "ppo.steps=1", "ppo.prompts_per_step=4",
        "ppo.sampling={max_new_tokens: 8}", "evaluate={count: 4, sampling: {max_new_tokens: 8}}",
    ]  # fmt: skip
    people.run(out, small, items=ITEMS, annotators=2, longest=12)
    store = Store(out / "annotations.sqlite")
    labelled = list(store.labelled(people.PROJECT))
    store.close()
    exported = [json.loads(line) for line in (out / "labels.jsonl").read_text().splitlines()]
    reward = json.loads((out / "reward" / "result.json").read_text())
    assert {one.annotator for one in labelled} == {"annotator-1", "annotator-2"}
    assert len(labelled) == 2 * ITEMS
    assert len(exported) == reward["pairs_train"] + reward["pairs_heldout"] == ITEMS
    # both annotators have the same taste, and the sides they were shown differed: the labels are
    # certain
    assert {one.answer.presented for one in labelled} == {(0, 1), (1, 0)}
    assert json.loads((out / "ppo" / "result.json").read_text())
    assert "people" in (out / "report.html").read_text()
