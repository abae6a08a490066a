"""The HTTP reward against a server in memory: batches, retries, time-outs, and answers that are
none."""

from __future__ import annotations

import json

import httpx
import pytest

from burnish.errors import UserError
from burnish.records import Completion, Prompt, Rollout
from burnish.rewards.base import call
from burnish.rewards.http import HttpReward

URL = "http://scores.example/rate"


def rollouts(*texts: str) -> list[Rollout]:
    prompts = [
        Prompt(t, ({"role": "user", "content": "?"},), {"answer": t.upper(), "split": "train"})
        for t in texts
    ]
    return [Rollout(p, (0,), Completion(p.id, (1,), (), "stop"), 0) for p in prompts]


def values(handler, texts, **options):
    reward = HttpReward(URL, backoff=0.0, transport=httpx.MockTransport(handler), **options)
    return [j.value for j in call("remote", reward, rollouts(*texts)).judgements]


def test_batches_come_back_in_order_with_the_columns_that_are_sent():
    seen = []

    def handler(request):
        body = json.loads(request.content)
        seen.append(body)
        return httpx.Response(200, json=[float(len(c)) for c in body["completions"]])

    assert values(
        handler, ["a", "bb", "ccc", "dddd", "eeeee"], batch_size=2, columns=("answer",)
    ) == [1, 2, 3, 4, 5]
    assert sorted(len(body["completions"]) for body in seen) == [1, 2, 2]
    first = next(body for body in seen if body["completions"] == ["a", "bb"])
    assert first == {"prompts": ["?", "?"], "completions": ["a", "bb"], "answer": ["A", "BB"]}


@pytest.mark.parametrize(
    "failure", [500, 503, 429, 408, httpx.ConnectError("no"), httpx.ReadTimeout("slow")]
)
def test_what_may_pass_is_tried_again(failure):
    calls = []

    def handler(request):
        calls.append(request)
        if len(calls) < 3:
            if isinstance(failure, Exception):
                raise failure
            return httpx.Response(failure)
        return httpx.Response(200, json={"rewards": [0.5, None]})

    assert values(handler, ["a", "b"], retries=2) == [0.5, None]
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("answer", "says", "calls"),
    [
        (httpx.Response(500, text="on fire"), "answered with status 500 ('on fire'), 3 times", 3),
        (httpx.Response(404, text="gone"), "answered with status 404 ('gone')", 1),
        (httpx.ReadTimeout("slow"), "gave no answer within 30 s, 3 times", 3),
        (httpx.ConnectError("refused"), "cannot be reached (ConnectError: refused), 3 times", 3),
        (httpx.Response(200, text="hello"), "answered with status 200 and no JSON ('hello')", 1),
        (httpx.Response(200, json=[1.0]), "sent 1 values for 2 completions", 1),
        (httpx.Response(200, json=["good", "bad"]), "sent no list of finite numbers", 1),
        (httpx.Response(200, content=b"[NaN, 1.0]"), "sent no list of finite numbers", 1),
        (httpx.Response(200, json={"value": 1}), "sent no list of finite numbers", 1),
    ],
)
def test_what_does_not_pass_names_the_address_and_the_status(answer, says, calls):
    count = []

    def handler(request):
        count.append(1)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(UserError) as error:
        values(handler, ["a", "b"], retries=2)
    assert f"the reward server {URL} " in str(error.value)
    assert says in str(error.value)
    assert len(count) == calls


def test_secrets_are_sent_and_not_shown(monkeypatch):
    monkeypatch.setenv("SCORES_TOKEN", "s3cret")
    sent = []

    def handler(request):
        sent.append(request.headers["authorization"])
        return httpx.Response(403)

    reward = HttpReward(
        "http://scores.example/rate?key=k",
        token_variable="SCORES_TOKEN",
        transport=httpx.MockTransport(handler),
    )
    with pytest.raises(UserError) as error:
        call("remote", reward, rollouts("a"))
    assert sent == ["Bearer s3cret"]
    assert not any(secret in str(error.value) for secret in ("s3cret", "key=k"))
    with pytest.raises(UserError, match="NO_SUCH_TOKEN is not set"):
        HttpReward(URL, token_variable="NO_SUCH_TOKEN")
    with pytest.raises(UserError, match="no http or https address"):
        HttpReward("ftp://scores.example")
