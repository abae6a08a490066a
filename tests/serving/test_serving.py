"""The server as its clients see it: OpenAI's objects, the engine's own tokens, and refusals that
say what is wrong."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from serving_server import Server, serving

from burnish.data.render import render_prompt
from burnish.generation.base import Request, SamplingParams
from burnish.generation.in_flight import InFlight
from burnish.records import Prompt
from burnish.serving.answers import Form, Told

TALK = [{"role": "user", "content": "Say something."}]
CHAT, COMPLETE = "/v1/chat/completions", "/v1/completions"


def events(response: httpx.Response) -> list[dict[str, Any]]:
    """The data of a stream, which ends as OpenAI's does."""
    lines = [line for line in response.text.splitlines() if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def greedy(server: Server, prompt: tuple[int, ...], count: int, **options: Any) -> Any:
    """The oracle: the engine's own answer to this prompt alone."""
    params = SamplingParams(count, temperature=0.0, **options)
    return server.engine.generate([Request(prompt, 0)], params)[0]


def test_the_model_is_listed_under_its_name(server: Server):
    listed = server.client.get("/v1/models").json()
    assert listed["object"] == "list"
    assert [(card["id"], card["object"], card["max_model_len"]) for card in listed["data"]] == [
        ("tiny", "model", 512)
    ]
    assert server.client.get("/v1/models/alias").json()["id"] == "tiny"
    missing = server.client.get("/v1/models/gpt-4")
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "model_not_found"


def test_a_chat_answers_as_the_engine_does(server: Server):
    tokens = render_prompt(server.tokenizer, Prompt("x", tuple(TALK)), max_tokens=500)  # type: ignore[arg-type]
    expected = greedy(server, tokens, 12)
    answer = server.post(CHAT, messages=TALK, max_tokens=12, temperature=0).json()
    assert answer["object"] == "chat.completion"
    choice = answer["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": expected.text, "refusal": None}
    assert choice["finish_reason"] == expected.finish_reason
    assert answer["usage"] == {
        "prompt_tokens": len(tokens),
        "completion_tokens": len(expected.tokens),
        "total_tokens": len(tokens) + len(expected.tokens),
    }


def test_parts_and_a_developer_are_text_and_a_system(server: Server):
    plain = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why so?"}]
    parts = [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Why "}, {"type": "text", "text": "so?"}],
        },
    ]
    one, other = (
        server.post(CHAT, messages=messages, max_tokens=8, temperature=0).json()
        for messages in (plain, parts)
    )
    assert one["choices"] == other["choices"]
    assert one["usage"] == other["usage"]


def test_a_stream_says_the_same_words(server: Server):
    body = {"messages": TALK, "max_tokens": 30, "seed": 5, "temperature": 1.0}
    whole = server.post(CHAT, **body).json()
    chunks = events(server.post(CHAT, **body, stream=True, stream_options={"include_usage": True}))
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks[:-1])
    assert text == whole["choices"][0]["message"]["content"]
    assert chunks[-2]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == whole["usage"]
    assert len(chunks) > 5


def test_completions_take_text_tokens_and_lists_of_them(server: Server):
    ids = list(server.tokenizer("ab")["input_ids"])
    texts = []
    for prompt in ("ab", ["ab", "cd"], ids, [ids, [7, 8]]):
        answer = server.post(COMPLETE, prompt=prompt, max_tokens=9, temperature=0).json()
        assert answer["object"] == "text_completion"
        assert [c["index"] for c in answer["choices"]] == list(range(len(answer["choices"])))
        texts.append([choice["text"] for choice in answer["choices"]])
    assert texts[0] == texts[2] == [greedy(server, tuple(ids), 9).text]
    assert texts[1][0] == texts[3][0] == texts[0][0]
    assert texts[3][1] == greedy(server, (7, 8), 9).text


def test_n_choices_differ_and_a_seed_repeats_them(server: Server):
    body = {"messages": TALK, "max_tokens": 16, "n": 3, "seed": 11}
    first, second = (server.post(CHAT, **body).json()["choices"] for _ in range(2))
    assert first == second
    assert len({choice["message"]["content"] for choice in first}) == 3
    alone = server.post(CHAT, **{**body, "n": 1}).json()["choices"]
    assert alone == first[:1]
    other, another = (
        server.post(CHAT, messages=TALK, max_tokens=16).json()["choices"][0]["message"]
        for _ in range(2)
    )
    assert other != another


def test_a_stop_string_ends_an_answer_and_never_shows(server: Server):
    text = server.post(COMPLETE, prompt="ab", max_tokens=40, temperature=0).json()["choices"][0]
    stop = text["text"][10:13]
    expected = text["text"][: text["text"].index(stop)]
    body = {"prompt": "ab", "max_tokens": 40, "temperature": 0, "stop": ["never said", stop]}
    choice = server.post(COMPLETE, **body).json()["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == (expected, "stop")
    chunks = events(server.post(COMPLETE, **body, stream=True))
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == expected


def test_log_probabilities_are_the_models(server: Server):
    body = {"prompt": "ab", "max_tokens": 5, "temperature": 0, "logprobs": 2}
    ids = tuple(server.tokenizer("ab")["input_ids"])
    expected = greedy(server, ids, 5)
    told = server.post(COMPLETE, **body).json()["choices"][0]["logprobs"]
    assert told["token_logprobs"] == pytest.approx(expected.model_logprobs, abs=1e-5)
    assert told["tokens"] == [server.tokenizer.decode([token]) for token in expected.tokens]
    for token, value, best in zip(
        told["tokens"], told["token_logprobs"], told["top_logprobs"], strict=True
    ):
        assert best[token] == pytest.approx(value, abs=1e-5)  # greedy: it is the best itself
        assert value == max(best.values())
    chat = {"messages": TALK, "max_tokens": 6, "logprobs": True, "top_logprobs": 3, "seed": 2}
    content = server.post(CHAT, **chat).json()["choices"][0]["logprobs"]["content"]
    assert len(content) == 6
    assert {len(entry["top_logprobs"]) for entry in content} == {3}
    chunks = events(server.post(CHAT, **chat, stream=True))
    pieces = [c["choices"][0]["logprobs"] for c in chunks if c["choices"][0]["logprobs"]]
    assert [entry for piece in pieces for entry in piece["content"]] == content
    assert server.post(CHAT, messages=TALK, max_tokens=2).json()["choices"][0]["logprobs"] is None


def test_a_streams_log_probabilities_are_told_once(server: Server):
    body = {"prompt": "ab", "max_tokens": 40, "logprobs": 0, "seed": 3}
    whole = server.post(COMPLETE, **body).json()["choices"][0]["logprobs"]
    spelled = list(map(len, whole["tokens"]))
    assert whole["text_offset"] == [sum(spelled[:place]) for place in range(40)]
    chunks = events(server.post(COMPLETE, **body, stream=True))
    pieces = [c["choices"][0]["logprobs"] for c in chunks if c["choices"][0]["logprobs"]]
    assert len(pieces) > 5
    for key in ("tokens", "token_logprobs", "text_offset"):
        assert [value for piece in pieces for value in piece[key]] == whole[key]


def test_tokens_are_spelled_once_however_many_chunks():
    class Spelling:
        calls = 0

        def decode(self, tokens: list[int]) -> str:
            self.calls += 1
            return "ab"

    spelling, told = Spelling(), Told()
    form = Form(False, "id", 0, "tiny", spelling, True)
    sequence = InFlight(Request((1,), 0), SamplingParams(500))
    offsets = []
    for token in range(500):
        sequence.tokens.append(token)
        sequence.model_logprobs.append(-1.0)
        logprobs = form.logprobs_of(sequence, told, len(sequence.tokens))
        assert logprobs is not None
        offsets += logprobs["text_offset"]
    assert offsets == list(range(0, 1000, 2))
    assert spelling.calls == 500


def test_clients_together_get_what_each_gets_alone(server: Server):
    prompts = [f"{chr(97 + i)}{'xy' * i}" for i in range(20)]
    counts = [3 + 5 * (i % 4) for i in range(20)]
    alone = [
        greedy(server, tuple(server.tokenizer(prompt)["input_ids"]), count)
        for prompt, count in zip(prompts, counts, strict=True)
    ]

    def ask(number: int) -> str:
        streams = bool(number % 2)
        body = {"prompt": prompts[number], "max_tokens": counts[number], "temperature": 0}
        answer = server.post(COMPLETE, **body, stream=streams)
        chunks = events(answer) if streams else [answer.json()]
        return "".join(chunk["choices"][0]["text"] for chunk in chunks)

    with ThreadPoolExecutor(20) as pool:
        together = list(pool.map(ask, range(20)))
    assert together == [completion.text for completion in alone]
    assert server.idle()


BAD: list[tuple[str, dict[str, Any], str | None, str]] = [
    (CHAT, {}, "messages", "Missing required parameter"),
    (CHAT, {"messages": []}, "messages", "at least 1"),
    (CHAT, {"messages": [{"role": "pirate", "content": "a"}]}, "messages", "role"),
    (CHAT,
        {"messages": [{"role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages",
                    "content"),
    (CHAT, {"messages": TALK, "temperature": -1}, "temperature", "temperature"),
    (CHAT, {"messages": TALK, "temperature": "hot"}, "temperature", "number"),
    (CHAT, {"messages": TALK, "top_p": 0}, "top_p", "above 0"),
    (CHAT, {"messages": TALK, "max_tokens": 0}, "max_tokens", "from 1"),
    (CHAT, {"messages": TALK, "max_tokens": 512}, "messages", "maximum context length is 512"),
    (CHAT, {"messages": [{"role": "user", "content": "a" * 600}]}, "messages",
        "619 tokens; at most 511 fit"),
    (CHAT, {"messages": TALK, "colour": "red"}, "colour",
        "Unrecognized request argument supplied: colour"),
    (CHAT, {"messages": TALK, "tools": [{"type": "function"}]}, "tools", "tools is not supported"),
    (CHAT, {"messages": TALK, "frequency_penalty": 0.5}, "frequency_penalty", "not supported"),
    (CHAT, {"messages": TALK, "top_logprobs": 3}, "top_logprobs", "logprobs: true"),
    (CHAT, {"messages": TALK, "logprobs": True, "top_logprobs": 21}, "top_logprobs", "20"),
    (CHAT, {"messages": TALK, "stream_options": {"include_usage": True}}, "stream_options",
        "stream: true"),
    (CHAT, {"messages": TALK, "stop": ""}, "stop", "at least 1"),
    (CHAT, {"messages": TALK, "seed": -4}, "seed", "from 0"),
    (CHAT, {"messages": TALK, "stop": ["a"], "min_tokens": 2}, None, "min_new_tokens"),
    (CHAT, {"messages": TALK, "stop_token_ids": [999_999]}, "stop_token_ids", "no token 999999"),
    (CHAT, {"messages": TALK, "chat_template_kwargs": {"speed": 2}}, "messages", "speed"),
    (COMPLETE, {}, "prompt", "Missing required parameter"),
    (COMPLETE, {"prompt": ""}, "prompt", "no token"),
    (COMPLETE, {"prompt": []}, "prompt", "no token"),
    (COMPLETE, {"prompt": [5, 259]}, "prompt", "no token 259"),
    (COMPLETE, {"prompt": [-1]}, "prompt", "no token -1"),
    (COMPLETE, {"prompt": "a", "echo": True}, "echo", "not supported"),
    (COMPLETE, {"prompt": "a", "n": 2000}, "n", "n"),
    (COMPLETE, {"prompt": "a", "max_tokens": 600}, "prompt", "maximum context length is 512"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "param", "words"), BAD)
def test_what_cannot_be_done_is_refused_in_openais_form(
    server: Server, path: str, body: dict[str, Any], param: str | None, words: str
):
    answer = server.post(path, **body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert words in error["message"]
    assert "\n" not in error["message"]


def test_bodies_that_are_none_are_refused(server: Server):
    def post(content: bytes, kind: str = "application/json") -> httpx.Response:
        return server.client.post(CHAT, content=content, headers={"content-type": kind})

    assert "not JSON" in post(b"{").json()["error"]["message"]
    assert "not JSON" in post(b"\xff").json()["error"]["message"]
    assert "not a JSON object" in post(b"[1]").json()["error"]["message"]
    assert post(b"{}", "text/plain").status_code == 415
    assert post(b" " * (9 * 2**20)).status_code == 413
    assert (
        server.post(CHAT, messages=TALK, model="gpt-4").json()["error"]["code"] == "model_not_found"
    )
    assert server.client.get("/v1/embeddings").status_code == 404
    assert server.client.get(CHAT).json()["error"]["type"] == "invalid_request_error"


def test_pages_of_other_sites_and_other_names_are_kept_out(server: Server):
    for headers in (
        {"host": "evil.example"},
        {"origin": "https://evil.example"},
        {"sec-fetch-site": "cross-site"},
    ):
        answer = server.client.get("/v1/models", headers=headers)
        assert answer.status_code == 403
        assert answer.json()["error"]["type"] == "permission_error"
    assert server.client.get("/v1/models", headers={"origin": server.url}).status_code == 200


def test_a_key_is_asked_for():
    with serving(key="s3cret") as server:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic s3cret"}):
            for answer in (
                server.client.get("/v1/models", headers=headers),
                server.client.post(CHAT, json={}, headers=headers),
            ):
                assert answer.status_code == 401
                assert answer.json()["error"]["code"] == "invalid_api_key"
        right = {"authorization": "Bearer s3cret"}
        assert server.client.get("/v1/models", headers=right).status_code == 200
        assert server.client.get("/health").status_code == 200


def test_a_full_queue_refuses_and_is_free_again():
    with serving(queue=2, slow=0.05) as server:
        body = {"prompt": "ab", "max_tokens": 30, "temperature": 0}
        with ThreadPoolExecutor(2) as pool:
            running = [pool.submit(server.post, COMPLETE, **body) for _ in range(2)]
            until = time.monotonic() + 10
            while server.worker.load < 2 and time.monotonic() < until:
                time.sleep(0.01)
            refused = server.post(COMPLETE, **body)
            assert refused.status_code == 429
            assert refused.json()["error"]["code"] == "rate_limit_exceeded"
            assert refused.headers["retry-after"] == "1"
            assert {future.result().status_code for future in running} == {200}
        too_many = server.post(COMPLETE, **body, n=3)
        assert too_many.status_code == 400
        assert "retry-after" not in too_many.headers
        assert too_many.json()["error"]["param"] == "n"
        assert "at most 2 completions" in too_many.json()["error"]["message"]
        assert server.post(COMPLETE, **{**body, "max_tokens": 2}).status_code == 200


def test_an_answer_that_takes_too_long_is_given_up():
    with serving(timeout=2.0, slow=0.1) as server:
        late = server.post(COMPLETE, prompt="ab", max_tokens=100, temperature=0, min_tokens=100)
        assert late.status_code == 504
        assert "2 seconds" in late.json()["error"]["message"]
        stream = server.post(COMPLETE, prompt="ab", max_tokens=100, min_tokens=100, stream=True)
        chunks = events(stream)
        assert chunks[0]["choices"][0]["text"]
        assert chunks[-1]["error"]["code"] == "timeout"
        assert server.idle()


@pytest.mark.parametrize("streams", [False, True])
def test_who_goes_away_is_written_for_no_longer(streams: bool):
    with serving(slow=0.02) as server:
        body = {"model": "tiny", "prompt": "ab", "max_tokens": 400, "min_tokens": 400}
        if streams:
            with httpx.stream(
                "POST", server.url + COMPLETE, json={**body, "stream": True}
            ) as answer:
                assert next(answer.iter_lines())
        else:
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(server.url + COMPLETE, json=body, timeout=0.3)
        assert server.idle(within=4.0)  # all of it would take 8
        assert server.post(COMPLETE, prompt="ab", max_tokens=2).status_code == 200


def test_an_engine_that_fails_once_goes_on():
    class Failing:
        def __init__(self, session: Any) -> None:
            self._session, self.failed = session, False

        def __getattr__(self, name: str) -> Any:
            return getattr(self._session, name)

        def step(self) -> Any:
            if not failures:
                failures.append(1)
                raise RuntimeError("out of order")
            return self._session.step()

    failures: list[int] = []
    with serving(wrap=Failing) as server:
        broken = server.post(COMPLETE, prompt="ab", max_tokens=4)
        assert broken.status_code == 500
        assert broken.json()["error"]["type"] == "server_error"
        assert server.post(COMPLETE, prompt="ab", max_tokens=4).status_code == 200


def test_an_engine_that_cannot_be_opened_again_leaves_nobody_waiting():
    def failing(session: Any) -> Any:
        openings.append(1)
        if len(openings) > 1:
            raise RuntimeError("the memory is gone")

        def step() -> Any:
            writing.set()
            another.wait(10)
            raise RuntimeError("out of order")

        session.step = step
        return session

    openings: list[int] = []
    said: list[str] = []
    writing, another = threading.Event(), threading.Event()
    with serving(wrap=failing) as server:
        server.worker._say = said.append
        assert server.client.get("/health").status_code == 200
        with ThreadPoolExecutor(2) as pool:
            body = {"prompt": "ab", "max_tokens": 4}
            waiting = [pool.submit(server.post, COMPLETE, **body)]
            assert writing.wait(10)
            waiting.append(pool.submit(server.post, COMPLETE, **body))
            until = time.monotonic() + 10
            while server.worker.load < 2 and time.monotonic() < until:
                time.sleep(0.01)
            another.set()
            codes = [future.result().status_code for future in waiting]
        assert codes == [500, 503]
        assert said[-1] == "the engine cannot go on: RuntimeError: the memory is gone"
        assert server.post(COMPLETE, prompt="ab", max_tokens=4).status_code == 503
        assert server.client.get("/health").status_code == 503


def test_one_request_that_the_engine_does_not_take_ends_alone():
    def failing(session: Any) -> Any:
        add = session.add

        def adding(request: Request, *given: Any, **options: Any) -> Any:
            if len(request.prompt_tokens) > 3:
                raise RuntimeError("too much")
            return add(request, *given, **options)

        session.add = adding
        return session

    with serving(wrap=failing) as server:
        broken = server.post(COMPLETE, prompt="abcdef", max_tokens=4)
        assert broken.status_code == 500
        assert broken.json()["error"]["message"] == "the engine failed: too much"
        assert server.post(COMPLETE, prompt="ab", max_tokens=4).status_code == 200
        assert server.idle()


def test_who_waits_when_the_server_closes_is_told():
    with serving(slow=0.05) as server:
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(
                server.post, COMPLETE, prompt="ab", max_tokens=300, min_tokens=300
            )
            until = time.monotonic() + 10
            while not server.worker.load and time.monotonic() < until:
                time.sleep(0.01)
            threading.Thread(target=server.worker.close).start()
            assert waiting.result().status_code == 503
        assert server.post(COMPLETE, prompt="ab").status_code == 503


def test_the_official_client_is_served(server: Server):
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    assert [model.id for model in client.models.list()] == ["tiny"]
    body: dict[str, Any] = {"model": "tiny", "messages": TALK, "max_tokens": 10, "seed": 3}
    answer = client.chat.completions.create(**body, logprobs=True, top_logprobs=2)
    assert answer.usage.completion_tokens == len(answer.choices[0].logprobs.content)
    stream = client.chat.completions.create(
        **body, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert said == answer.choices[0].message.content
    assert chunks[-1].usage == answer.usage
    extra = client.chat.completions.create(**body, extra_body={"top_k": 1, "min_p": 0.1})
    greedily = client.chat.completions.create(**{**body, "temperature": 0})
    assert extra.choices[0].message.content == greedily.choices[0].message.content
    completion = client.completions.create(model="alias", prompt=["a", "b"], max_tokens=3)
    assert [choice.index for choice in completion.choices] == [0, 1]
    with pytest.raises(openai.BadRequestError, match="tools is not supported"):
        client.chat.completions.create(
            **body, tools=[{"type": "function", "function": {"name": "f"}}]
        )
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.chat.completions.create(model="x", messages=TALK)
