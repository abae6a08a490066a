from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from burnish.cli.main import main
from burnish.config import draw
from burnish.config.graph import graph_of
from burnish.config.recipe import Recipe
from burnish.config.recipe_file import load_recipe
from burnish.config.short import dump_short

RECIPES = Path(__file__).parents[2] / "recipes"
RECIPE = """
name: drawn
data: { prompts: "builtin:quickstart/prompts" }
stages:
  sft: { demonstrations: mine.jsonl }
  sample: {}
  helpful: { kind: compare, by: panel }
  by-rules: { kind: compare, by: { judge: { model: base, constitution: rules.txt } } }
  reward: { comparisons: helpful }
  other: { kind: reward, comparisons: by-rules }
  both: { kind: merge, models: [reward, other] }
  rounds:
    repeat: 2
    stages:
      reinforce++: { reference: sft, rewards: [{ name: model, model: both }, { name: length }] }
  old: { kind: kto, start: "runs/one/sft/model", comparisons: by-rules }
  evaluate: {}
  report: {}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "drawn.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def recipe(path: Path) -> Recipe:
    return load_recipe(path)


def test_a_line_says_kind_row_what_is_made_and_what_is_read_by_name(recipe: Recipe):
    head, *lines = draw.text(graph_of(recipe)).split("\n")
    starts = [head.index(word) for word in ("stage", "kind", "makes", "reads")]
    cells = {line[: starts[1]].strip(): line for line in lines if line[: starts[1]].strip()}
    assert list(cells) == list(recipe.stages)

    def read(name: str) -> tuple[str, str, str]:
        line = cells[name]
        rest = lines[lines.index(line) + 1 :]
        wrapped = [
            one.strip()
            for one in rest[: next((i for i, o in enumerate(rest) if o[: starts[1]].strip()), 0)]
        ]
        makes = line[starts[2] : starts[3]].strip()
        return line[starts[1] : starts[2]].strip(), makes, " ".join([line[starts[3] :], *wrapped])

    assert read("sft") == ("sft", "policy", "start base; demonstrations mine.jsonl")
    assert read("by-rules") == ("compare", "comparisons", "answers sample; judge base")
    assert read("both") == ("merge", "reward model", "models reward, other")
    assert read("rounds.2.reinforce++") == (
        "online (reinforce++)", "policy", "start rounds.1.reinforce++; reference sft; reward both",
    )  # fmt: skip
    kind, _, old = read("old")
    assert kind == "preference (kto)"
    assert old == "start runs/one/sft/model; reference runs/one/sft/model; comparisons by-rules"
    assert read("report") == ("report", "report.html", "")


@pytest.mark.parametrize(
    ("data", "source"),
    [
        ("{demonstrations: mine.jsonl, comparisons: pairs.jsonl}", "mine.jsonl"),
        ("{comparisons: pairs.jsonl}", "pairs.jsonl"),
        ("{store: labels.sqlite, project: p}", "labels.sqlite"),
    ],
)
def test_where_no_demonstrations_are_named_the_comparisons_are_drawn_that_give_them(
    tmp_path: Path, data: str, source: str
):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"data: {data}\nstages: [sft]\n")
    assert draw.text(graph_of(load_recipe(path))).endswith(f"start base; demonstrations {source}")


def test_stages_that_are_done_are_marked_and_nothing_is_wider_than_a_terminal(recipe: Recipe):
    lines = draw.text(graph_of(recipe), done=["sft", "helpful"]).split("\n")
    assert {line.split()[1] for line in lines if line.startswith("done")} == {"sft", "helpful"}
    assert max(map(len, lines)) <= draw.WIDTH
    assert not any(line != line.rstrip() for line in lines)


def test_a_very_long_name_stands_alone_and_pushes_nothing_aside(tmp_path: Path):
    path = tmp_path / "long.yaml"
    name = "a" * 100
    text = RECIPE.replace("sft: {", f"{name}: {{ kind: sft,").replace(
        "reference: sft", f"reference: {name}"
    )
    path.write_text(text)
    lines = draw.text(graph_of(load_recipe(path))).split("\n")
    assert lines[1] == name
    assert lines[2].lstrip().startswith("sft")
    assert all(len(line) <= draw.WIDTH for line in lines if name not in line)


def test_mermaid_quotes_names_and_labels_every_edge_with_its_slot(recipe: Recipe):
    lines = draw.mermaid(graph_of(recipe)).split("\n")
    assert lines[0] == "graph TD"
    boxes = dict(line.strip().split("[", 1) for line in lines if "[" in line)
    names = {name.split('"')[1].split("<br/>")[0]: box for box, name in boxes.items()}
    assert list(names) == list(recipe.stages)
    assert (
        f'  {names["rounds.1.reinforce++"]}["rounds.1.reinforce++<br/>online (reinforce++)"]'
        in lines
    )
    rounded = {
        line.split('"')[1]: line.strip().split("(")[0]
        for line in lines
        if '("' in line and "[" not in line
    }
    assert set(rounded) == {"base", "mine.jsonl", "runs/one/sft/model"}
    assert f'  {names["sft"]} -->|"reference"| {names["rounds.2.reinforce++"]}' in lines
    assert (
        f'  {names["rounds.1.reinforce++"]} -->|"start"| {names["rounds.2.reinforce++"]}' in lines
    )
    assert f'  {names["both"]} -->|"reward"| {names["rounds.1.reinforce++"]}' in lines
    assert f'  {rounded["base"]} -->|"judge"| {names["by-rules"]}' in lines
    assert f'  {rounded["runs/one/sft/model"]} -->|"start, reference"| {names["old"]}' in lines
    assert all(box.isalnum() for box in [*boxes, *rounded.values()])


def test_mermaid_escapes_what_would_end_a_quoted_name(tmp_path: Path):
    path = tmp_path / "odd.yaml"
    path.write_text(
        "stages: { sft: { demonstrations: 'task:a?b=\"c\"&d=#1<x>`' }, evaluate: { prompts:"
        ' "builtin:quickstart/prompts" } }'
    )
    drawn = draw.mermaid(graph_of(load_recipe(path)))
    assert '("task:a?b=#quot;c#quot;#amp;d=#35;1#lt;x#gt;#96;")' in drawn


def test_a_dry_run_prints_the_graph_and_a_recipe_that_loads_to_the_same(
    recipe: Recipe,
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    (tmp_path / "rules.txt").write_text("- Be kind.\n")
    finished = tmp_path / "made" / "sample"
    finished.mkdir(parents=True)
    (finished / "stage.json").write_text("{}")
    changes = ["model.name=tiny", "old.start=base"]
    with pytest.raises(SystemExit) as ended:
        main(["run", str(path), "--dry-run", "--out", "made", *changes])
    printed = capsys.readouterr().out
    assert not ended.value.code
    graph = [line for line in printed.split("\n") if line.startswith("#")]
    assert [line.split()[:3] for line in graph if " done" in line] == [["#", "done", "sample"]]
    assert max(map(len, graph)) <= 100
    again = tmp_path / "printed.yaml"
    again.write_text(printed)
    before, after = load_recipe(path, changes), load_recipe(again)
    assert dump_short(after) == dump_short(before)
    assert [node.inputs for node in graph_of(after)] == [node.inputs for node in graph_of(before)]
    assert len(printed.split("\n")) < 80  # what is said, not every default
    with pytest.raises(SystemExit):
        main(["run", str(path), "--dry-run", "--graph", *changes])
    assert capsys.readouterr().out.startswith("graph TD\n")


def test_graph_alone_says_what_it_goes_with(path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["run", str(path), "--graph"])
    assert ended.value.code == 2
    assert "--dry-run" in capsys.readouterr().err


def test_drawing_brings_no_torch():
    code = "import sys; import burnish.config.draw; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", sorted(path.name for path in RECIPES.glob("*.yaml")))
def test_every_recipe_is_drawn_within_a_terminal(name: str):
    recipe = load_recipe(RECIPES / name)
    lines = draw.text(graph_of(recipe)).split("\n")
    assert len(lines) > len(recipe.stages)
    assert max(map(len, lines)) <= draw.WIDTH
