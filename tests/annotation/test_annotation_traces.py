"""Calls of tools in conversations and in answers: uploaded, shown, exported, read by trainers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from annotation_bench import Bench

from burnish.annotation.export import LAYOUTS, export
from burnish.annotation.labels import LabelOptions, preference_data
from burnish.annotation.service import browsing, projects, work
from burnish.annotation.service.database import Database
from burnish.annotation.service.rows import item_of
from burnish.annotation.service.submission import Submission
from burnish.annotation.service.views import task_view
from burnish.annotation.settings import Settings
from burnish.annotation.snapshot import with_key
from burnish.config.schema import Data
from burnish.data.feedback import preference_groups
from burnish.data.sources import read_rows
from burnish.errors import UserError
from burnish.labels.traces import trace_text
from burnish.stages.stored import stored_labels

CALL = {
    "type": "function",
    "id": "c1",
    "function": {"name": "weather", "arguments": {"city": "Oslo"}},
}
ASKED = [
    {"role": "user", "content": "Weather in Oslo?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": '{"t": -3}'},
]
STEPS = [
    {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL]},
    {"role": "tool", "name": "weather", "content": "-4"},
    {"role": "assistant", "content": "It is -4 °C."},
]
ROW = {
    "id": "w",
    "kind": "pairwise",
    "messages": ASKED,
    "candidates": [{"messages": STEPS, "source": "m"}, "Sunny."],
}


@pytest.fixture
def answered(database: Database) -> Bench:
    bench = Bench(database, annotators=1, rows=[ROW], overlap=1)
    held = work.take(database, bench.people[0], bench.project)
    assert held is not None
    first = 2 if held.presented[0] == 0 else -2
    work.answer(database, bench.people[0], held.lease, Submission(strength=first, seconds=1.0))
    return bench


def test_the_task_page_is_shown_the_turns(database: Database):
    bench = Bench(database, annotators=1, rows=[ROW], overlap=1)
    held = work.take(database, bench.people[0], bench.project)
    assert held is not None
    view = task_view(held, held.settings, html=True)
    assert [m["role"] for m in view["messages"]] == ["user", "assistant", "tool"]
    assert view["messages"][1]["calls"] == ['→ weather({"city": "Oslo"})']
    assert view["messages"][2] == {
        "role": "tool",
        "text": '{"t": -3}',
        "tool": "c1",
        "html": view["messages"][2]["html"],
    }
    trace, plain = sorted(view["answers"], key=lambda one: "turns" not in one)
    assert [turn["role"] for turn in trace["turns"]] == ["assistant", "tool", "assistant"]
    assert trace["turns"][0]["html"] == "<p>Let me see.</p>\n"
    assert plain == {"text": "Sunny.", "html": "<p>Sunny.</p>\n"}


def test_trainers_read_the_turns_from_the_store(answered: Bench, place: str, tmp_path: Path):
    (group,) = preference_data(with_key(answered.database, "p"))
    text = trace_text(STEPS)
    assert group.responses == (text, "Sunny.")
    assert group.traces == {text: tuple(STEPS)}
    if "://" not in place:
        stored = stored_labels(Data(store=place, project="p"), tmp_path)
        assert stored.groups[0].traces == {text: tuple(STEPS)}


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
@pytest.mark.parametrize("layout", ["burnish", "paired", "ranking", "argilla"])
def test_exports_give_the_turns_back(answered: Bench, tmp_path: Path, layout: str, ending: str):
    snapshot = with_key(answered.database, "p")
    (tmp_path / f"x{ending}").write_bytes(export(snapshot, layout).data(ending))
    rows = read_rows(str(tmp_path / f"x{ending}"))
    if layout in ("ranking", "argilla"):
        assert LAYOUTS[layout].cannot_hold  # the text alone is theirs; the turns come beside it
    (read,) = preference_groups(rows, LabelOptions()).items
    (held,) = preference_data(snapshot)
    assert read.responses == held.responses
    assert [json.dumps(list(t), sort_keys=True) for t in read.traces.values()] == [
        json.dumps(list(t), sort_keys=True) for t in held.traces.values()
    ]


def test_transcripts_have_no_place_for_calls(answered: Bench):
    made = export(with_key(answered.database, "p"), "hh")
    assert made.rows == ()
    assert made.manifest["left_out"] == {"pairs with calls of tools": 1}


def test_openai_writes_arguments_as_text():
    given = {**CALL, "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    item = item_of(
        {
            "messages": [
                ASKED[0],
                {"role": "assistant", "content": None, "tool_calls": [given]},
                ASKED[2],
            ],
            "candidates": ["a", [{"role": "assistant", "content": "b"}]],
        },
        1,
        Settings(kind="pairwise"),
    )
    assert item.messages[1]["tool_calls"] == [CALL]
    assert [(c.text, c.messages) for c in item.candidates] == [("a", None), ("b", None)]


@pytest.mark.parametrize(
    ("row", "field", "why"),
    [
        ({"messages": [{**ASKED[0], "tool_calls": [CALL]}]}, "messages.0", "belong to an assistant's turn, not the user's"),  # noqa: E501
        ({"messages": [{**ASKED[0], "name": "x"}]}, "messages.0", "belong to a tool's turn"),
        ({"messages": [{"role": "assistant"}]}, "messages.0", "a turn has content"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},  # noqa: E501
         "messages.0.tool_calls.0.function.arguments", "are no JSON"),
        ({"prompt": "p", "candidates": [{"messages": STEPS[:2]}, "b"]}, "candidates.0", "the assistant's first and last"),  # noqa: E501
        ({"prompt": "p", "candidates": [{"messages": STEPS, "text": "x"}, "b"]}, "candidates.0", "not both"),  # noqa: E501
        ({"prompt": "p", "kind": "correction", "candidates": [{"messages": STEPS}]}, "candidates", "cannot be corrected"),  # noqa: E501
    ],
)  # fmt: skip
def test_what_is_refused_names_row_and_field(row: dict, field: str, why: str):
    with pytest.raises(UserError, match=rf'row 3, field "{field}".*{why}'):
        item_of({"candidates": ["a", "b"], **row}, 3, Settings(kind="pairwise"))


def test_items_come_out_as_they_went_in(database: Database):
    bench = Bench(database, annotators=0, rows=[ROW])
    (item,) = browsing.search(database, bench.owner, bench.project, browsing.Wanted())
    assert item["messages"] == ASKED
    assert item["candidates"][0]["messages"] == STEPS
    again = {
        **ROW,
        "id": "again",
        "candidates": [
            {k: v for k, v in c.items() if k != "text" or "messages" not in c}
            for c in item["candidates"]
        ],
    }
    assert projects.add_items(database, bench.owner, bench.project, [again]) == {
        "added": 1,
        "there_already": 0,
    }
