"""The sum of rewards, worked by hand."""

from __future__ import annotations

import math

import pytest

from burnish.records import Completion, Prompt, Rollout
from burnish.rewards.base import Judged, Judgement
from burnish.rewards.compose import Part, compose
from burnish.rewards.scorer import CompositeScorer, Source, tags_of


def judged(*values: float | None) -> Judged:
    return Judged(tuple(Judgement(v) for v in values))


def one(parts, judgements, groups=None, tags=None):
    count = len(judgements[0].judgements)
    return compose(
        parts, judgements, groups=groups or ["p"] * count, tags=tags or [frozenset()] * count
    )


def test_weighted_sum_keeps_the_components_as_they_came():
    rewards = one(
        [Part(name="a", weight=2.0), Part(name="b", weight=-0.5)],
        [judged(1.0, 0.0), judged(3.0, 4.0)],
    )
    assert [r.value for r in rewards] == [2.0 * 1 - 0.5 * 3, -0.5 * 4]
    assert rewards[0].components == {"a": 1.0, "b": 3.0}


def test_a_shut_gate_lets_losses_through_and_gains_not():
    parts = [
        Part(name="format", weight=0.1, gate=1.0),
        Part(name="right"),
        Part(name="length", weight=0.2),
    ]
    rewards = one(parts, [judged(1.0, 0.0, 0.0), judged(1.0, 1.0, 1.0), judged(-1.0, -1.0, 1.0)])
    # open: 0.1 + 1 − 0.2; shut: 0 + 0 − 0.2; shut: nothing lost
    assert [r.value for r in rewards] == pytest.approx([0.9, -0.2, 0.0])


def test_the_gate_looks_at_the_value_before_normalizing():
    parts = [Part(name="g", weight=0.0, gate=0.5, normalize="batch"), Part(name="r")]
    assert [r.value for r in one(parts, [judged(0.6, 1.0), judged(1.0, 1.0)])] == [1.0, 1.0]


def test_normalized_by_group_and_by_batch():
    values = (1.0, 3.0, 10.0, 10.0)
    groups = ["p", "p", "q", "q"]
    by_group = one([Part(name="a", normalize="group")], [judged(*values)], groups)
    assert [r.value for r in by_group] == [-1.0, 1.0, 0.0, 0.0]  # mean 2, std 1; no spread in q
    by_batch = one([Part(name="a", normalize="batch")], [judged(*values)], groups)
    std = math.sqrt((25 + 9 + 16 + 16) / 4)  # mean 6
    assert [r.value for r in by_batch] == pytest.approx([-5 / std, -3 / std, 4 / std, 4 / std])


def test_clipped_after_normalizing():
    rewards = one([Part(name="a", normalize="group", clip=(-0.5, 0.25))], [judged(1.0, 3.0)])
    assert [r.value for r in rewards] == [-0.5, 0.25]


def test_none_does_not_apply_and_takes_no_part_in_moments():
    rewards = one(
        [Part(name="a", normalize="batch"), Part(name="b")],
        [judged(None, 1.0, 3.0), judged(5.0, 5.0, 5.0)],
    )
    assert [r.value for r in rewards] == [5.0, 4.0, 6.0]
    assert "a" not in rewards[0].components


def test_what_could_not_be_judged_is_not_counted_and_never_wrong():
    found = Judged(
        (
            Judgement(0.0, "verifier-timeout", counted=False),
            Judgement(1.0, "correct"),
            Judgement(3.0, "correct"),
        )
    )
    rewards = one(
        [Part(name="maths", normalize="batch"), Part(name="b")], [found, judged(1.0, 0.0, 0.0)]
    )
    assert [r.counted for r in rewards] == [False, True, True]
    assert rewards[0].verdicts == {"maths": "verifier-timeout"}
    assert "maths" not in rewards[0].components
    assert [r.value for r in rewards[1:]] == [-1.0, 1.0]  # moments of the two that count


def test_a_reward_that_only_measures_masks_nothing():
    found = Judged((Judgement(0.0, "verifier-error", counted=False),))
    rewards = one([Part(name="maths", weight=0.0), Part(name="b")], [found, judged(2.0)])
    assert rewards[0].counted
    assert rewards[0].value == 2.0
    assert rewards[0].verdicts == {"maths": "verifier-error"}


def test_a_prompt_that_no_reward_is_for_is_not_counted():
    rewards = one([Part(name="a")], [judged(None)])
    assert not rewards[0].counted
    assert rewards[0].verdicts == {"rewards": "not-applicable"}


def rollout(text: str, tags) -> Rollout:
    prompt = Prompt(text, ({"role": "user", "content": text},), {"tags": tags, "answer": "x"})
    return Rollout(prompt, (0,), Completion(text, (1,), (), "stop"), 0)


def test_prompts_are_routed_by_their_tags_and_others_are_not_asked():
    asked: list[list[str]] = []

    def reasoning(completions, **_):
        asked.append(list(completions))
        return [1.0] * len(completions)

    sources = [
        Source(Part(name="rules", tags=frozenset({"maths", "code"})), reasoning),
        Source(
            Part(name="helpful", tags=frozenset({"chat"})),
            lambda completions: [0.25] * len(completions),
        ),
        Source(Part(name="harmless"), lambda completions: [0.5] * len(completions)),
    ]
    rewards = CompositeScorer(sources).score(
        [rollout("a", ["maths", "easy"]), rollout("b", "chat"), rollout("c", ["code"])]
    )
    assert [r.value for r in rewards] == [1.5, 0.75, 1.5]
    assert asked == [["a", "c"]]
    assert [set(r.components) for r in rewards] == [
        {"rules", "harmless"},
        {"helpful", "harmless"},
        {"rules", "harmless"},
    ]


def test_tags_are_lists_or_text_with_commas():
    assert tags_of(Prompt("p", (), {"tags": "a, b", "tag": "c"})) == {"a", "b", "c"}
    assert tags_of(Prompt("p", (), {})) == frozenset()


def test_untagged_stands_for_prompts_without_tags():
    part = Part(name="chat", tags=frozenset({"untagged", "chat"}))
    assert [part.applies(frozenset(t)) for t in ((), ("chat",), ("maths",))] == [True, True, False]
    assert not Part(name="m", tags=frozenset({"maths"})).applies(frozenset())
