"""Figures that a run's data do not give are unknown, in words; they never end a run, and never
reach a file as NaN."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import burnish
from burnish.evaluation.report import render_report
from burnish.stages.report import gather


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    demos = [{"prompt": f"Say {i}.", "completion": f"{i}, with pleasure."} for i in range(20)]
    prompts = [
        {"prompt": f"Say {i} twice.", "split": "heldout" if i % 3 == 0 else "train"}
        for i in range(18)
    ]
    for name, rows in (("d", demos), ("p", prompts)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [
        "model.name=tiny", "threads=1", "stages.sample={count: 12, sampling: {max_new_tokens: 6}}",
        "stages.compare={by: panel}",
        f"data.demonstrations={tmp_path / 'd.jsonl'}", f"data.prompts={tmp_path / 'p.jsonl'}",
        "data.heldout=0.3",
    ]  # fmt: skip


def _strict(path: Path) -> dict:
    """Read as JSON, with none of the words that JSON lacks."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{path} holds {word}")

    return json.loads(path.read_text(), parse_constant=refuse)


@pytest.mark.parametrize(
    ("changes", "unknown", "said"),
    [
        (["compare.by={panel: {annotators_per_item: 1}}"], {"pairwise_agreement", "alpha"}, "the annotators' agreement is unknown"),  # noqa: E501
        (["compare.by={panel: {size: 1, annotators_per_item: 1}}"], {"pairwise_agreement", "alpha"}, "Krippendorff's alpha is unknown"),  # noqa: E501
        (["sample.sampling.temperature=0"], set(), "how often the labels are right is unknown"),
        (["sample.sampling.temperature=0.01"], set(), "how often the labels are right is unknown"),
    ],
)  # fmt: skip
def test_comparing_ends_and_says_what_is_unknown(
    options: list[str], tmp_path: Path, changes: list[str], unknown: set[str], said: str | None
):
    lines: list[str] = []
    out = burnish.run(
        burnish.load(None, *options, *changes), out=tmp_path / "run", say=lines.append
    )
    found = _strict(out / "compare" / "result.json")
    for name in unknown:
        assert found[name]["value"] is None
    if said is not None:
        assert any(said in line for line in lines), lines
    page = render_report(gather(out))
    assert ("unknown" in page.split('id="annotators"')[1]) == (said is not None)
    assert "nan" not in page.split("</style>")[1].lower().replace("finance", "")


def test_what_learns_from_comparisons_of_which_none_prefers_refuses(
    options: list[str], tmp_path: Path
):
    said = (
        r"the stage compare found no answer that is preferred to another, so reward has nothing to"
        r" learn from"
    )
    with pytest.raises(burnish.UserError, match=said):
        burnish.run(
            burnish.load(
                None,
                *options,
                "sample.responses=2",
                "sample.sampling.temperature=0.01",
                "stages.reward={}",
            ),
            out=tmp_path / "run",
        )
    assert (tmp_path / "run" / "compare" / "stage.json").is_file()
    assert not (tmp_path / "run" / "reward" / "stage.json").exists()
