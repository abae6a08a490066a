"""Several who compare: each gets its share of the prompts, every prompt one of them."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import pytest

import burnish
from burnish.errors import UserError
from burnish.records import Message, Prompt
from burnish.stages.artifacts import Answered
from burnish.stages.compare import dealt
from burnish.stages.context import Run

JUDGE = "{judge: {model: base, constitution: rules.txt}"


def _dealt(by: str, count: int, seed: int = 0) -> list[list[str]]:
    recipe = burnish.load(
        None,
        "stages=[sample, compare]",
        "data.prompts=task:arithmetic",
        f"compare.by={by}",
        f"seed={seed}",
    )
    prompts = [Prompt(f"p{i}", (Message(role="user", content=f"{i}?"),)) for i in range(count)]
    answered = [Answered(prompt, ("a", "b"), ("base", "base")) for prompt in prompts]
    step = Run(recipe, Path("nowhere")).step("compare")
    return [[one.prompt.id for one in part] for part in dealt(step, answered)]


def test_shares_are_exact_and_every_prompt_has_one_who_compares():
    parts = _dealt(f"[{{panel: {{}}, share: 0.25}}, {JUDGE}}}]", 40)
    assert [len(part) for part in parts] == [10, 30]
    assert sorted(chain(*parts)) == sorted(f"p{i}" for i in range(40))
    order = {f"p{i}": i for i in range(40)}
    # in the order of the prompts
    assert all(part == sorted(part, key=order.__getitem__) for part in parts)


def test_who_gets_a_prompt_follows_from_the_seed_alone():
    by = f"[{{panel: {{}}}}, {JUDGE}}}]"
    assert _dealt(by, 20) == _dealt(by, 20) != _dealt(by, 20, seed=1)
    assert [len(part) for part in _dealt(by, 20)] == [
        10,
        10,
    ]  # what is not stated is divided equally
    assert _dealt("panel", 5) == [[f"p{i}" for i in range(5)]]


@pytest.mark.parametrize("shares", [("0.7", "0.7"), ("0.2", "0.2")])
def test_shares_that_are_not_one_are_refused(shares: tuple[str, str]):
    by = f"[{{panel: {{}}, share: {shares[0]}}}, {JUDGE}, share: {shares[1]}}}]"
    with pytest.raises(UserError, match="add up to"):
        _dealt(by, 4)
