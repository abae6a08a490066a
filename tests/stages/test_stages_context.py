"""What a run holds out is never trained on, whichever of its sources holds it out and whichever is
trained on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import burnish
from burnish.stages import reading as reading_module
from burnish.stages.context import Run
from burnish.stages.reading import Reading

MARK = "MARKER"
ROWS: dict[str, Callable[[str], dict[str, Any]]] = {
    "demonstrations": lambda q: {
        "messages": [{"role": "user", "content": q}, {"role": "assistant", "content": "yes"}]
    },
    "comparisons": lambda q: {"prompt": q, "chosen": "yes", "rejected": "no"},
    "prompts": lambda q: {"prompt": q, "answer": "yes"},
}
PAIRS = [(trained, holding) for trained in ROWS for holding in ROWS if trained != holding]


def _file(place: Path, name: str, questions: list[str], *, out: int = 0) -> Path:
    """Rows of a kind, the last `out` of which are marked as held out."""
    splits = ["train"] * (len(questions) - out) + ["test"] * out
    rows = [
        {**ROWS[name](question), "split": split}
        for question, split in zip(questions, splits, strict=True)
    ]
    (place / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return place / f"{name}.jsonl"


def _reading(place: Path, said: list[str], *settings: str) -> Reading:
    recipe = burnish.load(None, "model.name=tiny", "stages=[sft, evaluate]", *settings)
    return Run(recipe, place / "run", said.append).reading(recipe.data)


@pytest.mark.parametrize(("trained", "holding"), PAIRS)
def test_what_one_source_holds_out_no_other_trains_on(tmp_path: Path, trained: str, holding: str):
    mine = _file(
        tmp_path, trained, ["one", "two", f"{MARK}  0", f"{MARK.lower()} 1", "three"], out=1
    )
    theirs = _file(tmp_path, holding, ["four", "two", f"{MARK} 0", f"{MARK} 1"], out=2)
    said: list[str] = []
    reading = _reading(tmp_path, said, f"data.{trained}={mine}", f"data.{holding}={theirs}")
    split = getattr(reading, trained)
    assert (
        MARK.casefold() not in repr(split.train).casefold(),
        len(split.train),
        len(split.heldout),
    ) == (True, 2, 1)
    assert MARK in repr(getattr(reading, holding).heldout)
    assert reading.dropped[trained] == {f"held out in data.{holding}": 2}
    assert f"{trained}: left out 2 (held out in data.{holding})" in said


def test_an_instruction_behind_the_prompts_makes_no_difference(tmp_path: Path):
    mine = _file(tmp_path, "demonstrations", [f"{MARK} 0", "one", "two"], out=1)
    theirs = _file(tmp_path, "prompts", ["three", "two", f"{MARK} 0"], out=1)
    files = (f"data.demonstrations={mine}", f"data.prompts={theirs}")
    reading = _reading(tmp_path, [], *files, "data.instruction=End with  the Answer.")
    assert [d.messages[0]["content"] for d in reading.demonstrations.train] == ["one"]
    assert [p.messages[0]["content"].split()[0] for p in reading.prompts.train] == ["three"]


def test_answers_preferred_in_comparisons_are_trained_on_as_the_comparisons_are(tmp_path: Path):
    """They share every prompt, on purpose: what is held out is so in both, by one hash."""
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(
        "".join(json.dumps(ROWS["comparisons"](f"question {i}")) + "\n" for i in range(40))
    )
    reading = _reading(tmp_path, [], f"data.comparisons={pairs}", "data.heldout=0.3")
    names = [
        {item.id for item in part}
        for part in (reading.demonstrations.train, reading.demonstrations.heldout)
    ]
    groups = reading.comparisons
    assert names == [{g.prompt.id for g in part} for part in (groups.train, groups.heldout)]
    assert names[0] | names[1] == {f"pairs.jsonl:{i}" for i in range(1, 41)}
    assert reading.dropped == {}


def test_prompts_of_comparisons_lose_what_demonstrations_hold_out(tmp_path: Path):
    pairs = _file(tmp_path, "comparisons", ["one", f"{MARK} 0", "two"], out=1)
    demos = _file(tmp_path, "demonstrations", ["three", f"{MARK} 0"], out=1)
    reading = _reading(tmp_path, [], f"data.comparisons={pairs}", f"data.demonstrations={demos}")
    assert [p.messages[0]["content"] for p in reading.prompts.train] == ["one"]


def test_a_source_is_read_once_however_many_stages_name_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Stages with prompts of their own still share the demonstrations, of which each keeps what its
    own prompts hold out."""
    demos = _file(
        tmp_path, "demonstrations", ["one", f"{MARK} 0", f"{MARK} 1", "one", "two"], out=1
    )
    asked = {}
    for name, held in (("first", f"{MARK} 0"), ("second", f"{MARK} 1")):
        (tmp_path / name).mkdir()
        asked[name] = _file(tmp_path / name, "prompts", ["three", held], out=1)
    recipe = burnish.load(
        None,
        "model.name=tiny",
        f"data.demonstrations={demos}",
        "stages.sft={}",
        "stages.a={kind: sft, start: base}",
        f"stages.p={{kind: sample, prompts: {asked['first']}}}",
        "stages.b={kind: sft, start: base}",
        f"stages.q={{kind: sample, prompts: {asked['second']}}}",
        "stages.c={kind: sft, start: base}",
    )
    read: list[str] = []
    parts = reading_module.read_parts
    monkeypatch.setattr(
        reading_module,
        "read_parts",
        lambda source, *rest: read.append(str(source)) or parts(source, *rest),
    )
    said: list[str] = []
    run = Run(recipe, tmp_path / "run", said.append)
    kept = {
        stage: [d.messages[0]["content"] for d in run.step(stage).demonstrations.train]
        for stage in ("sft", "b", "c")
    }
    assert kept["sft"] == ["one", f"{MARK} 0", f"{MARK} 1"]
    assert kept["b"] == ["one", f"{MARK} 1"]
    assert kept["c"] == ["one", f"{MARK} 0"]
    assert sorted(read) == sorted([str(demos), *map(str, asked.values())])
    left_out = [run.step(stage).reading.dropped["demonstrations"] for stage in ("sft", "b", "c")]
    twice = next(iter(left_out[0].items()))  # the row that stands twice is counted with each
    assert all(twice in one.items() for one in left_out)
    assert len([line for line in said if "duplicate" in line]) == 1
