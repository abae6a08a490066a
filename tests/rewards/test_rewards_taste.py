"""The properties a reader can check by eye."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.data.sources import read_rows
from burnish.rewards.taste import PROPERTIES, properties, property_matrix, sense, taste_score, words

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


def test_the_score_is_the_weighted_mean_of_what_the_properties_earn():
    weights = {"direct": 2.0, "courteous": 1.0, "relevant": 1.0}
    # direct 1, courteous 0, relevant 1 (basil of basil and alive is a half), and it makes sense:
    # half a function word of 0.2 · 3
    assert taste_score(weights, ASKED, "Basil needs sun") == pytest.approx(
        (2 + 0 + 1) / 4 * (0.5 / 0.6)
    )
    # the same manners beside the point count half, and relevance nothing
    assert taste_score(weights, ASKED, "It is fine") == pytest.approx((2 * 0.5 + 0 + 0) / 4)
    assert taste_score(weights, ASKED, "It is fine", under_base=0.5) == pytest.approx(0.25 / 2)
    assert property_matrix(ASKED, [GOOD, ""]).tolist() == [[1.0] * 6, [0.0] * 6]


def test_an_answer_that_fits_another_prompt_as_well_is_not_relevant():
    generic = "Basil and roses stay alive and healthy with water and sun."
    assert properties(ASKED, generic)["relevant"] == 1.0
    assert properties(ASKED, generic, beside="Are roses healthy?")["relevant"] == 0.0
    assert properties(ASKED, generic, beside="Are tulips healthy?")["relevant"] == pytest.approx(
        2 * (1 - 1 / 2)
    )


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (GOOD, 1.0),
        ("Paris.", 1.0),
        (
            "Alive basil copper table marble lantern. Good luck!",
            0.5 / (0.2 * 8),
        ),  # no word holds it together
        (ASKED, 0.0),  # every one of its trigrams is the prompt's
        ("", 0.0),
    ],
)
def test_a_salad_and_an_echo_make_no_sense(response: str, expected: float):
    assert sense(ASKED, response) == pytest.approx(expected)


def test_no_formula_pleases_it_as_answers_do():
    """The ways that once scored as high as a trained policy: a constant, the prompt's words in
    reverse, and an echo."""
    rows = [row.values["messages"] for row in read_rows("builtin:quickstart/demonstrations")]
    prompts = [messages[-2]["content"] for messages in rows]
    answers = [messages[-1]["content"] for messages in rows]
    weights = dict.fromkeys(PROPERTIES, 1.0)

    def mean(texts: list[str]) -> float:
        scored = zip(prompts, texts, strict=True)
        return sum(taste_score(weights, prompt, text) for prompt, text in scored) / len(texts)

    filler = "copper table marble lantern velvet pepper"
    salad = [
        " ".join([*(w for w in reversed(words(p)) if len(w) > 4), filler]) + ". Good luck!"
        for p in prompts
    ]
    constant = "Take your time and begin with one small step today. Good luck!"
    real = mean(answers)
    assert real > 0.6
    for texts in ([constant] * len(prompts), salad, prompts, answers[1:] + answers[:1]):
        assert mean(texts) < real - 0.2
