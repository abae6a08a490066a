"""The calculator works out what it should, refuses the rest in words, and pays for the right
number."""

from __future__ import annotations

import pytest

from burnish.environments.base import CallForm, Step
from burnish.environments.calculator import Calculator, evaluate
from burnish.records import Prompt


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("12*(3+4)", "84"), ("7-10", "-3"), ("1/4", "0.25"), ("0.1+0.2", "0.3"), ("10/5", "2"), ("-(2+3)*2", "-10"), ("1/3", "0.3333333333"),  # noqa: E501
    ],
)  # fmt: skip
def test_arithmetic(expression: str, value: str):
    assert evaluate(expression) == value


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('id')",
        "2**9999999",
        "x+1",
        "(1",
        "",
        "1 if True else 2",
        "True+1",
        "9" * 300,
        "[1]",
        "1e400*10",
    ],
)
def test_anything_else_is_refused_in_words(expression: str):
    assert evaluate(expression).startswith("error:")


def test_division_by_zero():
    assert evaluate("1/(2-2)") == "error: division by zero"


def test_an_episode():
    environment = Calculator()
    environment.reset(Prompt("p", (), {"answer": 84}))
    call = (
        'Let me see. <tool_call>\n{"name": "calculator", "arguments": {"expression":'
        ' "12*7"}}\n</tool_call>'
    )
    assert environment.step(call) == Step("84", 0.0, False)
    assert environment.step("It is 84.") == Step("", 1.0, True)
    assert environment.calls == 1


@pytest.mark.parametrize(
    ("text", "paid"),
    [("84", 1.0), ("first 84, no: 85", 0.0), ("none", 0.0), ("84.0", 1.0), ("1,084", 0.0)],
)
def test_the_last_number_counts(text: str, paid: float):
    environment = Calculator()
    environment.reset(Prompt("p", (), {"answer": "84"}))
    assert environment.step(text) == Step("", paid, True)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("not json", 'error: a call is JSON with "name" and "arguments"'),
        ('{"arguments": {}}', 'error: a call is JSON with "name" and "arguments"'),
        ("[1]", 'error: a call is JSON with "name" and "arguments"'),
        (
            '{"name": "reset", "arguments": {}}',
            "error: there is no tool 'reset'; there are calculator",
        ),
        (
            '{"name": "score", "arguments": {"text": "84"}}',
            "error: there is no tool 'score'; there are calculator",
        ),
        ('{"name": "calculator", "arguments": {"e": 1}}', "error: calculator takes expression"),
        ('{"name": "calculator", "arguments": 5}', "error: calculator takes expression"),
        ('{"name": "calculator", "parameters": {"expression": "1+1"}}', "2"),
    ],
)
def test_calls_that_are_wrong_are_answered(call: str, said: str):
    environment = Calculator()
    environment.reset(Prompt("p", (), {"answer": 84}))
    step = environment.step(f"<tool_call>{call}</tool_call>")
    assert step == Step(said, 0.0, False)


def test_the_forms_of_a_call():
    assert CallForm().find("a <tool_call>\n{}\n</tool_call> b") == "{}"
    assert CallForm().find("a <tool_call>{}") == "{}"
    assert CallForm().find("no call") is None
    assert CallForm("", "").find(' {"name": 1}') == '{"name": 1}'
    assert CallForm("", "").find("It is {x}") is None
    assert CallForm("[TOOL]", "").find('[TOOL] {"a": 1}') == '{"a": 1}'


def test_the_description_is_openais():
    (tool,) = Calculator().tools
    assert tool["function"]["name"] == "calculator"
    assert tool["function"]["parameters"] == {
        "type": "object",
        "properties": {"expression": {"type": "string"}},
        "required": ["expression"],
    }
