"""Answers of several turns in rows of preferences, and as tokens: the model's turns are trained,
the tools' are not."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from burnish.data.columns import preference_pairs, prompts
from burnish.data.feedback import judged_answers, paired_rows, unpaired_rows
from burnish.data.render import render_prompt, render_response
from burnish.data.render_traces import render_answer
from burnish.data.sources import Row
from burnish.errors import UserError
from burnish.labels.traces import trace_text
from burnish.records import Message, Prompt

HI = {"role": "user", "content": "Weather?"}
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
STEPS = [
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "name": "weather", "content": "-3"},
    {"role": "assistant", "content": "Cold."},
]
PLAIN = [{"role": "assistant", "content": "Sunny."}]
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] }}{% for c in"
    " m.tool_calls or [] %}{{ '<call>' + c.function.name + (c.function.arguments | tojson) +"
    " '</call>' }}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{"
    " '<|im_start|>assistant\n' }}{% endif %}"
)


def rows(*values: dict) -> list[Row]:
    return [Row("f.jsonl", n, value, f"f:{n}") for n, value in enumerate(values, 1)]


def test_a_trace_as_the_chosen_answer():
    row = {"prompt": [HI], "chosen": STEPS, "rejected": PLAIN, "tools": []}
    (group,) = preference_pairs(rows(row)).items
    text = trace_text(STEPS)
    assert group.prompt.messages == (Message(**HI),)
    assert group.responses == (text, "Sunny.")
    assert group.traces == {text: tuple(STEPS)}


def test_a_trace_behind_the_repeated_prompt_is_the_same():
    short = {"prompt": [HI], "chosen": STEPS, "rejected": PLAIN}
    long = {"prompt": [HI], "chosen": [HI, *STEPS], "rejected": [HI, *PLAIN]}
    first, second = (preference_pairs(rows(row)).items[0] for row in (short, long))
    assert (first.prompt.messages, first.responses, first.traces) == (
        second.prompt.messages,
        second.responses,
        second.traces,
    )


def test_prompts_of_such_rows_end_where_the_answers_begin():
    (prompt,) = prompts(
        rows(
            {"prompt": None, "chosen": [HI, *PLAIN], "rejected": [HI, {**PLAIN[0], "content": "x"}]}
        )
    ).items
    assert prompt.messages == (Message(**HI),)


@pytest.mark.parametrize(
    ("chosen", "field", "why"),
    [
        ([HI, *STEPS, {**HI, "content": "And now?"}], "chosen", "must be one assistant turn"),
        ([{**STEPS[0], "trainable": False}, *STEPS[1:]], r"chosen\[0\]\.trainable", "is not read"),
        ([STEPS[1], STEPS[2]], r"chosen\[0\]", "the tool speaks where the assistant must"),
    ],
)
def test_what_is_no_answer_is_refused(chosen: list, field: str, why: str):
    with pytest.raises(UserError, match=rf"row 1, field \"{field}\".*{why}"):
        preference_pairs(rows({"prompt": [HI], "chosen": chosen, "rejected": PLAIN}))


def test_a_judged_trace_is_an_answer_and_comes_back_from_its_rows():
    given = [
        {"prompt": [HI], "completion": STEPS, "label": True},
        {"prompt": [HI], "completion": PLAIN, "label": False},
    ]
    (group,) = judged_answers(rows(*given)).items
    assert group.prompt.messages == (Message(**HI),)
    assert group.responses == (trace_text(STEPS), "Sunny.")
    assert [row["completion"] for row in unpaired_rows([group])] == [STEPS, PLAIN]
    from collections import Counter

    (pair,) = paired_rows([group], dropped=Counter())
    assert (pair["chosen"], pair["rejected"]) == (STEPS, PLAIN)


def test_a_completion_with_a_later_question_is_judged_by_its_last_turn():
    talk = [*PLAIN, {**HI, "content": "Sure?"}, {"role": "assistant", "content": "No."}]
    (group,) = judged_answers(rows({"prompt": [HI], "completion": talk, "label": True})).items
    assert len(group.prompt.messages) == 3
    assert group.responses == ("No.",)


def test_the_models_turns_are_trained_and_the_tools_are_not(tokenizer: PreTrainedTokenizerFast):
    tokenizer.chat_template = TEMPLATE
    talk = (
        Message(**HI),
        Message(role="assistant", content="Where?"),
        Message(role="user", content="Oslo"),
    )
    asked = Prompt("p", talk)
    made = render_answer(tokenizer, asked, trace_text(STEPS), tuple(STEPS), max_tokens=500)
    assert made.prompt_tokens == render_prompt(tokenizer, asked, max_tokens=500)
    assert made.response_mask is not None
    trained = [
        token for token, own in zip(made.response_tokens, made.response_mask, strict=True) if own
    ]
    assert (
        tokenizer.decode(trained) == '<call>weather{"city": "Oslo"}</call><|im_end|>Cold.<|im_end|>'
    )
    assert "<|im_start|>tool\n-3" in tokenizer.decode(made.response_tokens)


def test_an_answer_without_turns_is_its_text(tokenizer: PreTrainedTokenizerFast):
    asked = Prompt("p", (Message(**HI),))
    assert render_answer(tokenizer, asked, "Sunny.", max_tokens=99) == render_response(
        tokenizer, asked, "Sunny.", max_tokens=99
    )


def test_a_template_that_rewrites_earlier_turns_is_refused(tokenizer: PreTrainedTokenizerFast):
    tokenizer.chat_template = TEMPLATE.replace(
        "m['content'] }}", "(m['content'] if loop.last or m.role != 'tool' else m.content + '!') }}"
    )
    with pytest.raises(UserError, match="cannot be compared"):
        render_answer(tokenizer, Prompt("p", (Message(**HI),)), "x", tuple(STEPS), max_tokens=500)
