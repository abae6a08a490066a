"""docs/coming-from.md: Burnish's keys in it exist, another trainer's word is answered when it is
typed, and what is converted trains."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import burnish
from burnish.config.hints import ABSENT, ALIASES
from burnish.config.options import find, known_keys

PAGE = (Path(__file__).parents[1] / "docs" / "coming-from.md").read_text(encoding="utf-8")
VALUES = {"nll"}  # of a key, which stand beside it


def _rows() -> Iterator[list[str]]:
    for line in PAGE.splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def test_every_key_of_ours_exists() -> None:
    keys = [key for row in _rows() for key in re.findall(r"`([\w.+-]+)`", row[1])]
    assert len(keys) > 150
    for key in keys:
        assert find(key).exact, key


def test_every_word_of_theirs_is_answered_when_it_is_typed() -> None:
    ours = {key.rpartition(".")[2] for key in known_keys()}
    words = [word for row in _rows() for word in re.findall(r"`([\w.]+)`", row[0])]
    assert len(words) > 150
    answered = ours | ALIASES.keys() | ABSENT.keys() | VALUES
    assert [word for word in words if word.rpartition(".")[2] not in answered] == []


def test_a_row_has_a_key_of_ours_or_says_what_holds_instead() -> None:
    assert [row[0] for row in _rows() if len(row) != 3 or not (row[1] or row[2])] == []


def _converted() -> dict[str, str]:
    blocks = re.findall(
        r"^```(?:yaml|python)\n# ([\w.-]+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE
    )
    return dict(blocks)


def _write_data(folder: Path) -> None:
    """Data as the other trainers' configurations name it."""
    answers = [
        {"prompt": f"Say {i}.", "completion": f"{i}.", "label": i % 2 == 0} for i in range(24)
    ]
    lines = "\n".join(json.dumps(row) for row in answers)
    (folder / "judged.jsonl").write_text(lines, encoding="utf-8")
    problems = [{"question": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(40)]
    lines = "\n".join(json.dumps(row) for row in problems)
    (folder / "prompts.jsonl").write_text(lines, encoding="utf-8")
    (folder / "data").mkdir()
    turns = [{"from": "human", "value": "Say hello."}]
    pairs = [
        {
            "conversations": [{**turns[0], "value": f"Say {i}."}],
            "chosen": {"from": "gpt", "value": f"{i}!"},
            "rejected": {"from": "gpt", "value": "No."},
        }
        for i in range(16)
    ]
    (folder / "data" / "dpo.json").write_text(json.dumps(pairs), encoding="utf-8")
    columns = {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"}
    sets = {
        "dpo_en_demo": {
            "file_name": "dpo.json",
            "ranking": True,
            "formatting": "sharegpt",
            "columns": columns,
        }
    }
    (folder / "data" / "dataset_info.json").write_text(json.dumps(sets), encoding="utf-8")


SHORTER = {
    "from-axolotl.yaml": (),
    "from-llama-factory.yaml": ("dpo.epochs=1",),
    "from-openrlhf.yaml": ("train.steps=1", "train.sampling.max_new_tokens=4"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORTER)
def test_what_is_converted_trains(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _write_data(tmp_path)
    for file, text in _converted().items():
        (tmp_path / file).write_text(text, encoding="utf-8")
    result = burnish.run(burnish.load(Path(name), *SHORTER[name]), out="runs/converted", quiet=True)
    assert len(result.metrics) > 0
    assert (Path(result.model_folder()) / "model.safetensors").is_file()
