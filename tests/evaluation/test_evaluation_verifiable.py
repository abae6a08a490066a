"""Accuracy, pass@k and comparisons of checked answers, by worked values and by brute force; and the
report's part on them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from burnish.evaluation.report import closing_rows, render_report, verdict
from burnish.evaluation.verifiable import (
    Outcomes,
    accuracy,
    compare,
    findings,
    pass_at,
    without_variance,
)
from burnish.records import Completion, Prompt, Reward, Rollout


def rollout(prompt: str, tokens: int = 3, tags: tuple[str, ...] = ()) -> Rollout:
    asked = Prompt(prompt, ({"role": "user", "content": prompt},), {"tags": list(tags)})
    return Rollout(asked, (0,), Completion("x", (1,) * tokens, (), "stop", (-0.5, -1.5)), 0)


def said(verdict: str, value: float = 0.0, *, counted: bool = True) -> Reward:
    return Reward(value, {"maths": value}, {"maths": verdict}, counted)


def test_pass_at_k_is_the_mean_over_all_ways_to_pick_k():
    outcomes = Outcomes(("p", "q", "r"), ((1, 0, 0, 1, 0), (0, 0, 0, 0, 0), (1, 1, 1, 1, 1)))
    for k in (1, 2, 3, 5):
        brute = [
            np.mean([max(picked) for picked in combinations(values, k)])
            for values in outcomes.right
        ]
        found = pass_at(outcomes, k)
        assert found is not None
        assert found.value == pytest.approx(np.mean(brute))
    # ten answers, two right: 1 − C(8,5)/C(10,5) = 1 − 56/252, where the plug-in 1 − 0.8⁵ says 0.672
    ten = pass_at(Outcomes(("p",), ((1, 1, *[0] * 8),)), 5)
    assert ten is not None
    assert ten.value == pytest.approx(7 / 9)


def test_pass_at_k_leaves_out_prompts_with_fewer_answers():
    outcomes = Outcomes(("p", "q"), ((1, 0, 0, 0), (1,)))
    found = pass_at(outcomes, 2)
    assert found is not None
    assert (found.value, found.n) == (0.5, 1)  # 1 − C(3,2)/C(4,2)
    assert pass_at(outcomes, 8) is None


def test_each_prompt_counts_the_same_however_often_it_was_answered():
    found = accuracy(Outcomes(("p", "q"), ((1, 1, 1, 1), (0,))))
    assert (found.value, found.n) == (0.5, 2)


def test_intervals_are_clustered_by_prompt():
    """Sixteen copies of the same answer to a prompt are one observation: the interval is that of 20
    prompts, not of 320 answers."""
    rng = np.random.default_rng(0)
    firsts = (rng.random(20) < 0.5).astype(float)
    once = accuracy(Outcomes(tuple(range(20)), tuple((v,) for v in firsts)))
    copied = accuracy(Outcomes(tuple(range(20)), tuple((v,) * 16 for v in firsts)))
    assert (once.low, once.high) == (copied.low, copied.high)


def test_right_is_what_every_verifier_that_speaks_says():
    rollouts = [rollout("p"), rollout("p"), rollout("q"), rollout("r"), rollout("s"), rollout("t")]
    rewards = [
        said("correct", 1.0),
        Reward(5.0, {}, {"maths": "correct", "task": "wrong"}),
        said("verifier-timeout", counted=False),
        said("infrastructure"),  # a reward of weight 0 masks nothing, but judged it is not
        Reward(5.0, {}, {"format": "formed"}),
        said("unparsed"),
    ]
    found = Outcomes.of(rollouts, rewards, verifiers=("maths", "task"))
    assert found == Outcomes(("p", "t"), ((1.0, 0.0), (0.0,)), uncounted=2)


def test_without_a_verifier_the_reward_decides():
    rewards = [Reward(0.7), Reward(0.69), Reward(9.0, counted=False)]
    found = Outcomes.of([rollout("p"), rollout("q"), rollout("r")], rewards, pass_at=0.7)
    assert found == Outcomes(("p", "q"), ((1.0,), (0.0,)), uncounted=1)


def test_comparison_is_paired_on_the_prompts_both_have():
    a = Outcomes(("p", "q", "r", "x"), ((1, 1), (1, 0), (0, 0), (1, 1)))
    b = Outcomes(("q", "p", "r", "y"), ((0, 1), (0, 0), (1, 0), (0, 0)))
    found = compare(a, b)
    assert found is not None
    assert found["difference"]["value"] == pytest.approx((1.0 + 0.0 - 0.5) / 3)
    assert found["difference"]["n"] == 3
    # first answers: p 1 against 0, q 1 against 0, r 0 against 1. Exact: 2 · (C(3,0) + C(3,1)) / 2³
    # = 1
    assert (found["gained"], found["lost"], found["mcnemar_p"]) == (2, 1, 1.0)
    assert compare(a, Outcomes(("z",), ((1,),))) is None


def test_groups_without_variance():
    groups = ["p", "p", "q", "q", "r", "r", "s", "t", "t"]
    values = [1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.5, 0.5]
    found = without_variance(groups, [Reward(v) for v in values])
    assert found == {"share": 3 / 4, "all_best": 1 / 4, "all_worst": 1 / 4}
    masked = [
        Reward(v, counted=i != 5) for i, v in enumerate(values)
    ]  # r has one judged answer left
    assert without_variance(groups, masked) == {"share": 1.0, "all_best": 1 / 3, "all_worst": 1 / 3}
    assert without_variance(["p"], [Reward(1.0)]) is None


def test_findings_hold_components_verdicts_lengths_entropy_and_tags():
    rollouts = [
        rollout("p", 2, ("easy",)),
        rollout("p", 4, ("easy",)),
        rollout("q", 6),
        rollout("q", 8),
    ]
    rewards = [
        said("correct", 1.0),
        said("wrong"),
        said("wrong"),
        said("verifier-error", counted=False),
    ]
    found = findings(rollouts, rewards, Outcomes.of(rollouts, rewards, verifiers=("maths",)))
    assert found["accuracy"]["value"] == 0.25
    assert found["verdicts"] == {"maths": {"correct": 1, "verifier-error": 1, "wrong": 2}}
    assert (found["uncounted"], found["completions"]) == (1, 4)
    assert found["tokens"]["value"] == 5.0
    assert found["entropy"]["value"] == 1.0
    assert found["by_tag"]["easy"]["value"] == 0.5
    assert found["reward"]["value"] == pytest.approx(1 / 3)


def _data(right_after: int, right_before: int) -> dict:
    count = 40
    rollouts = [rollout(f"p{i}") for i in range(count) for _ in range(2)]

    def judged(right: int) -> list[Reward]:
        return [said("correct", 1.0) if i // 2 < right else said("wrong") for i in range(2 * count)]

    outcomes, models = {}, []
    for name, right in (("base", right_before), ("grpo", right_after)):
        rewards = judged(right)
        outcomes[name] = Outcomes.of(rollouts, rewards, verifiers=("maths",))
        models.append({"name": name, **findings(rollouts, rewards, outcomes[name])})
    rates = {
        "pairs": 283,
        "false_positive": {"value": 0.01, "low": 0.0, "high": 0.02, "n": 100},
        "false_negative": {"value": 0.03, "low": 0.01, "high": 0.05, "n": 183},
    }
    verifiable = {
        "verifiers": ["maths"],
        "models": models,
        "comparisons": [
            {"a": "grpo", "b": "base", **(compare(outcomes["grpo"], outcomes["base"]) or {})}
        ],
        "maths_verifier": rates,
    }
    curve = [
        {"step": s, "reward": s / 5, "rewards/maths/mean": s / 5, "verdicts/maths/correct": s / 5,
            "frac_reward_zero_std": 0.5, "entropy": 1.0}
        for s in (1, 2, 3)
    ]  # fmt: skip
    names = [{"name": m["name"], "truncation_rate": 0.25} for m in models]
    return {
        "name": "rl",
        "online": {"algorithm": {"name": "grpo"}, "steps": 3, "curve": curve},
        "evaluate": {"prompts": count, "models": names, "verifiable": verifiable},
    }


@pytest.mark.parametrize(
    ("after", "before", "kind"),
    [(30, 10, "better"), (10, 30, "worse"), (20, 20, "not shown"), (21, 20, "not shown")],
)
def test_the_verdict_rests_on_the_paired_difference(after, before, kind):
    assert verdict(_data(after, before)).kind == kind


def test_the_report_shows_it_all():
    data = _data(30, 10)
    found = verdict(data)
    assert (
        "GRPO policy is right on 75.0\u00a0% of held-out prompts, the base model 25.0\u00a0%"
        in found.sentence
    )
    assert "+50.0 points" in found.sentence
    assert any("20 became right and 0 became wrong" in line for line in found.details)
    rows = closing_rows(data)
    assert [row["Model"] for row in rows] == ["Base model", "GRPO policy"]
    assert rows[1]["Accuracy"].startswith("75\u00a0%")
    assert rows[1]["Truncated"] == "25\u00a0%"
    assert "pass@2" in rows[0]
    page = render_report(data)
    for text in (
        "Checked answers",
        "maths: wrong",
        "False positives",
        "1.0\u00a0% (",
        "Reward: maths",
        "Verdicts: maths",
        "Prompts without variance",
        "GRPO made 3 rounds",
        "McNemar",
    ):
        assert text in page or text.partition(" (")[0] in page, text


def test_a_run_without_checked_answers_shows_none_of_it():
    assert "Checked answers" not in render_report({"name": "plain"})
    assert closing_rows({"name": "plain"}) == []
