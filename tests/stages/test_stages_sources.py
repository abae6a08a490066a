"""Sources as a recipe names them: several with weights, other tools' layouts, catalogues, and what
a stage makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import burnish
from burnish.config.graph import graph_of
from burnish.config.recipe_file import load_recipe
from burnish.errors import UserError
from burnish.stages.context import Run
from burnish.stages.inputs import source_hash


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def reading(tmp_path: Path, **data: Any) -> Any:
    lines: list[str] = []
    recipe = load_recipe(
        None, values={"model": {"name": "tiny"}, "data": data, "stages": {"sft": {}}}
    )
    run = Run(recipe, tmp_path / "run", lines.append)
    return run.reading(recipe.data), lines


def test_several_sources_count_as_their_weights_say(tmp_path: Path):
    first = write(
        tmp_path / "a.jsonl", [{"instruction": f"a{i}", "output": "x"} for i in range(20)]
    )
    second = write(
        tmp_path / "b.jsonl",
        [
            {"conversations": [{"from": "human", "value": f"b{i}"}, {"from": "gpt", "value": "y"}]}
            for i in range(10)
        ],
    )
    read, lines = reading(
        tmp_path,
        demonstrations=[first, {"source": second, "weight": 3.0, "system": "Be brief."}],
        heldout=0.2,
    )
    split = read.demonstrations
    heldout = {d.messages[-2]["content"][0] for d in split.heldout}
    assert heldout == {"a", "b"}
    of_second = [d for d in split.train if d.messages[0]["role"] == "system"]
    assert len(of_second) == 3 * len({d.messages[1]["content"] for d in of_second})
    assert any("counts 3 times" in line for line in lines)


def test_comparisons_of_several_sources_and_what_one_holds_out(tmp_path: Path):
    pairs = [{"prompt": f"q{i}", "chosen": "x", "rejected": "y"} for i in range(6)]
    train = write(tmp_path / "train.jsonl", pairs)
    test = write(tmp_path / "more" / "test.jsonl", pairs[:2])
    read, lines = reading(tmp_path, comparisons=[train, str(Path(test).parent)], heldout=0.0)
    split = read.comparisons
    assert (len(split.train), len(split.heldout)) == (4, 2)
    assert "comparisons: left out 2 (held out in another source)" in lines


def test_a_list_names_sources_and_no_stage(tmp_path: Path):
    other = write(tmp_path / "a.jsonl", [{"prompt": "a", "completion": "x"}])
    stages = {
        "sample": {},
        "compare": {},
        "reward": {},
        "select": {},
        "sft": {"demonstrations": ["select", other]},
    }
    with pytest.raises(UserError, match="a list is of sources, and select is a stage"):
        load_recipe(None, values={"data": {"prompts": other}, "stages": stages})
    sources = {"sft": {"demonstrations": [other, {"source": other, "weight": 0.5}]}}
    recipe = load_recipe(None, values={"stages": sources})
    assert graph_of(recipe)["sft"].data.demonstrations == recipe.stages["sft"].demonstrations


def test_a_dataset_of_a_catalogue(tmp_path: Path):
    rows = [
        {"talk": [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": "x"}]}
        for i in range(4)
    ]
    write(tmp_path / "b.jsonl", rows)
    sets = {
        "b": {"file_name": "b.jsonl", "formatting": "sharegpt", "columns": {"messages": "talk"}}
    }
    (tmp_path / "dataset_info.json").write_text(json.dumps(sets))
    named = {"source": str(tmp_path), "dataset": "b"}
    read, _ = reading(tmp_path, demonstrations=named, heldout=0.0)
    assert len(read.demonstrations.train) == 4
    with pytest.raises(UserError, match="holds 1 datasets: b"):
        _ = reading(tmp_path, demonstrations=str(tmp_path))[0].demonstrations
    whole = {"heldout": None, "columns": {}, **named}
    before = source_hash(whole)
    write(tmp_path / "b.jsonl", rows[:3])
    assert source_hash(whole) != before


def test_texts_train_and_ask_nothing(tmp_path: Path):
    rows = [{"text": f"A story of {i} words."} for i in range(16)]
    result = burnish.sft(
        "tiny", rows, out=tmp_path / "run", threads=1, batch_size=4, heldout=0.25, quiet=True
    )
    found = result.results["sft"]
    assert found["examples_train"] + found["examples_heldout"] == 16
    # all but what begins a text
    assert found["trained_tokens"] >= found["tokens"] - found["examples_train"]
    read, _ = reading(tmp_path, demonstrations=write(tmp_path / "t.jsonl", rows))
    assert read.prompts.train == read.prompts.heldout == ()
    assert read.prompts.not_evaluated == "texts outside any chat ask nothing"


def test_what_is_dropped_is_counted_in_the_findings(tmp_path: Path):
    rows = [{"prompt": f"q{i}", "completion": "x"} for i in range(8)]
    odd = [
        {"prompt": "q0", "completion": "x"},
        {"prompt": "e", "completion": ""},
        {"prompt": "l", "completion": "x" * 400},
    ]
    settings: dict[str, Any] = {"threads": 1, "heldout": 0.0, "max_length": 200, "quiet": True}
    everything = ["duplicate", "empty", "too_long"]
    result = burnish.sft("tiny", [*rows, *odd], out=tmp_path / "a", drop=everything, **settings)
    assert result.results["sft"]["dropped"]["demonstrations"] == {
        "duplicate": 1,
        "empty": 1,
        "too long": 1,
    }
    with pytest.raises(UserError, match=r"row 9, field \"completion\": is empty"):
        burnish.sft("tiny", [*rows, odd[1]], out=tmp_path / "b", drop="duplicate", **settings)
