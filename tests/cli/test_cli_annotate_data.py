"""`burnish annotate import`, `export`, `stats`, `select` as a user meets them: files out and in
again, mistakes on one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from burnish.annotation.snapshot import take_snapshot
from burnish.annotation.store import Store
from burnish.cli.main import app, main

ROWS = [
    {"id": f"r{n}", "prompt": f"Question {n}?", "responses": ["yes", "no", "maybe"],
        "ranks": [1, 2, 3], "sources": ["a", "b", "c"], "annotator": who}
    for n in range(4)
    for who in ("ann", "bob")
]  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return tmp_path


def call(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def test_in_and_out_again(place: Path):
    assert "4 new items, 8 new labels" in call("annotate", "import", "rows.jsonl", "p")
    assert "0 new items, 0 new labels, 12 known" in call("annotate", "import", "rows.jsonl", "p")
    said = call("annotate", "export", "p", "pairs.jsonl")
    assert "12 rows from 8 labels (8 by people, 0 by models)" in said
    manifest = json.loads((place / "pairs.jsonl.manifest.json").read_text())
    assert manifest["rows"] == 12
    assert "ann" not in manifest["annotators"]
    # The exported pairs go in as another project, and give the same pairs again.
    assert "12 new items" in call("annotate", "import", "pairs.jsonl", "q")
    assert Store("annotations.sqlite").tasks("q")[0].candidates == ("yes", "no")
    assert "a: " in call("annotate", "stats", "p")
    assert json.loads(call("annotate", "stats", "p", "--json"))["progress"]["answered"] == 8


def test_a_folder_is_a_dataset(place: Path):
    datasets = pytest.importorskip("datasets")
    call("annotate", "import", "rows.jsonl", "p")
    call("annotate", "export", "p", "hub", "--format", "ranking")
    loaded = datasets.load_dataset(
        str(place / "hub"), split="train", cache_dir=str(place / "cache")
    )
    assert loaded[0]["ranks"] == [1, 2, 3]
    assert "Content hash" in (place / "hub" / "README.md").read_text()


def test_from_a_runs_store_with_or_without_its_labels(place: Path):
    call("annotate", "import", "rows.jsonl", "preferences", "-d", "run.sqlite")
    assert "4 new items, 8 new labels" in call("annotate", "import", "run.sqlite", "p")
    assert "4 new items, 0 new labels" in call(
        "annotate", "import", "run.sqlite", "bare", "--items-only"
    )


def test_imports_bring_their_scale(place: Path):
    rows = [{"prompt": "q", "response_1": "a", "response_2": "b", "preference_strength": 3}]
    (place / "h.jsonl").write_text(json.dumps(rows[0]) + "\n")
    call("annotate", "import", "h.jsonl", "h")
    settings = take_snapshot(Store("annotations.sqlite"), "h").settings
    assert (settings.kind, settings.strength) == ("pairwise", 3)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["annotate", "export", "p", "x.jsonl", "-d", "gone.sqlite"], "gone.sqlite: there is no such store."),  # noqa: E501
        (["annotate", "export", "nope", "x.jsonl"], 'there is no project "nope". Projects here: p.'),  # noqa: E501
        (["annotate", "export", "p", "x.csv"], '".csv" is no kind of file'),
        (["annotate", "export", "p", "x.jsonl", "--format", "xml"], 'there is no layout "xml"'),
        (["annotate", "export", "p", "x.jsonl", "--strength", "much"], "must be ignore, probability or margin"),  # noqa: E501
        (["annotate", "export", "p", "x.jsonl", "--format", "demonstrations"], "there is nothing to export"),  # noqa: E501
        (["annotate", "import", "bad.jsonl", "p"], 'bad.jsonl, row 2, field "ranks": must be a list of 2 whole numbers'),  # noqa: E501
    ],
)  # fmt: skip
def test_mistakes_are_one_line(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
):
    call("annotate", "import", "rows.jsonl", "p")
    good = {"prompt": "q", "responses": ["a", "b"], "ranks": [1, 2]}
    (place / "bad.jsonl").write_text(
        json.dumps(good) + "\n" + json.dumps(good | {"ranks": [1]}) + "\n"
    )
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1
    assert not (place / "x.csv").exists()


def test_an_ensemble_of_reward_models_orders_the_items(place: Path):
    from burnish.models.backbone import load_backbone
    from burnish.models.heads import ScalarHead
    from burnish.models.roles import View
    from burnish.models.weights import save_reward_model
    from burnish.stages.selecting import scores_of

    call("annotate", "import", "rows.jsonl", "p", "--items-only")
    folders = []
    for seed in (1, 2):
        backbone = load_backbone("tiny")
        folders.append(place / f"rm{seed}")
        folders[-1].mkdir()
        save_reward_model(
            View(backbone, head=ScalarHead(backbone.width, seed=seed)), folders[-1], base="tiny"
        )
    said = call("annotate", "select", "p", "--model", str(folders[0]), "--model", str(folders[1]))
    assert "4 items scored by 2 reward models" in said
    entries = take_snapshot(Store("annotations.sqlite"), "p").entries
    both, alone = scores_of(folders, entries), scores_of(folders[:1], entries)
    assert all(score > 0 for score in both.values())
    assert all(score <= 0 for score in alone.values())
    assert scores_of([folders[0], folders[0]], entries) == pytest.approx(
        dict.fromkeys(both, 0.0), abs=1e-9
    )
