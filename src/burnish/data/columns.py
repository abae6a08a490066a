"""What the columns of a row hold: demonstrations, prompts, pairs of responses.

A mistake in a row raises a UserError that names file, row and field. A sound row that teaches
nothing is dropped under a stated reason and counted in `Loaded.dropped`, so that items and drops
together always make up the rows.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Generic, TypeVar

from burnish.data.layouts import known
from burnish.data.messages import (
    Empty,
    answer_of,
    check_order,
    read_message,
    refuse_media,
    template_kwargs_of,
    tools_of,
)
from burnish.data.messages import fail as _fail
from burnish.data.messages import filled as _filled
from burnish.data.messages import shown as _shown
from burnish.data.sources import Reading, Row, kind
from burnish.data.values import NotJson, json_value
from burnish.errors import UserError, listed
from burnish.labels.traces import trace_text
from burnish.records import TEXT, Comparison, Demonstration, Message, PreferenceGroup, Prompt

Record = TypeVar("Record", Demonstration, Prompt, PreferenceGroup)
Item = TypeVar("Item")
Turn = tuple[str, Message]  # a message, and the field it was read from

_SPEAKERS = {"Human": "user", "Assistant": "assistant"}
_TRANSCRIPT = "\n\nHuman:"
_MARKER = re.compile(r"\n\n(Human|Assistant):")


@dataclass(frozen=True, slots=True)
class Origin:
    """The row that a record was read from, and what its `reading` found out."""

    file: str
    row: int
    reading: Reading = field(default_factory=Reading, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Loaded(Generic[Item]):
    """What came of some rows: the `items`, the number `dropped` by reason, and the `origins` by
    record id."""

    items: tuple[Item, ...]
    dropped: Mapping[str, int]
    origins: Mapping[str, Origin] = field(default_factory=dict)


DROPPED = frozenset({"duplicate"})
"""What of the rows that can be dropped is, where nothing else is said: `empty` and `duplicate`
can."""


def demonstrations(
    rows: Sequence[Row], *, drop: Collection[str] = DROPPED
) -> Loaded[Demonstration]:
    """Conversations to imitate: `messages`; or `prompt` and `completion`; or the chosen side of a
    preference; or GSM8K's `question` and `answer`; or `text`, which is trained as it stands,
    outside any chat; and what `data.layouts` makes of others.

    `prompt` and `completion` are text or lists of messages. Dropped and counted: "duplicate";
    "labelled undesirable" (the column `label` is false or 0: the ecosystem's mark of an answer that
    nobody should imitate); "no turn to train on" (each is marked `trainable: false`); and what
    `preference_pairs` drops.
    """

    def read(row: Row) -> Demonstration:
        columns = _columns(
            row,
            ("messages",),
            ("prompt", "completion"),
            ("chosen", "rejected"),
            *_gsm8k(row),
            ("text",),
        )
        label = row.values.get("label")
        if isinstance(label, bool | int | float) and label == 0:
            raise _Dropped("labelled undesirable")
        refuse_media(row, row.values)
        if columns == ("text",):
            row.reading.turns = columns
            return Demonstration(
                _id(row), (Message(role=TEXT, content=_filled(row, "text", row.values["text"])),)
            )
        if columns == ("chosen", "rejected"):
            prompt, chosen, _ = _pair(row)
            return demonstration(row, (*prompt, *chosen))
        if columns == ("messages",):
            turns = _turns(row, "messages")
        elif columns == ("question", "answer"):
            turns = [
                *_turns(row, "question", text_as="user"),
                *_turns(row, "answer", text_as="assistant"),
            ]
        else:
            turns = [
                *_turns(row, "prompt", text_as="user"),
                *_turns(row, "completion", text_as="assistant"),
            ]
        return demonstration(row, _conversation(row, turns, last="assistant"))

    def demonstration(row: Row, messages: tuple[Message, ...]) -> Demonstration:
        if not any(m["role"] == "assistant" and m.get("trainable", True) for m in messages):
            raise _Dropped("no turn to train on")
        return Demonstration(_id(row), messages, tools_of(row), template_kwargs_of(row))

    def content(demo: Demonstration) -> Hashable:
        beside = json.dumps(
            [demo.tools, dict(demo.chat_template_kwargs)], sort_keys=True, default=repr
        )
        return contents(demo.messages), beside

    return _load(rows, read, content=content, drop=drop)


def prompts(
    rows: Sequence[Row], *, instruction: str | None = None, drop: Collection[str] = DROPPED
) -> Loaded[Prompt]:
    """Conversations to answer: `prompt` (text or messages); or `messages` ending with the user; or
    a preference's prompt; or GSM8K's `question` and `answer`, whose `answer` becomes what stands
    behind "####" and whose whole text `solution`.

    `instruction` is put behind each prompt, after an empty line. The row's other columns become
    `Prompt.columns`. Dropped and counted: "duplicate" (equal in the conversation and in every
    column but `id`), and what `preference_pairs` drops.
    """

    def read(row: Row) -> Prompt:
        columns = _columns(row, ("prompt",), ("messages",), ("chosen", "rejected"), *_gsm8k(row))
        others = _other_columns(row, *columns)
        if columns == ("question", "answer"):
            messages = (
                Message(role="user", content=_filled(row, "question", row.values["question"])),
            )
            others = {**_worked(row), **others}
        elif columns == ("chosen", "rejected"):
            messages = _pair(row)[0]
        else:
            turns = _turns(row, columns[0], text_as="user" if columns == ("prompt",) else None)
            messages = _conversation(row, turns, last="user")
        if instruction is not None:
            last = Message(role="user", content=f"{messages[-1]['content']}\n\n{instruction}")
            messages = (*messages[:-1], last)
        return Prompt(_id(row), messages, others)

    def content(prompt: Prompt) -> Hashable:
        return contents(prompt.messages), json.dumps(
            dict(prompt.columns), sort_keys=True, default=repr
        )

    return _load(rows, read, content=content, drop=drop)


def preference_pairs(
    rows: Sequence[Row], *, drop: Collection[str] = DROPPED
) -> Loaded[PreferenceGroup]:
    r"""A better and a worse response to a prompt: one group of two responses a row, with
    `Comparison(0, 1, 1.0)`.

    Three layouts are read:
    - `prompt`, `chosen`, `rejected`: the prompt is text or messages, each response is text, or
      messages that may repeat the prompt, as some hub datasets do;
    - `chosen`, `rejected`, each a whole conversation as a list of messages: all turns but the last
      are the prompt;
    - the same as transcripts, `"\n\nHuman: ...\n\nAssistant: ..."`, the layout of Anthropic's HH.
      White space round a turn is layout there, and is removed.
    A column `probability` in [0, 1] says how sure it is that the chosen response is the better one
    (a share of annotators; 1 without it), `margin` becomes the comparison's margin; further columns
    become `Prompt.columns`.

    Dropped and counted: "chosen equals rejected"; "duplicate" (prompt and both responses; where a
    column `votes` says who voted, of the same `id` too); and in transcripts, whose published files
    hold such rows, "empty turn", "turns do not alternate" (the model wrote a marker itself) and
    "prompts differ". What is wrong in other layouts is an error.
    """

    def read(row: Row) -> PreferenceGroup:
        _columns(row, ("chosen", "rejected"))
        prompt, chosen, rejected = _pair(row)
        columns = _other_columns(row, "prompt", "chosen", "rejected", "margin", "probability")
        answers = (answer_of(row, "chosen", chosen), answer_of(row, "rejected", rejected))
        comparison = Comparison(0, 1, _probability(row), margin=_margin(row))
        traces = {text: turns for text, turns in answers if turns}
        responses = tuple(text for text, _ in answers)
        return PreferenceGroup(
            Prompt(_id(row), prompt, columns), responses, (comparison,), traces=traces
        )

    def content(group: PreferenceGroup) -> Hashable:
        # Rows of our own export are labels of items: the same pair in two items has two labels.
        item = group.prompt.id if "votes" in group.prompt.columns else None
        return contents(group.prompt.messages), group.responses, item

    return _load(rows, read, content=content, drop=drop)


def record_id(item: Demonstration | Prompt | PreferenceGroup) -> str:
    """The id of a record; a group goes by its prompt's."""
    return item.prompt.id if isinstance(item, PreferenceGroup) else item.id


def contents(messages: Iterable[Message]) -> tuple[tuple[str, ...], ...]:
    """A conversation as something hashable: (role, content) by turn, and what else a turn has as
    JSON."""
    return tuple(_content_of(message) for message in messages)


def _content_of(message: Message) -> tuple[str, ...]:
    said = (message["role"], message["content"])
    beside = {key: value for key, value in message.items() if key not in ("role", "content")}
    return (*said, json.dumps(beside, sort_keys=True, default=repr)) if beside else said


class NothingLeft(UserError):
    """No row is left to learn from, though none is wrong."""


class _Dropped(Exception):
    """The row is no mistake, but nothing can be learnt from it; the message is the reason it is
    counted under."""


def _load(
    rows: Sequence[Row],
    read: Callable[[Row], Record],
    *,
    content: Callable[[Record], Hashable],
    drop: Collection[str],
) -> Loaded[Record]:
    items: list[Record] = []
    origins: dict[str, Origin] = {}
    dropped: Counter[str] = Counter()
    seen: set[Hashable] = set()
    for row in rows:
        try:
            row = known(row)
            item = read(row)
            if "duplicate" in drop and content(item) in seen:
                raise _Dropped("duplicate")
        except _Dropped as reason:
            dropped[str(reason)] += 1
            continue
        except Empty:
            if "empty" not in drop:
                raise
            dropped["empty"] += 1
            continue
        earlier = origins.setdefault(record_id(item), Origin(row.file, row.number, row.reading))
        if earlier != Origin(row.file, row.number):
            _fail(
                row,
                "id",
                f"{_shown(record_id(item))} already names row {earlier.row} of {earlier.file}. Give"
                " each row its own.",
            )
        seen.add(content(item))
        items.append(item)
    if not items:
        counts = ", ".join(f"{reason}: {count}" for reason, count in sorted(dropped.items()))
        raise NothingLeft(
            f"nothing is left to learn from ({counts or 'no rows'}).",
            file=rows[0].file if rows else None,
        )
    return Loaded(tuple(items), dict(dropped), origins)


def _columns(row: Row, *layouts: tuple[str, ...]) -> tuple[str, ...]:
    """The first of `layouts` whose columns are all there and not null."""
    for columns in layouts:
        if all(row.values.get(column) is not None for column in columns):
            return columns
    closest = max(layouts, key=lambda columns: sum(column in row.values for column in columns))
    lacking = next(column for column in closest if row.values.get(column) is None)
    empty = lacking in row.values
    expected = "; or ".join(" and ".join(columns) for columns in layouts)
    problem = (
        f"{'is null' if empty else 'is missing'}. The row has the columns {listed(row.values)};"
        f" expected {expected}."
    )
    _fail(row, lacking, problem, error=Empty if empty else UserError)


def _id(row: Row) -> str:
    value = row.values.get("id")
    if value is None:
        return row.key
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        _fail(row, "id", f"must be text or a whole number, not {_shown(value)}.")
    return str(value)


def _margin(row: Row) -> float:
    value = row.values.get("margin")
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        _fail(row, "margin", f"must be a finite number, not {_shown(value)}.")
    return float(value)


def _probability(row: Row) -> float:
    value = row.values.get("probability")
    if value is None:
        return 1.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
        _fail(row, "probability", f"must be a number between 0 and 1, not {_shown(value)}.")
    return float(value)


def _other_columns(row: Row, *used: str) -> Mapping[str, Any]:
    """The columns that are not used up, those that a chat template is handed in the form that it
    takes."""
    refuse_media(row, row.values)
    others = {name: value for name, value in row.values.items() if name not in ("id", *used)}
    read = {"tools": tools_of, "chat_template_kwargs": template_kwargs_of}
    given = {name: reader(row) for name, reader in read.items() if others.get(name) is not None}
    return as_json(row, others | given)


def as_json(row: Row, columns: Mapping[str, Any]) -> dict[str, Any]:
    """Columns as rewards, stores and reports can be handed them (`data.values`). Raises UserError
    naming row and column."""
    try:
        return {name: json_value(value, field=name) for name, value in columns.items()}
    except NotJson as error:
        raise UserError(
            error.problem, file=row.file, row=row.number, field=error.field, hint=error.hint
        ) from error


def _turns(row: Row, column: str, *, text_as: str | None = None) -> list[Turn]:
    """The turns in a column: a list of messages, or, where `text_as` names a role, text that is one
    turn of that role."""
    value = row.values[column]
    if isinstance(value, str) and text_as is not None:
        text = _filled(row, column, value)
        if text_as == "user" and text.startswith(_TRANSCRIPT):
            return [
                (column, message)
                for message in _transcript(text.rstrip().removesuffix("\n\nAssistant:"))
            ]
        return [
            (
                column,
                Message(
                    role=text_as, content=text.strip() if _is_transcript(row, "prompt") else text
                ),
            )
        ]
    if not isinstance(value, list):
        wanted = "a list of messages" if text_as is None else "text or a list of messages"
        _fail(row, column, f"must be {wanted}, not {kind(value)}.")
    if not value:
        _fail(row, column, "is an empty list. Give at least one message, or remove the row.")
    return [
        (f"{column}[{i}]", read_message(row, f"{column}[{i}]", message))
        for i, message in enumerate(value)
    ]


def _conversation(row: Row, turns: Sequence[Turn], *, last: str) -> tuple[Message, ...]:
    """The turns as messages, once they are known to stand in order and to end with `last`."""
    check_order(row, turns, last=last)
    if not row.reading.turns:  # of a preference's two sides, the chosen one
        row.reading.turns = _kept_once(tuple(name for name, _ in turns))
    return tuple(message for _, message in turns)


@lru_cache(maxsize=1024)
def _kept_once(names: tuple[str, ...]) -> tuple[str, ...]:
    """One object for equal names: a million rows have the same few."""
    return names


def _pair(row: Row) -> tuple[tuple[Message, ...], tuple[Message, ...], tuple[Message, ...]]:
    """The prompt, and the chosen and the rejected answer to it: a turn each, or, where the row has
    a prompt of its own, a trace of the assistant's turns and its tools'."""
    (prompt, chosen), (other, rejected) = _side(row, "chosen"), _side(row, "rejected")
    if contents(prompt) != contents(other):
        if _is_transcript(row, "chosen") and _is_transcript(row, "rejected"):
            raise _Dropped("prompts differ")
        _fail(
            row,
            "rejected",
            "differs from chosen before the last turn. Both must answer the same prompt.",
        )
    if trace_text(chosen).strip() == trace_text(rejected).strip():
        raise _Dropped("chosen equals rejected")
    return prompt, chosen, rejected


def _side(row: Row, column: str) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """One side of a preference: the prompt, and the answer to it."""
    prompted = row.values.get("prompt") is not None
    if not prompted and _is_transcript(row, column):
        messages = _transcript(_filled(row, column, row.values[column]))
        if messages[-1]["role"] != "assistant":
            raise _Dropped("turns do not alternate")
        return messages[:-1], messages[-1:]
    if not prompted and isinstance(row.values[column], str):
        _fail(
            row,
            column,
            r'is text without a prompt. Add a column "prompt", or give messages or "\n\nHuman:"'
            r" transcripts.",
        )
    turns = _turns(row, column, text_as="assistant")
    if not prompted:
        messages = _conversation(row, turns, last="assistant")
        return messages[:-1], messages[-1:]
    prompt = _turns(row, "prompt", text_as="user")
    repeats = contents(message for _, message in turns[: len(prompt)]) == contents(
        message for _, message in prompt
    )
    answer = turns[len(prompt) :] if repeats else turns
    if not answer or any(message["role"] not in ("assistant", "tool") for _, message in answer[1:]):
        problem = (
            "must be one assistant turn (or its turns and its tools'), with or without the prompt's"
            " turns before it."
        )
        _fail(row, column, problem)
    messages = _conversation(row, [*prompt, *answer], last="assistant")
    return messages[: len(prompt)], messages[len(prompt) :]


def _gsm8k(row: Row) -> tuple[tuple[str, str], ...]:
    """GSM8K's layout, where a row has both of its columns."""
    layout = ("question", "answer")
    return (layout,) if all(row.values.get(column) is not None for column in layout) else ()


def _worked(row: Row) -> dict[str, Any]:
    """GSM8K's answer: a solution whose last line is "#### RESULT"."""
    solution = _filled(row, "answer", row.values["answer"])
    _, marked, result = solution.rpartition("####")
    if not marked or not result.strip():
        _fail(
            row,
            "answer",
            'must end with "#### RESULT", as GSM8K\'s do. If it is the result itself, name the'
            ' question "prompt".',
        )
    return {"answer": result.strip(), "solution": solution, "tags": ["maths", "reasoning"]}


def _is_transcript(row: Row, column: str) -> bool:
    value = row.values.get(column)
    return isinstance(value, str) and value.startswith(_TRANSCRIPT)


def _transcript(text: str) -> tuple[Message, ...]:
    r"""The turns of `"\n\nHuman: ...\n\nAssistant: ..."`, without the white space round them."""
    parts = _MARKER.split(text)
    turns = zip(parts[1::2], parts[2::2], strict=True)
    messages = tuple(
        Message(role=_SPEAKERS[speaker], content=said.strip()) for speaker, said in turns
    )
    if not all(message["content"] for message in messages):
        raise _Dropped("empty turn")
    if any(message["role"] != ("user", "assistant")[i % 2] for i, message in enumerate(messages)):
        raise _Dropped("turns do not alternate")
    return messages
