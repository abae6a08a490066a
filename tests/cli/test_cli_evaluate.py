"""Models that are named on the command line: folders and endpoints, judged, kept, compared; what is
wrong is one line."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from burnish.cli.main import main


class Server(ThreadingHTTPServer):
    """Answers a prompt with its last word, and prefers the answer that is made of letters."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)  # type: ignore[attr-defined]
        said = body["messages"][-1]["content"]
        texts = re.search(
            r"\[Answer A\]\n(.*?)\n\n\[Answer B\]\n(.*?)\n\nWhich answer", said, re.DOTALL
        )
        text = said.split()[-1]
        if texts is not None:
            a, b = (bool(re.fullmatch(r"[a-z]+\d+", text)) for text in texts.groups())
            text = "C" if a == b else "A" if a else "B"
        reply = json.dumps(
            {"choices": [{"message": {"content": text}, "finish_reason": "length"}]}
        ).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "asked.jsonl"
    path.write_text(
        "".join(json.dumps({"id": f"p{i}", "prompt": f"Say word{i}"}) + "\n" for i in range(8))
    )
    return path


def burnish(*arguments: str) -> None:
    """The command, which is to end well."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert not ended.value.code


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_folder_and_an_endpoint_are_evaluated_compared_and_taken_up_again(
    prompts: Path, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "made"
    command = [
        "evaluate", "--model", "here=tiny", "--model", f"served={server.url}#big", "--prompts",
        str(prompts), "--judge",
        f"endpoint:{server.url}#arbiter", "--out", str(out), "--quiet",
        "evaluate.sampling.max_new_tokens=6", "threads=1",
    ]  # fmt: skip
    burnish(*command)
    told = capsys.readouterr().out
    # every one of the served answers is made of letters, and no null is
    assert "Yes, it got better\nThe served policy was preferred over the here policy on 100" in told
    answers = rows(out / "evaluate" / "answers.jsonl")
    assert [row["model"] for row in answers] == ["here"] * 8 + [
        "served"
    ] * 8  # all of the source is asked
    assert [row["text"] for row in answers[8:]] == [f"word{i}" for i in range(8)]
    assert {(row["finish"], len(row["tokens"])) for row in answers[8:]} == {("length", 0)}
    sent = [body for body in server.asked if body["model"] == "big"]
    assert {(body["temperature"], body["top_p"], body["max_tokens"]) for body in sent} == {
        (0.7, 0.9, 6)
    }
    assert len({body["seed"] for body in sent}) == 8
    verdicts = rows(out / "evaluate" / "verdicts.jsonl")
    assert {row["p"] for row in verdicts if row["a"] == "served"} == {1.0}
    assert (out / "report.html").is_file()

    asked = len(server.asked)
    for name in ("stage.json", "result.json", "answers.jsonl", "verdicts.jsonl"):
        (out / "evaluate" / name).unlink()
    burnish(*command)
    assert len(server.asked) == asked  # neither an answer nor a verdict is asked for again
    assert rows(out / "evaluate" / "verdicts.jsonl") == verdicts

    capsys.readouterr()
    burnish("compare", str(out), str(out / "evaluate"))
    told = capsys.readouterr().out
    assert re.search(r"arbiter +served over here +8 +100", told)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--prompts", "x.jsonl"], "no model is named"),
        (["--model", "tiny"], "no prompts are named"),
        (
            ["--model", "http://127.0.0.1:9/v1#m", "--prompts", "x.jsonl"],
            "stands behind an endpoint",
        ),
        (
            ["--model", "a=tiny", "--model", "a=tiny", "--prompts", "x.jsonl"],
            "two models are called a",
        ),
        (["--model", "tiny", "--prompts", "x.jsonl", "--judge", "me"], "me is no judge"),
        (["--model", "tiny", "--config", "r.yaml"], "exclude one another"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit):
        main(["evaluate", *arguments])
    said = capsys.readouterr().err
    assert problem in said
    assert said.count("\n") == 1


def test_a_folder_without_an_evaluation_is_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit):
        main(["compare", str(tmp_path)])
    assert "there is no finished evaluation in this folder" in capsys.readouterr().err
