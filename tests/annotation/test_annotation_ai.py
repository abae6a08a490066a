"""Models as annotators against a small server that answers as told: orders, flips, caching,
retries; and the tiny model."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from burnish.annotation.ai.judge import Judge, Tally, VerdictCache, principles, strength_of
from burnish.annotation.ai.label import label_project
from burnish.annotation.ai.revise import drawn, revise
from burnish.annotation.dashboard import FLIPPED, dashboard
from burnish.annotation.settings import Attribute, Settings
from burnish.annotation.snapshot import add_labelled, take_snapshot
from burnish.annotation.store import Store
from burnish.cli.main import app
from burnish.endpoint import Endpoint
from burnish.errors import UserError
from burnish.records import LabelledItem, Opinion, Prompt


class Served:
    """An OpenAI-compatible server: `reply` makes an answer of the conversation; `failures` requests
    are refused first."""

    def __init__(self, reply: Callable[[list[dict[str, str]]], str]) -> None:
        self.reply, self.failures, self.requests = reply, 0, []
        self.logprobs: list[dict[str, Any]] | None = None
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                served.requests.append((self.path, body, dict(self.headers)))
                if served.failures:
                    served.failures -= 1
                    self.send_response(503)
                    self.end_headers()
                    return
                choice: dict[str, Any] = {"message": {"content": served.reply(body["messages"])}}
                if served.logprobs is not None and body.get("logprobs"):
                    choice["logprobs"] = {"content": [{"top_logprobs": served.logprobs}]}
                data = json.dumps({"choices": [choice]}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    made: list[Served] = []

    def start(reply: Callable[[list[dict[str, str]]], str]) -> Served:
        made.append(Served(reply))
        return made[-1]

    yield start
    for one in made:
        one.server.shutdown()
        one.server.server_close()


def _answers(messages: list[dict[str, str]]) -> tuple[str, str]:
    found = re.search(
        r"\[Answer A\]\n(.*?)\n\n\[Answer B\]\n(.*?)\n\n", messages[-1]["content"], re.DOTALL
    )
    assert found is not None
    return found[1], found[2]


def longer(messages: list[dict[str, str]]) -> str:
    a, b = _answers(messages)
    return "A" if len(a) > len(b) else "B" if len(b) > len(a) else "C"


def _store(
    tmp_path: Path, *items: tuple[str, ...], kind: str = "pairwise", **settings: object
) -> Store:
    store = Store(tmp_path / "s.sqlite")
    rows = [
        LabelledItem(
            Prompt(f"i{n}", ({"role": "user", "content": f"question {n}"},)), texts, (), (), kind
        )
        for n, texts in enumerate(items)
    ]
    add_labelled(store, "p", rows, settings=Settings(kind=kind, **settings))  # type: ignore[arg-type]
    return store


def test_both_orders_are_asked_and_a_judge_that_follows_the_order_is_found_out(
    serve, tmp_path: Path
):
    store = _store(
        tmp_path, ("short", "a longer one"), ("the longest of all", "short"), ("aaaa", "bbbb")
    )
    honest, first = serve(longer), serve(lambda _: "A")
    for name, server in (("honest", honest), ("first-liker", first)):
        judge = Judge(Endpoint(server.url, name), "- Prefer the longer answer.", VerdictCache(None))
        found = label_project(store, "p", judge, annotator=name)
        assert (found.labels, found.tally.pairs, len(server.requests)) == (3, 3, 6)
        assert found.tally.flips == (3 if name == "first-liker" else 0)
    answers = {(a.annotator, a.item_id): a for a in take_snapshot(store, "p").answers}
    assert [answers["honest", f"i{n}"].answer.strength for n in range(3)] == [-2, 2, 0]
    assert [answers["first-liker", f"i{n}"].answer.strength for n in range(3)] == [0, 0, 0]
    assert all(answers["first-liker", f"i{n}"].answer.critique == FLIPPED for n in range(3))
    assert {a.annotator_kind for a in answers.values()} == {"ai"}
    system = honest.requests[0][1]["messages"][0]
    assert "Prefer the longer answer" in system["content"]
    shown = dashboard(take_snapshot(store, "p"), resamples=10)["people_and_models"]
    assert {one["name"]: one["flips"] for one in shown} == {"honest": 0, "first-liker": 3}


def test_verdicts_are_cached_and_labelled_items_not_asked_again(serve, tmp_path: Path):
    store, server, path = _store(tmp_path, ("short", "longer")), serve(longer), tmp_path / "v.jsonl"
    judge = Judge(Endpoint(server.url, "m"), "- Length.", VerdictCache(path))
    label_project(store, "p", judge, annotator="m")
    assert label_project(store, "p", judge, annotator="m").labels == 0
    path.write_text(path.read_text() + '{"key": "torn')
    again = Judge(Endpoint(server.url, "m"), "- Length.", VerdictCache(path))
    assert label_project(store, "p", again, annotator="other").labels == 1
    assert (again.cache.hits, len(server.requests)) == (2, 2)
    other = Judge(Endpoint(server.url, "m"), "- Another constitution.", VerdictCache(path))
    label_project(store, "p", other, annotator="third")
    assert len(server.requests) == 4


def test_probabilities_make_a_strength(serve, tmp_path: Path):
    store, server = _store(tmp_path, ("x", "y")), serve(lambda _: "A")
    # ln 0.6 and 0.2 for A and B, 0.2 elsewhere: P(A) = ¾ whatever the order, so the two orders
    # cancel
    server.logprobs = [
        {"token": " A", "logprob": -0.5108256},
        {"token": "B", "logprob": -1.6094379},
        {"token": "x", "logprob": -1.6},
    ]
    endpoint = Endpoint(server.url, "m", logprobs=True)
    assert endpoint.choose([{"role": "user", "content": "?"}], ("A", "B", "C")) == pytest.approx(
        (0.75, 0.25, 0.0)
    )
    judge = Judge(endpoint, "- x", VerdictCache(None))
    p, flipped = judge.preference(take_snapshot(store, "p").entries[0], 0, 1, Tally()) or (0, False)
    assert (p, flipped) == (pytest.approx(0.5), True)
    wide = Settings(steps=8)  # k = 4
    assert [strength_of(p, wide) for p in (0.5, 0.54, 0.56, 0.75, 1.0, 0.2)] == [0, 0, 1, 2, 4, -2]


def test_rankings_by_borda_and_ratings(serve, tmp_path: Path):
    ranked = _store(tmp_path, ("mid-size", "the longest one", "tiny"), kind="ranking")
    judge = Judge(Endpoint(serve(longer).url, "m"), "- Length.", VerdictCache(None))
    found = label_project(ranked, "p", judge, annotator="m")
    assert found.tally.pairs == 3
    assert take_snapshot(ranked, "p").answers[0].answer.ranks == (2, 1, 3)
    (tmp_path / "l").mkdir()
    rated = _store(
        tmp_path / "l",
        ("good", "bad"),
        kind="likert",
        attributes=[Attribute(name="kind", low=1, high=5)],
    )
    server = serve(lambda messages: "5" if "good" in messages[-1]["content"] else "I would say 2.")
    label_project(
        rated, "p", Judge(Endpoint(server.url, "m"), "- x", VerdictCache(None)), annotator="m"
    )
    assert take_snapshot(rated, "p").answers[0].answer.ratings == {"kind": (5, 2)}


def test_unreadable_answers_and_undecided_ones_are_left_and_counted(serve, tmp_path: Path):
    store = _store(tmp_path, ("x", "y"), tie=False, both_bad=False)
    mumbling = Judge(Endpoint(serve(lambda _: "I cannot say.").url, "m"), "- x", VerdictCache(None))
    found = label_project(store, "p", mumbling, annotator="m")
    assert (found.labels, found.left, found.tally.unreadable) == (0, 1, 1)
    follower = Judge(Endpoint(serve(lambda _: "A").url, "n"), "- x", VerdictCache(None))
    # a project without ties wants a decision
    assert label_project(store, "p", follower, annotator="n").left == 1
    store.add_annotator("ann", kind="person")
    with pytest.raises(UserError, match="a person's name"):
        label_project(store, "p", follower, annotator="ann")


def test_a_busy_endpoint_is_asked_again_and_a_dead_one_named(
    serve, monkeypatch: pytest.MonkeyPatch
):
    server = serve(lambda _: "hello")
    server.failures = 2
    monkeypatch.setenv("BURNISH_API_KEY", "secret")
    endpoint = Endpoint(server.url + "/", "m", wait=0.01)
    assert endpoint.complete([{"role": "user", "content": "hi"}]) == "hello"
    assert len(server.requests) == 3
    assert server.requests[0][0] == "/v1/chat/completions"
    assert server.requests[0][2]["Authorization"] == "Bearer secret"
    server.failures = 99
    with pytest.raises(UserError, match=r"answers 503\. It was tried 2 times"):
        Endpoint(server.url, "m", retries=1, wait=0.01).complete([])
    with pytest.raises(UserError, match="cannot be reached"):
        Endpoint("http://127.0.0.1:9/v1", "m", retries=0).complete([])


def test_models_take_no_persons_place(serve, tmp_path: Path):
    from sqlalchemy import select
    from sqlalchemy.orm import Session

    from burnish.annotation.tables import Event, Item

    store = _store(tmp_path, ("x", "yy"), overlap=2)
    label_project(
        store,
        "p",
        Judge(Endpoint(serve(longer).url, "m"), "- x", VerdictCache(None)),
        annotator="m",
    )
    with Session(store.engine) as session:
        assert session.scalars(select(Item.slots)).one() == 2
        assert session.scalars(select(Event.what)).all() == ["answered"]


def test_critique_and_revision(serve):
    def reply(messages: list[dict[str, str]]) -> str:
        last = messages[-1]["content"]
        if "Point out" in last:
            return f"It is rude about {last.rsplit(': ', 1)[1]}"
        return f"{messages[-3]['content']}!" if "Rewrite" in last else "first"

    model = Endpoint(serve(reply).url, "m")
    prompt = Prompt("q", ({"role": "user", "content": "hi"},))
    [row] = revise([prompt], model, ["be kind", "be brief"], rounds=2, seed=0)
    # each revision is the last question's predecessor with an exclamation mark: the critique's
    # question, that is
    assert row["initial"] == "first"
    assert [step["critique"] for step in row["revisions"]] == [
        f"It is rude about {step['principle']}" for step in row["revisions"]
    ]
    assert {step["principle"] for step in row["revisions"]} == {"be kind", "be brief"}
    assert row["messages"][-1] == {"role": "assistant", "content": row["revisions"][-1]["revised"]}
    assert (
        revise([prompt], model, ["x"], rounds=1, seed=0, answers=["given"])[0]["initial"] == "given"
    )
    several = [
        prompt,
        Prompt("r", ({"role": "user", "content": "ho"},)),
        Prompt("s", prompt.messages),
    ]
    together = revise(
        several, model, ["be kind", "be brief"], rounds=2, seed=0, answers=[None, "given", None]
    )
    apart = [
        revise([one], model, ["be kind", "be brief"], rounds=2, seed=0, answers=[answer])[0]
        for one, answer in zip(several, (None, "given", None), strict=True)
    ]
    assert together == apart
    assert drawn(["a", "b"], 4, seed=1, name="q")[:2] == drawn(["b", "a"], 2, seed=1, name="q")
    assert len({tuple(drawn(["a", "b", "c"], 3, seed=s, name="q")) for s in range(20)}) > 2


def test_principles_are_list_items_or_paragraphs():
    assert principles("# Title\n- be kind\n* be brief\n2. be right") == (
        "be kind",
        "be brief",
        "be right",
    )
    assert principles("# Title\n\nBe kind,\nalways.\n\nBe brief.") == (
        "Be kind, always.",
        "Be brief.",
    )
    assert principles("# only a title") == ()


def test_the_commands_with_an_endpoint_and_with_the_tiny_model(serve, tmp_path: Path):
    store = _store(tmp_path, ("short", "a longer one"))
    add_labelled(
        store,
        "p",
        [
            LabelledItem(
                Prompt("i0", ({"role": "user", "content": "question 0"},)),
                ("short", "a longer one"),
                (),
                (Opinion("pairwise", "ann", (2, 1), {"strength": -2}),),
            )
        ],
    )
    store.close()
    rules = tmp_path / "rules.md"
    rules.write_text("- Prefer the longer answer.\n")
    place, run = str(tmp_path / "s.sqlite"), CliRunner()

    def call(*arguments: str) -> str:
        result = run.invoke(app, list(arguments))
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    said = call(
        "annotate",
        "ai",
        "p",
        "-d",
        place,
        "--constitution",
        str(rules),
        "--model",
        "judge",
        "--endpoint",
        serve(longer).url,
    )
    assert "1 labels by judge" in said
    assert (tmp_path / "verdicts.jsonl").is_file()
    assert "judge (a model) agrees with people on 100 %" in call(
        "annotate", "stats", "p", "-d", place
    )
    local = call(
        "annotate", "ai", "p", "-d", place, "--constitution", str(rules), "--model", "tiny"
    )
    assert "of 1 pairs asked both ways round" in local

    asked = tmp_path / "prompts.jsonl"
    asked.write_text(
        "".join(json.dumps({"id": f"q{i}", "prompt": f"Say {i}"}) + "\n" for i in range(3))
    )
    demos = tmp_path / "demos.jsonl"
    arguments = (
        "revise",
        str(asked),
        str(demos),
        "--constitution",
        str(rules),
        "--model",
        "tiny",
        "--max-new-tokens",
        "6",
    )
    assert "2 new demonstrations" in call(*arguments, "--limit", "2")
    demos.write_text(demos.read_text() + '{"id": "to')
    assert "1 new demonstrations, 2 were there" in call(*arguments)
    rows = [json.loads(line) for line in demos.read_text().splitlines()]
    assert [row["id"] for row in rows] == ["q0", "q1", "q2"]
    assert all(row["messages"][-1]["role"] == "assistant" for row in rows)

    url = serve(lambda messages: f"answer to {messages[-1]['content']}").url
    said = call(
        "annotate",
        "sample",
        str(asked),
        "sampled",
        "-d",
        place,
        "--model",
        f"remote@{url}",
        "--model",
        "tiny",
        "--max-new-tokens",
        "5",
    )
    assert "3 new items" in said
    entry = take_snapshot(Store(place), "sampled").entries[0]
    assert entry.sources == ("remote", "tiny")
    assert entry.candidates[0] == "answer to Say 0"


def test_the_local_models_choice_is_the_softmax_of_its_log_probabilities():
    import torch

    from burnish.batch import Batch, TokenSequence
    from burnish.data.render import render_prompt
    from burnish.stages.chat_model import LocalChat

    chat = LocalChat("tiny", max_new_tokens=4)
    messages, options = (
        ({"role": "user", "content": "A or B?"},),
        ("A", "no word of one token", "B"),
    )
    tokenizer = chat._view.backbone.tokenizer
    tokens = render_prompt(tokenizer, Prompt("q", messages), max_tokens=500)  # type: ignore[arg-type]
    sums = []
    for option in options:  # each alone: nothing can be mistaken for its neighbour's
        ending = tuple(tokenizer(option, add_special_tokens=False)["input_ids"])
        with torch.no_grad():
            sums.append(
                float(chat._view.logprobs(Batch((TokenSequence(tokens, ending),))).logprobs_P.sum())
            )
    assert sums[1] < sums[0]  # more tokens
    expected = torch.tensor(sums).double().softmax(0).tolist()
    assert chat.choose(messages, options) == pytest.approx(expected, abs=1e-5)  # type: ignore[arg-type]


def test_answers_written_together_are_those_written_alone():
    from burnish.stages.chat_model import LocalChat

    chat = LocalChat("tiny", max_new_tokens=6, temperature=1.0)
    talks = [({"role": "user", "content": f"Say {n}"},) for n in range(3)]
    together = chat.complete_all(talks, samples=2)
    assert [len(answers) for answers in together] == [2, 2, 2]
    assert [answers[0] for answers in together] == [chat.complete(talk) for talk in talks]
    assert any(first != second for first, second in together)
