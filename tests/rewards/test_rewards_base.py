"""The contract of a reward: what it is handed, what it may return, and what becomes of its mistakes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from burnish.errors import UserError
from burnish.records import Completion, Prompt, Rollout
from burnish.rewards.base import Judgement, answer_of, call
from burnish.rewards.functions import find_function


def rollout(text: str, *, prompt: str = "1+1?", tokens: tuple[int, ...] = (1, 2), **columns: Any) -> Rollout:
    asked = Prompt(prompt, ({"role": "user", "content": prompt},), columns)
    return Rollout(asked, (0,), Completion(text, tokens, (), "stop"), 0)


def values(judged: Any) -> list[float | None]:
    return [j.value for j in judged.judgements]


def test_a_function_gets_texts_ids_and_columns():
    def reward(prompts, completions, completion_ids, answer, **rest):
        assert rest["trainer_state"] is None
        return [
            len(p) + len(c) + sum(i) + a
            for p, c, i, a in zip(prompts, completions, completion_ids, answer, strict=True)
        ]

    # 4 + 2 + (1 + 2) + 10 and 4 + 3 + (5) + 20
    judged = call("mine", reward, [rollout("ab", answer=10), rollout("abc", tokens=(5,), answer=20)])
    assert values(judged) == [19.0, 32.0]


def test_a_function_without_kwargs_gets_what_it_names():
    assert values(call("mine", lambda completions: [float(len(c)) for c in completions], [rollout("abc")])) == [3.0]


def test_a_column_that_some_prompts_lack_is_none_there():
    assert values(call("m", lambda completions, x: [v for v in x], [rollout("a", x=1.5), rollout("b")])) == [1.5, None]


def test_messages_come_as_the_ecosystem_writes_them():
    seen = []

    def reward(prompts, completions, **_):
        seen.extend([prompts[0], completions[0]])
        return [0.0]

    call("m", reward, [rollout("hi", prompt="ask")], messages=True)
    assert seen == [[{"role": "user", "content": "ask"}], [{"role": "assistant", "content": "hi"}]]


async def _slowly(completions, **_):
    await asyncio.sleep(0)
    return [len(c) / 2 for c in completions]


def test_async_rewards_are_awaited_with_and_without_a_running_loop():
    assert values(call("m", _slowly, [rollout("abc")])) == [1.5]

    async def inside():
        return call("m", _slowly, [rollout("abcd")])

    assert values(asyncio.run(inside())) == [2.0]


def test_numbers_that_are_logged_become_components():
    def reward(completions, log_extra, log_metric):
        log_extra("words", [len(c.split()) for c in completions])
        log_extra("text", completions)
        log_metric("share", 0.25)
        return [0.0] * len(completions)

    judged = call("m", reward, [rollout("a b"), rollout("c")])
    assert judged.logged == {"words": (2.0, 1.0), "share": (0.25, 0.25)}


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        ([1.0], "returned 1 values for 2 completions"),
        ([1.0, float("nan")], "returned nan for completion 1"),
        ([float("inf"), 0.0], "returned inf for completion 0"),
        ([1.0, "good"], "'good' for completion 1"),
        (3.0, "returned float, not a list"),
        ([Judgement(1.0), Judgement(float("nan"))], "returned nan for completion 1"),
    ],
)
def test_what_is_no_list_of_numbers_is_refused_by_name(returned, says):
    with pytest.raises(UserError, match=r'the reward "mine"') as error:
        call("mine", lambda **_: returned, [rollout("a"), rollout("b")])
    assert says in str(error.value)


def test_a_reward_that_raises_stops_the_run_with_its_name():
    def broken(**_):
        raise KeyError("gold")

    with pytest.raises(UserError, match=r"the reward \"mine\" raised KeyError: 'gold'"):
        call("mine", broken, [rollout("a")])


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("plain", "plain"),
        ("<think>2+2</think> 4 ", "4"),
        ("<think>a</think>b<think>c</think>d", "d"),
        ("<think>never closed 4", ""),
        ("said <think>open", ""),
        ("no opening</think>4", "4"),
        ("<think>a</think><answer> 4 </answer>", "4"),
        ("<think>a</think>it is <answer>4", "4"),
        ("<answer>3</answer> or <answer>4</answer>", "4"),
        ("<think><answer>3</answer></think>so 4", "so 4"),
        ("<think>a</think>b<think>open again", "b"),
    ],
)
def test_the_answer_is_what_follows_the_reasoning(text, answer):
    assert answer_of(text) == answer


def test_scope_answer_hides_the_reasoning():
    assert values(
        call("m", lambda completions: [len(c) for c in completions], [rollout("<think>long</think>ok")], scope="answer")
    ) == [2]


def test_functions_are_found_by_path_and_by_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def good(completions, **_):\n    return [1.0] * len(completions)\nclass Best:\n    def __call__(self, completions, **_):\n        return [2.0] * len(completions)\n")  # fmt: skip
    assert values(call("m", find_function(f"{file}:good"), [rollout("a")])) == [1.0]
    assert values(call("m", find_function(f"{file}:Best"), [rollout("a")])) == [2.0]
    assert find_function("burnish.rewards.base:answer_of") is answer_of
    assert find_function("burnish.rewards.base.answer_of") is answer_of
    with pytest.raises(UserError, match="it has good, Best"):
        find_function(f"{file}:goud")
    with pytest.raises(UserError, match='no module "no_such_module"'):
        find_function("no_such_module:f")
    with pytest.raises(UserError, match="no such file"):
        find_function(f"{tmp_path}/none.py:f")
