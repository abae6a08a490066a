"""Sense by a base model: the formula by hand, and a model that knows what follows what."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch

from burnish.batch import Batch
from burnish.rewards.sense import Answer, Scale, SenseOfBase, sense_of

SCALE = Scale(real=-4.0, scrambled=-8.0)


@pytest.mark.parametrize(
    ("own", "beside", "expected"),
    [
        (-4.0, -5.0, 1.0),
        (-6.0, -7.0, 0.5),  # half way between scrambled and real text: (½ − ¼) / ½
        (-7.0, -9.0, 0.0),  # a quarter of the way
        (-4.0, -4.0, 0.0),  # it fits every prompt
        (-4.0, -4.1, 0.2),
        (-4.0, -3.0, 0.0),
        (-6.0, -6.25, 0.25),
    ],
)
def test_by_hand(own: float, beside: float, expected: float):
    assert sense_of(own, beside, SCALE) == pytest.approx(expected)


def test_a_model_without_training_tells_nothing():
    assert SCALE.tells
    assert not Scale(-6.0, -6.2).tells


@dataclass
class Counting:
    """A model over digits: a digit after its predecessor has probability ½, any other 1/64; 9 after
    the prompt 7 counts as well."""

    def __post_init__(self) -> None:
        encode = lambda text, add_special_tokens: {"input_ids": [int(w) for w in text.split()]}  # noqa: E731
        self.backbone = SimpleNamespace(tokenizer=encode)

    def logprobs(self, batch: Batch) -> SimpleNamespace:
        values = []
        for sequence in batch.sequences:
            before = sequence.prompt[-1]
            for token in sequence.response:
                follows = token == before + 1
                values.append(math.log(0.5 if follows else 1 / 64))
                before = token
        return SimpleNamespace(logprobs_P=torch.tensor(values))


def test_order_and_prompt_both_count():
    specimens = [Answer((9,), (9,), "1 2 3 4 5"), Answer((9,), (9,), "3 4 5 6 7")]
    base = SenseOfBase(Counting(), specimens, max_tokens=16, longest=64)  # type: ignore[arg-type]
    low, high = math.log(1 / 64), math.log(0.5)
    assert base.scale == Scale(pytest.approx((low + 4 * high) / 5), pytest.approx(low))
    answers = [
        Answer((0,), (5,), "1 2 3"),  # continues its prompt
        Answer((0,), (0,), "1 2 3"),  # and another prompt as well
        Answer(
            (0,), (5,), "1 3 1"
        ),  # continues its prompt and has no order: a third of the way less nothing of it
        Answer((0,), (5,), ""),
    ]
    place = (high - low) / 3 / (base.scale.real - low)
    expected = [1.0, 0.0, (place - 0.25) / 0.5, 0.0]
    assert base.of(answers) == pytest.approx(expected)


def test_what_does_not_fit_is_not_read():
    specimens = [Answer((9,), (9,), "1 2 3 4 5")]
    base = SenseOfBase(Counting(), specimens, max_tokens=16, longest=4)  # type: ignore[arg-type]
    long, short = Answer((0,), (5,), "1 2 3 9 9 9"), Answer((0,), (5,), "1 2 3")
    assert base.of([long]) == base.of([short])
