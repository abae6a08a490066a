"""Who may give a headline: in which order, and what is said where nobody may."""

from __future__ import annotations

from typing import Any

import pytest

from burnish.evaluation.headline import moved, null_table, verdict
from burnish.evaluation.nulls import CONSTANT, SHUFFLED, beats, null_answers, null_test
from burnish.evaluation.report import render_report


def interval(value: float, half: float = 0.05) -> dict[str, Any]:
    return {"value": value, "low": value - half, "high": value + half, "n": 100}


def judge(
    name: str, kind: str, *, unfit: str | None = None, gameable: bool = False
) -> dict[str, Any]:
    nulls = [{"null": "a constant", "win_rate": interval(0.8 if gameable else 0.1)}]
    return {"name": name, "kind": kind, "unfit": unfit, "gameable": gameable, "nulls": nulls}


TASTE = judge("gold", "taste")
REWARD = judge("reward model", "reward", unfit="training was made to please it")
MODEL = judge("arbiter", "judge")
PEOPLE = {
    "name": "people",
    "kind": "people",
    "unfit": None,
    "nulls": [],
    "gameable": False,
    "asked": 9,
    "compared": 8,
}
RATES = {"gold": 0.6, "reward model": 0.9, "arbiter": 0.3, "people": 0.7}


def data(*judges: dict[str, Any], verifiable: dict[str, Any] | None = None) -> dict[str, Any]:
    models = [
        {"name": name, "length": interval(20.0), "truncation_rate": 0.0,
            "properties": {"courteous": c, "relevant": r, "fresh": 1.0}}
        for name, c, r in (("sft", 0.31, 0.62), ("ppo", 0.89, 0.41))
    ]  # fmt: skip
    comparisons = [
        {"a": "ppo", "b": "sft", "judge": one["name"], "win_rate": interval(RATES[one["name"]])}
        for one in judges
    ]
    properties = {"courteous": interval(0.58), "relevant": interval(-0.21), "fresh": interval(0.01)}
    comparisons = [
        row | {"properties": properties} if row["judge"] == "gold" else row for row in comparisons
    ]
    found = {
        "name": "evaluate",
        "reference": "sft",
        "judges": list(judges),
        "models": models,
        "comparisons": comparisons,
    }
    return {
        "folder": "runs/a",
        "evaluate": found | ({"verifiable": verifiable} if verifiable else {}),
    }


CHECKED = {
    "verifiers": ["maths"], "unfit": None,
    "models": [{"name": "sft", "accuracy": interval(0.4)},
        {"name": "ppo", "accuracy": interval(0.6)}],
    "comparisons": [{"a": "ppo", "b": "sft", "difference": interval(0.2)}],
}  # fmt: skip
FOOLED = {"gameable": True, "nulls": [{"null": "an empty answer", "win_rate": interval(0.9)}]}


@pytest.mark.parametrize(
    ("found", "kind", "said"),
    [
        (data(TASTE, REWARD), "better", "60"),
        (data(TASTE, REWARD, MODEL), "worse", "30"),
        (data(TASTE, REWARD, MODEL, PEOPLE), "better", "70"),
        (data(TASTE, verifiable=CHECKED), "better", "is right on 60"),
        (data(TASTE, MODEL, verifiable=CHECKED), "worse", "30"),
        (data(judge("gold", "taste", gameable=True), MODEL), "worse", "30"),
        (data(MODEL | {"unfit": "it is one of the models that it judges"}, TASTE), "better", "60"),
    ],
)
def test_the_first_who_may_say_so_says_it(found: dict[str, Any], kind: str, said: str):
    answer = verdict(found)
    assert (answer.kind, said in answer.sentence) == (kind, True)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (data(REWARD), "The reward model does not count: training was made to please it."),
        (data(judge("gold", "taste", gameable=True)), "prefers a constant on 80\u00a0% (75 to 85\u00a0%) of prompts to the SFT policy's answers"),  # noqa: E501
        (data(judge("gold", "taste", unfit="it is invented")), "it is invented"),
        (data(REWARD, verifiable=CHECKED | {"unfit": "a reward model is among the rewards"}), "a reward model is among the rewards"),  # noqa: E501
        (data(REWARD, verifiable=CHECKED | FOOLED), "The verifiers can be fooled: they prefer an empty answer on 90"),  # noqa: E501
    ],
)  # fmt: skip
def test_where_nobody_may_there_is_no_verdict_and_a_command_that_asks(
    found: dict[str, Any], reason: str
):
    answer = verdict(found)
    assert answer.headline == "Not judged yet"
    assert any(reason in line for line in answer.details), answer.details
    command = "burnish run runs/a/recipe.yaml --fork runs/a --out runs/a-judged"
    assert answer.commands[0] == (
        "Ask people",
        f'{command} "evaluate.people={{store: labels.sqlite, project: heldout}}"',
    )
    page = render_report(found)
    assert "Not judged yet" in page
    assert "Yes, it got better" not in page


def test_what_an_invented_taste_prefers_is_called_simulated():
    assert verdict(data(TASTE)).headline == "Yes, in simulation"
    assert any("says nothing of what people like" in line for line in verdict(data(TASTE)).details)
    assert verdict(data(TASTE, PEOPLE)).headline == "Yes, it got better"
    assert verdict(data(TASTE, MODEL)).headline == "No, it got worse"


def test_the_reward_model_says_nothing_although_it_is_sure():
    assert verdict(data(REWARD)).kind == "unknown"


def test_what_rose_and_what_fell_is_said_from_either_side():
    told = (
        "From the SFT policy to the PPO policy: courtesy (0.31 to 0.89) rose; relevance (0.62 to"
        " 0.41) fell."
    )
    found = data(TASTE)
    assert moved(found) == told
    row = found["evaluate"]["comparisons"][0]
    turned = {
        n: {**p, "value": -p["value"], "low": -p["high"], "high": -p["low"]}
        for n, p in row["properties"].items()
    }
    row |= {"a": "sft", "b": "ppo", "properties": turned, "win_rate": interval(0.4)}
    assert moved(found) == told
    assert moved(data(MODEL)) is None
    assert told in render_report(found)


def test_the_table_of_nulls_has_a_column_a_judge():
    rows = null_table(data(TASTE, REWARD, PEOPLE))
    assert rows == [
        {
            "Answer": "A constant",
            "Gold taste": "10\u00a0% (5 to 15\u00a0%)",
            "Reward model": "10\u00a0% (5 to 15\u00a0%)",
        }
    ]
    assert null_table(data(PEOPLE)) == []
    checked = null_table(data(REWARD, verifiable=CHECKED | FOOLED))
    assert [(row["Answer"], row["Verifiers"]) for row in checked] == [
        ("A constant", "—"), ("An empty answer", "90\u00a0% (85 to 95\u00a0%)"),
    ]  # fmt: skip
    assert "Can the judge be fooled?" in render_report(data(TASTE))


def test_nulls_are_four_answers_that_say_nothing():
    nulls = null_answers(["a?", "b?", "c?", "d?"], ["1", "2", "3", "4"])
    assert nulls == {
        "a constant": [CONSTANT] * 4, "an empty answer": [""] * 4,
        "an echo of the prompt": ["a?", "b?", "c?", "d?"],
        SHUFFLED: ["3", "4", "1", "2"],
    }  # fmt: skip
    assert SHUFFLED not in null_answers(["a?"], ["1"])


def test_a_judge_is_gameable_where_a_whole_interval_lies_above_a_half():
    assert beats([1.0, 2.0, 0.0], [0.0, 2.0, 1.0]).tolist() == [1.0, 0.5, 0.0]
    often, seldom = [1.0] * 30 + [0.0] * 10, [1.0] * 22 + [0.0] * 18
    fooled = null_test({"a constant": often, "an echo of the prompt": seldom})
    assert fooled["gameable"]
    assert [row["win_rate"]["value"] for row in fooled["nulls"]] == [0.75, 0.55]
    assert not null_test({"a constant": seldom})["gameable"]  # its interval contains a half
    assert not null_test({"a constant": [1.0]})["gameable"]  # of one prompt there is no interval
    assert null_test({}) == {"nulls": [], "gameable": False}
