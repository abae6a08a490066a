"""Numbers that are none, in every trainer: a step is left out and told, or the run stops in one
line that names the cause."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

import burnish
from burnish.errors import UserError
from burnish.models.roles import View
from burnish.runs.metrics import read_metrics
from burnish.trainers.learner import Learner, Term

RECIPE = """
name: nan
threads: 1
model: {name: tiny, max_length: 256, device: cpu}
data: {demonstrations: DEMOS, prompts: PROMPTS, heldout: 0.3}
stages:
"""
SPAN = "max_skipped_steps: 3}, lora: {r: 2, alpha: 4}, checkpoint: {every: 2}"
STAGES = {
    "sft": f"{{epochs: 3, batch_size: 4, eval_every: 2, optimizer: {{{SPAN}}}",
    "sample": "{count: 16, responses: 2, sampling: {max_new_tokens: 4}}",
    "compare": "{}",
    "reward": f"{{epochs: 4, batch_size: 6, eval_every: 2, optimizer: {{{SPAN}}}",
    "dpo": f"{{epochs: 4, batch_size: 6, eval_every: 2, optimizer: {{{SPAN}}}",
    "kto": f"{{epochs: 4, batch_size: 6, eval_every: 2, optimizer: {{{SPAN}}}",
    "ppo": (
        f"{{steps: 8, prompts_per_step: 2, sampling: {{max_new_tokens: 4}}, optimizer: {{{SPAN}}}"
    ),
    "grpo": (
        "{steps: 8, prompts_per_step: 2, responses_per_prompt: 2, sampling: {max_new_tokens:"
        f" 4}}, optimizer: {{{SPAN}, rewards: [{{name: length, free: 2, limit: 9}}]}}"
    ),
}
TRAINERS = ("sft", "reward", "dpo", "kto", "ppo", "grpo")
EARLIER = ("sft", "sample", "compare", "reward")


class Runs:
    """A run up to its reward model, which those of every trainer go on from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        demos = [
            {"prompt": f"What is {i} plus {i}?", "completion": f"It is {2 * i}."} for i in range(16)
        ]
        prompts = [
            {"prompt": f"Say {i}.", "split": "heldout" if i % 3 == 0 else "train"}
            for i in range(24)
        ]
        for name, rows in (("demos", demos), ("prompts", prompts)):
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.lines: list[str] = []
        burnish.run(self.recipe("ppo"), out=folder / "base", until="reward", memory_check=False)

    def recipe(self, stage: str, *settings: str) -> Any:
        stages = (
            [*EARLIER[: EARLIER.index(stage)], stage] if stage in EARLIER else [*EARLIER, stage]
        )
        text = RECIPE.replace("DEMOS", str(self.folder / "demos.jsonl"))
        text += "".join(f"  {name}: {STAGES[name]}\n" for name in stages) + "  report: {}\n"
        (self.folder / "recipe.yaml").write_text(
            text.replace("PROMPTS", str(self.folder / "prompts.jsonl"))
        )
        return burnish.load(self.folder / "recipe.yaml", *settings)

    def run(self, out: Path, trainer: str, *settings: str) -> str | None:
        """The line that a run stopped with; None: it was done. Whatever it wrote is JSON, and the
        report can be made."""
        recipe = self.recipe(trainer, *settings)
        if not out.exists():
            out.mkdir()
            for earlier in EARLIER[: EARLIER.index(trainer)] if trainer in EARLIER else EARLIER:
                shutil.copytree(self.folder / "base" / earlier, out / earlier)
        line = None
        self.lines = []
        try:
            burnish.run(recipe, out=out, memory_check=False, say=self.lines.append)
        except UserError as error:
            line = str(error)
            assert "\n" not in line
        strictly_read(out)
        return line


def strictly_read(run: Path) -> None:
    """Every JSON file of a run, with a reader that takes no NaN."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(constant)

    for path in run.rglob("*.json*"):
        text = path.read_text()
        for row in text.splitlines() if path.suffix == ".jsonl" else [text]:
            json.loads(row, parse_constant=refuse)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("nan"))


def bad_losses(monkeypatch: pytest.MonkeyPatch, *, at: Callable[[int], bool]) -> None:
    """NaN times the loss in the updates, counted from 1, that `at` says."""
    count, update = 0, Learner.update

    def updating(learner: Learner, terms: Iterable[Callable[[], Term]]) -> dict[str, float]:
        nonlocal count
        count += 1
        factor = float("nan") if at(count) else 1.0

        def spoilt(term: Callable[[], Term]) -> Term:
            found = term()
            return Term(found.loss * factor, found.sums)

        return update(learner, [lambda term=term: spoilt(term) for term in terms])

    monkeypatch.setattr(Learner, "update", updating)


@pytest.mark.parametrize("trainer", TRAINERS)
def test_one_bad_loss_costs_its_step_and_is_told(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainer: str
):
    bad_losses(monkeypatch, at=lambda update: update == 3)
    assert runs.run(tmp_path / "run", trainer) is None
    rows = read_metrics(tmp_path / "run" / trainer / "metrics.jsonl")
    assert [row["skipped_steps"] for row in rows][:1] == [0]
    assert rows[-1]["skipped_steps"] == 1
    assert (
        json.loads((tmp_path / "run" / trainer / "result.json").read_text())["skipped_steps"] == 1
    )
    assert (
        f"{trainer}: updates left out, for their loss or gradient was not finite: 1 (in {len(rows)}"
        " steps)" in runs.lines
    )
    page = (tmp_path / "run" / "report.html").read_text()
    assert f"The loss or the gradient of some updates was not finite: 1 in {trainer}." in page


@pytest.mark.parametrize(
    ("trainer", "first", "cause"),
    [
        *((trainer, 3, "Lower the learning rate") for trainer in TRAINERS),
        ("sft", 1, "not the learning rate"),
        ("ppo", 1, "not the learning rate"),
    ],
)
def test_losses_that_stay_bad_stop_the_run(
    runs: Runs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trainer: str,
    first: int,
    cause: str,
):
    bad_losses(monkeypatch, at=lambda update: update >= first)
    line = runs.run(tmp_path / "run", trainer)
    assert line is not None
    assert "in a row" in line
    assert cause in line
    assert "of the critic" in line or trainer != "ppo"  # it is updated before the policy
    assert not (tmp_path / "run" / trainer / "model").exists()


def test_a_training_too_short_to_be_stopped_is_not_taken_for_one(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    bad_losses(monkeypatch, at=lambda update: True)
    for trainer, settings in (("sft", "sft.epochs=0.1"), ("grpo", "grpo.steps=2")):
        line = runs.run(tmp_path / trainer, trainer, settings)
        assert line is not None
        assert "had a loss and a gradient that are finite, so nothing was learnt" in line


@pytest.mark.parametrize("trainer", ["sft", "reward", "ppo"])
def test_no_checkpoint_holds_weights_that_are_not_finite(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainer: str
):
    """A finite gradient and an optimizer that overflows; the same command goes on from the
    checkpoint before."""
    count, step = 0, torch.optim.AdamW.step

    def overflowing(optimizer: Any, *arguments: Any) -> None:
        nonlocal count
        count += 1
        step(optimizer, *arguments)
        if count == 5:
            optimizer.param_groups[0]["params"][-1].data[0, 0] = float("inf")

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", overflowing)
        line = runs.run(tmp_path / "run", trainer)
    assert line is not None
    assert "made weights that are not finite" in line
    assert "Lower the learning rate" in line
    assert runs.run(tmp_path / "run", trainer) is None


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ("[float('nan')] + [0.5] * (n - 1)", "returned nan for completion 0"),
        ("[float('nan')] * n", "returned nan for completion 0"),
        ("[0.5] * (n - 1) + [float('-inf')]", "returned -inf for completion 3"),
        ("[1e300, -1e300] * (n // 2)", "returned 1e+300 for completion 0"),
    ],
)
def test_rewards_that_are_no_numbers_are_named(runs: Runs, tmp_path: Path, values: str, says: str):
    code = f"def paid(completions, **_):\n    n = len(completions)\n    return {values}\n"
    (tmp_path / "paid.py").write_text(code)
    for number, other in enumerate(("", ", {name: length, free: 2, limit: 9}")):
        rewards = (
            f"grpo.rewards=[{{name: python, function: '{tmp_path}/paid.py:paid', label:"
            f" mine}}{other}]"
        )
        line = runs.run(tmp_path / f"run{number}", "grpo", rewards)
        assert line is not None
        assert f'the reward "mine" {says}' in line
        assert "None" in line


def test_a_weight_that_makes_rewards_too_large_is_named(runs: Runs, tmp_path: Path):
    (tmp_path / "paid.py").write_text(
        "def paid(completions, **_):\n    return [1e17] * len(completions)\n"
    )
    rewards = (
        f"grpo.rewards=[{{name: python, function: '{tmp_path}/paid.py:paid', label: mine, weight:"
        " 1000}]"
    )
    line = runs.run(tmp_path / "run", "grpo", rewards)
    assert line is not None
    assert "the reward of completion 0 is 1e+20 (mine: 1e+17), which cannot be learnt from." in line


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("all_of_them", [False, True])
def test_a_reward_model_that_gives_no_numbers_is_named(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: float, all_of_them: bool
):
    scores = View.scores

    def spoilt(view: View, batch: Any) -> torch.Tensor:
        found = scores(view, batch).clone()
        found[slice(None) if all_of_them else 0] = bad
        return found

    monkeypatch.setattr(View, "scores", spoilt)
    line = runs.run(tmp_path / "run", "ppo")
    assert line is not None
    assert "scores of the reward model are no finite numbers" in line


def test_a_model_without_a_loss_at_the_end_is_not_taken_for_trained(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("burnish.trainers.sft.mean_nll", lambda *_, **__: float("nan"))
    line = runs.run(tmp_path / "run", "sft")
    assert line is not None
    assert "the trained model's loss on held-out data is nan" in line
