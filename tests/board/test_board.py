"""The board over runs that wait, run, are done or are damaged; it reads, and changes nothing."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from burnish.board.app import create_app
from burnish.board.reading import curves_of, find_runs, overview, read
from burnish.cli.main import main
from burnish.runs.manifest import write_sealed
from burnish.runs.stage_record import StageRecord

RECIPE = """\
name: demo
model: {name: tiny}
data: {demonstrations: builtin:quickstart/demonstrations, prompts: builtin:quickstart/prompts}
stages: {sft: {max_steps: 10}, sample: {}, compare: {by: panel}, reward: {}, ppo: {start: sft, steps: 8}}
"""  # noqa: E501


def make_run(folder: Path, *, losses: tuple[float, ...] = (3.0, 2.0, 1.5)) -> Path:
    """SFT is done, sampling and comparing too; the reward model is at its third step."""
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(RECIPE)
    write_sealed(folder / "manifest.json", {})
    for stage in ("sft", "sample", "compare"):
        (folder / stage).mkdir()
        StageRecord(stage, "f", {}, 75.0, 1.25, "2026-11-30").write(folder / stage / "stage.json")
    steps(folder / "sft", losses)
    steps(folder / "reward", losses)
    (folder / "reward" / "begun.json").write_text("{}")
    return folder


def steps(stage: Path, losses: tuple[float, ...]) -> None:
    stage.mkdir(exist_ok=True)
    lines = [json.dumps({"step": n, "loss": loss}) for n, loss in enumerate(losses, start=1)]
    (stage / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    rows = [json.dumps({"step": n, "seconds": 2.0}) for n in range(1, len(losses) + 1)]
    (stage / "timing.jsonl").write_text("\n".join(rows) + "\n")


def client(root: Path) -> TestClient:
    return TestClient(create_app(root, hosts=["testserver"]))


def contents(root: Path) -> dict[str, tuple[float, bytes]]:
    return {
        str(path): (path.stat().st_mtime, path.read_bytes())
        for path in root.rglob("*") if path.is_file()
    }  # fmt: skip


def test_stages_are_done_running_stopped_or_waiting(tmp_path: Path):
    run = make_run(tmp_path / "demo")
    stages = {stage.name: stage for stage in read("demo", run).stages}
    assert [stages[name].state for name in ("sft", "compare", "reward", "ppo")] == [
        "done", "done", "running", "waiting",
    ]  # fmt: skip
    assert (stages["sft"].seconds, stages["sft"].memory_gb) == (75.0, 1.25)
    assert read("demo", run).state == "running"
    old = time.time() - 4000
    for path in (run / "reward").iterdir():
        os.utime(path, (old, old))
    assert read("demo", run).stages[3].state == "stopped"
    assert read("demo", run).state == "stopped"


def test_time_left_follows_the_steps_so_far(tmp_path: Path):
    run = make_run(tmp_path / "demo")
    (run / "sft" / "stage.json").unlink()
    (run / "sft" / "begun.json").write_text("{}")
    sft, reward = (stage for stage in read("demo", run).stages if stage.name in ("sft", "reward"))
    assert sft.left == pytest.approx(2.0 * (10 - 3))
    assert reward.left is None  # epochs do not say how many steps
    assert curves_of(sft)["loss"] == ([1.0, 2.0, 3.0], [3.0, 2.0, 1.5])


def test_pages_show_it_and_change_nothing(tmp_path: Path):
    run = make_run(tmp_path / "demo")
    (run / "reward" / "samples").mkdir()
    sample = {"prompt": "Why?", "completion": "<script>alert(1)</script>", "reward": 0.5}
    (run / "reward" / "samples" / "step-00003.jsonl").write_text(json.dumps(sample) + "\n")
    before, http = contents(tmp_path), client(tmp_path)
    index = http.get("/")
    assert "3 of 5" in index.text
    assert 'http-equiv="refresh"' in index.text
    page = http.get("/run/demo").text
    assert "reward: loss" in page
    assert "3 of 10" in page
    assert ">step 3<" in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<script" not in page
    assert "src=" not in page
    assert "script-src" not in index.headers["content-security-policy"]
    assert http.get("/report/demo").status_code == 404
    (run / "report.html").write_text("<p>the report</p>")
    assert "the report" in http.get("/report/demo").text
    (run / "report.html").unlink()
    assert contents(tmp_path) == before
    assert http.post("/").status_code == 405


def test_the_table_of_runs_reads_no_numbers(tmp_path: Path):
    run = make_run(tmp_path / "demo")
    (run / "sft" / "metrics.jsonl").write_text("no JSON\n")
    http = client(tmp_path)
    assert "3 of 5" in http.get("/").text
    assert "this line is not a JSON object" in http.get("/run/demo").text
    states = [(stage.state, stage.rows) for stage in overview("demo", run).stages]
    assert states == [("done", ()), ("done", ()), ("done", ()), ("running", ()), ("waiting", ())]


def test_runs_side_by_side_share_a_chart(tmp_path: Path):
    make_run(tmp_path / "a")
    make_run(tmp_path / "deep" / "b", losses=(5.0, 4.0))
    page = client(tmp_path).get("/compare", params={"run": ["a", "deep/b", "nowhere"]}).text
    assert "sft: loss" in page
    assert (
        page.index("<h2>sft</h2>")
        < page.index("<strong>loss</strong>")
        < page.index("<h2>reward</h2>")
    )
    assert "deep/b: from 5" in page
    assert "Mark two" in client(tmp_path).get("/compare", params={"run": "a"}).text


def test_damage_and_nothing_are_said(tmp_path: Path):
    assert "No run is here yet" in client(tmp_path).get("/").text
    run = make_run(tmp_path / "demo")
    (run / "sft" / "stage.json").write_text("{}")
    assert "damaged" in client(tmp_path).get("/").text
    assert "damaged" in client(tmp_path).get("/run/demo").text
    (run / "recipe.yaml").write_text("stages: {sft: {colour: red}}")
    assert "colour" in client(tmp_path).get("/run/demo").text
    for path in ("nowhere", "../demo", "%2e%2e/demo"):
        assert client(tmp_path).get(f"/run/{path}").status_code == 404
        assert client(tmp_path).get(f"/report/{path}").status_code == 404


def test_other_names_are_not_answered(tmp_path: Path):
    assert client(tmp_path).get("/", headers={"host": "evil.example"}).status_code == 403


def test_one_runs_folder_is_a_board_of_one(tmp_path: Path):
    run = make_run(tmp_path / "demo")
    assert find_runs(run) == {"demo": run}
    page = client(run)
    assert 'href="/run/demo"' in page.get("/").text
    assert "75\u00a0s" in page.get("/run/demo").text


def test_a_folder_that_is_not_there_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    with pytest.raises(SystemExit) as ended:
        main(["board", str(tmp_path / "nowhere")])
    assert ended.value.code == 2
    assert "there is no such folder" in capsys.readouterr().err
