"""People in a recipe: their project gets the answers, the command waits with exit code 75, and goes
on when they have compared them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import burnish
from burnish.annotation.records import Answer
from burnish.annotation.snapshot import add_answers, take_snapshot
from burnish.annotation.store import Store
from burnish.cli.main import main
from burnish.stages.artifacts import read_comparisons
from burnish.stages.people import WaitingForPeople, when_they_are_done

RECIPE = """
name: asked
threads: 1
model: {name: tiny, max_length: 256}
data: {prompts: PROMPTS, heldout: 0.25}
stages:
  sample: {responses: 2, sampling: {max_new_tokens: 8}}
  compare: {by: {people: {store: STORE, project: helpful}}}
  reward: {lora: {r: 2, alpha: 4}, batch_size: 2}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    rows = [
        {"id": f"p{i}", "prompt": f"Say something about the number {i}, please."} for i in range(12)
    ]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "recipe.yaml"
    text = RECIPE.replace("PROMPTS", str(tmp_path / "prompts.jsonl"))
    path.write_text(text.replace("STORE", str(tmp_path / "labels.sqlite")))
    return path


def _compare(store_file: Path, *, most: int | None = None) -> int:
    """A person prefers the first candidate of items that nobody has compared, at most so many; how
    many there were."""
    store = Store(store_file)
    try:
        snapshot = take_snapshot(store, "helpful")
        store.add_annotator("ann", kind="person")
        done = {one.item_id for one in snapshot.answers}
        todo = [entry for entry in snapshot.entries if entry.item_id not in done][:most]
        answer = Answer("pairwise", (0, 1), strength=1, ranks=(1, 2))
        return add_answers(store, "helpful", "ann", [(entry.item_id, answer) for entry in todo])
    finally:
        store.close()


def _items(store_file: Path) -> int:
    store = Store(store_file)
    try:
        return len(take_snapshot(store, "helpful").entries)
    finally:
        store.close()


def test_a_run_waits_for_people_and_goes_on_with_what_they_said(recipe: Path, tmp_path: Path):
    store, folder = tmp_path / "labels.sqlite", tmp_path / "run"
    with pytest.raises(
        WaitingForPeople, match=r"waiting for people: 0 of \d+ answers .*helpful"
    ) as waiting:
        burnish.run(burnish.load(recipe), out=folder)
    assert waiting.value.exit_code == 75
    assert not (folder / "compare" / "stage.json").exists()
    items = _items(store)
    assert _compare(store, most=2) == 2
    with pytest.raises(WaitingForPeople, match=rf"waiting for people: 2 of {items} answers"):
        burnish.run(burnish.load(recipe), out=folder)
    assert _compare(store) == items - 2
    lines: list[str] = []
    burnish.run(burnish.load(recipe), out=folder, say=lines.append)
    assert "sample: done already" in lines
    groups = read_comparisons(folder / "compare")
    assert len(groups) == items == _items(store)
    for group in groups:
        # everybody preferred the candidate that the project shows as its first
        assert [(one.first, one.second) for one in group.comparisons] == [(0, 1)]
        assert group.comparisons[0].probability > 0.5
        assert "@" not in group.prompt.id
    result = json.loads((folder / "compare" / "result.json").read_text())
    assert result["judges"] == [{"by": "people", "prompts": 9, "comparisons": items}]
    assert (folder / "reward" / "model" / "head.safetensors").is_file()


def test_a_run_that_was_moved_while_it_waited_asks_for_nothing_twice(recipe: Path, tmp_path: Path):
    store, folder = tmp_path / "labels.sqlite", tmp_path / "run"
    with pytest.raises(WaitingForPeople):
        burnish.run(burnish.load(recipe), out=folder)
    items = _items(store)
    _compare(store)
    shutil.move(folder, tmp_path / "elsewhere")
    burnish.run(burnish.load(recipe), out=tmp_path / "elsewhere")
    assert _items(store) == items
    assert len(read_comparisons(tmp_path / "elsewhere" / "compare")) == items


def test_the_command_ends_with_75_in_one_line(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as ended:
        main(["run", str(recipe), "--out", str(tmp_path / "run"), "--quiet"])
    assert ended.value.code == 75
    (last,) = [
        line for line in capsys.readouterr().err.splitlines() if line.startswith("burnish: ")
    ]
    assert "waiting for people: 0 of" in last
    assert "burnish annotate serve --database" in last


def test_waiting_stays_until_they_are_done(recipe: Path, tmp_path: Path):
    store, said = tmp_path / "labels.sqlite", list[str]()

    def run() -> Path:
        try:
            return burnish.run(burnish.load(recipe), out=tmp_path / "run")
        finally:
            _compare(store, most=5)  # between two looks

    assert when_they_are_done(run, say=said.append, every=0.0) == tmp_path / "run"
    assert len(said) == len(set(said)) > 1


def test_constitutions_are_read_before_anything_is_trained(tmp_path: Path):
    changes = ("model.name=tiny", f"data.prompts={tmp_path / 'p.jsonl'}")
    (tmp_path / "p.jsonl").write_text('{"prompt": "Why?"}\n{"prompt": "How?"}\n')
    (tmp_path / "empty.txt").write_text("# Nothing\n")
    judge = "compare.by={judge: {model: base, constitution: PATH}}"
    for stages, change in (("[sample, compare]", judge), ("[revise]", "revise.constitution=PATH")):
        for name, problem in (("gone.txt", "cannot be read"), ("empty.txt", "holds no principle")):
            override = change.replace("PATH", str(tmp_path / name))
            with pytest.raises(burnish.UserError, match=problem):
                burnish.run(
                    burnish.load(None, *changes, f"stages={stages}", override), out=tmp_path / "run"
                )
            assert not (tmp_path / "run" / "sample").exists()
