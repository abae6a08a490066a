"""Several evaluations together: seeds pooled by prompt, models that stand apart, verdicts either
way round, Holm."""

from __future__ import annotations

from typing import Any

import pytest

from burnish.evaluation.pooled import Evaluation, contests
from burnish.statistics.uncertainty import holm


def answers(*models: str, prompts: int = 10) -> list[dict[str, Any]]:
    return [
        {"prompt_id": f"p{i}", "number": 0, "model": name,
            "text": "x" * (5 + i)} for name in models for i in range(prompts)
    ]  # fmt: skip


def scores(model: str, values: list[float], judge: str = "gold") -> list[dict[str, Any]]:
    return [
        {"judge": judge, "prompt_id": f"p{i}", "number": 0, "model": model, "score": value}
        for i, value in enumerate(values)
    ]


def pairs(
    a: str, b: str, values: list[float | None], judge: str = "arbiter"
) -> list[dict[str, Any]]:
    return [
        {"judge": judge, "prompt_id": f"p{i}", "number": 0, "a": a, "b": b, "p": value}
        for i, value in enumerate(values)
    ]


def test_seeds_are_pooled_and_a_prompt_stays_one_unit():
    high = [1.0] * 8 + [0.0] * 2
    one = Evaluation(
        answers("sft", "ppo"), [*scores("sft", [0.5] * 10), *scores("ppo", high)], "sft"
    )
    two = Evaluation(
        answers("sft", "ppo"),
        [*scores("sft", [0.5] * 10), *scores("ppo", [1.0] * 6 + [0.0] * 4)],
        "sft",
    )
    (found,) = contests([one, two])
    assert (found.judge, found.a, found.b) == ("gold", "ppo", "sft")
    assert found.win_rate.value == pytest.approx(0.7)
    assert found.win_rate.n == 10  # prompts, not answers
    assert found.seeds == pytest.approx((0.8, 0.6))
    assert found.length_controlled.value == pytest.approx(0.7, abs=0.02)  # all gaps are 0
    assert found.p == found.holm


def test_models_that_never_stand_together_are_compared_by_scores():
    one = Evaluation(answers("first"), scores("first", [0.1] * 10), "first")
    two = Evaluation(answers("second", prompts=6), scores("second", [0.9] * 6), "second")
    (found,) = contests([one, two])
    assert (found.a, found.b, found.win_rate.n) == ("second", "first", 6)
    assert found.win_rate.value == 1.0
    assert found.p == pytest.approx(2 / 2**6)


def test_verdicts_on_pairs_count_from_either_side_and_unreadable_ones_not():
    turned = pairs("sft", "ppo", [0.0, 0.25, None, 0.5])
    found = contests(
        [
            Evaluation(
                answers("sft", "ppo", "dpo"), [*turned, *pairs("dpo", "sft", [1.0] * 10)], "sft"
            )
        ]
    )
    by = {(one.a, one.b): one for one in found}
    assert by["ppo", "sft"].win_rate.value == pytest.approx((1.0 + 0.75 + 0.5) / 3)
    assert by["ppo", "sft"].win_rate.n == 3
    assert by["dpo", "sft"].win_rate.value == 1.0
    assert [one.holm for one in found] == holm([one.p for one in found])


def test_without_a_common_reference_every_pair_is_compared():
    rows = [
        *scores("a", [0.1, 0.2, 0.3]),
        *scores("b", [0.2, 0.1, 0.4]),
        *scores("c", [0.0, 0.0, 0.0]),
    ]
    one = Evaluation(answers("a", "b", "c", prompts=3), rows, "gone")
    assert [(found.a, found.b) for found in contests([one])] == [("b", "a"), ("c", "a"), ("c", "b")]


def test_a_tie_everywhere_is_no_difference():
    (found,) = contests(
        [Evaluation(answers("a", "b"), [*scores("a", [0.3] * 10), *scores("b", [0.3] * 10)], "a")]
    )
    assert (found.win_rate.value, found.p, found.seeds) == (0.5, 1.0, (0.5,))
