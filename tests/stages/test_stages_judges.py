"""Who judges an evaluation: people, a model, the taste where it is the annotators' own; verdicts in
files; nobody who trained."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import burnish
from burnish.annotation.records import Answer
from burnish.annotation.snapshot import add_answers, take_snapshot
from burnish.annotation.store import Store
from burnish.stages.people import WaitingForPeople
from burnish.stages.report import closing_table

PAIRS = [
    {
        "prompt": f"Say {i}, please.",
        "chosen": f"{i}, gladly, and with pleasure.",
        "rejected": f"No {i} today.",
    }
    for i in range(24)
]


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    return [
        "model.name=tiny", "threads=1", f"data.comparisons={tmp_path / 'pairs.jsonl'}",
        "data.heldout=0.4",
        "stages.sft={epochs: 1, lora: {r: 2, alpha: 4}}", "stages.reward={lora: {r: 2, alpha: 4}}",
        "stages.evaluate={sampling: {max_new_tokens: 8}}", "stages.report={}",
    ]  # fmt: skip


def evaluated(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(result, verdicts) of the stage evaluate."""
    stage = folder / "evaluate"
    rows = [json.loads(line) for line in (stage / "verdicts.jsonl").read_text().splitlines()]
    return json.loads((stage / "result.json").read_text()), rows


def test_peoples_comparisons_are_not_judged_by_an_invented_taste(
    options: list[str], tmp_path: Path
):
    folder = burnish.run(burnish.load(None, *options), out=tmp_path / "run")
    result, rows = evaluated(folder)
    assert [(one["name"], one["kind"]) for one in result["judges"]] == [("reward model", "reward")]
    assert result["judges"][0]["unfit"] is not None
    assert len(result["judges"][0]["nulls"]) == 4
    assert len(rows) == 2 * result["prompts"]
    assert {row["judge"] for row in rows} == {"reward model"}
    text, page = closing_table(folder), (folder / "report.html").read_text()
    assert text.startswith("Not judged yet")
    assert f"burnish run {folder}/recipe.yaml --fork {folder} --out {folder}-judged" in text
    assert "taste" not in text.lower()
    shown = page.split("</style>")[1].split("The resolved recipe")[0]
    assert "taste" not in shown.lower()


def test_the_taste_of_a_simulated_panel_may_judge_its_own_runs_only(
    options: list[str], tmp_path: Path
):
    folder = burnish.run(burnish.load(None, *options, "evaluate.taste=true"), out=tmp_path / "run")
    result, rows = evaluated(folder)
    taste = next(one for one in result["judges"] if one["kind"] == "taste")
    assert "did not label" in taste["unfit"]
    assert "tiny does not tell text from the same words in reverse" in taste["no_sense"]
    assert {"courteous", "relevant", "sense"} <= set(rows[0]["properties"])
    assert closing_table(folder).startswith("Not judged yet")


@pytest.fixture
def arbiter() -> Iterator[str]:
    """A chat model behind an address that prefers the answer with more characters, and neither of
    two alike."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            said = body["messages"][-1]["content"]
            a, b = re.search(
                r"\[Answer A\]\n(.*?)\n\n\[Answer B\]\n(.*?)\n\nWhich answer", said, re.DOTALL
            ).groups()  # type: ignore[union-attr]
            letter = "C" if len(a) == len(b) else "A" if len(a) > len(b) else "B"
            reply = json.dumps({"choices": [{"message": {"content": letter}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def test_a_model_compares_both_ways_round_and_one_that_length_fools_gives_no_verdict(
    options: list[str], tmp_path: Path, arbiter: str
):
    judge = f"evaluate.judge={{endpoint: '{arbiter}', model: longest}}"
    folder = burnish.run(burnish.load(None, *options, judge), out=tmp_path / "run")
    result, rows = evaluated(folder)
    told = next(one for one in result["judges"] if one["kind"] == "judge")
    assert (told["name"], told["unfit"], told["gameable"]) == ("longest", None, True)
    assert told["flips"]["value"] == 0.0
    assert told["position_bias"]["value"] == 0.0
    answers = [
        json.loads(line)
        for line in (folder / "evaluate" / "answers.jsonl").read_text().splitlines()
    ]
    text_of = {(row["model"], row["prompt_id"]): row["text"] for row in answers}
    compared = [row for row in rows if row["judge"] == "longest" and row["a"] == "base"]
    assert len(compared) == result["prompts"]
    for row in compared:
        own, other = (len(text_of[name, row["prompt_id"]]) for name in ("base", "sft"))
        assert row["p"] == (0.5 if own == other else float(own > other))
    text = closing_table(folder)
    assert text.startswith("Not judged yet")
    assert "The model longest can be fooled: it prefers a constant on 100" in text


def test_people_are_asked_and_their_word_goes_before_everything(options: list[str], tmp_path: Path):
    store = tmp_path / "labels.sqlite"
    recipe = burnish.load(None, *options, f"evaluate.people={{store: {store}, project: heldout}}")
    with pytest.raises(WaitingForPeople, match="answers of the stage evaluate are compared"):
        burnish.run(recipe, out=tmp_path / "run")
    assert (tmp_path / "run" / "evaluate" / "answers.jsonl").is_file()
    opened = Store(store)
    try:
        entries = take_snapshot(opened, "heldout").entries
        opened.add_annotator("ann", kind="person")
        # the first candidate is the last model's
        said = [
            (entry.item_id, Answer("pairwise", (0, 1), strength=1, ranks=(1, 2)))
            for entry in entries[1:]
        ]
        said.append((entries[0].item_id, Answer("pairwise", (0, 1), strength=0, ranks=(1, 1))))
        add_answers(opened, "heldout", "ann", said)
    finally:
        opened.close()
    folder = burnish.run(recipe, out=tmp_path / "run")
    result, rows = evaluated(folder)
    people = next(one for one in result["judges"] if one["kind"] == "people")
    assert (people["unfit"], people["asked"], people["compared"]) == (
        None,
        result["prompts"],
        result["prompts"],
    )
    own = [row["p"] for row in rows if row["judge"] == "people"]
    assert own.count(0.5) >= 1
    assert sum(p > 0.5 for p in own) >= len(entries) - 1
    text = closing_table(folder)
    # the one that is compared, base, was preferred to sft
    assert text.startswith("No, it got worse")
    assert "The SFT policy was preferred over the base model" in text
