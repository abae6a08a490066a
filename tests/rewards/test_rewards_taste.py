"""The properties a reader can check by eye."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.rewards.taste import PROPERTIES, properties, property_matrix, taste_score

GOOD = "Water your basil every morning and give it six hours of sun. Enjoy your pesto!"
ASKED = "How do I keep basil alive?"


def test_a_good_answer_has_everything():
    assert properties(ASKED, GOOD) == dict.fromkeys(PROPERTIES, 1.0)


def test_an_empty_answer_has_nothing():
    assert set(properties(ASKED, " \n").values()) == {0.0}


@pytest.mark.parametrize(
    ("response", "name", "expected"),
    [
        ("Sure! Here is how: water your basil daily and keep it in the sun.", "direct", 0.0),
        ("As an AI language model, I cannot smell basil.", "direct", 0.0),
        ("I'm happy to help you with your basil.", "direct", 0.0),
        ("Great question! Basil likes sun.", "direct", 0.0),
        ("How do I keep basil alive? Water it daily.", "direct", 0.0),
        ("Surely the sun helps most of all plants here.", "direct", 1.0),
        ("Here today, gone tomorrow is how basil lives without water.", "direct", 1.0),
        ("Water it.", "concise", 0.25),
        ("word " * 60 + ".", "concise", 0.5),
        ("word " * 90 + ".", "concise", 0.0),
        ("Basil likes sun.", "courteous", 0.0),
        ("Basil likes sun. Good luck!", "courteous", 1.0),
        ("Good luck! Enjoy! Thank you! Take care! Please!", "courteous", 0.0),
        ("The capital is Paris.", "relevant", 0.0),
        ("Basil is easy to keep alive with sun.", "relevant", 1.0),
        ("Basil needs sun. Basil needs sun. Basil needs sun.", "fresh", 0.0),
        ("Basil needs sun", "finished", 0.0),
        ('She said "water it."', "finished", 1.0),
    ],
)  # fmt: skip
def test_one_property_at_a_time(response: str, name: str, expected: float):
    assert properties(ASKED, response)[name] == pytest.approx(expected)


@given(st.text(max_size=200), st.text(max_size=300))
def test_every_property_is_between_0_and_1(prompt: str, response: str):
    assert all(0.0 <= value <= 1.0 for value in properties(prompt, response).values())


def test_the_score_is_the_weighted_mean():
    weights = {"direct": 2.0, "courteous": 1.0, "finished": 1.0}
    assert taste_score(weights, ASKED, "Basil needs sun") == pytest.approx(2 / 4)
    assert property_matrix(ASKED, [GOOD, ""]).tolist() == [[1.0] * 6, [0.0] * 6]
