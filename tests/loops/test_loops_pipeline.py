"""The whole pipeline on the tiny model: it runs, is cached, resumes bit for bit after kill -9, and
refuses changed settings."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

import burnish
from burnish.errors import UserError
from burnish.models import int8
from burnish.runs.metrics import read_metrics
from burnish.trainers.learner import Learner

ANSWERS = ("sample/answers.jsonl", "compare/comparisons.jsonl", "evaluate/answers.jsonl")
RECIPE = """
name: loop
threads: 1
model: {name: tiny, max_length: 512}
data: {demonstrations: DEMOS, prompts: PROMPTS}
stages:
  sft: {epochs: 1, batch_size: 8, lora: {r: 4, alpha: 8}, eval_every: 2, checkpoint: {every: 2}}
  sample: {count: 16, responses: 4, sampling: {max_new_tokens: 12}}
  compare: {by: panel}
  reward: {batch_size: 4, lora: {r: 4, alpha: 8}, eval_every: 2, checkpoint: {every: 2}}
  ppo: {steps: 5, prompts_per_step: 6, epochs: 2, num_mini_batches: 2, lora: {r: 4, alpha: 8}, sampling: {max_new_tokens: 12},
        algorithm: {beta: 0.1}, kl_target: 1.0, normalize_rewards: true, ptx_coef: 0.5, ptx_batch_size: 2, checkpoint: {every: 1}}
  evaluate: {count: 8, sampling: {max_new_tokens: 12}, samples: 3}
  report: {}
"""  # noqa: E501


@pytest.fixture(scope="session")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    demos = [
        {"prompt": f"What is {i} plus {i}?", "completion": f"It is {2 * i}. Hope that helps!"}
        for i in range(40)
    ]
    prompts = [
        {
            "id": f"p{i}",
            "prompt": f"What is {i} plus {i + 1}?",
            "split": "heldout" if i % 3 == 0 else "train",
        }
        for i in range(40)
    ]
    for name, rows in (("demos", demos), ("prompts", prompts)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "recipe.yaml"
    path.write_text(
        RECIPE.replace("DEMOS", str(folder / "demos.jsonl")).replace(
            "PROMPTS", str(folder / "prompts.jsonl")
        )
    )
    return path


@pytest.fixture(scope="session")
def finished(recipe_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run, in a process of its own as the killed ones are."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    done = _start(recipe_file, out)
    output = done.communicate(timeout=300)[0]
    assert done.returncode == 0, output
    return out


def _start(recipe: Path, out: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "burnish",
        "run",
        str(recipe),
        "--out",
        str(out),
        "--quiet",
        *arguments,
    ]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def _outcome(folder: Path) -> dict[str, object]:
    """Everything that must be the same: weights and metrics by bytes, findings by value."""
    found: dict[str, object] = {
        f"{s}/metrics": (folder / s / "metrics.jsonl").read_bytes()
        for s in ("sft", "reward", "ppo")
    }
    found |= {
        f"{s}/weights": (folder / s / "model" / "model.safetensors").read_bytes()
        for s in ("sft", "reward", "ppo")
    }
    found |= {
        f"{s}/result": json.loads((folder / s / "result.json").read_text())
        for s in ("sample", "compare", "reward", "evaluate")
    }
    found |= {name: (folder / name).read_bytes() for name in ANSWERS}
    found |= {f"ppo/{p.name}": p.read_bytes() for p in (folder / "ppo" / "samples").iterdir()}
    return found


def test_every_stage_leaves_what_the_design_says(finished: Path):
    for name in (
        "recipe.yaml",
        "manifest.json",
        "report.html",
        "sample/answers.jsonl",
        "compare/annotations.sqlite",
    ):
        assert (finished / name).stat().st_size > 0
    ppo = read_metrics(finished / "ppo" / "metrics.jsonl")
    assert [row["step"] for row in ppo] == [1, 2, 3, 4, 5]
    for name in (
        "approx_kl",
        "clipfrac",
        "ratio",
        "entropy",
        "explained_variance",
        "kl_ref",
        "reward",
        "completion_length",
        "truncation_rate",
    ):
        assert name in ppo[0]
    assert ppo[0]["kl_ref"] == pytest.approx(0.0, abs=1e-4)  # the policy starts as the reference
    assert ppo[0]["beta"] == 0.1
    assert ppo[1]["beta"] != 0.1  # and β adapts
    sft = read_metrics(finished / "sft" / "metrics.jsonl")
    assert sft[-1]["eval_loss"] < sft[0]["eval_loss_before"]
    weights = load_file(finished / "ppo" / "model" / "model.safetensors")
    reference = load_file(finished / "sft" / "model" / "model.safetensors")
    assert any((weights[name] != reference[name]).any() for name in weights)


def test_every_answer_is_kept_and_kl_is_not_shown_of_narrowed_answers(finished: Path):
    result = json.loads((finished / "evaluate" / "result.json").read_text())
    lines = (finished / "evaluate" / "answers.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["model"] for row in rows] == ["base"] * 8 + ["sft"] * 8 + ["ppo"] * 8
    assert len({row["prompt_id"] for row in rows}) == 8
    assert all(len(row["tokens"]) == 12 for row in rows if row["finish"] == "length")
    assert {row["seed"] for row in rows} == {0}
    shown = [answer["text"] for sample in result["samples"] for answer in sample["responses"]]
    assert set(shown) <= {row["text"] for row in rows}
    assert result["sampling"] == "temperature 0.7, top_p 0.9, at most 12 tokens"
    assert "temperature 1" in result["no_kl"]
    assert all(model["kl_ref"] is None for model in result["models"])
    page = (finished / "report.html").read_text()
    assert "temperature 0.7" in page
    assert "KL to SFT</th>" not in page


def test_an_evaluation_that_was_killed_goes_on_with_the_answers_it_has(
    finished: Path, recipe_file: Path, tmp_path: Path
):
    out = tmp_path / "again"
    shutil.copytree(finished, out)
    before = (out / "evaluate" / "result.json").read_text()
    for name in ("stage.json", "result.json", "answers.jsonl", "parts/2-000000.jsonl"):
        (out / "evaluate" / name).unlink()
    kept = out / "evaluate" / "parts" / "0-000000.jsonl"
    stamp = kept.stat().st_mtime_ns
    burnish.run(burnish.load(recipe_file), out=out)
    assert kept.stat().st_mtime_ns == stamp
    assert (out / "evaluate" / "result.json").read_text() == before
    assert (out / "evaluate" / "answers.jsonl").read_bytes() == (
        finished / "evaluate" / "answers.jsonl"
    ).read_bytes()


def test_the_report_is_a_page_that_loads_nothing(finished: Path):
    class Links(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.loads: list[str] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.loads += [
                v for k, v in attrs if k in ("src", "href", "data") and v and not v.startswith("#")
            ]

    page, links = (finished / "report.html").read_text(), Links()
    links.feed(page)
    assert not links.loads
    assert "What is" in page  # a sample's prompt


def test_a_second_run_does_nothing_again(recipe_file: Path, finished: Path):
    before = {
        p: p.stat().st_mtime_ns
        for p in finished.rglob("*")
        if p.is_file() and p.name == "stage.json"
    }
    lines: list[str] = []
    burnish.run(burnish.load(recipe_file), out=finished, say=lines.append)
    stages = ("sft", "sample", "compare", "reward", "ppo", "evaluate")
    assert lines[:6] == [f"{stage}: done already" for stage in stages]
    after = {p: p.stat().st_mtime_ns for p in before}
    assert {p.parent.name for p in before if before[p] != after[p]} <= {"report"}


@pytest.mark.parametrize("seed", [1, 2])
def test_kill_9_and_the_same_command_end_with_the_same_numbers(
    recipe_file: Path, finished: Path, tmp_path: Path, seed: int
):
    """Killed at random instants of three stages; the process that is left alone finishes what they
    began."""
    rng, out = random.Random(seed), tmp_path / "killed"
    targets = [
        ("sft", rng.randint(1, 3)),
        ("reward", rng.randint(1, 2)),
        ("ppo", rng.randint(1, 2)),
        ("ppo", rng.randint(3, 4)),
    ]
    for stage, rows in targets:
        process = _start(recipe_file, out)
        while process.poll() is None and len(read_metrics(out / stage / "metrics.jsonl")) < rows:
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.15))
        assert process.poll() is None, "the run ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.communicate()
    last = _start(recipe_file, out)
    output = last.communicate(timeout=300)[0]
    assert last.returncode == 0, output
    expected, found = _outcome(finished), _outcome(out)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    assert not list(out.rglob(".partial-*"))


def test_a_kill_inside_a_checkpoint_write_goes_back_to_the_one_before(
    recipe_file: Path, finished: Path, tmp_path: Path
):
    """The process dies between writing a checkpoint's files and renaming its folder."""
    out = tmp_path / "torn"
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "import burnish.runs.checkpoint as c\n"
        "save = c.save_state\n"
        "def torn(folder, state):\n"
        "    save(folder, state)\n"
        "    if 'checkpoint-3' in folder.name and 'ppo' in str(folder):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "c.save_state = torn\n"
        "import burnish\n"
        "burnish.run(burnish.load(sys.argv[1]), out=Path(sys.argv[2]))\n"
    )
    died = subprocess.run(
        [sys.executable, "-c", code, str(recipe_file), str(out)],
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert died.returncode == -signal.SIGKILL
    # step 3 was logged, its checkpoint never finished
    assert len(read_metrics(out / "ppo" / "metrics.jsonl")) == 3
    process = _start(recipe_file, out)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    assert [
        name for name, value in _outcome(finished).items() if _outcome(out)[name] != value
    ] == []


def test_changed_settings_are_refused_and_a_fork_keeps_what_fits(
    recipe_file: Path, finished: Path, tmp_path: Path
):
    changed = burnish.load(recipe_file, "ppo.algorithm.clip_high=0.3", "ppo.steps=1")
    with pytest.raises(
        UserError,
        match=(
            r"the stage ppo was run with other settings \(settings\.algorithm\.clip_high: null ->"
            r" 0\.3; settings\.steps: 5 -> 1\)"
        ),
    ):
        burnish.run(changed, out=finished)
    assert (finished / "ppo" / "stage.json").is_file()
    lines: list[str] = []
    out = burnish.run(changed, out=tmp_path / "fork", fork=finished, until="ppo", say=lines.append)
    assert "sft: done already" in lines
    assert "reward: done already" in lines
    assert len(read_metrics(out / "ppo" / "metrics.jsonl")) == 1


def test_changed_data_is_refused(finished: Path, recipe_file: Path):
    data = recipe_file.parent / "demos.jsonl"
    text = data.read_text()
    try:
        data.write_text(
            text + text.splitlines()[0].replace("0 plus 0", "nought plus nought") + "\n"
        )
        with pytest.raises(UserError, match="sft was run with other settings"):
            burnish.run(burnish.load(recipe_file), out=finished)
    finally:
        data.write_text(text)


def test_two_processes_in_one_folder_are_refused(recipe_file: Path, tmp_path: Path):
    from burnish.runs.manifest import run_lock

    with run_lock(tmp_path / "busy"), pytest.raises(UserError, match=f"pid {os.getpid()}"):
        burnish.run(burnish.load(recipe_file), out=tmp_path / "busy")


def test_four_copies_train_too(recipe_file: Path, tmp_path: Path):
    recipe = burnish.load(
        recipe_file,
        "ppo.share_backbone=false",
        "reward.lora=null",
        "sft.lora=null",
        "ppo.steps=2",
        "ppo.optimizer.learning_rate=1e-3",
        "evaluate.sampling={temperature: 1, top_p: 1, max_new_tokens: 12}",
    )
    out = burnish.run(recipe, out=tmp_path / "copies")
    evaluated = json.loads((out / "evaluate" / "result.json").read_text())
    assert [m["name"] for m in evaluated["models"]] == ["base", "sft", "ppo"]
    assert evaluated["models"][2]["kl_ref"]["value"] != 0.0


def test_bfloat16_products_and_truncated_rollouts_are_corrected(recipe_file: Path, tmp_path: Path):
    recipe = burnish.load(
        recipe_file, "model.dtype=bfloat16", "ppo.steps=2", "ppo.sampling.top_p=0.9"
    )
    out = burnish.run(recipe, out=tmp_path / "narrow")
    rows = read_metrics(out / "ppo" / "metrics.jsonl")
    assert all(row["sampler_gap_mean"] > 0 for row in rows)
    # what was kept of the distribution is less than all of it
    assert all(0 < row["importance_mean"] < 1 for row in rows)
    assert (out / "report.html").is_file()


def test_eight_bit_rollouts_are_corrected(recipe_file: Path, tmp_path: Path):
    if not int8.available():
        pytest.skip("no 8-bit products here")
    recipe = burnish.load(recipe_file, "ppo.sampling.quantization=int8", "ppo.steps=2")
    out = burnish.run(recipe, out=tmp_path / "eight", until="ppo")
    rows = read_metrics(out / "ppo" / "metrics.jsonl")
    assert all(row["sampler_gap_mean"] > 0 and row["importance_mean"] > 0 for row in rows)


@pytest.mark.parametrize("fast", [True, False])
def test_auto_means_eight_bits_where_the_processor_is_fast_at_them(
    recipe_file: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fast: bool
):
    if fast and not int8.available():
        pytest.skip("no 8-bit products here")
    monkeypatch.setattr(int8, "fast_here", lambda: fast)
    recipe = burnish.load(recipe_file, "ppo.sampling.quantization=auto", "ppo.steps=1")
    out = burnish.run(recipe, out=tmp_path / "auto", fork=finished, until="ppo")
    (row,) = read_metrics(out / "ppo" / "metrics.jsonl")
    assert (row["sampler_gap_mean"] > 1e-3) == fast


def test_the_critic_may_make_fewer_passes_than_the_policy(
    recipe_file: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    count = {"policy": 0, "critic": 0}

    def counting(learner: Learner, terms: object, *, of: object = Learner.update):
        count["policy" if learner.view.head is None else "critic"] += 1
        return of(learner, terms)  # type: ignore[operator]

    monkeypatch.setattr(Learner, "update", counting)
    settings = ("ppo.steps=1", "ppo.epochs=3", "ppo.critic_epochs=1")
    burnish.run(
        burnish.load(recipe_file, *settings), out=tmp_path / "few", fork=finished, until="ppo"
    )
    assert count == {"policy": 6, "critic": 2}  # two mini-batches in each pass
    with pytest.raises(UserError, match="critic_epochs is more than epochs"):
        burnish.load(recipe_file, "ppo.epochs=1", "ppo.critic_epochs=2")


def test_exact_rollouts_are_not_weighted(finished: Path):
    assert all(
        "importance_mean" not in row for row in read_metrics(finished / "ppo" / "metrics.jsonl")
    )


def test_peoples_comparisons_need_no_panel(recipe_file: Path, tmp_path: Path):
    rows = [
        {
            "chosen": f"\n\nHuman: Add {i} and 1.\n\nAssistant: {i + 1}.",
            "rejected": f"\n\nHuman: Add {i} and 1.\n\nAssistant: I will not.",
        }
        for i in range(30)
    ]
    source = tmp_path / "hh.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    # the stages that would make comparisons are not there: what people compared is the recipe's own
    # source
    plain = yaml.safe_load(recipe_file.read_text())
    plain["stages"] = {
        name: own for name, own in plain["stages"].items() if name not in ("sample", "compare")
    }
    (tmp_path / "hh.yaml").write_text(yaml.safe_dump(plain, sort_keys=False))
    recipe = burnish.load(
        tmp_path / "hh.yaml",
        f"data.comparisons={source}",
        "data.demonstrations=null",
        "data.prompts=null",
        "data.heldout=0.3",
        "ppo.steps=1",
        "ppo.ptx_coef=0",
    )
    out = burnish.run(recipe, out=tmp_path / "hh")
    findings = json.loads((out / "reward" / "result.json").read_text())
    assert findings["pairs_train"] + findings["pairs_heldout"] == 30
    assert (out / "report.html").is_file()
