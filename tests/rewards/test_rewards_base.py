"""The contract of a reward: what it is handed, what it may return, and what becomes of its
mistakes."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from burnish.errors import UserError
from burnish.records import Completion, Prompt, Rollout
from burnish.rewards.base import Judgement, answer_of, call
from burnish.rewards.functions import find_function


def rollout(
    text: str, *, prompt: str = "1+1?", tokens: tuple[int, ...] = (1, 2), **columns: Any
) -> Rollout:
    asked = Prompt(prompt, ({"role": "user", "content": prompt},), columns)
    return Rollout(asked, (0,), Completion(text, tokens, (), "stop"), 0)


def values(judged: Any) -> list[float | None]:
    return [j.value for j in judged.judgements]


def test_a_function_gets_texts_ids_and_columns():
    def reward(prompts, completions, completion_ids, answer, **rest):
        assert rest["trainer_state"].global_step == 0
        return [
            len(p) + len(c) + sum(i) + a
            for p, c, i, a in zip(prompts, completions, completion_ids, answer, strict=True)
        ]

    # 4 + 2 + (1 + 2) + 10 and 4 + 3 + (5) + 20
    judged = call(
        "mine", reward, [rollout("ab", answer=10), rollout("abc", tokens=(5,), answer=20)]
    )
    assert values(judged) == [19.0, 32.0]


def test_a_function_without_kwargs_gets_what_it_names():
    assert values(
        call("mine", lambda completions: [float(len(c)) for c in completions], [rollout("abc")])
    ) == [3.0]


def test_a_column_that_some_prompts_lack_is_none_there():
    assert values(
        call("m", lambda completions, x: [v for v in x], [rollout("a", x=1.5), rollout("b")])
    ) == [1.5, None]


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
    assert judged.notes == {"text": ("a b", "c")}


def test_what_cannot_be_logged_is_said_and_not_dropped():
    with pytest.raises(UserError, match="logged 1 values of 'x' for 2 completions"):
        call("m", lambda log_extra, **_: log_extra("x", [1]), [rollout("a"), rollout("b")])
    with pytest.raises(UserError, match="logged 'much' as the metric 'x', which is no number"):
        call("m", lambda log_metric, **_: log_metric("x", "much"), [rollout("a")])

    def strange(log_extra, log_metric, **_):
        log_extra("x", [float("nan"), None])
        log_metric("y", float("inf"))
        return [0.0, 0.0]

    judged = call("m", strange, [rollout("a"), rollout("b")])
    assert (judged.logged, judged.notes) == ({}, {"x": ("nan", None), "y": ("inf", "inf")})


def test_the_steps_done_are_told_under_transformers_name():
    late = Rollout(rollout("a").prompt, (0,), rollout("a").completion, 7)
    assert values(
        call("m", lambda trainer_state, **_: [0.1 * trainer_state.global_step], [late])
    ) == [pytest.approx(0.7)]


class _Own(BaseException):
    pass


class _Interrupt(KeyboardInterrupt):
    pass


async def _leaves(**_):
    raise SystemExit(0)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (SystemExit(0), r"left the process: exit\(0\)"),
        (SystemExit("bye"), r"left the process: exit\('bye'\)"),
        (GeneratorExit(), "raised GeneratorExit"),
        (asyncio.CancelledError(), "raised CancelledError"),
        (_Own("x"), "raised _Own: x"),
        (_Interrupt(), "raised _Interrupt"),
    ],
)
def test_what_would_end_the_process_is_an_error_of_the_reward(error, says):
    def reward(**_):
        raise error

    with pytest.raises(UserError, match=says):
        call("m", reward, [rollout("a")])


def test_other_ways_out_of_the_process_are_errors_as_well():
    leave = os._exit
    with pytest.raises(UserError, match=r"left the process: os._exit\(0\)"):
        call("m", lambda **_: os._exit(0), [rollout("a")])
    assert os._exit is leave
    with pytest.raises(UserError, match=r"left the process: exit\(0\)"):
        call("m", _leaves, [rollout("a")])
    with pytest.raises(KeyboardInterrupt):  # Ctrl-C itself is nobody's mistake
        call("m", lambda **_: (_ for _ in ()).throw(KeyboardInterrupt()), [rollout("a")])


def test_a_process_that_a_reward_forks_may_leave():
    def forks(**_):
        child = os.fork()
        if child == 0:
            os._exit(3)
        return [float(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))]

    assert values(call("m", forks, [rollout("a")])) == [3.0]


def test_rewards_written_for_messages_are_told_how_to_be_called():
    with pytest.raises(UserError, match="set `messages: true`"):
        call(
            "m",
            lambda completions, **_: [float("a" in c[0]["content"]) for c in completions],
            [rollout("a")],
        )
    with pytest.raises(UserError, match="set `messages: false`"):
        call(
            "m",
            lambda completions, **_: [float(len(c.split())) for c in completions],
            [rollout("a")],
            messages=True,
        )


def test_a_file_that_leaves_when_it_is_imported_is_named(tmp_path):
    file = tmp_path / "script.py"
    file.write_text("import sys\ndef good(**_): return [1.0]\nsys.exit(0)\n")
    with pytest.raises(
        UserError, match=r"script.py: importing it raised exit\(0\): put what a program does behind"
    ):
        find_function(f"{file}:good")


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        ([1.0], "returned 1 values for 2 completions"),
        ([1.0, float("nan")], "returned nan for completion 1"),
        ([float("inf"), 0.0], "returned inf for completion 0"),
        ([1.0, "good"], "'good' for completion 1"),
        ([1.0, "1.0"], "'1.0' for completion 1"),
        ([1.0, 10**400], "for completion 1, which is no number"),
        ([1.0, 1j], "1j for completion 1"),
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
        call(
            "m",
            lambda completions: [len(c) for c in completions],
            [rollout("<think>long</think>ok")],
            scope="answer",
        )
    ) == [2]


def test_functions_are_found_by_path_and_by_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "def good(completions, **_):\n    return [1.0] * len(completions)\nclass Best:\n    def"
        " __call__(self, completions, **_):\n        return [2.0] * len(completions)\n"
    )
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
