"""Whatever stands in a file of data: its rows are taken, or one is refused in one line that names
the file and the row."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from burnish.data.code_tasks import code_tasks
from burnish.data.columns import demonstrations, prompts
from burnish.data.feedback import preference_groups, voted_groups
from burnish.data.sources import Row, read_rows
from contract import Tally

READERS: dict[str, Callable[[Sequence[Row]], Any]] = {
    "demonstrations": demonstrations,
    "prompts": prompts,
    "comparisons": preference_groups,
    "code": code_tasks,
}
CHAT = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]
ROWS: dict[str, list[dict[str, Any]]] = {
    "demonstrations": [{"messages": CHAT}, {"prompt": "Why?", "completion": "Because."}],
    "prompts": [
        {"prompt": "Why?", "split": "train"},
        {"question": "2 + 3?", "answer": "5 #### 5"},
        {"prompt": CHAT[:1]},
    ],
    "comparisons": [
        {"prompt": "Why?", "chosen": "Because.", "rejected": "No."},
        {"chosen": CHAT, "rejected": [CHAT[0], {"role": "assistant", "content": "No."}]},
        {"prompt": "Why?", "completion": "Because.", "label": True},
        {"prompt": "Why?", "completions": ["a", "b", "c"], "ranks": [1, 2, 3]},
    ],
    "code": [
        {"prompt": "Add.", "tests": ["assert add(1, 2) == 3"]},
        {"question": "Add.", "input_output": json.dumps({"inputs": ["1 2"], "outputs": ["3"]})},
    ],
}
OTHERS: list[dict[str, Any]] = [  # the layouts of other tools
    {"prompt": "q", "completion": "a", "label": True},
    {"id": "x", "prompt": "q", "responses": ["a", "b"], "sources": ["m", "n"], "ranks": [2, 1],
        "annotator": "ann"},
    {"instruction": "q",
        "completions": [{"model": "m", "response": "a", "critique": "fine",
                "annotations": {"honesty": {"Rating": "4"}, "help": [{"Rating": "5"}]}},
                                         {"model": "n", "response": "b",
                                             "annotations": {"honesty": {"Rating": "N/A"}}}]},
    {"prompt": "q", "response": "a", "helpfulness": 1, "correctness": 3, "coherence": 4,
        "complexity": 1, "verbosity": 2},
    {"prompt": "q", "response_1": "a", "response_2": "b", "preference_strength": -2,
     "all_preferences_unprocessed": [{"strength": 3, "statement": "b is right"}, {"strength": 0}]},
    {"info": {"id": "t3", "post": "text", "title": "T"},
        "summaries": [{"text": "s", "policy": "p"}, {"text": "t", "policy": "r"}], "choice": 1,
        "worker": "w"},
    {"id": 7, "data": {"prompt": "q", "answer1": "a", "answer2": "b", "topic": "x"},
     "annotations": [{"completed_by": {"id": 3, "email": "ann"}, "lead_time": 12.5,
             "created_at": "2030-01-02T03:04:05Z",
                      "result": [{"type": "pairwise", "from_name": "pw",
                              "to_name": "answer1,answer2", "value": {"selected": "right"}},
                                 {"type": "rating", "from_name": "helpful", "to_name": "answer2",
                                     "value": {"rating": 4}}]}]},
    {"data": {"text": "q", "items": [{"id": "i1", "body": "a"}, {"id": "i2", "body": "b"}]},
     "annotations": [{"completed_by": 1,
             "result": [{"type": "ranker", "value": {"ranker": {"_": ["i2", "i1"]}}}]}]},
    {"id": "r1", "fields": {"instruction": "q", "response-1": "a", "response-2": "b"},
     "responses": {"preference": [{"value": ["response-2", "response-1"], "user_id": "u1"}],
         "helpful_response-2": [{"value": 5, "user_id": "u1"}]},
     "suggestions": {"preference": {"value": [{"value": "response-1", "rank": 1},
                 {"value": "response-2", "rank": 1}], "agent": "judge"}}},
    {"fields": {"instruction": "q", "response-1": "a", "response-2": "b"},
     "responses": [{"user_id": "u", "status": "submitted",
             "values": {"choice": {"value": "response-1"}}}], "suggestions": []},
    {"item_id": "i", "messages": CHAT[:1], "candidates": ["a", "b"], "sources": ["m", "n"],
        "columns": {"x": 1}, "kind": "ranking",
     "answers": [{"kind": "ranking", "annotator": "ann", "ranks": [1, 2], "seconds": 3.5,
             "created_at": "2030-01-02T03:04:05Z", "presented": [1, 0]}]},
]  # fmt: skip
words = st.text(max_size=12) | st.sampled_from(
    ["", " ", "\0", "\ud83d", "a\nb", "<|im_end|>", "x" * 3000, "####", "role"]
)
numbers = (
    st.integers()
    | st.floats()
    | st.sampled_from([0, 1, -1, 10**400, 2**63, float("nan"), float("inf")])
)
values = st.recursive(
    st.none() | st.booleans() | numbers | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
NAMES = [
    "messages",
    "prompt",
    "completion",
    "chosen",
    "rejected",
    "label",
    "id",
    "split",
    "tests",
    "margin",
    "probability",
    "tools",
    "x",
]


@st.composite
def mutated(draw: st.DrawFn, kind: str) -> list[Any]:
    """Rows of one layout, some of them with a value, a name or a part changed."""
    rows: list[Any] = [
        json.loads(json.dumps(draw(st.sampled_from(ROWS[kind]))))
        for _ in range(draw(st.integers(1, 3)))
    ]
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(rows) - 1))
        row = rows[at]
        match draw(st.sampled_from(["value", "add", "drop", "inner", "row"])):
            case "value" if isinstance(row, dict) and row:
                row[draw(st.sampled_from(sorted(row)))] = draw(values)
            case "add" if isinstance(row, dict):
                row[draw(st.sampled_from(NAMES) | words)] = draw(values)
            case "drop" if isinstance(row, dict) and row:
                del row[draw(st.sampled_from(sorted(row)))]
            case "inner" if (
                isinstance(row, dict) and isinstance(row.get("messages"), list) and row["messages"]
            ):
                row["messages"][draw(st.integers(0, len(row["messages"]) - 1))] = draw(values)
            case "row":
                rows[at] = draw(values)
            case _:
                pass
    return rows


@st.composite
def files(draw: st.DrawFn) -> tuple[str, str, bytes]:
    """(reader, a file's ending, its bytes): JSON lines, a list of JSON, either packed, with slips
    in the text."""
    kind = draw(st.sampled_from(sorted(ROWS)))
    rows = draw(mutated(kind))
    ending = draw(st.sampled_from([".jsonl", ".jsonl", ".json", ".jsonl.gz", ".json.gz"]))
    text = (
        json.dumps(rows)
        if "jsonl" not in ending
        else "".join(json.dumps(row) + "\n" for row in rows)
    )
    for _ in range(draw(st.integers(0, 2)) if draw(st.booleans()) else 0):
        at = draw(st.integers(0, len(text)))
        slip = st.sampled_from(
            [
                "\n",
                ",",
                "{",
                "]",
                '"',
                "\\",
                "\\ud800",
                "NaN",
                "1e999",
                "9" * 5000,
                "[" * 2000,
                "\x00",
                "\ufeff",
                " ",
            ]
        )
        text = text[:at] + draw(slip) + text[at + draw(st.integers(0, 4)) :]
    data = text.encode("utf-8", "surrogatepass")
    if ending.endswith(".gz"):
        data = gzip.compress(data, mtime=0)
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        data = data[:at] + bytes([draw(st.integers(0, 255))]) + data[at + draw(st.integers(0, 9)) :]
    return kind, ending, data


@st.composite
def exports(draw: st.DrawFn) -> list[Any]:
    """Rows of one of the other tools' layouts, with values changed anywhere inside them."""
    layout = draw(st.sampled_from(OTHERS))
    rows: list[Any] = [json.loads(json.dumps(layout)) for _ in range(draw(st.integers(1, 2)))]
    for _ in range(draw(st.integers(1, 3))):
        at: Any = rows
        while True:
            places = sorted(at) if isinstance(at, dict) else list(range(len(at)))
            if not places:
                break
            place = draw(st.sampled_from(places))
            if isinstance(at[place], dict | list) and at[place] and draw(st.integers(0, 3)):
                at = at[place]
                continue
            if draw(st.integers(0, 4)):
                at[place] = draw(values)
            else:
                del at[place]
            break
    return rows


cells = (
    st.sampled_from([None, "Why?", "", b"\xff", 1, -(2**63), 1.5, float("nan"), True])
    | st.datetimes(allow_imaginary=False)
    | st.dates()
    | st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-1000, max_value=1000)
    | st.lists(st.sampled_from(["a", "b", ""]), max_size=2)
    | st.just(CHAT)
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, pyarrow.Table]:
    """(reader, a table) whose columns are of types that data comes in, and of some that it should
    not come in."""
    kind = draw(st.sampled_from(sorted(ROWS)))
    row = dict(draw(st.sampled_from(ROWS[kind])))
    for name in draw(st.lists(st.sampled_from([*row, *NAMES]), max_size=2)):
        row[name] = draw(cells)
    count = draw(st.integers(0, 3))
    return kind, pyarrow.table({name: [value] * count for name, value in row.items()})


SETTINGS = settings(
    derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


def drawn_files(count: int, folder: Path) -> Tally:
    tally = Tally("data readers, JSON")

    @settings(SETTINGS, max_examples=count)
    @given(files())
    def hold(file: tuple[str, str, bytes]) -> None:
        kind, ending, data = file
        path = folder / f"rows{ending}"
        path.write_bytes(data)
        tally.hold((kind, data), lambda: READERS[kind](read_rows(path)), names="rows.json")

    hold()
    return tally


def drawn_exports(count: int, folder: Path) -> Tally:
    tally = Tally("data readers, other tools")

    @settings(SETTINGS, max_examples=count)
    @given(exports())
    def hold(rows: list[Any]) -> None:
        path = folder / "rows.json"
        path.write_bytes(json.dumps(rows).encode("utf-8", "surrogatepass"))
        tally.hold(rows, lambda: voted_groups(read_rows(path)), names="rows.json")

    hold()
    return tally


def drawn_tables(count: int, folder: Path) -> Tally:
    tally = Tally("data readers, Parquet")

    @settings(SETTINGS, max_examples=count)
    @given(tables(), st.integers(0, 19), st.integers(0, 10**6))
    def hold(drawn: tuple[str, pyarrow.Table], chance: int, at: int) -> None:
        kind, table = drawn
        path = folder / "rows.parquet"
        pyarrow.parquet.write_table(table, path)
        if chance == 0:  # a byte that is another, or the end missing
            data = path.read_bytes()
            at %= len(data)
            path.write_bytes(
                data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :] if at % 2 else data[:at]
            )
        tally.hold(
            (kind, table.to_pydict()), lambda: READERS[kind](read_rows(path)), names="rows.parquet"
        )

    hold()
    return tally


def test_files_of_json_are_taken_or_refused_in_a_line(
    tmp_path: Path, record_property: Callable[[str, object], None]
):
    _check(drawn_files(400, tmp_path), 400, record_property)


def test_exports_of_other_tools_are_taken_or_refused_in_a_line(
    tmp_path: Path, record_property: Callable[[str, object], None]
):
    _check(drawn_exports(300, tmp_path), 300, record_property)


def test_parquet_is_taken_or_refused_in_a_line(
    tmp_path: Path, record_property: Callable[[str, object], None]
):
    _check(drawn_tables(150, tmp_path), 150, record_property)


def _check(tally: Tally, least: int, record_property: Callable[[str, object], None]) -> None:
    print(tally)
    record_property("rate", str(tally))
    assert tally.broken == []
    assert sum(tally.counts.values()) >= least
