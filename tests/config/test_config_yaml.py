"""YAML that cannot be meant, or would never end, is one line at once; what people do write is read
as they mean it."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

import burnish
from burnish.errors import UserError


def refusal(folder: Path, text: str | bytes, *overrides: str) -> str:
    path = folder / "recipe.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    start = time.process_time()
    with pytest.raises(UserError) as caught:
        burnish.load(path, *overrides)
    assert time.process_time() - start < 20
    return str(caught.value).replace(f"{folder}/", "")


def bomb(levels: int, width: int, form: str = "[{}]") -> str:
    lines = ["a0: &a0 [x, x]"]
    lines += [
        f"a{i}: &a{i} {form.format(', '.join([f'*a{i - 1}'] * width))}" for i in range(1, levels)
    ]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        bomb(10, 10),
        bomb(40, 2),
        bomb(3, 3000),
        "a0: &a0 {k: 1}\n"
        + "\n".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}" for i in range(1, 40)),
        f"a: &a {'y' * 50_000}\nb: [{', '.join(['*a'] * 100)}]",
        "a0: &a0 {k: 1}\n"
        + "\n".join(f"a{i}: &a{i} {{x: *a{i - 1}, y: *a{i - 1}}}" for i in range(1, 40)),
    ],
)
def test_aliases_that_grow_without_end(tmp_path: Path, text: str):
    assert "with its aliases written out this is longer than 1024 KB." in refusal(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 60_000,
        "a: " + "{a: " * 20_000,
        "\n".join(f"{' ' * i}a:" for i in range(200)),
        "- " * 30_000 + "a",
        "? " * 30_000 + "a",
        bomb(60, 1),
    ],
)
def test_what_stands_too_deep(tmp_path: Path, text: str):
    assert "sections and lists stand in one another more than 50 deep" in refusal(tmp_path, text)


def test_anchors_aliases_and_merges_work(tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "stages:\n  sft: {lora: &lora {r: 3, alpha: 4}, optimizer: &slow {learning_rate: 1e-5}}\n "
        " reward: {lora: *lora}\n  dpo: {lora: {<<: *lora, r: 5}, optimizer: {<<: [*slow, {warmup:"
        " 0.5}], weight_decay: 0.1}}\n"
    )
    stages: Any = burnish.load(path).stages
    assert stages["reward"].lora == stages["sft"].lora
    assert (stages["dpo"].lora.r, stages["dpo"].lora.alpha) == (5, 4.0)
    optimizer = stages["dpo"].optimizer
    assert (optimizer.learning_rate, optimizer.warmup, optimizer.weight_decay) == (1e-5, 0.5, 0.1)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seed: 1\nseed: 1\n", 'line 2, column 1: the key "seed" stands twice.'),
        ("seed: 1\n'seed': 1\n", 'line 2, column 1: the key "seed" stands twice.'),
        ("1: 2\n'1': 3", 'line 2, column 1: the key "1" stands twice.'),
        ("? [a]\n: 1", "line 1, column 3: a key is text, not a list or a section."),
        ("a: &x [*x]", "line 1, column 4: an alias refers to what it stands in."),
        (
            "---\nseed: 1\n---\nseed: 2",
            "line 3, column 1: a second document begins here; a recipe is one.",
        ),
        ("seed: !!int x", 'line 1, column 7: the tag "!!int" does not fit here.'),
        ("seed: !!bool perhaps", 'line 1, column 7: the tag "!!bool" does not fit here.'),
        ("seed: !!int ''", 'line 1, column 7: the tag "!!int" does not fit here.'),
        ("name: !!binary aGk=", 'line 1, column 7: the tag "!!binary" does not fit here.'),
        (
            "!!python/object/apply:os.getcwd []",
            'line 1, column 1: the tag "!!python/object/apply:os.getcwd" does not',
        ),
        (
            "seed: " + "9" * 401,
            "line 1, column 7: a number of 401 characters is more than a machine holds.",
        ),
        (
            "seed: 0x" + "f" * 5000,
            "line 1, column 7: a number of 5002 characters is more than a machine holds.",
        ),
        (
            'model: {name: "a\\0b"}',
            "line 1, column 15: the character U+0000 cannot stand in a recipe.",
        ),
        (
            'model: {name: "\\ud83d"}',
            "line 1, column 15: the character U+D83D cannot stand in a recipe.",
        ),
        (
            "seed: 010",
            (
                'row 1, field "seed": expected a whole number, given "010". Write it without'
                " leading zeros."
            ),
        ),
        ("seed: 1:30", 'row 1, field "seed": expected a whole number, given "1:30".'),
        ("data: {reliability_weighted: yes}", 'expected true or false, given "yes". Write true.'),
        ("data: {reliability_weighted: Off}", 'expected true or false, given "Off". Write false.'),
        (
            "data: {instruction: 1e5}",
            'expected text, given 100000.0. Put it in double quotes (on a command line: \'"1e5"',
        ),
        (
            "stages: {grpo: {rewards: [{name: mathz}]}}",
            'row 1, field "stages.grpo.rewards.0.name": expected ',
        ),
        ("x" * 140_000, "this is no recipe: it is longer than 128 KB."),
        ("seed: 3".encode("utf-16"), "this is text in UTF-16: save it as UTF-8."),
        ("seed: 3".encode("utf-16-le"), "the character U+0000 cannot stand in YAML (position 2)."),
        (b"seed: \xff", "this is not a text file in UTF-8."),
        (b"seed: 1\0", "the character U+0000 cannot stand in YAML (position 8)."),
    ],
)
def test_what_cannot_be_meant(tmp_path: Path, text: str | bytes, told: str):
    found = refusal(tmp_path, text)
    assert told in found
    assert found.startswith("recipe.yaml")
    assert "\n" not in found


@pytest.mark.parametrize(
    "text",
    [b"", b"# nothing\n", b"---\n", b"\xef\xbb\xbfseed: 7\n", b"seed: 7\r\nname: a\r\n", b"~"],
)
def test_texts_that_are_recipes(tmp_path: Path, text: bytes):
    (tmp_path / "recipe.yaml").write_bytes(text)
    assert burnish.load(tmp_path / "recipe.yaml", "stages=[report]").seed == (
        7 if b"7" in text else 0
    )


@pytest.mark.parametrize(
    ("written", "seed"), [("0x10", 16), ("0o17", 15), ("0b11", 3), ("1_000", 1000), ("+5", 5)]
)
def test_whole_numbers_in_other_forms(written: str, seed: int):
    assert burnish.load(None, "stages=[report]", f"seed={written}").seed == seed


def test_what_is_no_file_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.yaml")
    plug = socket.socket(socket.AF_UNIX)
    plug.bind(str(tmp_path / "socket.yaml"))
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    with (tmp_path / "large.yaml").open("wb") as file:
        file.truncate(100 * 2**20)
    told = {
        tmp_path / "pipe.yaml": "this is a pipe or a device; a recipe is a file.",
        tmp_path / "socket.yaml": "this is a pipe or a device; a recipe is a file.",
        Path("/dev/zero"): "this is a pipe or a device; a recipe is a file.",
        tmp_path: "this is a folder; name a recipe",
        tmp_path / "loop.yaml": "this file cannot be read (Too many levels of symbolic links).",
        tmp_path / "large.yaml": "this is no recipe: it is longer than 128 KB.",
        Path("x" * 300): "this file cannot be read (File name too long).",
        Path("a\0b"): "this name holds a character that no file's name can hold.",
        Path("a\nb.yaml"): "a\\nb.yaml: there is no such file.",
    }
    for path, problem in told.items():
        with pytest.raises(UserError) as caught:
            burnish.load(path)
        assert problem in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400
    plug.close()


SFT = "stages: {sft: {}}"
PPO = "stages: {reward: {}, ppo: {epochs: 2}}"
GRPO = "stages: {grpo: {rewards: [{name: maths}]}}"
ROUNDS = "stages:\n  rounds:\n    repeat: 2\n    stages: {sample: {}}"


@pytest.mark.parametrize(
    ("text", "overrides", "blamed"),
    [
        (
            SFT,
            ["sft.optimiser.lr=1"],
            'override "sft.optimiser.lr=1", field "stages.sft.optimiser"',
        ),
        (
            "stages: {sft: {optimiser: {lr: 1}}}",
            ["sft.epochs=2"],
            'recipe.yaml, row 1, field "stages.sft.optimiser"',
        ),
        (
            "stages: {sft: {optimiser: {lr: 1}}}",
            ["sft.optimiser.lr=2"],
            'recipe.yaml, row 1, field "stages.sft.optimiser"',
        ),
        (
            "seed: 1\nstages: {sft: {optimiser: {lr: 1}}}",
            ["seed=2"],
            'recipe.yaml, row 2, field "stages.sft.optimiser"',
        ),
        (
            PPO,
            ["seed=2", "ppo.num_mini_batches=99"],
            'override "ppo.num_mini_batches=99", field "stages.ppo"',
        ),
        (
            PPO,
            ["ppo.num_mini_batches=99", "stages.reward.epochs=1"],
            'override "ppo.num_mini_batches=99", field "stages.ppo"',
        ),
        (
            GRPO,
            ["grpo.rewards.0.weigth=2"],
            'override "grpo.rewards.0.weigth=2", field "stages.grpo.rewards.0.weigth"',
        ),
        (GRPO, ["grpo.rewards=[{name: maths, weight: x}]"], 'field "stages.grpo.rewards.0.weight"'),
        ("seed: x\nstages: [sft]", ["name=a"], 'recipe.yaml, row 1, field "seed"'),
        (SFT, ["seed=x", "seed=y"], 'override "seed=y", field "seed"'),
        (SFT, ["sft={epochs: x}"], 'override "sft={epochs: x}", field "stages.sft.epochs"'),
        (
            SFT,
            ["sft.epochs=x", "sft={batch_size: 3}"],
            'override "sft.epochs=x", field "stages.sft.epochs"',
        ),
        (
            "seed: 1",
            ["sft.epochs=x", "stages=[sft]"],
            'override "sft.epochs=x", field "stages.sft.epochs"',
        ),
        (SFT, ["a" + ".b" * 49 + "=1"], 'there is no stage and no key "a"'),
        (
            "stages:\n  sft: {}\n  seventh: {}",
            [],
            'recipe.yaml, row 3, field "stages.seventh": "seventh" is no kind',
        ),
        (
            "stages:\n  a: {}",
            ["a.kind=sftt"],
            'override "a.kind=sftt", field "stages.a.kind": there is no kind',
        ),
        (
            "stages:\n  a: {kind:\n sftt}",
            ["a.epochs=1"],
            'recipe.yaml, row 2, field "stages.a.kind": there is no kind',
        ),
        (
            "stages:\n  sft:\n  - 1",
            [],
            'recipe.yaml, row 2, field "stages.sft": a stage is a section',
        ),
        (
            "seed: 1\nstages: [sft, sft]",
            [],
            'recipe.yaml, row 2, field "stages": stages are a mapping',
        ),
        (
            ROUNDS,
            ["rounds.repeat=0"],
            'override "rounds.repeat=0", field "stages.rounds": rounds are',
        ),
        (
            ROUNDS,
            ["rounds.sample.count=x"],
            'override "rounds.sample.count=x", field "stages.rounds.1.sample.count"',
        ),
        (
            ROUNDS,
            ["rounds.2.sample.count=x"],
            'override "rounds.2.sample.count=x", field "stages.rounds.2.sample.count"',
        ),
        (
            ROUNDS,
            ["rounds.sampl.count=2"],
            'override "rounds.sampl.count=2", field "stages.rounds.stages.sampl"',
        ),
        (
            ROUNDS.replace("{}", "{count: x}"),
            ["rounds.2.sample.count=2"],
            'row 4, field "stages.rounds.1.sample.count"',
        ),
    ],
)
def test_a_mistake_is_blamed_on_what_made_it(
    tmp_path: Path, text: str, overrides: list[str], blamed: str
):
    assert blamed in refusal(tmp_path, text, *overrides)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("a" + ".b" * 50 + "=1", "leads 51 sections down; no key is so deep."),
        ("numbers" * 1000 + "=1", '..."'),
        ("na\nme=1", r'the override "na\nme=1" is not of the form'),
        ("name=\udcff", r'the value of the override "name=\udcff" cannot be read'),
        ("name=a\0", r'the value of the override "name=a\x00" cannot be read'),
        ("seed=1\n---\nseed: 2", "cannot be read (a second document begins here"),
        ("grpo.rewards.0.name=maths", "wants item 0 of a list of 0"),
        ("grpo.rewards." + "9" * 5000 + "=1", "of a list of 0"),
    ],
)
def test_overrides_that_cannot_be_meant(override: str, told: str):
    with pytest.raises(UserError) as caught:
        burnish.load(None, "stages={grpo: {rewards: []}}", override)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
