"""Pieces of text that come as tokens do: together they are the completion's text, and no piece is
ever taken back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.generation.base import SamplingParams
from burnish.generation.finish import Finisher
from burnish.generation.text_stream import TextStream
from burnish.models.tiny import tiny_tokenizer

TOKENIZER = tiny_tokenizer()  # a token is a byte
FINISHER = Finisher(TOKENIZER, frozenset({256}))


def pieces(tokens: list[int], *stops: str) -> list[str]:
    """What is given out as the tokens come, up to where the completion ends."""
    params = SamplingParams(len(tokens), stop=stops)
    stream, given = TextStream(FINISHER, params), []
    for count in range(1, len(tokens)):
        if FINISHER.stopped(tokens[:count], params):
            return [*given, stream.close(FINISHER.text(tokens[:count], params))]
        given.append(stream.push(tokens[:count]))
    return [*given, stream.close(FINISHER.text(tokens, params))]


def ids(text: str) -> list[int]:
    return list(TOKENIZER(text, add_special_tokens=False)["input_ids"])


def test_a_character_of_several_bytes_comes_whole():
    assert pieces(ids("né 🙂!")) == ["n", "", "é", " ", "", "", "", "🙂", "!"]


def test_what_may_become_a_stop_string_waits():
    assert pieces(ids("a END"), "END") == ["a", " ", "", "", ""]
    assert pieces(ids("a ENoc"), "END") == ["a", " ", "", "", "ENo", "c"]
    assert pieces(ids("abab"), "abc") == ["", "", "ab", "ab"]


def test_the_end_token_is_no_text():
    assert pieces([*ids("ab"), 256]) == ["a", "b", ""]


def test_half_a_character_at_the_end_is_told_as_the_record_has_it():
    assert "".join(pieces(ids("aé")[:-1])) == FINISHER.text(ids("aé")[:-1], SamplingParams(9))


@given(
    tokens=st.lists(st.integers(0, 255), min_size=1, max_size=40),
    stops=st.lists(st.text("ab€ ", min_size=1, max_size=3), max_size=2),
)
def test_pieces_of_any_bytes_are_a_beginning_and_then_the_whole(
    tokens: list[int], stops: list[str]
):
    text = "".join(pieces(tokens, *stops))
    params = SamplingParams(len(tokens), stop=tuple(stops))
    count = next(
        n for n in range(1, len(tokens) + 1)
        if n == len(tokens) or FINISHER.stopped(tokens[:n], params)
    )  # fmt: skip
    expected = FINISHER.text(tokens[:count], params)
    if "\ufffd" not in expected:  # bytes that are no text may decode otherwise beside others
        assert text == expected
    assert not any(stop in text for stop in stops)


@pytest.mark.real
def test_words_of_a_real_tokenizer_come_one_by_one(smollm):
    tokenizer = smollm.tokenizer
    finisher = Finisher(tokenizer, frozenset())
    text = "The café — naïve 東京 🙂🙂 says:\n\n  hello."
    tokens = tokenizer(text)["input_ids"]
    stream = TextStream(finisher, SamplingParams(99))
    given = [stream.push(tokens[:count]) for count in range(1, len(tokens))]
    assert "".join([*given, stream.close(finisher.text(tokens, SamplingParams(99)))]) == text
    assert sum(bool(piece) for piece in given) > len(tokens) // 2
