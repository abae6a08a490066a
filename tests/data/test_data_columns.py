from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.data.columns import Origin, demonstrations, preference_pairs, prompts
from burnish.data.sources import Row, read_rows
from burnish.errors import UserError
from burnish.records import Comparison

SYSTEM = {"role": "system", "content": ""}
HI, YO = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}
MORE, END = {"role": "user", "content": "more"}, {"role": "assistant", "content": "end"}


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def rows(*values):
    return [
        Row("folder/data.jsonl", n, value, f"data.jsonl:{n}")
        for n, value in enumerate(values, start=1)
    ]


def transcript(*turns):
    return "".join(
        f"\n\n{who}: {said}"
        for who, said in zip(("Human", "Assistant") * len(turns), turns, strict=False)
    )


# ------------------------------------------------------------------------------------------------
# what is read


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ({"messages": [HI, YO, MORE, END]}, (HI, YO, MORE, END)),
        ({"messages": [SYSTEM, HI, YO]}, (SYSTEM, HI, YO)),
        ({"prompt": "hi", "completion": " yo\n"}, (HI, assistant(" yo\n"))),
        ({"prompt": [HI], "completion": "yo"}, (HI, YO)),
        ({"prompt": [SYSTEM, HI], "completion": [YO]}, (SYSTEM, HI, YO)),
        ({"prompt": "hi", "completion": [YO, MORE, END]}, (HI, YO, MORE, END)),
        ({"messages": None, "prompt": "hi", "completion": "yo"}, (HI, YO)),
        ({"chosen": transcript("hi", "yo"), "rejected": transcript("hi", "no")}, (HI, YO)),
        ({"prompt": transcript("hi") + "\n\nAssistant:", "completion": " yo"}, (HI, YO)),
        ({"messages": [{**HI, "name": None, "tool_calls": None}, {**YO, "weight": 1}]}, (HI, YO)),
    ],
)
def test_demonstrations(row, messages):
    loaded = demonstrations(rows(row))
    assert [demo.messages for demo in loaded.items] == [messages]
    assert loaded.items[0].id == "data.jsonl:1"
    assert loaded.origins == {"data.jsonl:1": Origin("folder/data.jsonl", 1)}


def test_an_answer_labelled_undesirable_is_not_imitated():
    loaded = demonstrations(
        rows({"messages": [HI, YO], "label": True}, {"messages": [HI, END], "label": False})
    )
    assert [demo.messages for demo in loaded.items] == [(HI, YO)]
    assert loaded.dropped == {"labelled undesirable": 1}


@pytest.mark.parametrize(
    ("row", "messages", "columns"),
    [
        (
            {"id": 7, "prompt": "hi", "answer": 3, "split": "train"},
            (HI,),
            {"answer": 3, "split": "train"},
        ),
        ({"prompt": [HI, YO, MORE]}, (HI, YO, MORE), {}),
        ({"messages": [SYSTEM, HI], "tests": ["x"]}, (SYSTEM, HI), {"tests": ["x"]}),
        ({"chosen": [HI, YO], "rejected": [HI, END]}, (HI,), {}),
        ({"prompt": transcript("hi", "yo", "more") + "\n\nAssistant:"}, (HI, YO, MORE), {}),
    ],
)
def test_prompts(row, messages, columns):
    [prompt] = prompts(rows(row)).items
    assert (prompt.messages, dict(prompt.columns)) == (messages, columns)
    assert prompt.id == str(row.get("id", "data.jsonl:1"))


@pytest.mark.parametrize(
    ("row", "prompt", "responses"),
    [
        ({"prompt": "hi", "chosen": "yo", "rejected": "no"}, (HI,), ("yo", "no")),
        ({"prompt": [SYSTEM, HI], "chosen": [YO], "rejected": "no"}, (SYSTEM, HI), ("yo", "no")),
        ({"prompt": "hi", "chosen": [HI, YO], "rejected": [HI, END]}, (HI,), ("yo", "end")),
        (
            {"chosen": [HI, YO, MORE, END], "rejected": [HI, YO, MORE, YO]},
            (HI, YO, MORE),
            ("end", "yo"),
        ),
        (
            {"chosen": transcript("hi", "yo "), "rejected": transcript("hi ", " no")},
            (HI,),
            ("yo", "no"),
        ),
        (
            {
                "prompt": transcript("hi", "yo", "more") + "\n\nAssistant:",
                "chosen": " end",
                "rejected": " no",
            },
            (HI, YO, MORE),
            ("end", "no"),
        ),
    ],
)
def test_preference_pairs(row, prompt, responses):
    [group] = preference_pairs(rows(row)).items
    assert (group.prompt.messages, group.responses) == (prompt, responses)
    assert group.comparisons == (Comparison(0, 1, 1.0),)


def test_a_margin_goes_to_the_comparison_and_other_columns_to_the_prompt():
    row = {"prompt": "hi", "chosen": "yo", "rejected": "no", "margin": 2, "source": "people"}
    [group] = preference_pairs(rows(row)).items
    assert group.comparisons == (Comparison(0, 1, 1.0, margin=2.0),)
    assert dict(group.prompt.columns) == {"source": "people"}


# ------------------------------------------------------------------------------------------ what is
# dropped and counted


def test_transcripts_that_teach_nothing_are_dropped_by_reason():
    good = {"chosen": transcript("hi", "yo"), "rejected": transcript("hi", "no")}
    loaded = preference_pairs(
        rows(
            good,
            {**good, "source": "again"},
            {"chosen": transcript("hi", "yo"), "rejected": transcript("hi", "yo ")},
            {"chosen": transcript("hi", "yo"), "rejected": transcript("hi", " ")},
            {
                "chosen": transcript("hi", "", "more", "yo"),
                "rejected": transcript("hi", "", "more", "no"),
            },
            {
                "chosen": transcript("hi", "yo") + "\n\nAssistant: and",
                "rejected": transcript("hi", "no"),
            },
            {"chosen": transcript("hi", "yo", "more"), "rejected": transcript("hi", "no")},
            {
                "chosen": transcript("hi", "yo", "more", "end"),
                "rejected": transcript("hi", "no", "more", "end"),
            },
        )
    )
    assert len(loaded.items) == 1
    assert loaded.dropped == {
        "duplicate": 1,
        "chosen equals rejected": 1,
        "empty turn": 2,
        "turns do not alternate": 2,
        "prompts differ": 1,
    }


def test_equal_responses_are_counted_in_every_layout():
    row = {"prompt": "hi", "chosen": "yo", "rejected": "yo"}
    loaded = preference_pairs(
        rows({**row, "rejected": "no"}, row, {"chosen": [HI, YO], "rejected": [HI, YO]})
    )
    assert (len(loaded.items), loaded.dropped) == (1, {"chosen equals rejected": 2})


def test_prompts_that_differ_in_a_column_are_not_duplicates():
    loaded = prompts(
        rows(
            {"prompt": "hi", "n": [1]},
            {"prompt": "hi", "n": [2]},
            {"prompt": "hi", "n": [1], "id": "x"},
        )
    )
    assert ([prompt.columns["n"] for prompt in loaded.items], loaded.dropped) == (
        [[1], [2]],
        {"duplicate": 1},
    )


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["x", "y", "x "])),
        min_size=1,
        max_size=12,
    )
)
def test_items_and_drops_make_up_the_rows(pairs):
    source = rows(
        *({"prompt": prompt, "chosen": "x", "rejected": answer} for prompt, answer in pairs)
    )
    distinct = {pair for pair in pairs if pair[1] == "y"}
    if not distinct:
        with pytest.raises(UserError, match=f"chosen equals rejected: {len(pairs)}"):
            preference_pairs(source)
        return
    loaded = preference_pairs(source)
    assert len(loaded.items) == len(distinct)
    assert len(loaded.items) + sum(loaded.dropped.values()) == len(pairs)


# -------------------------------------------------------------------------------------------------------  # noqa: E501
# bad input

DEMO, PAIR = {"messages": [HI, YO]}, {"prompt": "hi", "chosen": "yo", "rejected": "no"}
BAD_ROWS = {
    # case: (reader, a good first row, the bad second row, the field named, a part of the message)
    "no known column": (
        demonstrations,
        DEMO,
        {"words": "x"},
        "messages",
        "has the columns words; expected messages; or",
    ),
    "completion missing": (
        demonstrations,
        DEMO,
        {"prompt": "hi"},
        "completion",
        "prompt and completion",
    ),
    "prompt missing": (demonstrations, DEMO, {"completion": "yo"}, "prompt", "is missing"),
    "completion null": (
        demonstrations,
        DEMO,
        {"prompt": "hi", "completion": None},
        "completion",
        "is null",
    ),
    "messages null": (demonstrations, DEMO, {"messages": None}, "messages", "is null"),
    "no columns": (demonstrations, DEMO, {}, "messages", "columns none"),
    "empty completion": (
        demonstrations,
        DEMO,
        {"prompt": "hi", "completion": ""},
        "completion",
        "is empty",
    ),
    "blank completion": (
        demonstrations,
        DEMO,
        {"prompt": "hi", "completion": " \n"},
        "completion",
        "is empty",
    ),
    "empty prompt": (
        demonstrations,
        DEMO,
        {"prompt": "", "completion": "yo"},
        "prompt",
        "is empty",
    ),
    "completion a number": (
        demonstrations,
        DEMO,
        {"prompt": "hi", "completion": 3},
        "completion",
        "not a number",
    ),
    "messages as text": (
        demonstrations,
        DEMO,
        {"messages": "hi"},
        "messages",
        "a list of messages, not text",
    ),
    "messages an object": (demonstrations, DEMO, {"messages": HI}, "messages", "not an object"),
    "no message": (demonstrations, DEMO, {"messages": []}, "messages", "empty list"),
    "message is text": (demonstrations, DEMO, {"messages": [HI, "yo"]}, "messages[1]", "not text"),
    "no role": (
        demonstrations,
        DEMO,
        {"messages": [{"content": "x"}]},
        "messages[0].role",
        "not null",
    ),
    "unknown role": (
        demonstrations,
        DEMO,
        {"messages": [HI, {**YO, "role": "gpt"}]},
        "messages[1].role",
        "'gpt'",
    ),
    "no content": (
        demonstrations,
        DEMO,
        {"messages": [HI, {"role": "assistant"}]},
        "messages[1].content",
        "is null",
    ),
    "content a list": (
        demonstrations,
        DEMO,
        {"messages": [{**HI, "content": [1]}]},
        "messages[0].content[0]",
        "no text",
    ),
    "empty user turn": (
        demonstrations,
        DEMO,
        {"messages": [user(" "), YO]},
        "messages[0].content",
        "is empty",
    ),
    "half a surrogate": (
        demonstrations,
        DEMO,
        {"messages": [user("\ud83d"), YO]},
        "messages[0].content",
        "surrogate",
    ),
    "half a surrogate in a transcript": (
        preference_pairs,
        PAIR,
        {"chosen": transcript("hi", "\ud83d"), "rejected": transcript("hi", "no")},
        "chosen",
        "surrogate",
    ),
    "tool calls": (
        demonstrations,
        DEMO,
        {"messages": [HI, {**YO, "tool_calls": [1]}]},
        "messages[1].tool_calls[0]",
        "function",
    ),
    "a weight": (
        demonstrations,
        DEMO,
        {"messages": [HI, {**YO, "weight": 0.5}]},
        "messages[1].weight",
        "not 0.5",
    ),
    "two users in a row": (
        demonstrations,
        DEMO,
        {"messages": [HI, MORE, YO]},
        "messages[1]",
        "the user speaks",
    ),
    "assistant first": (
        demonstrations,
        DEMO,
        {"messages": [YO, HI, END]},
        "messages[0]",
        "the assistant speaks",
    ),
    "late system turn": (
        demonstrations,
        DEMO,
        {"messages": [HI, SYSTEM, YO]},
        "messages[1]",
        "the system speaks",
    ),
    "no assistant turn": (
        demonstrations,
        DEMO,
        {"messages": [HI]},
        "messages[0]",
        "no assistant turn",
    ),
    "user ends it": (
        demonstrations,
        DEMO,
        {"messages": [HI, YO, MORE]},
        "messages[2]",
        "the user has the last turn",
    ),
    "two users across columns": (
        demonstrations,
        DEMO,
        {"prompt": "hi", "completion": [MORE, YO]},
        "completion[0]",
        "the user speaks",
    ),
    "id twice": (
        demonstrations,
        {**DEMO, "id": "a"},
        {"messages": [HI, END], "id": "a"},
        "id",
        "already names row 1",
    ),
    "id a list": (demonstrations, DEMO, {"messages": [HI, END], "id": [1]}, "id", "whole number"),
    "no prompt": (
        prompts,
        {"prompt": "hi"},
        {"question": "x"},
        "prompt",
        "expected prompt; or messages",
    ),
    "blank prompt": (prompts, {"prompt": "hi"}, {"prompt": " "}, "prompt", "is empty"),
    "prompt a number": (
        prompts,
        {"prompt": "hi"},
        {"prompt": 3},
        "prompt",
        "text or a list of messages",
    ),
    "assistant ends it": (
        prompts,
        {"prompt": "hi"},
        {"messages": [HI, YO]},
        "messages[1]",
        "must be the user's",
    ),
    "only a system turn": (
        prompts,
        {"prompt": "hi"},
        {"prompt": [SYSTEM]},
        "prompt[0]",
        "must be the user's",
    ),
    "rejected missing": (
        preference_pairs,
        PAIR,
        {"prompt": "hi", "chosen": "x"},
        "rejected",
        "is missing",
    ),
    "chosen null": (preference_pairs, PAIR, {**PAIR, "chosen": None}, "chosen", "is null"),
    "chosen empty": (preference_pairs, PAIR, {**PAIR, "chosen": ""}, "chosen", "is empty"),
    "rejected true": (
        preference_pairs,
        PAIR,
        {**PAIR, "rejected": True},
        "rejected",
        "true or false",
    ),
    "text without a prompt": (
        preference_pairs,
        PAIR,
        {"chosen": "x", "rejected": "y"},
        "chosen",
        "without a prompt",
    ),
    "prompts differ": (
        preference_pairs,
        PAIR,
        {"chosen": [HI, YO], "rejected": [MORE, END]},
        "rejected",
        "same prompt",
    ),
    "several turns": (
        preference_pairs,
        PAIR,
        {**PAIR, "chosen": [YO, MORE, END]},
        "chosen",
        "one assistant turn",
    ),
    "response of a user": (
        preference_pairs,
        PAIR,
        {**PAIR, "chosen": [MORE]},
        "chosen[0]",
        "no assistant turn",
    ),
    "margin text": (
        preference_pairs,
        PAIR,
        {**PAIR, "chosen": "x", "margin": "big"},
        "margin",
        "finite number",
    ),
    "margin not finite": (
        preference_pairs,
        PAIR,
        {**PAIR, "chosen": "x", "margin": float("nan")},
        "margin",
        "finite",
    ),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_is_one_line_that_names_file_row_and_field(jsonl, case):
    reader, good, bad, field, part = BAD_ROWS[case]
    path = jsonl(good, bad)
    with pytest.raises(UserError) as caught:
        reader(read_rows(path))
    message = str(caught.value)
    assert message.startswith(f'{path}, row 2, field "{field}": ')
    assert part in message
    assert "\n" not in message


def test_rows_that_are_all_dropped_are_an_error_with_the_counts():
    with pytest.raises(
        UserError, match=r"^folder/data.jsonl: nothing is left .*\(chosen equals rejected: 1\)"
    ):
        preference_pairs(rows({**PAIR, "rejected": "yo"}))


# -------------------------------------------------------------------------------------------------------  # noqa: E501
# real files


@pytest.mark.parametrize(
    ("name", "kept", "dropped"),
    [
        ("helpful", 1853, {"empty turn": 2, "turns do not alternate": 13}),
        ("harmless", 1845, {"empty turn": 4, "turns do not alternate": 9}),
    ],
)
def test_anthropic_hh(real_data, name, kept, dropped):
    source = read_rows(real_data / "hh-rlhf" / f"{name}.jsonl.gz")
    loaded = preference_pairs(source)
    assert (len(loaded.items), loaded.dropped) == (kept, dropped)
    for group in loaded.items:
        row = source[loaded.origins[group.prompt.id].row - 1]
        for side, response in zip(("chosen", "rejected"), group.responses, strict=True):
            said = [m["content"] for m in group.prompt.messages] + [response]
            assert "".join(transcript(*said).split()) == "".join(row.values[side].split())
    assert len(demonstrations(source).items) == kept


def test_files_in_other_tools_formats_are_read_whole(real_data):
    formats = real_data / "formats"
    kto = demonstrations(read_rows(formats / "kto_en_demo.json"))
    labels = Counter(row["label"] for row in json.loads((formats / "kto_en_demo.json").read_text()))
    assert (len(kto.items), kto.dropped) == (labels[True], {"labelled undesirable": labels[False]})

    raw = json.loads((formats / "alpaca_en_demo.json").read_text())
    alpaca = demonstrations(read_rows(formats / "alpaca_en_demo.json"))
    assert alpaca.dropped == {}
    for row, item in zip(raw, alpaca.items, strict=True):
        question, answer = item.messages
        assert row["instruction"] in question["content"]
        assert row["input"] in question["content"]
        assert answer == assistant(row["output"])

    tools = demonstrations(read_rows(formats / "glaive_toolcall_en_demo.json"))
    assert (len(tools.items), tools.dropped) == (141, {"duplicate": 9})
    called = [m for item in tools.items for m in item.messages if m.get("tool_calls")]
    assert called
    assert all(m["role"] == "assistant" for m in called)

    raw = json.loads((formats / "dpo_en_demo.json").read_text())
    pairs = preference_pairs(read_rows(formats / "dpo_en_demo.json"))
    assert pairs.dropped == {}
    for row, group in zip(raw, pairs.items, strict=True):
        assert group.responses == (row["chosen"]["value"], row["rejected"]["value"])
