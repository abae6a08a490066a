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
        (
            "abc",
            ("b",),
            "a",
            True,
        ),  # an engine would have stopped one token before; the text still ends there
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
        done = FINISHER.completion(
            tokens, params, sampler_logprobs=[0.0] * 3, model_logprobs=[-1.0] * 3
        )
        assert (done.finish_reason, done.tokens) == ("stop", tuple(tokens))
    cut = FINISHER.completion(_tokens("hi"), params, sampler_logprobs=[0.0] * 2, model_logprobs=[])
    assert (cut.finish_reason, cut.text) == ("length", "hi")


MARKS = ("<think>", "</think>", "<|channel|>", "<|stop|>")


def _marked():
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens(
        {"bos_token": "<|startoftext|>", "extra_special_tokens": ["<|im_start|>", *MARKS]}
    )
    return tokenizer


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("<think>A</think>B<|im_end|>", "<think>A</think>B"),
        ("<|channel|>final B<|im_end|>", "<|channel|>final B"),
        ("A<|endoftext|>B<|im_end|>", "AB"),  # padding means nothing
        ("<|startoftext|>AB<|im_end|>", "AB"),
        ("A<|im_start|>B", "A<|im_start|>B"),  # a stray header is what the model wrote
        ("A<|endoftext|>", "A"),
        ("<|im_end|>", ""),
        ("", ""),
    ],
)
def test_the_text_keeps_marks_that_are_special_tokens_and_drops_the_end(written: str, said: str):
    tokenizer = _marked()
    tokens = tokenizer(written, add_special_tokens=False)["input_ids"]
    finisher = Finisher(tokenizer, frozenset({tokenizer.eos_token_id}))
    assert finisher.text(tokens, SamplingParams(99)) == said


@pytest.mark.parametrize("stop", ["<|stop|>", "B<|stop|>", "</think>"])
def test_stop_strings_that_are_special_tokens_match(stop: str):
    tokenizer = _marked()
    finisher = Finisher(tokenizer, frozenset({tokenizer.eos_token_id}))
    tokens = tokenizer(f"A{stop}", add_special_tokens=False)["input_ids"]
    params = SamplingParams(99, stop=(stop,))
    assert finisher.stopped(tokens, params)
    assert finisher.text(tokens, params) == "A"
    assert not finisher.stopped(tokens[:-1], params)


@pytest.mark.parametrize("end", ["<|im_end|>", "<|stop|>"])
def test_each_end_token_ends_a_completion_and_leaves_its_text(end: str):
    tokenizer = _marked()
    ends = frozenset(tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|stop|>"]))
    tokens = tokenizer(f"<think>A{end}", add_special_tokens=False)["input_ids"]
    done = Finisher(tokenizer, ends).completion(
        tokens, SamplingParams(99), sampler_logprobs=[0.0] * len(tokens), model_logprobs=[]
    )
    assert (done.text, done.finish_reason, done.tokens) == ("<think>A", "stop", tuple(tokens))
