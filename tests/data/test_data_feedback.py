"""What people said of answers: single judgements, other layouts, pairs taken apart and put together
again."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from burnish.cli.main import main
from burnish.data.feedback import paired_rows, preference_groups, unpaired_rows
from burnish.data.preferences import comparisons_from_labels, desirability, extremes
from burnish.data.sources import Row, read_rows
from burnish.errors import UserError
from burnish.records import Comparison, PreferenceGroup, Prompt


def rows(*values: dict[str, Any]) -> list[Row]:
    return [Row("f.jsonl", i, v, f"f.jsonl:{i}") for i, v in enumerate(values, start=1)]


def test_single_judgements_of_a_prompt_make_one_group():
    loaded = preference_groups(
        rows(
            {"prompt": "a?", "completion": "yes", "label": True},
            {"prompt": "b?", "completion": "no", "label": False},
            {"prompt": [{"role": "user", "content": "a?"}], "completion": "no", "label": False},
            {"prompt": "a?", "completion": "yes", "label": False},
            {"prompt": "a?", "completion": "yes", "label": True},
        )
    )
    first, second = loaded.items
    assert first.responses == ("yes", "no")
    assert first.labels == pytest.approx((2 / 3, 0.0))  # three people judged "yes"
    assert [(c.first, c.second) for c in first.comparisons] == [(0, 1)]
    assert first.comparisons[0].probability == pytest.approx((1 + 2 / 3) / 2)
    assert (second.labels, second.comparisons) == ((0.0,), ())
    assert loaded.dropped == {}
    assert loaded.origins[second.prompt.id].row == 2


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("yes", "must be true, false or a number"),
        (1.5, "between 0 and 1"),
        (float("nan"), "between 0"),
    ],
)
def test_a_label_that_is_none_is_refused(label: Any, said: str):
    with pytest.raises(UserError, match=r"f\.jsonl, row 2.*label.*" + said):
        preference_groups(
            rows(
                {"prompt": "a", "completion": "b", "label": True},
                {"prompt": "a", "completion": "c", "label": label},
            )
        )


def test_pairs_keep_their_probability_and_margin():
    (group,) = preference_groups(
        rows({"prompt": "a?", "chosen": "x", "rejected": "y", "probability": 0.6, "margin": 0.5})
    ).items
    assert group.comparisons == (Comparison(0, 1, 0.6, 0.5),)
    with pytest.raises(UserError, match=r"probability.*between 0 and 1"):
        preference_groups(rows({"prompt": "a?", "chosen": "x", "rejected": "y", "probability": 60}))


def test_ratings_and_rankings_become_shares():
    """UltraFeedback: means 4 and 3 over the aspects rated for both, and a tie. Rankings of two
    people: one each way of three."""
    ultra = {
        "instruction": "a?",
        "completions": [
            {
                "response": text,
                "annotations": {"helpfulness": {"Rating": h}, "honesty": {"Rating": t}},
            }
            for text, h, t in (("x", "5", "3"), ("y", "2", "4"), ("z", "4", "4"))
        ],
    }
    (group,) = preference_groups(rows(ultra)).items
    assert group.responses == ("x", "y", "z")
    assert {(c.first, c.second): c.probability for c in group.comparisons} == {
        (0, 1): 1.0,
        (0, 2): 0.5,
        (1, 2): 0.0,
    }

    def ranked(*ranks: int, who: str) -> dict[str, Any]:
        return {
            "id": "i",
            "prompt": "a?",
            "responses": ["x", "y", "z"],
            "ranks": list(ranks),
            "annotator": who,
        }

    (group,) = preference_groups(
        rows(ranked(1, 2, 3, who="a"), ranked(2, 1, 3, who="b"), ranked(1, 1, 2, who="c"))
    ).items
    assert {(c.first, c.second): c.probability for c in group.comparisons} == {
        (0, 1): 0.5,
        (0, 2): 1.0,
        (1, 2): 1.0,
    }


def test_a_stated_strength_is_a_soft_label():
    """HelpSteer2: −3 (the first is much better) is the largest there is; 1 is a third of it, for
    the second."""

    def pair(name: str, strength: int) -> dict[str, Any]:
        return {
            "prompt": name,
            "response_1": "x",
            "response_2": "y",
            "preference_strength": strength,
        }

    groups = preference_groups(rows(pair("a?", -3), pair("b?", 1), pair("c?", 0)))
    assert [g.comparisons[0].probability for g in groups.items] == pytest.approx(
        [1.0, 0.5 - 0.5 / 3]
    )
    assert groups.dropped == {"all tied": 1}


def test_desirability_by_hand():
    ranking = (
        Comparison(0, 1, 1.0),
        Comparison(0, 2, 1.0),
        Comparison(0, 3, 1.0),
        Comparison(1, 2, 1.0),
        Comparison(1, 3, 1.0),
        Comparison(2, 3, 0.5),
    )
    assert desirability(5, ranking) == (
        1.0,
        pytest.approx(2 / 3),
        pytest.approx(0.5 / 3),
        pytest.approx(0.5 / 3),
        None,
    )
    assert desirability(2, (Comparison(1, 0, 0.7),)) == (pytest.approx(0.3), 0.7)
    assert [
        (c.first, c.second, c.probability) for c in comparisons_from_labels((0.0, 1.0, 0.5))
    ] == [(1, 0, 1.0), (1, 2, 0.75), (2, 0, 0.75)]


def test_extremes_are_the_best_and_the_worst_that_were_compared():
    prompt = Prompt("p", ({"role": "user", "content": "a?"},))
    group = PreferenceGroup(
        prompt, ("w", "x", "y", "z"),
        (Comparison(0, 1, 0.9), Comparison(0, 2, 0.2), Comparison(1, 2, 0.1), Comparison(2, 3, 0.6),
            Comparison(1, 2, 0.3)),
    )  # fmt: skip
    # means: w 0.55, x (0.1 + 0.1 + 0.3)/3, y (0.8 + 0.9 + 0.6 + 0.7)/4, z 0.4
    kept = extremes(group)
    assert kept.responses == ("x", "y")
    assert kept.comparisons == (Comparison(0, 1, 0.1), Comparison(0, 1, 0.3))
    assert extremes(kept) != kept or len(kept.comparisons) == 2
    single = PreferenceGroup(prompt, ("w", "x"), (Comparison(0, 1, 0.9),))
    assert extremes(single) == single


def test_pairs_taken_apart_and_put_together_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source, judged, back = (tmp_path / f"{name}.jsonl" for name in ("pairs", "judged", "back"))
    pairs = [
        {"prompt": "a?", "chosen": "x", "rejected": "y"},
        {"prompt": "b?", "chosen": "u", "rejected": "v", "probability": 0.75},
    ]
    source.write_text("".join(json.dumps(p) + "\n" for p in pairs))
    for given, out, to in ((source, judged, "unpaired"), (judged, back, "paired")):
        with pytest.raises(SystemExit) as ended:
            main(["pairs", str(given), "--to", to, "--out", str(out)])
        assert ended.value.code == 0
    assert "4 rows written" in capsys.readouterr().out
    single = [json.loads(line) for line in judged.read_text().splitlines()]
    assert [row["label"] for row in single] == [True, False, 0.75, 0.25]
    first, second = preference_groups(read_rows(back)).items
    assert (first.responses, first.comparisons) == (("x", "y"), (Comparison(0, 1, 1.0),))
    assert (second.responses, second.comparisons) == (("u", "v"), (Comparison(0, 1, 0.75),))


def test_what_cannot_be_paired_is_counted_or_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    groups = preference_groups(
        rows(
            {"prompt": "a?", "completion": "x", "label": True},
            {"prompt": "a?", "completion": "y", "label": False},
            {"prompt": "b?", "completion": "z", "label": True},
        )
    ).items
    dropped: Counter[str] = Counter()
    assert len(list(paired_rows(groups, dropped=dropped))) == 1
    assert +dropped == {"no answer of the other kind to this prompt": 1}
    assert [r["label"] for r in unpaired_rows(groups)] == [True, False, True]
    source = tmp_path / "one.jsonl"
    source.write_text(json.dumps({"prompt": "b?", "completion": "z", "label": True}) + "\n")
    with pytest.raises(SystemExit) as ended:
        main(["pairs", str(source), "--to", "paired", "--out", str(tmp_path / "o.jsonl")])
    assert ended.value.code == 2
    assert "nothing can be paired" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["paired", "unpaired"])
def test_what_is_held_out_stays_held_out_in_another_form(form):
    rows = [Row("f", i, {"prompt": f"p{i}", "chosen": "a", "rejected": "b", "split": name},
        f"f:{i}")
            for i, name in enumerate(("train", "test"))]  # fmt: skip
    groups = preference_groups(rows).items
    written = (
        unpaired_rows(groups) if form == "unpaired" else paired_rows(groups, dropped=Counter())
    )
    assert {row["prompt"][0]["content"]: row["split"] for row in written} == {
        "p0": "train",
        "p1": "test",
    }
