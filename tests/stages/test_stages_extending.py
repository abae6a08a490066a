"""What docs/extending.md shows, made by its files and recipes alone, on the tiny model; and what is
said of what does not fit."""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path

import pytest
import torch

import burnish
from burnish.algorithms.recipes import Earned, advantages_of, loss_of
from burnish.config import kinds
from burnish.config.graph import graph_of
from burnish.config.kinds import KINDS
from burnish.config.short import dump_short
from burnish.errors import UserError
from burnish.own_code import own
from burnish.runs.manifest import file_hash, read_sealed

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = {
    name: text
    for text, name in re.findall(r"^```\w+\n(# ([\w.]+)\n.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
}
TINY = ["threads=1", "model.max_length=300", "data.limit=16"]
PASSES = ["epochs=1", "lora={r: 2, alpha: 4}", "batch_size=4"]
ROLLOUTS = [
    "steps=2",
    "prompts_per_step=2",
    "responses_per_prompt=2",
    "lora={r: 2, alpha: 4}",
    "sampling.max_new_tokens=6",
]


@pytest.fixture(autouse=True)
def _the_files_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)


def of(stage: str, changes: list[str]) -> list[str]:
    return [f"{stage}.{change}" for change in changes]


def found(folder: Path, stage: str) -> dict:
    return json.loads((folder / stage / "result.json").read_text())


def inputs(folder: Path, stage: str) -> dict:
    problem = UserError("damaged")
    return read_sealed(folder / stage / "stage.json", problem)["inputs"]


def test_a_reward():
    folder = burnish.run(burnish.load("reward.yaml", *TINY, *of("rloo", ROLLOUTS)), out="run")
    rows = [
        json.loads(line) for line in (folder / "rloo" / "metrics.jsonl").read_text().splitlines()
    ]
    assert all(0 <= row["reward"] <= 1 for row in rows)
    assert inputs(folder, "rloo")["own_code"] == {"vowels.py:vowels": file_hash(Path("vowels.py"))}


def test_a_loss():
    recipe = burnish.load(
        "loss.yaml", *TINY, *of("squared", PASSES), "sample.sampling.max_new_tokens=6"
    )
    folder = burnish.run(recipe, out="run")
    rows = [
        json.loads(line) for line in (folder / "squared" / "metrics.jsonl").read_text().splitlines()
    ]
    assert rows[0]["loss"] == pytest.approx(1.0, abs=1e-5)  # policy and reference are one: d = 0
    assert (folder / "squared" / "model" / "model.safetensors").is_file()
    assert inputs(folder, "squared")["own_code"] == {
        "squared.py:squared": file_hash(Path("squared.py"))
    }
    assert found(folder, "squared")["reference"] is True


def test_a_loss_that_is_a_row_of_the_table_trains_to_the_same_bytes():
    Path("mine.py").write_text(
        "from burnish.algorithms.preference_losses import dpo_loss as mine\n"
    )
    weights = []
    for loss in ("dpo", "mine.py:mine"):
        changes = [
            f"squared.loss={{name: '{loss}', beta: 0.3}}",
            "sample.sampling.max_new_tokens=6",
        ]
        recipe = burnish.load("loss.yaml", *TINY, *of("squared", PASSES), *changes)
        folder = burnish.run(recipe, out=f"run-{len(weights)}")
        weights.append(file_hash(folder / "squared" / "model" / "model.safetensors"))
    assert weights[0] == weights[1]


def test_an_algorithm():
    folder = burnish.run(burnish.load("algorithm.yaml", *TINY, *of("ranked", ROLLOUTS)), out="run")
    assert inputs(folder, "ranked")["own_code"] == {
        "ranked.py:RANKED": file_hash(Path("ranked.py"))
    }
    algorithm = found(folder, "ranked")["algorithm"]
    assert (algorithm["name"], algorithm["advantage"], algorithm["loss"]) == (
        "ranked",
        "ranks",
        "plain",
    )
    assert algorithm["beta"] == 0.02
    assert found(folder, "ranked")["roles"] == ["policy", "reference"]
    assert len((folder / "ranked" / "metrics.jsonl").read_text().splitlines()) == 2


def test_the_advantages_of_the_page():
    row = own("ranked.py:RANKED", field="algorithm.name")
    mask = torch.tensor(
        [[True, True], [True, False], [True, True], [True, True], [True, True], [True, True]]
    )
    earned = Earned(
        scores_B=torch.tensor([1.0, 3.0, 2.0, 5.0, 5.0, 0.0]),
        groups_B=torch.tensor([0, 0, 0, 1, 1, 1]),
        kl_BT=torch.zeros(6, 2), mask_BT=mask, values_BT=None, beta=0.0, gamma=1.0, gae_lambda=1.0,
    )  # fmt: skip
    advantages = advantages_of(row, earned).advantages_BT
    assert advantages[:, 0].tolist() == [-1.0, 1.0, 0.0, 0.5, 0.5, -1.0]
    assert advantages[:, 1].tolist() == [-1.0, 0.0, 0.0, 0.5, 0.5, -1.0]
    loss = loss_of(
        row, logprobs=torch.tensor([-1.0, -2.0]), old_logprobs=torch.tensor([-1.0, -1.0]),
        advantages=torch.tensor([2.0, -1.0]), sequence_of_P=torch.tensor([0, 0]), sequences=1,
    )  # fmt: skip
    assert loss.per_token.tolist() == [2.0, -2.0]
    assert loss.stats["ratio"].tolist() == pytest.approx([1.0, math.exp(-1)])


def test_an_algorithm_that_is_a_row_of_the_table_trains_to_the_same_bytes():
    Path("mine.py").write_text("from burnish.algorithms.recipes import ROWS\nMINE = ROWS['grpo']\n")
    weights = []
    for name in ("grpo", "mine.py:MINE"):
        recipe = burnish.load(
            "algorithm.yaml", *TINY, *of("ranked", ROLLOUTS), f"ranked.algorithm={{name: '{name}'}}"
        )
        folder = burnish.run(recipe, out=f"run-{len(weights)}")
        weights.append(file_hash(folder / "ranked" / "model" / "model.safetensors"))
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("algorithm", "told"),
    [
        ("'nowhere.py:ROW'", "the algorithm nowhere.py:ROW cannot be had: there is no such file."),
        ("'ranked.py:RANK'", 'cannot be had: ranked.py has no "RANK"'),
        ("'ranked.py:ranks'", "has no advantage, so it is no row of an algorithm"),
    ],
)
def test_an_algorithm_that_does_not_fit_is_told_with_its_place(algorithm: str, told: str):
    with pytest.raises(UserError) as caught:
        burnish.load(
            None, f"stages={{x: {{kind: online, prompts: a.jsonl, algorithm: {algorithm}}}}}"
        )
    assert told in str(caught.value)
    assert '"stages.x.algorithm"' in str(caught.value)


def test_parts_of_an_algorithm_that_do_not_fit_are_told_before_anything_runs():
    Path("half.py").write_text(
        "from burnish.algorithms.recipes import Algorithm\n"
        "HALF = Algorithm('half', 'nowhere', 'group_means', 'clip', 'token')\n"
    )
    recipe = burnish.load("algorithm.yaml", "ranked.algorithm='half.py:HALF'")
    with pytest.raises(UserError, match=r'"ranked.algorithm": unknown advantage .group_means.'):
        burnish.run(recipe, out="run")


def test_a_kind_of_stage():
    recipe = burnish.load(
        "kind.yaml", *TINY, *of("sft", PASSES), "sample.sampling.max_new_tokens=6"
    )
    assert graph_of(recipe)["sft"].inputs["demonstrations"][0].stage == "short"
    assert burnish.load(
        None, f"stages={json.dumps({'sample': {}, 'short': {'kind': 'shortest.py:SHORTEST'}})}"
    )
    Path("short.yaml").write_text(dump_short(recipe), encoding="utf-8")
    assert burnish.load("short.yaml") == recipe
    lines: list[str] = []
    folder = burnish.run(recipe, out="run", say=lines.append)
    kept = found(folder, "short")["kept"]
    assert 0 < kept <= found(folder, "short")["prompts"] == 8
    assert found(folder, "sft")["examples_train"] == kept
    page = (folder / "report.html").read_text()
    assert f"the shortest were kept: {kept} demonstrations." in page
    assert any("short: done" in line for line in lines)


def test_a_kind_is_fingerprinted_with_its_file_and_what_it_reaches():
    recipe = burnish.load(
        "kind.yaml", *TINY, *of("sft", PASSES), "sample.sampling.max_new_tokens=6"
    )
    folder = burnish.run(recipe, out="run", until="short")
    made = inputs(folder, "short")
    assert made["own_code"] == {"shortest.py:SHORTEST": file_hash(Path("shortest.py"))}
    assert {"records", "stages.artifacts", "config.kinds"} <= set(made["code"])
    assert "kind" in made["settings"]
    assert made["settings"]["least"] == 2
    text = FILES["shortest.py"].replace("key=len", "key=str.lower")
    Path("shortest.py").write_text(text, encoding="utf-8")
    again = burnish.load("kind.yaml", *TINY, *of("sft", PASSES), "sample.sampling.max_new_tokens=6")
    with pytest.raises(
        UserError, match=r"the stage short was run with other settings .*shortest\.py"
    ):
        burnish.run(again, out="run", until="short")


def test_a_kind_that_another_module_runs_is_fingerprinted_with_both():
    here, there = FILES["shortest.py"].split("def run(step):")
    there, row = there.split("SHORTEST = Stage(")
    Path("there.py").write_text("def run(step):" + there, encoding="utf-8")
    text = here + "SHORTEST = Stage(" + row
    for name in ("plan", "report"):
        text = text.replace(f"    {name}={name},\n", "")
    Path("here.py").write_text(text.replace("run=run", 'run="there:run"'), encoding="utf-8")
    recipe = burnish.load(
        "kind.yaml", *TINY, "short.kind=here.py:SHORTEST", "sample.sampling.max_new_tokens=6"
    )
    try:
        folder = burnish.run(recipe, out="run", until="short")
    finally:
        sys.modules.pop("there", None)
    made = inputs(folder, "short")
    assert made["own_code"] == {
        "here.py:SHORTEST": file_hash(Path("here.py")),
        "there:run": file_hash(Path("there.py")),
    }
    assert {"config.kinds", "stages.artifacts"} <= set(made["code"])


def test_a_kind_of_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    described = tmp_path / "toy-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text(
        "[burnish.stages]\nshortest = toy_shortest:SHORTEST\n"
    )
    (tmp_path / "toy_shortest.py").write_text(FILES["shortest.py"], encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    kinds._installed.cache_clear()
    try:
        assert list(KINDS)[-1] == "shortest"
        recipe = burnish.load(
            None, "stages={sample: {prompts: 'builtin:quickstart/prompts'}, shortest: {least: 3}}"
        )
        assert (recipe.stages["shortest"].kind, recipe.stages["shortest"].least) == ("shortest", 3)
        with pytest.raises(UserError, match=re.escape('Did you mean "shortest.least"?')):
            burnish.load(None, "stages={sample: {}, shortest: {leest: 3}}")
    finally:
        sys.modules.pop("toy_shortest", None)
        kinds._installed.cache_clear()


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        (
            "{kind: 'nowhere.py:KIND'}",
            'stages.x.kind": the kind "nowhere.py:KIND" cannot be had: there is no such file.',
        ),
        ("{kind: 'shortest.py:SHORT'}", 'shortest.py has no "SHORT"'),
        ("{kind: 'shortest.py:run'}", "shortest.py:run is function, which is no kind of stage."),
        ("{kind: 'broken.py:KIND'}", "importing it raised ValueError: not today."),
        ("{kind: 'keyless.py:KIND'}", "has no key answers, and a slot is called so."),
        (
            "{kind: 'shortest.py:SHORTEST', leest: 1}",
            'stages.x.leest": there is no such key. Did you mean "x.least"?',
        ),
        ("{kind: 'shortest.py:SHORTEST', least: no}", 'stages.x.least": expected a whole number'),
    ],
)
def test_a_kind_that_does_not_fit_is_told_with_its_place(stage: str, told: str):
    Path("broken.py").write_text("raise ValueError('not today')\n")
    text = FILES["shortest.py"].replace(
        "    answers: Reference | None = None\n", "    other: Reference | None = None\n"
    )
    Path("keyless.py").write_text(
        text.replace("SHORTEST = Stage", "KIND = Stage"), encoding="utf-8"
    )
    with pytest.raises(UserError) as caught:
        burnish.load(None, f"stages={{sample: {{}}, x: {stage}}}")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        ("'nowhere.py:loss'", "the loss nowhere.py:loss cannot be had: there is no such file."),
        ("'squared.py:square'", 'cannot be had: squared.py has no "square"; it has squared.'),
        ("{name: 'squared.py:squared', bta: 1}", 'has no option bta: did you mean "beta"?'),
        ("'others.py:number'", "is int, which cannot be called"),
        (
            "'others.py:strange'",
            "takes neither chosen_logprobs, as one of pairs does, nor logprobs",
        ),
        ("'others.py:wants'", "wants tau: it is no option that has a default"),
        ("'others.py:hard'", "takes no probability: set soft_labels to false"),
        (
            "'squared.py:squared', margin: 0.5",
            "margin is 0.5, and the loss squared.py:squared takes no margin",
        ),
    ],
)
def test_a_loss_that_does_not_fit_is_told_with_its_place(loss: str, told: str):
    Path("others.py").write_text(
        "number = 3\ndef strange(*, logits): ...\ndef wants(*, chosen_logprobs, rejected_logprobs,"
        " tau): ...\ndef hard(*, chosen_logprobs, rejected_logprobs): ...\n"
    )
    with pytest.raises(UserError) as caught:
        burnish.load(
            None, f"stages={{x: {{kind: preference, comparisons: a.jsonl, loss: {loss}}}}}"
        )
    assert told in str(caught.value)
    assert re.search(r'"stages\.x(\.loss)?"', str(caught.value))


def test_a_loss_that_judges_answers_singly():
    Path("single.py").write_text(
        "from burnish.algorithms.preference_losses import kto_loss\ndef single(*, logprobs,"
        " ref_logprobs, kl, probability, beta: float = 0.1):\n    return"
        " kto_loss(logprobs=logprobs, ref_logprobs=ref_logprobs, kl=kl, probability=probability,"
        " beta=beta)\n"
    )
    weights = []
    for loss in ("kto", "single.py:single"):
        changes = [f"squared.loss={{name: '{loss}'}}", "sample.sampling.max_new_tokens=6"]
        recipe = burnish.load("loss.yaml", *TINY, *of("squared", PASSES), *changes)
        folder = burnish.run(recipe, out=f"run-{len(weights)}", until="squared")
        weights.append(file_hash(folder / "squared" / "model" / "model.safetensors"))
    assert weights[0] == weights[1]
