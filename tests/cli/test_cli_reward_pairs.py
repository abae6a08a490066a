"""Reward models held to files of preferences: the layouts, ties, subsets, McNemar, a second
start."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import burnish
from burnish.cli.main import main
from burnish.errors import UserError
from burnish.evaluation.suites.items import Row
from burnish.evaluation.suites.pairs import Pairs, accuracies, pairs_of, right


def test_the_layouts_give_the_same_pairs():
    turn = {"role": "user", "content": "Q"}
    rows = [
        {"id": "x", "subset": "s", "prompt": "Q", "chosen": "a", "rejected": "b"},
        {"id": "x", "subset": "s", "prompt": "Q", "chosen": ["a"], "rejected": ["b"]},
        {"id": "x", "subset": "s", "input": "Q", "output_1": "b", "output_2": "a", "label": 2},
        {"id": "x", "subset": "s", "prompt": [turn],
            "chosen": [turn, {"role": "assistant", "content": "a"}],
         "rejected": [turn, {"role": "assistant", "content": "b"}]},
    ]  # fmt: skip
    made = pairs_of([Row(row, "f", i) for i, row in enumerate(rows, start=1)])
    assert made == [Pairs("x", "s", (turn,), ("a",), ("b",))] * 4
    for row, problem in (
        ({"prompt": "Q", "chosen": "a"}, "row 1.*rejected holds no answers"),
        ({"chosen": "a", "rejected": "b"}, "row 1.*prompt"),
        ({"input": "Q", "output_1": "a", "output_2": "b", "label": 0}, "row 1.*neither 1 nor 2"),
    ):
        with pytest.raises(UserError, match=problem):
            pairs_of([Row(row, "f", 1)])


def test_a_tie_at_the_top_is_shared():
    assert right([2.0], [1.0, 0.0]) == 1.0
    assert right([2.0], [2.0, 2.0, 0.0]) == pytest.approx(1 / 3)
    assert right([1.0], [2.0]) == 0.0
    assert right([3.0, 2.0], [1.0]) == 1.0
    assert right([3.0, 1.0], [1.0]) == 0.0


def test_subsets_and_mcnemar_by_hand():
    items = [Pairs(str(i), "hard" if i < 4 else "easy", (), ("a",), ("b",)) for i in range(10)]
    good, bad = ([1.0], [0.0]), ([0.0], [1.0])
    scores = {"m": [good] * 10, "n": [bad] * 4 + [good] * 6}
    rows = {row["subset"]: row for row in accuracies(items, scores)}
    assert list(rows) == ["hard", "easy", "all"]
    assert rows["all"]["models"]["n"]["value"] == pytest.approx(0.6)
    assert rows["hard"]["mcnemar"] == [{"a": "m", "b": "n", "only_a": 4, "only_b": 0, "p": 0.125}]
    assert rows["easy"]["mcnemar"][0]["p"] == 1.0


def test_the_command_scores_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pairs = tmp_path / "pairs.jsonl"
    rows = [
        {"prompt": f"Say {i}", "chosen": f"{i}", "rejected": "no", "subset": "ab"[i % 2]}
        for i in range(8)
    ]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = burnish.run(
        burnish.load(
            None,
            "model.name=tiny",
            "threads=1",
            f"data.comparisons={pairs}",
            "stages=[reward]",
            "reward.epochs=0.3",
            "reward.lora={r: 2, alpha: 4}",
        ),
        out=tmp_path / "run",
    )
    given = ["evaluate", "--reward-model", f"{folder}/reward/model", "--reward-model",
        f"again={folder}/reward", "--pairs", str(pairs),
             "--out", str(tmp_path / "out")]  # fmt: skip
    outputs = []
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            main(given)
        assert not ended.value.code
        said = capsys.readouterr()
        outputs.append(said.out)
        assert said.err
    assert outputs[0] == outputs[1]
    assert outputs[0].splitlines()[0].split()[:2] == ["Subset", "Items"]
    scores = [
        json.loads(line) for line in (tmp_path / "out" / "scores.jsonl").read_text().splitlines()
    ]
    assert len(scores) == 16
    assert scores[0]["chosen"] == scores[8]["chosen"]  # the same model under two names
    with pytest.raises(SystemExit):
        main([*given, "--quiet"])
    assert capsys.readouterr() == (outputs[0], "")
    with pytest.raises(SystemExit):
        main([*given[:3], "--pairs", str(tmp_path / "none.jsonl")])
    assert "no such file" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(given[:3])
    assert '"--pairs": is missing' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("others", "first"),
    [
        (["--model", "tiny", "--prompts", "x.jsonl"], "--model"),
        (["--prompts", "x.jsonl", "--judge", "taste"], "--prompts"),
        (["--judge", "taste"], "--judge"),
        (["--suite", "tax"], "--suite"),
        (["--config", "r.yaml", "threads=1"], "--config"),
        (["threads=1", "seed=2"], "threads=1"),
    ],
)
def test_what_is_of_another_evaluation_is_refused(
    others: list[str], first: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "--reward-model", "runs/none", "--pairs", "none.jsonl", *others])
    assert ended.value.code
    assert f'"{first}": is not read with --reward-model and --pairs' in capsys.readouterr().err
