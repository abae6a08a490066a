"""What a later stage needs is looked at before the first one trains."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import burnish
import families
from burnish.errors import UserError
from burnish.models import int8

SANDBOXED = pytest.mark.skipif(
    shutil.which("bwrap") is None, reason="code is judged in bubblewrap, which is not here"
)
ONLINE = ["stages.sft={epochs: 0.1}", "stages.grpo={steps: 1}"]


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    demos = [{"prompt": f"Say {i}.", "completion": f"{i}, with pleasure."} for i in range(20)]
    prompts = [
        {
            "prompt": f"Say {i} twice.",
            "answer": str(i),
            "split": "heldout" if i % 3 == 0 else "train",
        }
        for i in range(18)
    ]
    for name, rows in (("d", demos), ("p", prompts)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, broken in (
        ("bad", 1),
        ("late", 0),
    ):  # a right answer that nothing equals, to be trained on and kept for evaluation
        rows = [
            row | ({"answer": "\\frac{1}{"} if n == broken else {}) for n, row in enumerate(prompts)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "mine.py").write_text(
        "def f(completions, **_):\n    return [1.0 for _ in completions]\n"
    )
    return [
        "model.name=tiny", "threads=1", f"data.demonstrations={tmp_path / 'd.jsonl'}",
        f"data.prompts={tmp_path / 'p.jsonl'}", "data.heldout=0.3",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([*ONLINE, 'grpo.rewards=[{name: python, function: "nofile.py:f"}]'], r"nofile\.py"),
        ([*ONLINE, 'grpo.rewards=[{name: python, function: "HERE/mine.py:g"}]'], r'has no "g"; it has f'),  # noqa: E501
        ([*ONLINE, 'grpo.rewards=[{name: python, function: "no_such_module.f"}]'], r'no module "no_such_module"'),  # noqa: E501
        ([*ONLINE, "grpo.rewards=[{name: maths, column: gold}]"], r'the column "gold", which no prompt has'),  # noqa: E501
        ([*ONLINE, "grpo.rewards=[{name: length, tags: [proofs]}]"], 'applies to none of 12 prompts: it asks for the tag proofs'),  # noqa: E501
        ([*ONLINE, "grpo.rewards=[{name: maths}]", "data.prompts=HERE/bad.jsonl"], r'bad\.jsonl, row 2, field "answer": .*braces do not close'),  # noqa: E501
        ([*ONLINE, "stages.evaluate={}", "grpo.rewards=[{name: maths}]", "data.prompts=HERE/late.jsonl"], r"late\.jsonl, row 1"),  # noqa: E501
        ([*ONLINE, 'grpo.rewards=[{name: format, form: null, pattern: "("}]'], "no regular expression"),  # noqa: E501
        ([*ONLINE, "grpo.rewards=[{name: maths},{name: maths}]"], 'two rewards are called "maths"'),
        ([*ONLINE, "grpo.rewards=[{name: model, model: HERE/nowhere}]"], "this folder holds no reward model"),  # noqa: E501
        pytest.param([*ONLINE, "grpo.rewards=[{name: code}]"], "applies to none of 12 prompts: no prompt has a column with tests", marks=SANDBOXED),  # noqa: E501
        ([*ONLINE, "grpo.rewards=[{name: length}]", "grpo.environment={name: nothing}"], 'no environment "nothing"'),  # noqa: E501
        ([*ONLINE, "grpo.rewards=[{name: length}]", "grpo.sampling.max_new_tokens=1024"], r"grpo\.sampling\.max_new_tokens"),  # noqa: E501
        ([*ONLINE, "grpo.rewards=[{name: length}]", "grpo.sampling.max_new_tokens=500", "model.max_length=510"], "the shortest is longer"),  # noqa: E501
        (["stages=[sft,sample,compare,reward]", "sample.sampling.temperature=0"], "temperature is 0, so the answers to a prompt are all the same"),  # noqa: E501
        (["stages=[sft,evaluate]", "evaluate.sampling.max_new_tokens=600", "model.max_length=600"], "leaves no room for a prompt"),  # noqa: E501
        (["stages=[sft]", "report_to=[wandb]"], "tracker wandb is not installed"),
        (["stages=[sft]", "scale.trainers=2", "model.device=cuda:0"], r"scale\.trainers is 2, and model\.device cuda:0 is one GPU"),  # noqa: E501
    ],
)  # fmt: skip
def test_it_is_refused_before_anything_is_trained(
    options: list[str], tmp_path: Path, changes: list[str], said: str
):
    recipe = burnish.load(
        None, *options, *(change.replace("HERE", str(tmp_path)) for change in changes)
    )
    lines: list[str] = []
    with pytest.raises(UserError, match=said) as told:
        burnish.run(recipe, out=tmp_path / "run", say=lines.append, memory_check=False)
    assert "\n" not in str(told.value)
    assert not any("starting" in line for line in lines)
    assert not (tmp_path / "run" / "sft").exists()


def test_a_reward_model_that_no_stage_makes_is_refused_when_the_recipe_is_read(options: list[str]):
    with pytest.raises(
        UserError, match="the stage grpo needs a reward model, and no stage before it makes one"
    ):
        burnish.load(None, *options, *ONLINE, "grpo.rewards=[{name: model}]")


def test_products_that_the_processor_lacks_are_refused_before_anything_is_trained(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(int8, "lacking", lambda: "a reason")
    settings = ["stages=[sft,evaluate]", "evaluate.sampling.quantization=int8"]
    with pytest.raises(UserError, match="no 8-bit products here: a reason"):
        burnish.run(
            burnish.load(None, *options, *settings), out=tmp_path / "run", memory_check=False
        )
    assert not (tmp_path / "run" / "sft").exists()


def test_what_will_work_is_let_through(options: list[str], tmp_path: Path):
    from burnish.stages.context import Run
    from burnish.stages.preflight import check

    recipe = burnish.load(
        None,
        *options,
        "stages=[sft,sample,compare,reward,ppo,grpo,evaluate]",
        "grpo.rewards=[{name: maths}, {name: model}, {name: python, function:"
        f" '{tmp_path / 'mine.py'}:f'}}, {{name: length}}]",
    )
    check(Run(recipe, tmp_path / "run"), tuple(recipe.stages))


def test_prompts_without_a_right_answer_are_told_with_their_number(
    options: list[str], tmp_path: Path
):
    from burnish.stages.context import Run
    from burnish.stages.preflight import check

    rows = [
        {
            "prompt": f"Count {i}.",
            "answer": None if i < 4 else "1",
            "split": "heldout" if i < 3 else "train",
        }
        for i in range(12)
    ]
    (tmp_path / "some.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = burnish.load(
        None,
        *options,
        "stages=[sft,grpo,evaluate]",
        "grpo.rewards=[{name: maths}]",
        f"data.prompts={tmp_path / 'some.jsonl'}",
    )
    lines: list[str] = []
    check(Run(recipe, tmp_path / "run", say=lines.append), tuple(recipe.stages))
    assert [line for line in lines if "applies to" in line] == [
        'grpo: the reward "maths" applies to 8 of 9 prompts; 1 have nothing for it to compare with',
        (
            'evaluate: the reward "maths" applies to 0 of 3 prompts; 3 have nothing for it to'
            " compare with"
        ),
    ]


def test_a_full_disk_is_seen_before(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(
        UserError, match=r"the stages sft will write about 0\.0 GB; 0\.0 GB are free here"
    ):
        burnish.run(
            burnish.load(None, *options, "stages=[sft]"), out=tmp_path / "run", memory_check=False
        )


def test_only_the_stages_that_are_wanted_are_looked_at(options: list[str], tmp_path: Path):
    recipe = burnish.load(
        None, *options, *ONLINE, 'grpo.rewards=[{name: python, function: "nofile.py:f"}]'
    )
    out = burnish.run(recipe, out=tmp_path / "run", until="sft", memory_check=False)
    assert (out / "sft" / "stage.json").is_file()


@pytest.mark.parametrize(("max_length", "refused"), [(41, True), (40, False)])
def test_eight_bits_and_a_window_that_sequences_outgrow(
    options: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    max_length: int,
    refused: bool,
):
    from burnish.stages import preflight
    from burnish.stages.context import Run

    # of the window alone, whatever this processor has
    monkeypatch.setattr(int8, "lacking", lambda: None)
    model = families.save_random_model("mistral", tmp_path / "model", sliding_window=40)
    recipe = burnish.load(
        None,
        *options,
        f"model.name={model}",
        "stages=[sft,evaluate]",
        f"model.max_length={max_length}",
        "evaluate.sampling.quantization=int8",
        "evaluate.sampling.max_new_tokens=4",
    )
    lines: list[str] = []
    run = Run(recipe, tmp_path / "run", say=lines.append)
    if not refused:
        preflight.check(run, tuple(recipe.stages))
        return
    with pytest.raises(
        UserError,
        match=r"int8.*40 tokens, and sequences may have 41; with model\.max_length at most 40",
    ):
        preflight.check(run, tuple(recipe.stages))
