"""The common families' templates: what is sampled from, what is trained and what is not, by decoded
text."""

from __future__ import annotations

from datetime import date
from types import SimpleNamespace

import pytest

from burnish.data.chat import ChatOptions, set_chat_options
from burnish.data.render import (
    Rendered,
    end_token_ids,
    render_demonstration,
    render_prompt,
    render_reply,
    render_response,
)
from burnish.records import Demonstration, Message, Prompt
from data.chat_templates import FAMILIES, Family, tokenizer_of

TALK = ("Hi there", "Hello.", "And now?", "Bye é😀")
everywhere = pytest.mark.parametrize("name", FAMILIES)


def messages(*texts: str, system: str | None = None) -> tuple[Message, ...]:
    head = [] if system is None else [Message(role="system", content=system)]
    turns = [
        Message(role=("user", "assistant")[i % 2], content=text) for i, text in enumerate(texts)
    ]
    return (*head, *turns)


def family(name: str):
    found = FAMILIES[name]
    return found, tokenizer_of(found)


def reference(tokenizer, talk, *, header: bool = False, **kwargs) -> str:
    """What transformers makes of it."""
    chat = [dict(m) for m in talk]
    return tokenizer.apply_chat_template(
        chat, tokenize=False, add_generation_prompt=header, **kwargs
    )


def parts(tokenizer, rendered: Rendered) -> tuple[str, str]:
    """The text before the last run of trained tokens, and that run's."""
    start = len(rendered.tokens) - rendered.response_mask[::-1].index(True)
    stop = start
    while start and rendered.response_mask[start - 1]:
        start -= 1
    return tokenizer.decode(list(rendered.tokens[:start])), tokenizer.decode(
        list(rendered.tokens[start:stop])
    )


def answer(known: Family, text: str) -> str:
    return f"{known.wraps[0]}{text}{known.wraps[1]}{known.end}"


@everywhere
@pytest.mark.parametrize("system", [None, "Be brief."])
def test_a_prompt_is_what_transformers_makes_of_it(name, system):
    known, tokenizer = family(name)
    if system is not None and not known.system:
        pytest.skip("the family has no system role")
    for texts in (TALK[:1], TALK[:3]):
        talk = messages(*texts, system=system)
        tokens = render_prompt(tokenizer, Prompt("p", talk), max_tokens=2000)
        assert tokenizer.decode(list(tokens)) == reference(tokenizer, talk, header=True)
        assert tokenizer.decode(list(tokens)).endswith(known.header)


@everywhere
def test_one_turn_trains_the_answer_and_its_end_behind_the_prompt(name):
    known, tokenizer = family(name)
    (rendered,) = render_demonstration(
        tokenizer, Demonstration("d", messages(*TALK[:2])), max_tokens=2000
    )
    before, said = parts(tokenizer, rendered)
    assert before == reference(tokenizer, messages(TALK[0]), header=True)
    assert said == answer(known, TALK[1])


@everywhere
def test_every_turn_of_a_conversation_is_trained_once_as_it_is_sampled(name):
    known, tokenizer = family(name)
    sequences = render_demonstration(
        tokenizer, Demonstration("d", messages(*TALK)), max_tokens=2000
    )
    assert len(sequences) == (2 if known.apart else 1)
    trained = [
        tokenizer.decode([t for t, m in zip(s.tokens, s.response_mask, strict=True) if m])
        for s in sequences
    ]
    assert "".join(trained) == answer(known, TALK[1]) + answer(known, TALK[3])
    before, said = parts(tokenizer, sequences[-1])
    assert before == reference(tokenizer, messages(*TALK[:3]), header=True)
    assert said == answer(known, TALK[3])
    if known.apart:
        assert parts(tokenizer, sequences[0])[0] == reference(
            tokenizer, messages(TALK[0]), header=True
        )


@everywhere
def test_both_sides_of_a_pair_stand_behind_the_same_prompt(name):
    known, tokenizer = family(name)
    prompt = Prompt("p", messages(*TALK[:3]))
    seen = render_prompt(tokenizer, prompt, max_tokens=2000)
    for text in ("Bye.", "\nNo\n", "zebra", "Größe 😀"):
        rendered = render_response(tokenizer, prompt, text, max_tokens=2000)
        assert rendered.prompt_tokens == seen
        said = tokenizer.decode(list(rendered.response_tokens))
        assert text.strip() in said
        assert said.endswith(known.end)
        assert said.strip() == answer(known, text.strip()).strip() or text.strip() != text


@everywhere
def test_generation_stops_where_the_turn_ends_and_at_each_end_token_of_the_model(name):
    known, tokenizer = family(name)
    ends = end_token_ids(tokenizer)
    assert ends[0] == tokenizer.convert_tokens_to_ids(known.end)
    assert tokenizer.eos_token_id in ends
    several = SimpleNamespace(eos_token_id=[5, tokenizer.eos_token_id, 7])
    assert end_token_ids(tokenizer, several) == (*ends, 5, 7)
    assert end_token_ids(tokenizer, SimpleNamespace(eos_token_id=5)) == (*ends, 5)


@everywhere
def test_a_reply_goes_on_where_the_answer_ended(name):
    """The tokens sampled, their end token and the reply make the prompt of the next turn, but for a
    rewritten history."""
    known, tokenizer = family(name)
    reply = tokenizer.decode(
        list(render_reply(tokenizer, Message(role="user", content="And now?")))
    )
    assert "And now?" in reply
    assert reply.endswith(known.header)
    if not known.apart:
        first = reference(tokenizer, messages(TALK[0]), header=True)
        assert first + answer(known, TALK[1]) + reply == reference(
            tokenizer, messages(*TALK[:3]), header=True
        )


@pytest.mark.parametrize("name", [n for n, f in FAMILIES.items() if "strftime_now" in f.template])
def test_the_day_is_the_one_that_was_settled(name):
    _, tokenizer = family(name)
    prompt = Prompt("p", messages("a"))
    set_chat_options(tokenizer, ChatOptions(date(2024, 2, 29)))
    settled = tokenizer.decode(list(render_prompt(tokenizer, prompt, max_tokens=2000)))
    assert any(
        text in settled
        for text in ("29 Feb 2024", "2024-02-29", "February 29, 2024", "29 February 2024")
    )
    set_chat_options(tokenizer, ChatOptions(date(2025, 3, 1)))
    assert tokenizer.decode(list(render_prompt(tokenizer, prompt, max_tokens=2000))) != settled


@pytest.mark.parametrize("name", ["qwen 3", "qwen 3.5", "smollm 3"])
def test_options_of_the_template_reach_prompts_and_training(name):
    _, tokenizer = family(name)
    talk = messages(*TALK[:2])
    plain = render_prompt(tokenizer, Prompt("p", talk[:1]), max_tokens=2000)
    options = {"enable_thinking": False}
    day = date.today()
    set_chat_options(tokenizer, ChatOptions(day, options))
    seen = render_prompt(tokenizer, Prompt("p", talk[:1]), max_tokens=2000)
    assert (
        tokenizer.decode(list(seen))
        == reference(tokenizer, talk[:1], header=True, **options)
        != plain
    )
    (rendered,) = render_demonstration(tokenizer, Demonstration("d", talk), max_tokens=2000)
    assert parts(tokenizer, rendered) == (tokenizer.decode(list(seen)), "Hello.<|im_end|>")
    own = Prompt("p", talk[:1], {"chat_template_kwargs": {"enable_thinking": True}})
    assert render_prompt(tokenizer, own, max_tokens=2000) == plain


@pytest.mark.parametrize(
    ("name", "trained"),
    [
        ("qwen 3", "<think>\nR1\n</think>\n\nA<|im_end|>"),
        ("qwen 3.5", "R1\n</think>\n\nA<|im_end|>"),
        ("deepseek r1", "R1\n</think>\n\nA<｜end▁of▁sentence｜>"),
        ("nemotron 3", "R1\n</think>\n\nA<|im_end|>"),
        (
            "gpt-oss",
            "<|channel|>analysis<|message|>R1<|end|><|start|>assistant<|channel|>final<|message|>A<|return|>",
        ),
    ],
)
def test_reasoning_of_its_own_field_is_trained_where_the_model_would_write_it(name, trained):
    _, tokenizer = family(name)
    said = Message(role="assistant", content="A", reasoning_content="R1")
    (rendered,) = render_demonstration(
        tokenizer, Demonstration("d", (*messages("Q"), said)), max_tokens=2000
    )
    assert parts(tokenizer, rendered) == (reference(tokenizer, messages("Q"), header=True), trained)


@pytest.mark.parametrize(
    "name", ["qwen 3", "qwen 3.5", "deepseek r1", "nemotron 3", "phi 4 reasoning"]
)
def test_reasoning_in_the_text_is_trained_whole_and_gone_from_the_history(name):
    known, tokenizer = family(name)
    talk = messages("Q1", "<think>\nR1\n</think>\n\nA1", "Q2", "<think>\nR2\n</think>\n\nA2")
    sequences = render_demonstration(tokenizer, Demonstration("d", talk), max_tokens=2000)
    assert len(sequences) == 2
    for number, sequence in enumerate(sequences):
        before, said = parts(tokenizer, sequence)
        assert before == reference(tokenizer, talk[: 2 * number + 1], header=True)
        assert before.count("R") == 0
        opened = "<think>\n" if known.header.endswith("<think>\n") else ""
        assert opened + said == f"<think>\nR{number + 1}\n</think>\n\nA{number + 1}{known.end}"


def test_a_turn_that_is_not_to_be_trained_is_shown_and_not_trained():
    _, tokenizer = family("chatml")
    talk = list(messages(*TALK))
    talk[1] = Message(role="assistant", content=TALK[1], trainable=False)
    (rendered,) = render_demonstration(tokenizer, Demonstration("d", tuple(talk)), max_tokens=2000)
    assert parts(tokenizer, rendered) == (
        reference(tokenizer, messages(*TALK[:3]), header=True),
        TALK[3] + "<|im_end|>",
    )
    assert sum(rendered.response_mask) == len(tokenizer(TALK[3])["input_ids"]) + 1


def test_what_a_model_wrote_in_the_templates_own_tokens_is_taken_as_it_is():
    _, tokenizer = family("gpt-oss")
    text = "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>4"
    rendered = render_response(tokenizer, Prompt("p", messages("2+2?")), text, max_tokens=2000)
    assert tokenizer.decode(list(rendered.response_tokens)) == text + "<|return|>"
