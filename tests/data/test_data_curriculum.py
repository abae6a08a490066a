"""The cursor that resumes, and prompts that teach nothing being sampled less."""

from __future__ import annotations

import pytest

from burnish.data.curriculum import PromptSource
from burnish.data.prompts import Stream
from burnish.records import Prompt

PROMPTS = [Prompt(f"p{i}", ()) for i in range(10)]


def test_without_a_curriculum_it_is_the_stream():
    source, stream = PromptSource(PROMPTS, seed=3), Stream(PROMPTS, seed=3, batch_size=4)
    assert [source.take(4) for _ in range(6)] == [stream.batch(step) for step in range(6)]


def test_the_weight_by_hand():
    source = PromptSource(PROMPTS, seed=0, floor=0.1, decay=0.5)
    assert source.weight("p0") == 1.0  # never tried: p = 1/2
    source.learn("p0", tried=8, passed=8)
    p = 9 / 10
    assert source.weight("p0") == pytest.approx(0.1 + 0.9 * 4 * p * (1 - p))
    source.learn("p0", tried=8, passed=0)  # 8 · ½ + 8 tried, 8 · ½ passed
    p = 5 / 14
    assert source.weight("p0") == pytest.approx(0.1 + 0.9 * 4 * p * (1 - p))
    source.learn("p1", tried=8, passed=0)
    assert source.weight("p1") == pytest.approx(0.1 + 0.9 * 4 * 0.1 * 0.9)


def test_prompts_always_right_or_wrong_come_as_often_as_their_weight_says():
    source = PromptSource(PROMPTS, seed=1, floor=0.05, decay=1.0)
    for name, passed in (("p0", 10_000), ("p1", 0)):
        source.learn(name, tried=10_000, passed=passed)
    drawn = [prompt.id for _ in range(2000) for prompt in source.take(2)]
    rest = sum(drawn.count(f"p{i}") for i in range(2, 10)) / 8
    for name in ("p0", "p1"):
        assert drawn.count(name) / rest == pytest.approx(0.05, abs=0.02)
    assert source.passed_over > 0
    assert source.cursor == len(drawn) + source.passed_over


def test_no_prompt_twice_in_one_draw_where_there_are_enough():
    source = PromptSource(PROMPTS, seed=1, floor=0.5)
    for _ in range(30):
        ids = [prompt.id for prompt in source.take(7)]
        assert len(set(ids)) == 7
    assert len(source.take(25)) == 25  # more than there are: some come again


def test_a_source_goes_on_where_its_state_was_taken():
    whole, first = (PromptSource(PROMPTS, seed=5, floor=0.2, decay=0.7) for _ in range(2))
    expected = []
    for step in range(8):
        batch = whole.take(3)
        whole.learn(batch[0].id, tried=4, passed=4 * (step % 2))
        expected.append(batch)
    found = []
    for step in range(4):
        batch = first.take(3)
        first.learn(batch[0].id, tried=4, passed=4 * (step % 2))
        found.append(batch)
    second = PromptSource(PROMPTS, seed=5, floor=0.2, decay=0.7)
    second.load_state_dict(first.state_dict())
    for step in range(4, 8):
        batch = second.take(3)
        second.learn(batch[0].id, tried=4, passed=4 * (step % 2))
        found.append(batch)
    assert found == expected
