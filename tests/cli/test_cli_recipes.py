"""Recipes by name, from a checkout and from an installed wheel; a recipe made from three
answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import burnish
from burnish.cli.main import main
from burnish.config import shipped
from burnish.config.shipped import located

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> int:
    try:
        main([*arguments])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_every_recipe_is_listed_shown_and_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    names = {path.stem for path in (ROOT / "recipes").glob("*.yaml")}
    assert run("recipes", "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} == names
    assert all(len(line.split()) > 3 for line in lines)
    assert run("recipes", "show", "dpo") == 0
    assert capsys.readouterr().out == (ROOT / "recipes" / "dpo.yaml").read_text()
    assert run("recipes", "copy", "dpo", "mine.yaml") == 0
    assert burnish.load("mine.yaml") == burnish.load(ROOT / "recipes" / "dpo.yaml")
    capsys.readouterr()
    assert run("recipes", "copy", "dpo", "mine.yaml") == 2
    assert "is there already" in capsys.readouterr().err
    assert run("recipes", "show", "quickstar") == 2
    assert 'Did you mean "quickstart"?' in capsys.readouterr().err


def test_a_name_means_a_shipped_recipe_unless_a_file_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert burnish.load("quickstart") == burnish.load(ROOT / "recipes" / "quickstart.yaml")
    assert burnish.load("recipes/tiny.yaml", "seed=3").seed == 3
    assert located(Path("recipes/constitution.txt")) == shipped.folder() / "constitution.txt"
    assert located(Path("other/quickstart.yaml")) == Path("other/quickstart.yaml")
    assert located(Path("quickstart.yaml")) == Path("quickstart.yaml")
    Path("tiny").write_text("stages: {report: {}}\n")
    assert list(burnish.load("tiny").stages) == ["report"]
    with pytest.raises(burnish.UserError, match="there is no such file"):
        burnish.load("nothing")


def test_a_wheel_and_an_sdist_carry_the_recipes_and_run_them_by_name(tmp_path: Path):
    source, out = tmp_path / "source", tmp_path / "out"
    out.mkdir()
    for name in ("src", "recipes"):
        shutil.copytree(
            ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    code = (
        "import setuptools.build_meta as b, sys; to = sys.argv[1]; b.build_wheel(to);"
        " b.build_sdist(to)"
    )
    built = subprocess.run(
        [sys.executable, "-c", code, str(out)], cwd=source, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr[-2000:]
    names = {path.name for path in (ROOT / "recipes").iterdir()}
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        assert {f"burnish/recipes/{name}" for name in names} <= set(archive.namelist())
        assert "burnish/annotation/templates/base.html" in archive.namelist()
        archive.extractall(tmp_path / "site")
    with tarfile.open(sdist) as archive:
        assert names <= {Path(name).name for name in archive.getnames() if "/recipes/" in name}
    command = [
        sys.executable,
        "-m",
        "burnish",
        "run",
        "tiny",
        "--until",
        "sft",
        "--quiet",
        "threads=1",
    ]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "runs" / "tiny" / "sft" / "model" / "model.safetensors").is_file()
    planned = [sys.executable, "-m", "burnish", "plan", "constitutional", "model.name=tiny"]
    done = subprocess.run(planned, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]  # its constitution is found beside it


@pytest.mark.parametrize(
    ("rows", "kind", "stage"),
    [
        ([{"instruction": "hi", "output": "yo"}], "demonstrations", "sft"),
        ([{"prompt": "hi", "chosen": "yo", "rejected": "no"}], "comparisons", "dpo"),
        ([{"prompt": "hi", "answer": "2"}], "prompts", "grpo"),
        ([{"text": "hi"}], "demonstrations", "sft"),
        ([{"prompt": "hi", "completion": "yo", "label": True}], "comparisons", "dpo"),
    ],
)
def test_three_questions_make_a_recipe(
    rows: list[dict[str, str]],
    kind: str,
    stage: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    Path("d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers = iter(["d.jsonl", "", "tiny"])
    monkeypatch.setattr("typer.prompt", lambda question, default: next(answers) or default)
    assert run("init", "--out", "mine.yaml") == 0
    assert "burnish run mine.yaml" in capsys.readouterr().out
    recipe = burnish.load("mine.yaml")
    assert list(recipe.stages) == [stage, "evaluate", "report"]
    assert getattr(recipe.data, kind) == "d.jsonl"
    assert (recipe.name, recipe.model.name) == ("mine", "tiny")


def test_without_data_of_ones_own_the_quickstarts_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert run("init", "--data", "builtin:quickstart", "--model", "tiny") == 0
    recipe = burnish.load("recipe.yaml")
    assert list(recipe.stages) == ["sft", "sample", "compare", "dpo", "evaluate", "report"]
    assert run("init", "--data", "builtin:quickstart", "--model", "tiny") == 2  # not written over
