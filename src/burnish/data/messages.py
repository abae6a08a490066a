"""What a message of a row holds: its text, and the fields beside it that chat templates read or
training heeds.

A field that would go unheeded is an error that names it: nothing that somebody wrote is passed over
in silence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from burnish.data.sources import Reading, Row, kind
from burnish.data.templates import RESERVED
from burnish.data.values import holds_surrogate
from burnish.errors import UserError
from burnish.errors import shown as _cut
from burnish.labels.traces import is_trace, trace_text
from burnish.records import Message

ROLES = ("system", "developer", "user", "assistant", "tool")
_REASONING = ("reasoning_content", "thinking", "reasoning")
_TRAINED = ("trainable", "train", "training", "weight")  # the marks of TRL, Axolotl and OpenAI
_OTHERS = ("role", "content", "tool_calls", "function_call")
_OF_TOOLS = ("tool_call_id", "name")
_MEDIA = ("images", "image", "videos", "video", "audios", "audio", "documents")
_PLACE = re.compile(r"messages\[(\d+)\](.*)", re.DOTALL)
_REMEDY = "Remove it, or the row."


def read_message(row: Row, name: str, value: Any) -> Message:
    """The message called `name` in `row`. Raises UserError naming the field that cannot be
    honoured."""
    if not isinstance(value, Mapping):
        fail(row, name, f'must be an object with "role" and "content", not {kind(value)}.')
    role = value.get("role")
    if role not in ROLES:
        fail(row, f"{name}.role", f"must be one of {', '.join(ROLES)}, not {shown(role)}.")
    refuse_media(row, value, f"{name}.")
    if value.get("function_call"):
        fail(
            row, f"{name}.function_call", "is the old form of a tool call. Write it as tool_calls."
        )
    calls = _tool_calls(row, name, role, value.get("tool_calls"))
    message = Message(
        role=role,
        content=_content(row, f"{name}.content", role, value.get("content"), empty=bool(calls)),
    )
    reasoning = _reasoning(row, name, role, value)
    if reasoning is not None:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = calls
    if not _trained(row, name, role, value):
        message["trainable"] = False
    if role == "tool" and isinstance(value.get("tool_call_id"), str):
        message["tool_call_id"] = value["tool_call_id"]
    if role == "tool" and isinstance(value.get("name"), str):
        message["name"] = value["name"]
    read = {*_OTHERS, *_REASONING, *_TRAINED, *_MEDIA, *(_OF_TOOLS if role == "tool" else ())}
    passed_over = {
        str(key) for key, given in value.items() if given is not None and key not in read
    }
    if passed_over:
        row.reading.passed_over |= passed_over
    return message


def answer_text(row: Row, name: str, message: Message) -> str:
    """The text of a response that is compared or judged: a response is its text and nothing beside
    it."""
    beside = next(
        (key for key in ("reasoning_content", "tool_calls", "trainable") if key in message), None
    )
    if beside is not None:
        problem = (
            "is not read in answers that are compared. Write it into the content, as the model"
            " would."
        )
        inside = (
            theirs for ours, theirs in row.reading.written.items() if ours.startswith(f"{name}[")
        )
        fail(
            row,
            next(inside, f"{name}.{beside}") if beside == _REASONING[0] else f"{name}.{beside}",
            problem,
        )
    return message["content"]


def answer_of(row: Row, name: str, messages: Sequence[Message]) -> tuple[str, tuple[Message, ...]]:
    """An answer that is compared or judged: its text, and its turns where it calls tools (none
    where it is its text alone)."""
    if not is_trace(messages):
        return answer_text(row, name, messages[-1]), ()
    untrained = next((i for i, message in enumerate(messages) if "trainable" in message), None)
    if untrained is not None:
        problem = (
            "is not read in answers that are compared: all that the model says in one counts."
            " Remove the mark."
        )
        fail(row, f"{name}[{untrained}].trainable", problem)
    return trace_text(messages), tuple(messages)


def as_written(field: str, reading: Reading) -> str:
    """What the row itself calls a field of its conversation: `messages[1].reasoning_content` may be
    its `completion[0].thinking`, and `messages[0].content` its `prompt`."""
    if field == "messages" and reading.turns:
        return " and ".join(
            dict.fromkeys(_theirs(turn.partition("[")[0], reading) for turn in reading.turns)
        )
    found = _PLACE.fullmatch(field)
    if found is None or int(found[1]) >= len(reading.turns):
        return field
    turn = reading.turns[int(found[1])]
    if not turn.endswith("]"):  # a column of text is a turn's content
        return _theirs(turn, reading)
    return _theirs(f"{turn}{found[2]}", reading)


def filled(row: Row, name: str, value: Any) -> str:
    """Text that is not empty."""
    if not isinstance(value, str):
        problem = (
            f"{'is' if value is None else 'must be text, not'} {kind(value)}. Give text, or remove"
            " the row."
        )
        fail(row, name, problem, error=Empty if value is None else UserError)
    if not value.strip():
        fail(
            row,
            name,
            "is empty. Give text, or remove the row (data.drop=[duplicate, empty]).",
            error=Empty,
        )
    _check_unicode(row, name, value)
    return value


def check_order(row: Row, turns: Sequence[tuple[str, Message]], *, last: str) -> None:
    """Raise UserError unless the turns are [system,] user, assistant, [tool, assistant,] user, ...
    and end with `last`; for `last="user"`, a tool may have the last word."""
    roles = [message["role"] for _, message in turns]
    if last == "assistant" and last not in roles:
        fail(
            row, turns[-1][0], "the conversation has no assistant turn. Add one, or remove the row."
        )
    start = next(
        (i for i, role in enumerate(roles) if role not in ("system", "developer")), len(roles)
    )
    expected, calls = ("user",), False
    for name, message in turns[start:]:
        role = message["role"]
        if role not in expected:
            wanted = " or ".join(f"the {one}" for one in expected)
            problem = f"the {role} speaks where {wanted} must: [system,] user, assistant, user, ..."
            fail(row, name, problem)
        calls = bool(message.get("tool_calls"))
        expected = {
            "user": ("assistant",),
            "assistant": ("tool",) if calls else ("user", "tool"),
            "tool": ("assistant", "tool"),
        }[role]
    if start > 2 or len(set(roles[:start])) < start:
        fail(row, turns[1][0], f"the {roles[1]} speaks twice before the user does. Join the two.")
    if roles[-1] != last and not (last == "user" and roles[-1] == "tool"):
        fail(row, turns[-1][0], f"the {roles[-1]} has the last turn, which must be the {last}'s.")


def tools_of(row: Row) -> tuple[Mapping[str, Any], ...]:
    """The row's column `tools`: a list of JSON schemas, or the text of one."""
    value = _parsed(row, "tools", row.values.get("tools"))
    if not value:
        return ()
    if not isinstance(value, list):
        fail(row, "tools", f"must be a list of functions as JSON schemas, not {kind(value)}.")
    for i, tool in enumerate(value):
        about = tool.get("function", tool) if isinstance(tool, Mapping) else None
        if not isinstance(about, Mapping) or not isinstance(about.get("name"), str):
            fail(
                row,
                f"tools[{i}]",
                'must be an object {"type": "function", "function": {"name", "parameters"}}.',
            )
    return tuple(value)


def template_kwargs_of(row: Row) -> Mapping[str, Any]:
    """The row's column `chat_template_kwargs`: an object, or the text of one."""
    value = _parsed(row, "chat_template_kwargs", row.values.get("chat_template_kwargs"))
    if not value:
        return {}
    if not isinstance(value, Mapping):
        fail(row, "chat_template_kwargs", f"must be an object, not {kind(value)}.")
    for key in value:
        if key in RESERVED:
            fail(row, f"chat_template_kwargs.{key}", "is given to the template anyway. Remove it.")
    return {
        key: entry for key, entry in value.items() if entry is not None
    }  # Parquet fills up rows with nulls


def refuse_media(row: Row, values: Mapping[str, Any], at: str = "") -> None:
    """Raise UserError for pictures, sounds and the like: models are trained on text alone."""
    for key in _MEDIA:
        if values.get(key) not in (None, "", [], {}):
            fail(row, f"{at}{key}", f"is not read: models are trained on text alone. {_REMEDY}")


def shown(value: Any) -> str:
    """A value for a message, of at most 40 characters."""
    return _cut("null" if value is None else repr(value), 40)


class Empty(UserError):
    """A field that holds nothing where something is needed; such rows can be dropped and
    counted."""


def fail(row: Row, field: str, problem: str, *, error: type[UserError] = UserError) -> NoReturn:
    """Raise the error that names file, row and field, the field as the row has it."""
    raise error(problem, file=row.file, row=row.number, field=_theirs(field, row.reading))


def _theirs(field: str, reading: Reading) -> str:
    """What the row itself calls a field that goes by another name here, or stands inside of one
    that does."""
    for length in (
        len(field),
        *sorted((at for at, sign in enumerate(field) if sign in ".["), reverse=True),
    ):
        if field[:length] in reading.written:
            return reading.written[field[:length]] + field[length:]
    return field


def _content(row: Row, name: str, role: str, value: Any, *, empty: bool) -> str:
    """Text, or a list of parts that are text, which are joined with nothing between, as templates
    that take parts do."""
    if isinstance(value, list):
        value = "".join(_part(row, f"{name}[{i}]", part) for i, part in enumerate(value))
    if (empty and value in (None, "")) or (value == "" and role in ("system", "tool")):
        return (  # a system turn that is empty on purpose keeps a template from inserting its default  # noqa: E501
            ""
        )
    return filled(row, name, value)


def _part(row: Row, name: str, part: Any) -> str:
    if isinstance(part, str):
        return part
    if (
        isinstance(part, Mapping)
        and isinstance(part.get("text"), str)
        and part.get("type", "text") == "text"
    ):
        return part["text"]
    what = part.get("type") if isinstance(part, Mapping) else kind(part)
    fail(row, name, f"is no text but {shown(what)}: models are trained on text alone. {_REMEDY}")


def _reasoning(row: Row, name: str, role: str, value: Mapping[str, Any]) -> str | None:
    written = {key: value[key] for key in _REASONING if value.get(key) not in (None, "")}
    if not written:
        return None
    key, text = next(iter(written.items()))
    if role != "assistant":
        fail(row, f"{name}.{key}", f"belongs to an assistant's turn, not the {role}'s. {_REMEDY}")
    if any(other != text for other in written.values()):
        fail(row, f"{name}.{key}", f"differs from {list(written)[1]}. Keep one of them.")
    if key != _REASONING[0]:
        row.reading.written = {**row.reading.written, f"{name}.{_REASONING[0]}": f"{name}.{key}"}
    return filled(row, f"{name}.{key}", text)


def _tool_calls(row: Row, name: str, role: str, value: Any) -> list[Mapping[str, Any]]:
    if not value:
        return []
    if role != "assistant":
        fail(
            row, f"{name}.tool_calls", f"belong to an assistant's turn, not the {role}'s. {_REMEDY}"
        )
    if not isinstance(value, list):
        fail(row, f"{name}.tool_calls", f"must be a list, not {kind(value)}.")
    return [_tool_call(row, f"{name}.tool_calls[{i}]", call) for i, call in enumerate(value)]


def _tool_call(row: Row, name: str, call: Any) -> Mapping[str, Any]:
    about = call.get("function", call) if isinstance(call, Mapping) else None
    if (
        not isinstance(about, Mapping)
        or not isinstance(about.get("name"), str)
        or not about["name"]
    ):
        fail(
            row, name, 'must be an object {"type": "function", "function": {"name", "arguments"}}.'
        )
    arguments = about.get("arguments", {})
    if isinstance(arguments, str):  # OpenAI's form; templates want the object
        try:
            arguments = json.loads(arguments or "{}")
        except ValueError:
            fail(
                row,
                f"{name}.function.arguments",
                f"is no JSON: {shown(arguments)}. Mend it, or remove the row.",
            )
    if not isinstance(arguments, Mapping | None):
        fail(row, f"{name}.function.arguments", f"must be an object, not {kind(arguments)}.")
    kept = {key: call[key] for key in ("id",) if isinstance(call.get(key), str)}
    return {
        "type": "function",
        **kept,
        "function": {"name": about["name"], "arguments": dict(arguments or {})},
    }


def _trained(row: Row, name: str, role: str, value: Mapping[str, Any]) -> bool:
    """Whether the message's marks let it be trained; without any, an assistant's turn is."""
    marks = {key: value[key] for key in _TRAINED if value.get(key) is not None}
    for key, mark in marks.items():
        if mark not in (0, 1):
            fail(
                row,
                f"{name}.{key}",
                f"must be true or false (1 or 0), not {shown(mark)}: turns are not weighed.",
            )
        if mark and role != "assistant" and key != "weight":
            fail(
                row,
                f"{name}.{key}",
                f"is true on the {role}'s turn; only an assistant's is trained. {_REMEDY}",
            )
    return role != "assistant" or all(marks.values())


def _parsed(row: Row, name: str, value: Any) -> Any:
    if not isinstance(value, str) or not value.strip():
        return value
    try:
        return json.loads(value)
    except ValueError:
        fail(row, name, f"is text that is no JSON: {shown(value)}. Mend it, or remove the row.")


def _check_unicode(row: Row, name: str, text: str) -> None:
    if holds_surrogate(text):
        fail(
            row,
            name,
            "holds half of a surrogate pair, which is not text. Mend it, or remove the row.",
        )
