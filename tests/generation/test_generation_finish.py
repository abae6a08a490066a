"""Where completions end and what their tokens say."""

from __future__ import annotations

import pytest

from burnish.generation.base import SamplingParams
from burnish.generation.finish import Finisher
from burnish.models.tiny import tiny_tokenizer

TOKENIZER = tiny_tokenizer()
FINISHER = Finisher(TOKENIZER, frozenset({256}))


def _tokens(text: str) -> list[int]:
    return TOKENIZER(text)["input_ids"]


@pytest.mark.parametrize(
    ("text", "stop", "said", "stopped"),
    [
        ("abc", ("bc",), "a", True),
        ("abc", ("b",), "a", True),  # an engine would have stopped one token before; the text still ends there
        ("abc", ("x", "c"), "ab", True),
        ("abc", ("abcd",), "abc", False),
        ("aé", ("é",), "a", True),  # one character of two tokens
        ("ab–c", ("–",), "ab", True),
        ("abc", (), "abc", False),
    ],
)
def test_stop_strings(text: str, stop: tuple[str, ...], said: str, stopped: bool):
    params = SamplingParams(8, stop=stop)
    tokens = _tokens(text)
    assert FINISHER.text(tokens, params) == said
    assert FINISHER.stopped(tokens, params) == stopped


def test_end_tokens_end_a_completion_and_are_part_of_its_tokens():
    params = SamplingParams(8, stop_token_ids=(7,))
    for last in (256, 7):
        tokens = [*_tokens("hi"), last]
        done = FINISHER.completion(tokens, params, sampler_logprobs=[0.0] * 3, model_logprobs=[-1.0] * 3)
        assert (done.finish_reason, done.tokens) == ("stop", tuple(tokens))
    cut = FINISHER.completion(_tokens("hi"), params, sampler_logprobs=[0.0] * 2, model_logprobs=[])
    assert (cut.finish_reason, cut.text) == ("length", "hi")
