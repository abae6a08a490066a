"""Chat templates: generation blocks wherever they stand, and templates that would not come to an
end."""

from __future__ import annotations

import pytest

from burnish.data.render import render_demonstration
from burnish.data.templates import compiled
from burnish.errors import UserError
from burnish.models.tiny import tiny_tokenizer
from burnish.records import Demonstration, Message

TALK = tuple(
    Message(role=("user", "assistant")[i % 2], content=text)
    for i, text in enumerate(("a", "b", "c", "d"))
)
_TURN = (
    "{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}BLOCK{% else %}{{ m.content"
    " + '<|im_end|>' }}{% endif %}{{ '\n' }}"
)
_LOOP = "{% for m in messages %}" + _TURN + "{% endfor %}"
_SAID = "{{ m.content + '<|im_end|>' }}"
BLOCKS = {
    "plain": _LOOP.replace("BLOCK", "{% generation %}" + _SAID + "{% endgeneration %}"),
    "trimmed": _LOOP.replace(
        "BLOCK", "{%- generation -%}\n  " + _SAID + "  \n{%- endgeneration -%}"
    ),
    "no spaces": _LOOP.replace("BLOCK", "{%generation%}" + _SAID + "{%endgeneration%}"),
    "plus": _LOOP.replace("BLOCK", "{%+ generation +%}" + _SAID + "{%+ endgeneration %}"),
    "named in a comment": (
        "{#- has {% generation %} and {% endgeneration %} blocks -#}"
        + _LOOP.replace("BLOCK", "{% generation %}" + _SAID + "{% endgeneration %}")
    ),
    "named in a text": (
        "{% set about = '{% generation %}' %}"
        + _LOOP.replace("BLOCK", "{% generation %}" + _SAID + "{% endgeneration %}")
    ),
    "in an if": _LOOP.replace(
        "BLOCK", "{% if true %}{% generation %}" + _SAID + "{% endgeneration %}{% endif %}"
    ),
    "in a macro": (
        "{% macro say(m) %}{% generation %}"
        + _SAID
        + "{% endgeneration %}{% endmacro %}"
        + _LOOP.replace("BLOCK", "{{ say(m) }}")
    ),
    "two in a turn": _LOOP.replace(
        "BLOCK",
        "{% generation %}{{ m.content }}{% endgeneration %}{% generation %}{{ '<|im_end|>' }}{%"
        " endgeneration %}",
    ),
}


@pytest.mark.parametrize("case", BLOCKS)
def test_generation_blocks_are_found_by_jinja_itself(case):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = BLOCKS[case]
    (rendered,) = render_demonstration(tokenizer, Demonstration("d", TALK), max_tokens=999)
    said = tokenizer.decode(
        [t for t, m in zip(rendered.tokens, rendered.response_mask, strict=True) if m]
    )
    assert said == "b<|im_end|>d<|im_end|>"
    assert tokenizer.decode(list(rendered.tokens)) == tokenizer.apply_chat_template(
        [dict(m) for m in TALK], tokenize=False
    )


def test_a_template_that_only_speaks_of_blocks_has_none():
    assert not compiled("{# {% generation %} #}{{ '{% generation %}' }}").has_blocks


ENDLESS = [
    "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
    "{% for i in range(100000) %}{% for j in range(100000) if false %}{% endfor %}{% endfor %}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    (
        "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{%"
        " endfor %}"
    ),
    (
        "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{%"
        " endfor %}"
    ),
    "{% set ns = namespace(x=3) %}{% for i in range(60) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "{{ 'a' * 10**10 }}",
    "{{ [1] * 10**9 }}",
    "{{ 9**9**9 }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '{:1000000000}'.format(1) }}",
    "{{ 'a'.center(10**9) }}",
    "{{ 'a' | center(10**9) }}",
    "{{ ('a' * 1000000) | replace('a', 'b' * 1000000) }}",
    "{{ range(100000) | join('x' * 100000) }}",
    (
        "{% for i in range(100000) %}{{"
        " 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'"  # noqa: E501
        " }}{% endfor %}"
    ),
    "{{ range(10**9) }}",
    "{{ messages | tojson(indent=10**9) }}",
]


@pytest.mark.parametrize("template", ENDLESS)
def test_a_template_that_does_too_much_is_one_line(template):
    variables = {"messages": [dict(m) for m in TALK], "tools": None, "add_generation_prompt": False}
    with pytest.raises(UserError, match="chat template"):
        compiled(template).render(variables, day=None, name="x")


@pytest.mark.parametrize(
    "template",
    [
        "{% include 'x' %}",
        "{{ messages[0].foo.bar }}",
        "{{ 1 / 0 }}",
        "{{ raise_exception('no') }}",
    ],
)
def test_a_template_that_fails_is_one_line(template):
    variables = {"messages": [dict(m) for m in TALK], "tools": None, "add_generation_prompt": False}
    with pytest.raises(UserError, match=r"the chat template (fails|refuses)"):
        compiled(template).render(variables, day=None, name="x")
