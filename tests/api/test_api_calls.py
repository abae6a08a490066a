"""The calls of Python: each trains from objects as it does from files, goes on, and hands back what
it made."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import datasets
import pandas
import pytest
import transformers

import burnish
from burnish.api.given import named, source_name
from burnish.api.progress import Table, reporter
from burnish.api.settings import recipe_of
from burnish.errors import UserError
from burnish.models.tiny import tiny_model, tiny_tokenizer

ROWS = [{"prompt": f"Say {i}.", "completion": f"{i}, with pleasure."} for i in range(24)]
PAIRS = [{"prompt": f"Say {i}.", "chosen": f"{i}!", "rejected": "No."} for i in range(24)]
SMALL: dict[str, Any] = {
    "threads": 1,
    "batch_size": 8,
    "heldout": 0.3,
    "quiet": True,
    "lora": {"r": 2, "alpha": 4},
}
ONLINE: dict[str, Any] = {
    "threads": 1, "steps": 2, "prompts_per_step": 2, "responses_per_prompt": 2, "max_new_tokens": 6,
    "quiet": True,
}  # fmt: skip


def by_length(completions: list[str], **columns: Any) -> list[float]:
    return [len(text) / 10 for text in completions]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> burnish.Result:
    return burnish.sft("tiny", ROWS, out=tmp_path_factory.mktemp("runs") / "sft", **SMALL)


def test_importing_the_package_is_quick_and_brings_nothing_heavy():
    code = (
        "import sys, time; t = time.perf_counter(); import burnish; print(time.perf_counter() - t,"
        " *sys.modules)"
    )
    seconds, *modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert float(seconds) < 0.1
    assert not {"torch", "transformers", "pydantic", "pandas", "datasets"} & set(modules)
    assert {"sft", "grpo", "Result"} <= set(dir(burnish))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = burnish.nonsense


def test_sft_hands_back_model_tokenizer_metrics_and_report(tuned: burnish.Result):
    table = tuned.metrics
    assert list(table.columns[:2]) == ["stage", "step"]
    assert table["step"].tolist() == list(range(1, len(table) + 1))
    assert table["loss"].iloc[-1] < table["loss"].iloc[0]
    assert isinstance(tuned.model(), transformers.LlamaForCausalLM)
    assert tuned.tokenizer().chat_template
    assert Path(tuned.report).is_file()
    assert "<iframe" in tuned._repr_html_()
    assert tuned.results["sft"]["examples_train"] + tuned.results["sft"]["examples_heldout"] == len(
        ROWS
    )
    assert json.loads((tuned / "sft" / "result.json").read_text()) == tuned.results["sft"]


def test_a_result_stands_for_its_folder(tuned: burnish.Result):
    assert tuned == tuned.folder
    assert tuned.folder == tuned
    assert hash(tuned) == hash(tuned.folder)
    assert [path.parent.name for path in tuned.glob("*/result.json")] == ["sft"]
    assert Path(tuned) == tuned.folder
    with pytest.raises(AttributeError, match="nonsense"):
        _ = tuned.nonsense


def test_the_same_call_again_does_nothing_and_other_rows_are_refused(tuned: burnish.Result):
    lines: list[str] = []
    again = burnish.sft("tiny", ROWS, out=str(tuned), say=lines.append, **{**SMALL, "quiet": False})
    assert lines == ["sft: done already"]
    assert again.metrics.equals(tuned.metrics)
    with pytest.raises(UserError, match=r"the contents of data\.demonstrations changed"):
        burnish.sft("tiny", ROWS[1:], out=tuned, **SMALL)


def test_a_fork_takes_over_what_was_made_from_the_same_objects(
    tuned: burnish.Result, tmp_path: Path
):
    lines: list[str] = []
    burnish.sft(
        "tiny",
        ROWS,
        out=tmp_path / "fork",
        fork=tuned,
        say=lines.append,
        **{**SMALL, "quiet": False},
    )
    assert lines[-1] == "sft: done already"
    assert any("taken over" in line for line in lines)


@pytest.mark.parametrize(
    "make",
    [
        datasets.Dataset.from_list,
        lambda rows: datasets.Dataset.from_list(rows).to_iterable_dataset(),
        pandas.DataFrame,
        tuple,
        iter,
        lambda rows: (row for row in rows),
    ],
    ids=["dataset", "iterable", "frame", "tuple", "iterator", "generator"],
)
def test_rows_in_any_form_are_the_same_file(make: Any, tmp_path: Path):
    first = source_name(ROWS, "data", folder=tmp_path)
    assert source_name(make(ROWS), "data", folder=tmp_path) == first
    lines = Path(first).read_text().splitlines()
    assert [json.loads(line) for line in lines] == ROWS


def test_splits_become_a_folder_whose_files_are_named_after_them(tmp_path: Path):
    both = datasets.DatasetDict(
        train=datasets.Dataset.from_list(ROWS[:20]), test=datasets.Dataset.from_list(ROWS[20:])
    )
    place = source_name(both, "data", folder=tmp_path)
    assert {path.name for path in Path(place).iterdir()} == {"train.jsonl", "test.jsonl"}
    result = burnish.sft("tiny", both, out=tmp_path / "run", **SMALL)
    assert (result.results["sft"]["examples_train"], result.results["sft"]["examples_heldout"]) == (
        20,
        4,
    )
    beside = burnish.sft("tiny", ROWS[:20], eval_data=ROWS[20:], out=tmp_path / "beside", **SMALL)
    assert beside.results["sft"]["eval_loss_after"] == result.results["sft"]["eval_loss_after"]


def test_what_is_no_data_no_model_and_no_reward_is_refused_by_name(tmp_path: Path):
    with pytest.raises(
        UserError, match=r'row 2, field "completion.+is a object, which no JSON can hold'
    ):
        burnish.sft("tiny", [ROWS[0], {"prompt": "a", "completion": object()}], out=tmp_path)
    with pytest.raises(UserError, match="row 1: must be a mapping of columns to values, not int"):
        source_name(iter([7]), "data", folder=tmp_path)
    with pytest.raises(UserError, match="is a int, which is no data"):
        burnish.sft("tiny", 7, out=tmp_path)
    with pytest.raises(UserError, match="without its tokenizer"):
        burnish.sft(tiny_model(), ROWS, out=tmp_path)
    with pytest.raises(UserError, match="is a int, which is no reward"):
        burnish.grpo("tiny", ROWS, rewards=[7], out=tmp_path)
    with pytest.raises(UserError, match='no loss "sigmoid"'):
        burnish.dpo("tiny", PAIRS, loss="sigmoid", out=tmp_path)
    with pytest.raises(UserError, match='no algorithm "ppo"'):
        burnish.grpo("tiny", ROWS, by_length, algorithm="ppo", out=tmp_path)
    assert not (tmp_path / "recipe.yaml").exists()


def test_a_word_of_another_trainer_is_answered_with_ours(tmp_path: Path):
    with pytest.raises(UserError, match="responses_per_prompt"):
        burnish.grpo("tiny", ROWS, by_length, num_generations=4, out=tmp_path)
    with pytest.raises(UserError, match="batch_size"):
        burnish.sft("tiny", ROWS, per_device_train_batch_size=4, out=tmp_path)


def test_keywords_find_their_places():
    keywords = {
        "learning_rate": 1e-3, "beta": 0.1, "temperature": 0.7, "max_length": 64, "limit": 9,
        "seed": 3, "steps": 2,
        "lora": {"r": 2}, "heldout": 0.5, "algorithm": {"name": "grpo"}, "nonsense": 1,
    }  # fmt: skip
    recipe = recipe_of("grpo", keywords)
    assert recipe == {
        "seed": 3,
        "model": {"max_length": 64},
        "data": {"limit": 9, "heldout": 0.5},
        "stages": {
            "grpo": {
                "optimizer": {"learning_rate": 1e-3}, "algorithm": {"beta": 0.1, "name": "grpo"},
                "sampling": {"temperature": 0.7}, "steps": 2, "lora": {"r": 2}, "nonsense": 1,
            }
        },
    }  # fmt: skip


def test_a_model_object_is_trained_as_its_folder_is(tuned: burnish.Result, tmp_path: Path):
    result = burnish.sft(
        tiny_model(), ROWS, tokenizer=tiny_tokenizer(), out=tmp_path / "object", **SMALL
    )
    folder = Path(result.recipe.model.name)
    assert folder.parent == tmp_path / "object" / "inputs"
    assert result.metrics["loss"].tolist() == pytest.approx(
        tuned.metrics["loss"].tolist(), rel=1e-5
    )
    lines: list[str] = []
    again = {**SMALL, "quiet": False, "say": lines.append}
    burnish.sft(tiny_model(), ROWS, tokenizer=tiny_tokenizer(), out=tmp_path / "object", **again)
    assert lines == ["sft: done already"]


@pytest.mark.parametrize("loss", ["dpo", "simpo", {"name": "ipo"}])
def test_preference_losses_by_name_or_section(loss: Any, tmp_path: Path):
    result = burnish.dpo("tiny", PAIRS, loss=loss, out=tmp_path / "run", **SMALL)
    name = loss if isinstance(loss, str) else loss["name"]
    assert result.recipe.stages[name].loss.name == name
    assert "rewards/accuracies" in result.metrics or "accuracy" in result.metrics


def test_kto_reads_single_judgements(tmp_path: Path):
    rows = [{**row, "label": number % 2 == 0} for number, row in enumerate(ROWS)]
    result = burnish.dpo("tiny", rows, loss="kto", out=tmp_path / "run", **SMALL)
    assert len(result.metrics) > 0


def test_a_reward_model_and_ppo_against_it(tuned: burnish.Result, tmp_path: Path):
    scorer = burnish.reward_model(tuned, PAIRS, out=tmp_path / "reward", max_new_tokens=6, **SMALL)
    assert type(scorer.model()).__name__ == "LlamaForSequenceClassification"
    prompts = [{"prompt": row["prompt"]} for row in ROWS]
    policy = burnish.ppo(tuned, prompts, scorer, out=tmp_path / "ppo", **ONLINE)
    assert policy.metrics["step"].tolist() == [1, 2]
    assert policy.model_folder() == tmp_path / "ppo" / "ppo" / "model"


def test_rewards_as_functions_of_every_form(tuned: burnish.Result, tmp_path: Path):
    seen: list[Any] = []

    def with_columns(
        prompts, completions, completion_ids, number, trainer_state, log_extra, log_metric
    ):
        seen.append((prompts, completions, completion_ids, number, trainer_state.global_step))
        log_extra("note", ["x"] * len(completions))
        log_metric("mine", 0.5)
        return [float(n) for n in number]

    async def later(completions, **columns):
        return [1.0 for _ in completions]

    class Scaled:
        def __init__(self, factor: float) -> None:
            self.factor = factor

        def __call__(self, completions, **columns):
            return [self.factor for _ in completions]

    rewards = [
        with_columns, later, Scaled(2.0), lambda completions, **k: [0.0] * len(completions),
        functools.partial(by_length), {"function": by_length, "weight": 0.0, "label": "shown"},
        "length",
    ]  # fmt: skip
    rows = [{"prompt": f"Say {i}.", "number": i} for i in range(12)]
    result = burnish.grpo(tuned, rows, rewards, out=tmp_path / "run", **ONLINE)
    table = result.metrics
    for label, value in {"later": 1.0, "Scaled": 2.0, "lambda": 0.0}.items():
        assert table[f"rewards/{label}/mean"].tolist() == [value, value]
    assert {"rewards/by_length/mean", "rewards/shown/mean", "rewards/length/mean"} <= set(table)
    assert [step for *_, step in seen] == [0, 1]
    assert all(isinstance(text, str) for _, texts, *_ in seen for text in texts)
    assert result.answers["note"].tolist() == ["x"] * len(result.answers)
    functions = [
        one.function for one in result.recipe.stages["grpo"].rewards if one.name == "python"
    ]
    assert functions[-1] == f"{__name__}:by_length"  # another process finds it
    assert functions[0] == "object:with_columns"


def test_where_prompts_are_messages_rewards_get_messages(tuned: burnish.Result, tmp_path: Path):
    def conversational(prompts, completions, **columns):
        assert prompts[0][0]["role"] == "user"
        return [float(len(completion[0]["content"])) for completion in completions]

    rows = [{"prompt": [{"role": "user", "content": f"Say {i}."}]} for i in range(12)]
    result = burnish.grpo(
        tuned, rows, conversational, algorithm="rloo", out=tmp_path / "run", **ONLINE
    )
    assert result.recipe.stages["rloo"].rewards[0].messages is True


def test_a_function_that_changed_is_said_and_one_that_is_gone_named(
    tuned: burnish.Result, tmp_path: Path
):
    rows = [{"prompt": f"Say {i}."} for i in range(12)]
    factor = 1.0

    def scaled(completions, **columns):
        return [factor for _ in completions]

    burnish.grpo(tuned, rows, scaled, out=tmp_path / "run", **ONLINE)
    factor = 2.0
    with pytest.raises(UserError, match="the code of object:scaled changed"):
        burnish.grpo(tuned, rows, scaled, out=tmp_path / "run", **ONLINE)
    done = subprocess.run(
        [sys.executable, "-m", "burnish", "run", str(tmp_path / "run/recipe.yaml"), "--out",
            str(tmp_path / "other")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert 'the function "scaled" was given by a Python program' in done.stderr


def test_callbacks_hear_of_steps_checkpoints_and_evaluations(tmp_path: Path):
    steps, checkpoints, evaluations = [], [], []
    result = burnish.sft(
        "tiny",
        ROWS,
        out=tmp_path / "run",
        **SMALL,
        epochs=2,
        eval_every=2,
        checkpoint={"every": 2},
        on_step=steps.append,
        on_checkpoint=checkpoints.append,
        on_evaluate=evaluations.append,
    )
    table = result.metrics
    assert [event.step for event in steps] == table["step"].tolist()
    assert [event.metrics["loss"] for event in steps] == table["loss"].tolist()
    assert all(
        (event.checkpoint / "state.json").parent.name == f"checkpoint-{event.step}"
        for event in checkpoints
    )
    assert {event.step for event in checkpoints} == {*range(2, len(table) + 1, 2), len(table)}
    assert {event.step for event in evaluations if "eval_loss" in event.metrics} >= {2}


def test_a_callback_that_raises_ends_the_run_which_then_goes_on(tmp_path: Path):
    def stop(event: burnish.Event) -> None:
        if event.step == 2:
            raise KeyError("enough")

    settings = {**SMALL, "epochs": 2, "checkpoint": {"every": 1}}
    with pytest.raises(KeyError, match="enough"):
        burnish.sft("tiny", ROWS, out=tmp_path / "run", on_step=stop, **settings)
    first: list[burnish.Event] = []
    burnish.sft("tiny", ROWS, out=tmp_path / "run", on_step=first.append, **settings)
    assert first[0].step == 3


def test_evaluation_of_several_models(tuned: burnish.Result, tmp_path: Path):
    heard: list[burnish.Event] = []
    result = burnish.evaluate(
        ["tiny", tuned],
        [{"prompt": f"Say {i}."} for i in range(6)],
        rewards=by_length,
        max_new_tokens=6,
        out=tmp_path / "run",
        threads=1,
        quiet=True,
        on_evaluate=heard.append,
    )
    assert result.evaluation is not None
    assert result.evaluation["prompts"] == 6
    assert [one["name"] for one in result.evaluation["models"]] == [
        "base",
        str(tuned / "sft" / "model"),
    ]
    assert [event.stage for event in heard] == ["evaluate"]
    assert set(result.answers["model"]) == {"base", str(tuned / "sft" / "model")}


def test_a_recipe_as_a_mapping_with_changes_and_objects(tmp_path: Path):
    recipe = {
        "model": "tiny",
        "data": {"demonstrations": ROWS, "heldout": 0.3},
        "stages": {"sft": {"epochs": 1, "batch_size": 8, "lora": {"r": 2, "alpha": 4}}},
    }
    result = burnish.run(
        recipe, "sft.batch_size=4", out=tmp_path / "a", threads=1, quiet=True, sft={"epochs": 2}
    )
    assert (result.recipe.stages["sft"].epochs, result.recipe.stages["sft"].batch_size) == (2.0, 4)
    assert result.recipe.stages["sft"].lora.r == 2
    again = burnish.run(result.recipe, out=tmp_path / "b", quiet=True, seed=1)
    assert again.recipe.seed == 1
    assert burnish.load(result.recipe) is result.recipe
    by_path = burnish.load(tmp_path / "a" / "recipe.yaml", "seed=2", sft={"epochs": 3})
    assert (by_path.seed, by_path.stages["sft"].epochs) == (2, 3.0)


def test_settings_that_no_recipe_can_hold_are_named(tmp_path: Path):
    with pytest.raises(UserError, match=r'field "stages.sft.epochs": is a object'):
        named({"stages": {"sft": {"epochs": object()}}}, tmp_path)
    with pytest.raises(UserError, match="an override is text, not int"):
        burnish.run({"stages": {"sft": {}}}, 7)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="not by int"):
        burnish.load(7)  # type: ignore[arg-type]


def test_without_pandas_tables_are_lists(tuned: burnish.Result, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert isinstance(tuned.metrics, list)
    assert tuned.metrics[0]["stage"] == "sft"


def test_a_notebook_shows_a_table_that_is_written_anew(monkeypatch: pytest.MonkeyPatch):
    shown: list[str] = []
    handle = SimpleNamespace(update=lambda table: shown.append(table._repr_html_()))
    python, display = ModuleType("IPython"), ModuleType("IPython.display")
    python.get_ipython = lambda: SimpleNamespace(kernel=1)  # type: ignore[attr-defined]
    display.display = lambda table, display_id: handle  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", python)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    table = reporter(quiet=False)
    assert isinstance(table, Table)
    table.say("plan: <all> is well")
    report = table.stage("sft")
    time.sleep(0.01)
    report(3, 10, 700, {"loss": 0.25})
    assert "plan: &lt;all&gt; is well" in shown[-1]
    assert "<td>3/10</td>" in shown[-1]
    assert "loss 0.25" in shown[-1]
    assert not isinstance(reporter(quiet=True), Table)
