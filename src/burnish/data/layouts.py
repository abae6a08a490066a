"""Rows of other tools under the columns that readers know: Alpaca's, ShareGPT's, and what a recipe
says a column is called.

    instruction, input, output [, system, history]      ->  prompt, completion
    conversations: [{from, value}] [, system]           ->  messages
    either with chosen, rejected                        ->  prompt, chosen, rejected

An error names a field as the row has it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from burnish.data.messages import fail
from burnish.data.sources import Row, kind
from burnish.errors import UserError, listed

SPEAKERS = {
    "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant",
    "assistant": "assistant", "model": "assistant",
    "bot": "assistant", "system": "system", "function_call": "assistant", "observation": "tool",
    "tool": "tool",
}  # fmt: skip
"""What ShareGPT's `from` says, as roles."""
_INPUTS = ("input", "context")  # Alpaca's, Dolly's
_OUTPUTS = ("output", "response")
_CALL = "function_call"


class Renamed(Mapping[str, Any]):
    """Columns with some under other names, some new and some gone; the rest is looked up where it
    was."""

    def __init__(
        self, values: Mapping[str, Any], new: Mapping[str, Any], gone: Sequence[str]
    ) -> None:
        self._values, self._new, self._gone = values, dict(new), frozenset(gone) - frozenset(new)

    def __getitem__(self, name: str) -> Any:
        if name in self._new:
            return self._new[name]
        if name in self._gone:
            raise KeyError(name)
        return self._values[name]

    def __contains__(self, name: object) -> bool:
        return name in self._new or (name in self._values and name not in self._gone)

    def __iter__(self) -> Iterator[str]:
        yield from self._new
        yield from (
            name for name in self._values if name not in self._new and name not in self._gone
        )

    def __len__(self) -> int:
        return sum(1 for _ in self)


def known(row: Row) -> Row:
    """The row under the columns that readers know; one that has them already is handed back as it
    is."""
    values = row.values
    if _has(values, "messages"):
        return row
    if _has(values, "conversations") or _has(values, "conversation"):
        return _conversations(
            row, "conversations" if _has(values, "conversations") else "conversation"
        )
    if _has(values, "instruction") and not any(
        _has(values, name) for name in ("prompt", "completions")
    ):
        return _alpaca(row)
    return row


def with_columns(row: Row, columns: Mapping[str, str]) -> Row:
    """The row with its columns called as readers call them: `columns` says what the row calls each.

    A row may lack one: that all do is `check_columns`' business.
    """
    columns = {ours: theirs for ours, theirs in columns.items() if theirs in row.values}
    row.reading.written = {**row.reading.written, **columns}
    new = {ours: row.values[theirs] for ours, theirs in columns.items()}
    return replace(row, values=Renamed(row.values, new, tuple(columns.values())))


def check_columns(rows: Sequence[Row], columns: Mapping[str, str]) -> None:
    """Raise UserError where no row has a column that the recipe says they have."""
    for ours, theirs in columns.items():
        if rows and not any(theirs in row.values for row in rows):
            problem = (
                f'is said to be the column "{ours}", and no row has it; the first has'
                f" {listed(rows[0].values)}."
            )
            hint = f"Mend columns.{ours} in the recipe."
            raise UserError(problem, file=rows[0].file, field=theirs, hint=hint)


def _has(values: Mapping[str, Any], name: str) -> bool:
    return name in values and values[name] is not None


def _alpaca(row: Row) -> Row:
    """Alpaca's columns, with LLaMA-Factory's `system` and `history`; Dolly's too."""
    values = row.values
    asked = _text(row, "instruction")
    extra = next((name for name in _INPUTS if _has(values, name) and values[name] != ""), None)
    if extra is not None:
        asked = f"{asked}\n{_text(row, extra)}"
    before = _history(row)
    prompt: Any = (
        [*_system(row), *before, {"role": "user", "content": asked}]
        if before or _system(row)
        else asked
    )
    new: dict[str, Any] = {"prompt": prompt}
    output = next((name for name in _OUTPUTS if _has(values, name)), None)
    written = {"prompt": "instruction"}
    if output is not None and not _has(values, "chosen"):
        new["completion"], written["completion"] = values[output], output
    row.reading.written = {**row.reading.written, **written}
    # the output stays, for rewards that name it
    gone = (
        "instruction",
        *_INPUTS,
        "system",
        "history",
    )
    return _with_label(replace(row, values=Renamed(values, new, gone)))


def _history(row: Row) -> list[dict[str, str]]:
    """LLaMA-Factory's earlier turns: a list of [question, answer]."""
    history = row.values["history"] if _has(row.values, "history") else []
    if not isinstance(history, list):
        fail(row, "history", f"must be a list of [question, answer], not {kind(history)}.")
    turns: list[dict[str, str]] = []
    for place, pair in enumerate(history):
        if (
            not isinstance(pair, list | tuple)
            or len(pair) != 2
            or not all(isinstance(text, str) for text in pair)
        ):
            fail(row, f"history[{place}]", "must be [question, answer], two texts.")
        turns += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    return turns


def _conversations(row: Row, column: str) -> Row:
    """ShareGPT's `from` and `value`; messages that merely stand in a column of that name are taken
    as they are."""
    turns = row.values[column]
    if not isinstance(turns, list):
        fail(row, column, f"must be a list of turns, not {kind(turns)}.")
    written = {"messages": column}
    messages = list(_system(row))
    if messages:
        written["messages[0].content"] = "system"
    shift = len(messages)
    for place, turn in enumerate(turns):
        messages.append(_turn(row, f"{column}[{place}]", turn))
        ours = f"messages[{place + shift}]"
        said, who = (
            ("value", "from")
            if isinstance(turn, Mapping) and "value" in turn
            else ("content", "role")
        )
        written |= {ours: f"{column}[{place}]", f"{ours}.content": f"{column}[{place}].{said}"}
        written[f"{ours}.role"] = f"{column}[{place}].{who}"
    new: dict[str, Any] = {"messages": messages}
    if _has(row.values, "chosen") and _has(row.values, "rejected"):
        new = {"prompt": messages} | {side: _side(row, side) for side in ("chosen", "rejected")}
        written = {
            ours.replace("messages", "prompt", 1): theirs for ours, theirs in written.items()
        }
    row.reading.written = {**row.reading.written, **written}
    return _with_label(replace(row, values=Renamed(row.values, new, (column, "system"))))


def _with_label(row: Row) -> Row:
    """LLaMA-Factory's `kto_tag` is the label of an answer that was judged by itself, the last turn
    of the conversation."""
    if not _has(row.values, "kto_tag"):
        return row
    new = {"label": row.values["kto_tag"]}
    if _has(row.values, "messages"):
        *before, last = row.values["messages"] or [None]
        new |= {"prompt": before, "completion": [last]}
    row.reading.written = {**row.reading.written, "label": "kto_tag"}
    return replace(row, values=Renamed(row.values, new, ("kto_tag", "messages")))


def _side(row: Row, column: str) -> Any:
    """One side of a preference: a turn becomes a list of one."""
    value = row.values[column]
    return [_turn(row, column, value)] if isinstance(value, Mapping) else value


def _turn(row: Row, name: str, turn: Any) -> Any:
    """A turn as a message; what is no turn of ShareGPT's is left for the reader of messages."""
    if not isinstance(turn, Mapping) or not {"from", "value"} <= turn.keys():
        return turn
    speaker = turn["from"]
    role = SPEAKERS.get(speaker) if isinstance(speaker, str) else None
    if role is None:
        fail(
            row,
            f"{name}.from",
            f"must be one of {', '.join(SPEAKERS)}, not {json.dumps(speaker, default=str)}.",
        )
    rest = {key: value for key, value in turn.items() if key not in ("from", "value")}
    if speaker == _CALL:
        return {
            "role": role,
            "content": "",
            "tool_calls": _calls(row, f"{name}.value", turn["value"]),
            **rest,
        }
    return {"role": role, "content": turn["value"], **rest}


def _calls(row: Row, name: str, value: Any) -> list[dict[str, Any]]:
    """The tool calls in the text of a `function_call`: one object with name and arguments, or a
    list of them."""
    try:
        calls = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        calls = None
    calls = [calls] if isinstance(calls, Mapping) else calls
    if not isinstance(calls, list) or not all(
        isinstance(call, Mapping) and "name" in call for call in calls
    ):
        fail(row, name, 'must be the JSON of a call, {"name": ..., "arguments": {...}}.')
    return [{"type": "function", "function": dict(call)} for call in calls]


def _system(row: Row) -> list[dict[str, str]]:
    value = row.values["system"] if _has(row.values, "system") else ""
    if not isinstance(value, str):
        fail(row, "system", f"must be text, not {kind(value)}.")
    return [{"role": "system", "content": value}] if value else []


def _text(row: Row, name: str) -> str:
    value = row.values[name]
    if not isinstance(value, str):
        fail(row, name, f"must be text, not {kind(value)}.")
    return value
