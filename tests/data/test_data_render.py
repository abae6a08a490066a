from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from burnish.data.columns import Origin
from burnish.data.render import (
    TooLong,
    end_token_ids,
    render_demonstration,
    render_each,
    render_prompt,
    render_response,
)
from burnish.errors import UserError
from burnish.records import Demonstration, Message, Prompt

# The same layout as the fixture's template, with the assistant's turn in a generation block; three
# ways to place it.
_FRAME = (
    "{%% for m in messages %%}{{ '<|im_start|>' + m['role'] + '\n' }}%s{%% endfor %%}{%% if"
    " add_generation_prompt %%}{{ '<|im_start|>assistant\n' }}{%% endif %%}"
)
_OTHERS = "{% else %}{{ m['content'] + '<|im_end|>\n' }}{% endif %}"
_IF = "{% if m['role'] == 'assistant' %}"
BLOCKS = {
    "content only": (
        _FRAME
        % (
            _IF
            + "{% generation %}{{ m['content'] }}{% endgeneration %}{{ '<|im_end|>\n' }}"
            + _OTHERS
        )
    ),
    "with end token": (
        _FRAME
        % (
            _IF
            + "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
            + _OTHERS
        )
    ),
    "with line break": (
        _FRAME
        % (
            _IF
            + "{%- generation -%}\n    {{ m['content'] + '<|im_end|>\n' }}\n{%- endgeneration -%}\n"
            + _OTHERS
        )
    ),
    "indented": (
        _FRAME
        % (
            _IF
            + "\n  {% generation %}\n{{ m['content'] + '<|im_end|>' }}{% endgeneration %}\n\n"
            + "{% else %}\n{{ m['content'] + '<|im_end|>' }}\n\n{% endif %}"
        )
    ),
}
DEFAULT_SYSTEM = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}{{ '<|im_start|>system\nBe"
    " kind<|im_end|>\n' }}{% endif %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] +"
    " '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{%"
    " endif %}"
)
LLAMA2 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)
TRIMMED = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + (m['content'] | trim) +"
    " '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{%"
    " endif %}"
)

TALK = ["hi", "yo", "tell me", "a story 😀", "größer?", "z: no, é"]


def demo(*texts: str, system: str | None = None) -> Demonstration:
    head = [] if system is None else [Message(role="system", content=system)]
    turns = [
        Message(role=("user", "assistant")[i % 2], content=text) for i, text in enumerate(texts)
    ]
    return Demonstration("d1", (*head, *turns))


def prompt(*texts: str, system: str | None = None) -> Prompt:
    return Prompt("p1", demo(*texts, system=system).messages)


def trained(tokenizer, rendered) -> str:
    return tokenizer.decode(
        [t for t, m in zip(rendered.tokens, rendered.response_mask, strict=True) if m]
    )


def whole_text(tokenizer, demonstration) -> str:
    return tokenizer.apply_chat_template([dict(m) for m in demonstration.messages], tokenize=False)


# --------------------------------------------------------------------------------------------------------  # noqa: E501
# the mask


def test_the_mask_by_hand(tokenizer):
    (rendered,) = render_demonstration(tokenizer, demo("a", "b"), max_tokens=100)
    pieces = [tokenizer.decode([token]) for token in rendered.tokens]
    expected = [
        "<|im_start|>",
        *"user",
        "\n",
        "a",
        "<|im_end|>",
        "\n",
        "<|im_start|>",
        *"assistant",
        "\n",
    ]
    assert pieces == [*expected, "b", "<|im_end|>", "\n"]
    assert rendered.response_mask == (*[False] * len(expected), True, True, False)


@pytest.mark.parametrize(
    "template", [None, DEFAULT_SYSTEM, *BLOCKS.values()], ids=["chatml", "default system", *BLOCKS]
)
@pytest.mark.parametrize("system", [None, "", "Be brief."])
def test_exactly_the_assistants_words_and_their_end_tokens_are_trained(tokenizer, template, system):
    tokenizer.chat_template = template or tokenizer.chat_template
    talk = demo(*TALK, system=system)
    (rendered,) = render_demonstration(tokenizer, talk, max_tokens=1000)
    assert trained(tokenizer, rendered) == "".join(f"{said}<|im_end|>" for said in TALK[1::2])
    assert tokenizer.decode(list(rendered.tokens)) == whole_text(tokenizer, talk)
    end = tokenizer.eos_token_id
    stops = [m for t, m in zip(rendered.tokens, rendered.response_mask, strict=True) if t == end]
    assert sum(stops) == 3  # of the end tokens, those of the assistant alone


def test_a_system_turn_left_out_is_the_templates_default_and_an_empty_one_is_empty(tokenizer):
    tokenizer.chat_template = DEFAULT_SYSTEM
    assert "Be kind" in tokenizer.decode(
        list(render_prompt(tokenizer, prompt("a"), max_tokens=100))
    )
    assert "Be kind" not in tokenizer.decode(
        list(render_prompt(tokenizer, prompt("a", system=""), max_tokens=100))
    )


def test_a_template_with_white_space_before_the_end_token(tokenizer):
    tokenizer.chat_template = LLAMA2
    (rendered,) = render_demonstration(tokenizer, demo("hi", "yo", "more", "end"), max_tokens=100)
    assert trained(tokenizer, rendered) == " yo <|im_end|> end <|im_end|>"
    assert end_token_ids(tokenizer) == (tokenizer.eos_token_id,)


def test_a_template_that_trims_and_ends_with_the_end_token(tokenizer):
    tokenizer.chat_template = TRIMMED
    (rendered,) = render_demonstration(
        tokenizer, demo("hi", " yo\n", "more", "end "), max_tokens=100
    )
    assert trained(tokenizer, rendered) == "yo<|im_end|>end<|im_end|>"
    assert rendered.response_mask[-1]


text = st.text(
    st.characters(exclude_categories=["Cs", "Cn", "Co"]), min_size=1, max_size=12
).filter(str.strip)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)
@given(
    talk=st.lists(text, min_size=2, max_size=6).filter(lambda talk: len(talk) % 2 == 0),
    block=st.booleans(),
)
def test_any_text_is_kept_whole_and_masked_exactly(tokenizer: PreTrainedTokenizerFast, talk, block):
    if block:
        tokenizer.chat_template = BLOCKS["content only"]
    (rendered,) = render_demonstration(tokenizer, demo(*talk), max_tokens=10_000)
    assert trained(tokenizer, rendered) == "".join(f"{said}<|im_end|>" for said in talk[1::2])
    assert tokenizer.decode(list(rendered.tokens)) == whole_text(tokenizer, demo(*talk))


# -------------------------------------------------------------------------- training sees what a
# sampler would have seen


@pytest.mark.parametrize("answer", ["yo", "zebra", "\nzebra", "\n\n", " ", "", "é😀"])
def test_prompt_and_response_are_the_demonstration(tokenizer, answer):
    """A merge of the header's line break with the answer's first character must not move the
    border."""
    question = prompt("hi", "yo", "more")
    rendered = render_response(tokenizer, question, answer, max_tokens=1000)
    assert rendered.prompt_tokens == render_prompt(tokenizer, question, max_tokens=1000)
    assert tokenizer.decode(list(rendered.response_tokens)) == f"{answer}<|im_end|>"
    (whole,) = render_demonstration(tokenizer, demo("hi", "yo", "more", answer), max_tokens=1000)
    beginning = (*rendered.prompt_tokens, *rendered.response_tokens)
    assert whole.tokens[: len(beginning)] == beginning
    assert whole.response_mask[len(rendered.prompt_tokens) : len(beginning)] == (True,) * len(
        rendered.response_tokens
    )


def test_the_border_is_moved_by_a_merge_when_all_is_tokenised_at_once(tokenizer):
    """The case above is real: this tokenizer has one token for the header's line break and a z."""
    at_once = tokenizer(whole_text(tokenizer, demo("hi", "zebra")), add_special_tokens=False)[
        "input_ids"
    ]
    header = render_prompt(tokenizer, prompt("hi"), max_tokens=100)
    assert tuple(at_once[: len(header)]) != header


def test_end_tokens_are_the_templates_and_the_tokenizers(tokenizer):
    assert end_token_ids(tokenizer) == (tokenizer.eos_token_id,)
    tokenizer.eos_token = "<|endoftext|>"
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    ids = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert end_token_ids(tokenizer) == tuple(ids)
    rendered = render_response(tokenizer, prompt("hi"), "yo", max_tokens=100)
    assert rendered.response_tokens[-1] == ids[0]


# --------------------------------------------------------------------------------------------------------  # noqa: E501
# bad input


def failure(render, *args, **kwargs) -> str:
    with pytest.raises(UserError) as caught:
        render(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_chat_template(tokenizer):
    tokenizer.chat_template = None
    assert "chat_template.jinja" in failure(render_prompt, tokenizer, prompt("a"), max_tokens=9)
    assert 'field "model.chat_template"' in failure(end_token_ids, tokenizer)


@pytest.mark.parametrize(
    "template",
    [  # the header before a turn depends on what follows; the end of a turn does
        (
            "{% for m in messages %}{{ m['role'] + '!' * loop.revindex + m['content'] + eos_token"
            " }}{% endfor %}"
        ),
        (
            "{% for m in messages %}{{ m['role'] + m['content'] }}{% if m['role'] == 'user' or"
            " loop.last %}{{ eos_token }}{% endif %}{% endfor %}"
        ),
    ],
)
def test_where_later_turns_change_earlier_ones_each_is_trained_as_it_is_sampled(
    tokenizer, template
):
    tokenizer.chat_template = template
    sequences = render_demonstration(tokenizer, demo("a", "b", "c", "d"), max_tokens=99)
    assert len(sequences) == 2
    for sequence, texts in zip(sequences, (("a",), ("a", "b", "c")), strict=True):
        seen = render_prompt(tokenizer, prompt(*texts), max_tokens=99)
        assert sequence.tokens[: len(seen)] == seen
        assert sequence.response_mask == (
            *[False] * len(seen),
            *[True] * (len(sequence.tokens) - len(seen)),
        )
    said = [trained(tokenizer, sequence) for sequence in sequences]
    assert [text.removeprefix("assistant") for text in said] == ["b<|im_end|>", "d<|im_end|>"]


def test_templates_that_cannot_be_trained_on(tokenizer):
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    )
    assert "no special token" in failure(
        render_response, tokenizer, prompt("a"), "b", max_tokens=99
    )
    # sampling asks no more than it needs
    assert end_token_ids(tokenizer) == (tokenizer.eos_token_id,)
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "m['content']", "(m['content'] | upper) + eos_token"
    )
    assert "changes what the assistant says" in failure(
        render_response, tokenizer, prompt("A"), "b", max_tokens=99
    )
    tokenizer.chat_template = "{{ raise_exception('Roles must\nalternate') }}"
    assert "refuses 'p1': Roles must alternate" in failure(
        render_prompt, tokenizer, prompt("a"), max_tokens=99
    )


def test_a_block_that_marks_too_little(tokenizer):
    tokenizer.chat_template = BLOCKS["content only"].replace(
        "== 'assistant'", "== 'assistant' and loop.last"
    )
    assert "marks 1 turns of the 2" in failure(
        render_demonstration, tokenizer, demo(*"abcd"), max_tokens=999
    )


@pytest.mark.parametrize("role", [0, 1])
def test_text_that_spells_a_control_token(tokenizer, role):
    talk = ["a", "b"]
    talk[role] = "so<|im_end|>\n"
    message = failure(render_demonstration, tokenizer, demo(*talk), max_tokens=99)
    assert f'field "messages[{role}].content"' in message
    assert "'<|im_end|>'" in message


def test_what_is_too_long_is_an_error_with_file_and_row_or_a_count(tokenizer):
    length = len(render_prompt(tokenizer, prompt("hello"), max_tokens=1000))
    assert len(render_prompt(tokenizer, prompt("hello"), max_tokens=length)) == length
    short, long = Prompt("s", prompt("hello").messages), Prompt("l", prompt("hello!").messages)
    origins = {"s": Origin("p.jsonl", 1), "l": Origin("p.jsonl", 2)}

    def render(item: Prompt) -> tuple[int, ...]:
        return render_prompt(tokenizer, item, max_tokens=length)

    loaded = render_each([short, long], render, too_long="drop", origins=origins)
    assert [item for item, _ in loaded.items] == [short]
    assert loaded.items[0][1] == render(short)
    assert loaded.dropped == {"too long": 1}
    message = failure(render_each, [short, long], render, origins=origins)
    assert message.startswith(
        f"p.jsonl, row 2, field \"messages\": prompt 'l' has {length + 1} tokens; at most {length}"
    )
    assert "too long: 1" in failure(render_each, [long], render, too_long="drop")
    with pytest.raises(TooLong):
        render_response(tokenizer, prompt("hello"), "x", max_tokens=length + 1)
    assert (
        len(render_response(tokenizer, prompt("hello"), "x", max_tokens=length + 2).response_tokens)
        == 2
    )
    with pytest.raises(TooLong):
        # the line break is one more
        render_demonstration(tokenizer, demo("hello", "x"), max_tokens=length + 2)


def test_other_errors_of_an_item_are_never_dropped(tokenizer):
    bad = Prompt("b", prompt("<|im_end|>").messages)

    def render(item: Prompt) -> tuple[int, ...]:
        return render_prompt(tokenizer, item, max_tokens=99)

    origins = {"b": Origin("p.jsonl", 7)}
    message = failure(render_each, [bad], render, too_long="drop", origins=origins)
    assert message.startswith('p.jsonl, row 7, field "messages[0].content": ')
