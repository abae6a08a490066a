"""Answers that call tools: one text by which they are known, and their turns beside it all the
way."""

from __future__ import annotations

from burnish.data.preferences import extremes, merge_by_prompt
from burnish.labels.groups import preference_groups
from burnish.labels.traces import answer_turns, is_trace, trace_text
from burnish.records import LabelledItem, Message, Opinion, Prompt

ASKED = (Message(role="user", content="Weather in Oslo?"),)
CALL = {
    "type": "function",
    "function": {"name": "weather", "arguments": {"city": "Ålesund", "at": 7}},
}
TRACE = (
    Message(role="assistant", content="", tool_calls=[CALL]),
    Message(role="tool", name="weather", content="-3"),
    Message(role="assistant", content="It is -3 °C."),
)


def test_the_text_of_a_trace_holds_all_that_its_turns_say():
    assert (
        trace_text(TRACE)
        == '→ weather({"at": 7, "city": "Ålesund"})\n\n← weather: -3\n\nIt is -3 °C.'
    )
    thinking = Message(role="assistant", content="Yes.", reasoning_content="Hm.")
    assert trace_text([thinking]) == "Hm.\n\nYes."
    assert trace_text([Message(role="tool", tool_call_id="c1", content="")]) == "← c1: "


def test_a_plain_turn_is_its_text():
    plain = [Message(role="assistant", content=" as it is\n")]
    assert trace_text(plain) == " as it is\n"
    assert not is_trace(plain)
    assert is_trace(TRACE)
    assert is_trace(TRACE[:1])
    assert answer_turns(" as it is\n", {}) == plain
    assert answer_turns("x", {"x": TRACE}) == list(TRACE)


def test_traces_stay_with_their_texts_through_groups_merging_and_extremes():
    texts = (trace_text(TRACE), "Sunny.", "Rain.")
    said = [Opinion("ranking", name, (1, 2, 3)) for name in ("ann", "ben")]
    items = [
        LabelledItem(Prompt(name, ASKED), texts, opinions=(one,), traces={texts[0]: TRACE})
        for name, one in zip("ab", said, strict=True)
    ]
    groups = preference_groups(items)
    assert [group.traces for group in groups] == [{texts[0]: TRACE}] * 2
    (merged,) = merge_by_prompt(groups).items
    assert merged.traces == {texts[0]: TRACE}
    assert extremes(merged).responses == (texts[0], texts[2])
    assert extremes(merged).traces == {texts[0]: TRACE}
