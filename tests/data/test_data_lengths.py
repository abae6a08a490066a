from __future__ import annotations

import pytest

from burnish.data.lengths import refuse_what_cannot_fit
from burnish.data.render import TooLong
from burnish.records import Comparison, Demonstration, Message, PreferenceGroup, Prompt


class NeverAsked:
    """A tokenizer whose longest token has 5 characters, and which must not be asked to tokenise."""

    name_or_path = ""

    def get_vocab(self) -> dict[str, int]:
        return {"a": 0, "abcde": 1}

    def __call__(self, text: str, **options: object) -> None:
        pytest.fail("tokenised")


def _asked(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)


ITEMS = {
    "prompt": lambda text: Prompt("p", _asked(text)),
    "demonstration": lambda text: Demonstration(
        "d", (*_asked("q"), Message(role="assistant", content=text))
    ),
    "reasoning": lambda text: Demonstration(
        "d", (*_asked("q"), Message(role="assistant", content="a", reasoning_content=text))
    ),
    "tools": lambda text: Demonstration(
        "d", _asked("q"), ({"function": {"name": "f", "description": text}},)
    ),
    "tools of a prompt": lambda text: Prompt("p", _asked("q"), {"tools": [{"name": text}]}),
    "a call": lambda text: Demonstration(
        "d",
        (
            Message(
                role="assistant",
                content="",
                tool_calls=[{"function": {"name": "", "arguments": {"a": [text]}}}],
            ),
        ),
    ),
    "tools of what is compared": lambda text: PreferenceGroup(
        Prompt("p", _asked("q"), {"tools": [{"name": text}]}),
        ("no", "yes"),
        (Comparison(0, 1, 1.0),),
    ),
    "answers": lambda text: PreferenceGroup(
        Prompt("p", _asked("q")), ("no", text), (Comparison(0, 1, 1.0),)
    ),
}


@pytest.mark.parametrize("kind", ITEMS)
def test_a_text_that_no_tokens_can_spell_is_refused_before_it_is_tokenised(kind: str):
    make = ITEMS[kind]
    with pytest.raises(
        TooLong, match=r"has 100,00[0-9] characters, far more than 10 tokens can spell"
    ):
        refuse_what_cannot_fit(NeverAsked(), make("x" * 100_000), max_tokens=10)  # type: ignore[arg-type]
    refuse_what_cannot_fit(NeverAsked(), make("x" * 40), max_tokens=10)  # type: ignore[arg-type]


def test_what_might_fit_is_never_refused(tokenizer):
    text = "\n\n" * 50  # one token of two characters, fifty times
    refuse_what_cannot_fit(tokenizer, Prompt("p", _asked(text)), max_tokens=50)
