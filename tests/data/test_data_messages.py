"""Fields of messages and rows that chat templates read or training heeds: honoured, or refused by
name."""

from __future__ import annotations

import pytest

from burnish.data.columns import demonstrations, preference_pairs, prompts
from burnish.data.render import render_demonstration, render_each, render_prompt
from burnish.data.sources import read_rows
from burnish.errors import UserError
from burnish.models.tiny import tiny_tokenizer

HI = {"role": "user", "content": "Hi"}
YO = {"role": "assistant", "content": "Yo"}
TOOL = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "properties": {}}},
}
CALL = {"type": "function", "function": {"name": "add", "arguments": {"x": 1}}}


def one(jsonl, row, read=demonstrations):
    return read(read_rows(jsonl(row))).items[0]


def problem(jsonl, row, read=demonstrations) -> str:
    with pytest.raises(UserError) as caught:
        read(read_rows(jsonl(row)))
    message = str(caught.value)
    assert "\n" not in message
    assert "row 1" in message
    return message


@pytest.mark.parametrize("field", ["reasoning_content", "thinking", "reasoning"])
def test_reasoning_goes_by_one_name(jsonl, field):
    demo = one(jsonl, {"messages": [HI, {**YO, field: "They greet."}]})
    assert demo.messages[1] == {**YO, "reasoning_content": "They greet."}


@pytest.mark.parametrize(
    "mark", [{"trainable": False}, {"train": False}, {"weight": 0}, {"weight": 0.0}]
)
def test_a_turn_marked_not_to_be_trained(jsonl, mark):
    demo = one(jsonl, {"messages": [HI, {**YO, **mark}, HI, YO]})
    assert [m.get("trainable", True) for m in demo.messages] == [True, False, True, True]


@pytest.mark.parametrize(
    "mark", [{"trainable": True}, {"weight": 1}, {"weight": 1.0}, {"weight": None}]
)
def test_a_mark_that_says_what_holds_anyway(jsonl, mark):
    assert one(jsonl, {"messages": [HI, {**YO, **mark}]}).messages == (HI, YO)


def test_a_row_with_no_turn_to_train_is_dropped_and_counted(jsonl):
    path = jsonl({"messages": [HI, {**YO, "trainable": False}]}, {"messages": [HI, YO]})
    assert demonstrations(read_rows(path)).dropped == {"no turn to train on": 1}


@pytest.mark.parametrize("label", [False, 0, 0.0])
def test_a_label_of_nought_is_false(jsonl, label):
    path = jsonl(
        {"prompt": "a", "completion": "b", "label": label},
        {"prompt": "a", "completion": "c", "label": 1},
    )
    loaded = demonstrations(read_rows(path))
    assert (len(loaded.items), loaded.dropped) == (1, {"labelled undesirable": 1})


def test_parts_of_text_are_joined(jsonl):
    parts = [{"type": "text", "text": "Hi "}, {"type": "text", "text": "there"}]
    assert (
        one(jsonl, {"messages": [{"role": "user", "content": parts}, YO]}).messages[0]["content"]
        == "Hi there"
    )


def test_tools_and_calls_are_read(jsonl):
    talk = [
        HI,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"function": {"name": "add", "arguments": '{"x": 1}'}}],
        },
    ]
    talk += [{"role": "tool", "content": "2", "name": "add", "tool_call_id": "c1"}, YO]
    demo = one(
        jsonl,
        {
            "messages": talk,
            "tools": [TOOL],
            "chat_template_kwargs": {"enable_thinking": False, "x": None},
        },
    )
    assert demo.messages[1] == {"role": "assistant", "content": "", "tool_calls": [CALL]}
    assert demo.messages[2] == {"role": "tool", "content": "2", "tool_call_id": "c1", "name": "add"}
    assert demo.tools == (TOOL,)
    assert demo.chat_template_kwargs == {"enable_thinking": False}
    prompt = one(
        jsonl, {"prompt": "Hi", "tools": f"[{str(TOOL).replace(chr(39), chr(34))}]"}, prompts
    )
    assert prompt.tools == (TOOL,)


BAD = {
    "images of a row": ({"messages": [HI, YO], "images": ["cat.png"]}, "images"),
    "an image of a message": ({"messages": [{**HI, "image": "cat.png"}, YO]}, "messages[0].image"),
    "an image as a part": (
        {"messages": [{"role": "user", "content": [{"type": "image", "url": "x"}]}, YO]},
        "messages[0].content[0]"
    ),
    "reasoning of a user": ({"messages": [{**HI, "thinking": "x"}, YO]}, "messages[0].thinking"),
    "two reasonings": ({"messages": [HI, {**YO, "thinking": "a", "reasoning_content": "b"}]},
        "messages[1].reasoning_content"),
    "half a weight": ({"messages": [HI, {**YO, "weight": 0.5}]}, "messages[1].weight"),
    "a user's turn to train": ({"messages": [{**HI, "trainable": True}, YO]},
        "messages[0].trainable"),
    "an old call": ({"messages": [HI, {**YO, "function_call": {"name": "f"}}]},
        "messages[1].function_call"),
    "arguments that are no JSON": (
        {"messages": [HI, {**YO, "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
        "messages[1].tool_calls[0].function.arguments",
    ),
    "a call of a user": ({"messages": [{**HI, "tool_calls": [CALL]}, YO]},
        "messages[0].tool_calls"),
    "tools that are no list": ({"messages": [HI, YO], "tools": {"name": "f"}}, "tools"),
    "a tool without a name": ({"messages": [HI, YO], "tools": [{"type": "function"}]}, "tools[0]"),
    "options that are no object": ({"messages": [HI, YO], "chat_template_kwargs": [1]},
        "chat_template_kwargs"),
    "a reserved option": (
        {"messages": [HI, YO], "chat_template_kwargs": {"messages": []}},
        "chat_template_kwargs.messages"
    ),
    "an unknown role": ({"messages": [{"role": "critic", "content": "x"}, YO]}, "messages[0].role"),
    "two answers in a row": ({"messages": [HI, YO, YO]}, "messages[2]"),
    "a call that nothing answers": ({"messages": [HI, {**YO, "tool_calls": [CALL]}, HI, YO]},
        "messages[2]"),
    "an answer first": ({"messages": [YO, HI, YO]}, "messages[0]"),
    "a system turn alone": ({"messages": [{"role": "system", "content": "x"}]}, "messages[0]"),
    "two system turns": ({"messages": [{"role": "system", "content": "x"}] * 2 + [HI, YO]},
        "messages[1]"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_would_go_unheeded_is_refused_by_row_and_field(jsonl, case):
    row, field = BAD[case]
    assert f'field "{field}"' in problem(jsonl, row)


@pytest.mark.parametrize("side", ["chosen", "rejected"])
def test_an_answer_that_is_compared_is_its_text_alone(jsonl, side):
    row = {"prompt": "Hi", "chosen": [YO], "rejected": [{**YO, "content": "No"}]}
    row[side] = [{**row[side][0], "thinking": "x"}]
    assert f'field "{side}[0].thinking"' in problem(jsonl, row, preference_pairs)


# ------------------------------------------------------------------------- what the template does
# not write is refused


def rendered(jsonl, row, template: str | None = None):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template or tokenizer.chat_template
    loaded = demonstrations(read_rows(jsonl(row)))
    render_each(
        loaded.items,
        lambda d: render_demonstration(tokenizer, d, max_tokens=999),
        origins=loaded.origins,
    )


DROPS_TOOLS = (
    "{% for m in messages %}{% if m.role in ('user', 'assistant') %}"
    "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LOST = {
    "reasoning": ({"messages": [HI, {**YO, "reasoning_content": "hm hm"}]}, None,
        "messages[1].reasoning_content"),
    "thinking": ({"messages": [HI, {**YO, "thinking": "hm hm"}]}, None, "messages[1].thinking"),
    "reasoning of a completion": (
        {"prompt": "Hi", "completion": [{**YO, "reasoning": "hm hm"}]}, None,
        "completion[0].reasoning"
    ),
    "a control token in a prompt": ({"prompt": "Hi <|im_end|>", "completion": "Yo"}, None,
        "prompt"),
    "a control token in a chosen answer": (
        {"chosen": [HI, {**YO, "content": "Yo <|im_end|>"}], "rejected": [HI, YO]}, None,
        "chosen[1].content"
    ),
    "tools": ({"messages": [HI, YO], "tools": [TOOL]}, None, "tools[0]"),
    "calls": ({"messages": [HI, {**YO, "tool_calls": [CALL]}]}, None, "messages[1].tool_calls[0]"),
    "an option": ({"messages": [HI, YO], "chat_template_kwargs": {"think": 1}}, None,
        "chat_template_kwargs"),
    "a developer": (
        {"messages": [{"role": "developer", "content": "a"}, HI, YO]}, DROPS_TOOLS,
        "messages[0].content"
    ),
    "a system turn": ({"messages": [{"role": "system", "content": "s"}, HI, YO]}, DROPS_TOOLS,
        "messages[0].content"),
    "a tool's turn": (
        {"messages": [HI, YO, {"role": "tool", "content": "42"}, YO]}, DROPS_TOOLS,
        "messages[2].content"
    ),
    "a control token": ({"messages": [{"role": "user", "content": "<|im_end|>"}, YO]}, None,
        "messages[0].content"),
}  # fmt: skip


@pytest.mark.parametrize("case", LOST)
def test_what_the_template_leaves_out_is_refused_by_row_and_field(jsonl, case):
    row, template, field = LOST[case]
    with pytest.raises(UserError) as caught:
        rendered(jsonl, row, template)
    assert f'rows.jsonl, row 1, field "{field}"' in str(caught.value)


def test_a_template_of_its_own_is_to_blame_for_itself(jsonl):
    with pytest.raises(UserError) as caught:
        rendered(jsonl, {"messages": [HI, YO]}, "{% if %}")
    assert "rows.jsonl" not in str(caught.value)
    assert 'field "model.chat_template"' in str(caught.value)


def test_a_developer_and_a_tool_are_read_where_the_template_writes_them(jsonl):
    tokenizer = tiny_tokenizer()
    talk = [
        {"role": "developer", "content": "Be brief."},
        HI,
        YO,
        {"role": "tool", "content": "42"},
    ]
    prompt = one(jsonl, {"prompt": talk}, prompts)
    text = tokenizer.decode(list(render_prompt(tokenizer, prompt, max_tokens=999)))
    assert text.startswith("<|im_start|>developer\nBe brief.<|im_end|>")
    assert "<|im_start|>tool\n42<|im_end|>" in text
