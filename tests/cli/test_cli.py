"""The command line as a user types it: help, errors in one line, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import burnish
from burnish._version import __version__
from burnish.cli.main import app, main
from burnish.cli.one_stage import recipe_with
from burnish.config.families import FAMILIES
from burnish.config.short import dump_short

COMMANDS = [
    "run",
    "sft",
    "sample",
    "compare",
    "select",
    "reward",
    "ppo",
    "merge",
    "evaluate",
    "report",
    "plan",
    "chat",
    "doctor",
    "models pull",
    "models list",
    "models supported",
    *FAMILIES,
]
ROOT = Path(__file__).parents[2]


def _burnish(*arguments: str, **options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "burnish", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        **options,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_shows_an_example(command: str):
    shown = CliRunner().invoke(app, [*command.split(), "--help"])
    assert shown.exit_code == 0
    assert f"burnish {command}" in " ".join(shown.output.split()).replace("│", "")
    assert "Example" in shown.output


def test_version():
    assert CliRunner().invoke(app, ["--version"]).output == f"burnish {__version__}\n"


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from burnish.cli.main import app; sys.exit(bool({'torch', 'transformers',"
        " 'numpy', 'pydantic', 'sqlalchemy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_running_and_planning_wait_for_transformers_until_a_model_is_loaded():
    code = (
        "import sys, burnish.stages.run, burnish.cli.plan; sys.exit('transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "missing.yaml"], "missing.yaml: there is no such file"),
        (["run", "recipes/tiny.yaml", "ppo.kl_coef=0.1"], "algorithm.beta"),
        (
            ["run", "recipes/tiny.yaml", "ppo.lerning_rate=0.1", "--dry-run"],
            "ppo.optimizer.learning_rate",
        ),
        (
            ["run", "recipes/tiny.yaml", "model.name=nowhere", "--out", "OUT"],
            'model "nowhere" is neither',
        ),
        (
            [
                "run",
                "recipes/tiny.yaml",
                "data.prompts=nowhere.jsonl",
                "--out",
                "OUT",
                "--until",
                "sample",
            ],
            "nowhere.jsonl",
        ),
        (["run", "recipes/tiny.yaml", "--until", "dpo", "--out", "OUT"], 'no stage "dpo"'),
        (
            ["ppo", "--config", "recipes/tiny.yaml", "--out", "OUT"],
            "the stage ppo needs sft and sample and compare and reward first",
        ),
        (["report", "."], "holds no run"),
        (["chat", "nowhere"], 'model "nowhere" is neither'),
        (
            ["sft", "--config", "recipes/tiny.yaml", "compare.by={reward: reward}"],
            "the stage reward comes after compare",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments: list[str], said: str, tmp_path: Path):
    done = _burnish(*[a.replace("OUT", str(tmp_path / "out")) for a in arguments], cwd=str(ROOT))
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("burnish: ")


@pytest.mark.parametrize("gone", ["collect", "preference", "online"])
def test_commands_of_the_older_form_are_gone(gone: str):
    done = CliRunner().invoke(app, [gone, "--config", "recipes/tiny.yaml"])
    assert done.exit_code == 2
    assert f"No such command '{gone}'" in done.output


def test_traceback_is_there_when_asked_for():
    done = _burnish("run", "missing.yaml", "--traceback")
    assert "Traceback" in done.stderr
    assert done.returncode != 0


def test_dry_run_prints_a_recipe_that_loads_to_the_same(tmp_path: Path):
    done = _burnish("run", "recipes/quickstart.yaml", "--dry-run", "seed=7", cwd=str(ROOT))
    path = tmp_path / "resolved.yaml"
    path.write_text(done.stdout)
    assert dump_short(burnish.load(path)) == dump_short(
        burnish.load(ROOT / "recipes" / "quickstart.yaml", "seed=7")
    )


@pytest.mark.parametrize("recipe", sorted(path.name for path in (ROOT / "recipes").glob("*.yaml")))
def test_every_recipe_loads(recipe: str):
    assert burnish.load(ROOT / "recipes" / recipe).name == recipe.removesuffix(".yaml")


@pytest.mark.parametrize("name", ["sft", "sample", "select", *FAMILIES])
def test_the_command_of_a_stage_takes_the_recipes_or_puts_one_at_its_end(name: str):
    without, stage = recipe_with(
        name, config=ROOT / "recipes" / "r1-harmlessness.yaml", overrides=["seed=3"], out=None
    )
    assert stage == name
    assert without.seed == 3
    assert set(without.stages) == {"sample", "compare", "reward", name}
    family, key = FAMILIES.get(name, (name, ""))
    assert without.stages[name].kind == family
    assert not key or getattr(without.stages[name], key).name == name
    twice, _ = recipe_with(
        name, config=ROOT / "recipes" / "r1-harmlessness.yaml", overrides=["seed=3"], out=None
    )
    assert twice == without


def test_the_command_of_a_stage_finds_it_by_its_kind_and_is_given_what_a_run_has_done(
    tmp_path: Path,
):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "stages: {first: {kind: dpo, comparisons: c.jsonl}, second: {kind: dpo}, sft: {}}\n"
    )
    assert recipe_with("dpo", config=path, overrides=[], out=None)[1] == "second"
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "stage.json").write_text("{}")
    recipe, stage = recipe_with(
        "evaluate", config=None, overrides=["evaluate.count=3"], out=str(tmp_path)
    )
    assert (stage, list(recipe.stages), recipe.stages["evaluate"].count) == (
        "evaluate",
        ["first", "evaluate"],
        3,
    )
    alone, _ = recipe_with(
        "sft", config=None, overrides=["sft.epochs=3"], out=str(tmp_path / "new")
    )
    assert list(alone.stages) == ["sft"]


def test_select_is_found_in_the_last_round_and_merge_is_told_of_what():
    recipes = ROOT / "recipes"
    assert (
        recipe_with("select", config=recipes / "expert-iteration.yaml", overrides=[], out=None)[1]
        == "rounds.3.select"
    )
    merged, stage = recipe_with(
        "merge", config=recipes / "dpo.yaml", overrides=["merge.models=[sft, dpo]"], out=None
    )
    assert (stage, merged.stages[stage].models) == ("merge", ("sft", "dpo"))
    with pytest.raises(burnish.UserError, match=r"stages\.merge\.models"):
        recipe_with("merge", config=recipes / "dpo.yaml", overrides=[], out=None)


def test_chat_answers_on_standard_input():
    done = _burnish(
        "chat",
        "tiny",
        "--vs",
        "tiny",
        "--max-new-tokens",
        "8",
        input="hello\n/reset\nhello\n/quit\n",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("tiny") == 4


def test_doctor_names_what_is_missing(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "burnish", "doctor"],
        capture_output=True,
        text=True,
        env={**os.environ, "BURNISH_CACHE": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert "not in the cache: burnish models pull smollm2-135m" in done.stdout
    assert "torch" in done.stdout


def test_models_list(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["models", "list"])
    assert "smollm2-135m" in capsys.readouterr().out
