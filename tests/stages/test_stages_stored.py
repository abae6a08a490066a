"""A reward model trained straight from the store: soft labels arrive, new answers change its
fingerprint and no other's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from burnish.annotation.snapshot import add_labelled
from burnish.annotation.store import Store
from burnish.config.recipe import Recipe
from burnish.config.schema import Data
from burnish.errors import UserError
from burnish.records import LabelledItem, Opinion, Prompt
from burnish.stages.context import Run
from burnish.stages.run import run
from burnish.stages.stored import freeze, stored_labels


def _say(strength: int, who: str, kind: str = "person") -> Opinion:
    return Opinion(
        "pairwise", who, (1, 2) if strength > 0 else (2, 1), {"strength": strength}, kind
    )


def _items(count: int, *people: str) -> list[LabelledItem]:
    return [
        LabelledItem(
            Prompt(f"p{i}", ({"role": "user", "content": f"What is {i} plus {i}?"},)),
            (f"It is {2 * i}.", f"Maybe {i}, who knows?"),
            (),
            tuple(_say(1 if n or i % 4 else -1, who) for n, who in enumerate(people)),
        )
        for i in range(count)
    ]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "labels.sqlite"
    store = Store(place)
    add_labelled(store, "helpful", _items(24, "ann", "bob", "cy"))
    store.close()
    return place


def _recipe(place: Path, folder: Path, **data: object) -> Recipe:
    demos = folder / "demos.jsonl"
    demos.write_text(
        "".join(json.dumps({"prompt": f"Say {i}", "completion": f"{i}."}) + "\n" for i in range(12))
    )
    return Recipe.model_validate(
        {
            "name": "nightly", "threads": 1, "model": {"name": "tiny", "max_length": 256},
            "data": {"demonstrations": str(demos), "prompts": str(demos), "split_column": None,
                "heldout": 0.3,
                     "store": str(place), "project": "helpful", **data},
            "stages": {
                "sft": {"kind": "sft", "epochs": 1, "lora": {"r": 2, "alpha": 4}, "eval_every": 5},
                "reward": {"kind": "reward", "lora": {"r": 2, "alpha": 4}, "batch_size": 8,
                    "eval_every": 5, "normalize": False},
            },
        }
    )  # fmt: skip


def test_labels_come_with_the_reliability_of_who_gave_them(place: Path, tmp_path: Path):
    plain = stored_labels(
        Data(store=str(place), project="helpful", reliability_weighted=False, strength="ignore"),
        tmp_path / "a",
    )
    weighted = stored_labels(
        Data(store=str(place), project="helpful", strength="ignore"), tmp_path / "b"
    )
    first = [
        next(g for g in labels.groups if g.prompt.id == "p0").comparisons[0]
        for labels in (plain, weighted)
    ]
    assert first[0].probability == pytest.approx(2 / 3)  # ann says no on every fourth
    assert first[1].probability > 0.7
    assert plain.hash != weighted.hash
    with pytest.raises(UserError, match='no project "other"'):
        stored_labels(Data(store=str(place), project="other"), tmp_path / "c")
    with pytest.raises(UserError, match="no such store"):
        stored_labels(Data(store=str(tmp_path / "gone.sqlite"), project="helpful"), tmp_path / "c")


def test_an_unfinished_run_keeps_the_labels_it_began_with(place: Path, tmp_path: Path):
    data, folder = Data(store=str(place), project="helpful"), tmp_path / "run"
    before = stored_labels(data, folder)
    freeze(before, folder)
    store = Store(place)
    add_labelled(store, "helpful", _items(24, "ann", "bob", "cy", "dee"))
    (folder / "reward").mkdir(parents=True)
    (folder / "reward" / "begun.json").write_text("{}")
    assert stored_labels(data, folder).hash == before.hash
    (folder / "reward" / "stage.json").write_text("{}")
    after = stored_labels(data, folder)
    assert after.hash != before.hash
    assert len(after.groups) == len(before.groups)


@pytest.mark.parametrize(
    "content",
    [
        "",
        '{"dropped": {}',
        "[]",
        "{}",
        '{"groups": 3}',
        '{"groups": [{}], "dropped": {}, "demonstrations": []}',
    ],
)
def test_damaged_labels_of_an_unfinished_run_are_one_line(
    place: Path, tmp_path: Path, content: str
):
    (tmp_path / "reward").mkdir()
    (tmp_path / "reward" / "begun.json").write_text("{}")
    (tmp_path / "labels.json").write_text(content)
    with pytest.raises(UserError, match=r"labels\.json: this file is .*Remove it") as refused:
        stored_labels(Data(store=str(place), project="helpful"), tmp_path)
    assert "\n" not in str(refused.value)


def test_the_reward_model_is_trained_anew_when_answers_came_in_and_sft_is_not(
    place: Path, tmp_path: Path
):
    recipe, said = _recipe(place, tmp_path), []
    monday = run(recipe, out=tmp_path / "monday", memory_check=False)
    result = json.loads((monday / "reward" / "result.json").read_text())
    assert result["accuracy"] is not None
    assert (monday / "reward" / "model").is_dir()
    run(recipe, out=monday, memory_check=False, say=said.append)
    assert "reward: done already" in said

    kept = (monday / "labels.json").read_bytes()
    store = Store(place)
    add_labelled(store, "helpful", _items(30, "ann", "bob", "cy", "dee"))
    store.close()
    with pytest.raises(UserError, match=r"the contents of data\.store changed"):
        run(recipe, out=monday, memory_check=False)
    assert (monday / "labels.json").read_bytes() == kept  # a refused run changes nothing
    said.clear()
    tuesday = run(
        recipe, out=tmp_path / "tuesday", fork=monday, memory_check=False, say=said.append
    )
    assert any(line.startswith("sft: taken over") for line in said)
    assert not any(line.startswith("reward: taken over") for line in said)
    stages = [
        json.loads((run_ / "reward" / "stage.json").read_text()) for run_ in (monday, tuesday)
    ]
    assert stages[0]["fingerprint"] != stages[1]["fingerprint"]


def test_a_store_that_only_a_later_stage_reads_need_not_be_there_yet(tmp_path: Path):
    recipe = _recipe(tmp_path / "not-yet.sqlite", tmp_path)
    out = run(recipe, out=tmp_path / "run", only="sft", memory_check=False)
    assert (out / "sft" / "stage.json").is_file()
    with pytest.raises(UserError, match="no such store"):
        run(recipe, out=out, memory_check=False)


def test_sft_takes_what_annotators_wrote(place: Path, tmp_path: Path):
    store = Store(place)
    written = Opinion("demonstration", "ann", None, {"text": "Certainly: 42."})
    prompts = [Prompt(f"d{i}", ({"role": "user", "content": f"Question {i}"},)) for i in range(6)]
    add_labelled(
        store, "helpful", [LabelledItem(p, (), (), (written,), "demonstration") for p in prompts]
    )
    step = Run(_recipe(place, tmp_path, demonstrations=None), tmp_path / "run").step("sft")
    demos = (*step.demonstrations.train, *step.demonstrations.heldout)
    assert {d.messages[-1]["content"] for d in demos} == {"Certainly: 42."}


def test_store_and_project_belong_together():
    with pytest.raises(ValueError, match="give both"):
        Data(store="x.sqlite")
    with pytest.raises(ValueError, match="choose one"):
        Data(store="x.sqlite", project="p", comparisons="y.jsonl")
