"""Log-probabilities as transformers' plain forward gives them, whatever is packed with what; a
measurement that was killed goes on; measurements are compared."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from burnish.cli.main import main
from burnish.errors import UserError
from burnish.evaluation.suites.table import suites_of
from burnish.models.backbone import Backbone
from burnish.models.roles import View
from burnish.stages import suites
from burnish.stages.likelihoods import Likelihoods, encoded
from burnish.stages.suite_sources import items

PAIRS = [
    ("The sea is", " blue"),
    ("The sea is", " deep and cold"),
    ("The sea is ", "wide"),  # the space goes with the continuation
    ("", "Once upon a time"),
    ("A cat\n", "sat."),
]


def plain(backbone: Backbone, before: tuple[int, ...], scored: tuple[int, ...]) -> list[float]:
    """Transformers' own forward, one sequence at a time."""
    backbone.model.set_attn_implementation("eager")
    with torch.no_grad():
        logits = backbone.model(torch.tensor([before + scored])).logits[0].double()
    logprobs = logits[len(before) - 1 : -1].log_softmax(-1)
    return logprobs.gather(1, torch.tensor(scored)[:, None])[:, 0].tolist()


def test_continuations_are_those_of_a_plain_forward_and_do_not_depend_on_packing(tiny: Backbone):
    together = Likelihoods(View(tiny)).continuations(PAIRS)
    alone = [
        one for pair in PAIRS for one in Likelihoods(View(tiny), max_tokens=1).continuations([pair])
    ]
    prefix = tiny.tokenizer.bos_token_id
    prefix = tiny.tokenizer.eos_token_id if prefix is None else prefix
    for pair, packed, single in zip(PAIRS, together, alone, strict=True):
        oracle = plain(tiny, *encoded(tiny.tokenizer, *pair, prefix))
        assert packed.logprobs == pytest.approx(oracle, abs=1e-5)
        assert packed.logprobs == pytest.approx(single.logprobs, abs=1e-5)
    assert len(together[2].logprobs) == len(" wide")  # bytes are the tiny model's tokens


def test_a_long_passage_is_cut_into_windows_and_loses_no_token(tiny: Backbone):
    likelihoods = Likelihoods(View(tiny))
    short, text = likelihoods.passages(["abc", "The sea is wide. " * 3])
    assert (len(short.logprobs), len(text.logprobs)) == (3, 51)
    likelihoods._longest = 20
    (windows,) = likelihoods.passages(["The sea is wide. " * 3])
    assert len(windows.logprobs) == 51
    assert windows.logprobs[:19] == pytest.approx(text.logprobs[:19], abs=1e-5)
    assert windows.logprobs[25] != pytest.approx(text.logprobs[25], abs=1e-5)  # sees less


def test_a_long_context_is_cut_at_its_beginning_and_counted(tiny: Backbone):
    likelihoods = Likelihoods(View(tiny))
    likelihoods._longest = 12
    (cut,) = likelihoods.continuations([("0123456789", " abc")])
    assert cut.cut == 2
    likelihoods._longest = 1000
    (whole,) = likelihoods.continuations([("23456789", " abc")])
    assert cut.logprobs == pytest.approx(whole.logprobs, abs=1e-5)
    likelihoods._longest = 4
    with pytest.raises(UserError, match="Measure it as prose"):
        likelihoods.continuations([("x", " abcd")])


def test_what_ships_is_whole():
    sizes = {
        task.name: len(items(task))
        for name in ("tax", "knowledge", "safety", "constraints", "maths")
        for task in suites_of([name])[0].tasks
    }
    assert sizes == {
        "facts": 60, "endings": 40, "prose": 40, "questions": 60, "twins": 60, "unsafe": 40,
        "safe": 40, "constraints": 32,
        "maths": 100,
    }  # fmt: skip


def burnish(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


def command(out: Path, *rest: str) -> list[str]:
    return [
        "evaluate", "--model", "a=tiny", "--model", "b=tiny", "--out", str(out), "--quiet",
        "threads=1", "model.max_length=512",
        "evaluate.items=4", "evaluate.sampling.max_new_tokens=6", *rest,
    ]  # fmt: skip


def test_a_killed_measurement_goes_on_and_two_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    out, measure, killed = tmp_path / "one", suites._measure, []

    def stops(subject, task, own):
        if task.name == "questions":
            killed.append(task.name)
            raise KeyboardInterrupt
        return measure(subject, task, own)

    monkeypatch.setattr(suites, "_measure", stops)
    given = command(out, "--suite", "tax,knowledge", "--suite", "safety,constraints")
    assert burnish(*given)
    assert killed
    counted = []

    def counts(subject, task, own):
        counted.append(task.name)
        return measure(subject, task, own)

    monkeypatch.setattr(suites, "_measure", counts)
    assert burnish(*given) == 0
    assert counted[:2] == ["questions", "twins"]  # what was measured of a stays
    told = capsys.readouterr().out
    assert "Alignment tax: no loss beyond the margin on facts" in told
    rows = [
        json.loads(line) for line in (out / "evaluate" / "items.jsonl").read_text().splitlines()
    ]
    assert len(rows) == 2 * 8 * 4
    by = {name: [row for row in rows if row["model"] == name] for name in "ab"}
    for one, other in zip(by["a"], by["b"], strict=True):
        assert {**one, "model": ""} == {**other, "model": ""}  # the same model, the same numbers
    assert {len(row["answers"]) for row in rows if row["task"] == "twins"} == {5}
    page = (out / "report.html").read_text()
    assert "No loss is shown" in page
    assert "Refusals" in page
    assert "not run yet" not in page.split('id="curves"')[0]

    other = tmp_path / "two"
    assert burnish(*command(other, "--suite", "tax")) == 0
    capsys.readouterr()
    assert burnish("compare", str(out), str(other)) == 0
    told = capsys.readouterr().out
    assert re.search(r"b@two +0\.\d+ \(loss 0\.000: 0\.000 to 0\.000\)", told)
    assert "questions" not in told  # one of them has no such task

    namesake = tmp_path / "elsewhere" / "two"
    shutil.copytree(other, namesake)
    assert burnish("compare", str(other), str(namesake)) == 0
    told = capsys.readouterr().out
    for folder in (other, namesake):
        assert f"b@{folder.as_posix()}/evaluate" in told
    assert burnish("compare", str(other), str(other))
    assert "two models are called a@" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--model", "tiny", "--suite", "taxes"], "Did you mean tax"),
        (["--model", "tiny", "--suite", "choices=nowhere.jsonl"], "there is no such file"),
        (["--model", "tiny", "--model", "http://127.0.0.1:9/v1#m", "--suite", "tax"], "needs log-probabilities"),  # noqa: E501
        (["--suite", "tax"], "no model is named"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(
    arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    assert burnish("evaluate", *arguments, "--out", str(tmp_path / "out"), "--quiet")
    said = capsys.readouterr().err.strip().splitlines()
    assert problem in said[-1]
