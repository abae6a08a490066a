"""Answers of several turns (an agent's trace: calls of tools, what they returned, what was said) as
one readable text.

The text is what an answer is known by: two answers are the same where their texts are. It holds all
that the turns say, calls with their arguments among it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from burnish.records import Message


def is_trace(messages: Sequence[Message]) -> bool:
    """Whether an answer is more than its last turn's text."""
    return len(messages) > 1 or any(message.get("tool_calls") for message in messages)


def trace_text(messages: Sequence[Message]) -> str:
    """The turns of an answer one below the other: `→ name(arguments)` is a call, `← name: text`
    what a tool returned."""
    return "\n\n".join(filter(None, (turn_text(message) for message in messages)))


def answer_turns(text: str, traces: Mapping[str, Sequence[Message]]) -> list[dict[str, Any]]:
    """An answer as messages: the turns that `traces` has of it, or its text as the assistant's."""
    return [dict(message) for message in traces.get(text, ())] or [
        {"role": "assistant", "content": text}
    ]


def turn_text(message: Message) -> str:
    """What a turn says, its calls of tools included; of a plain turn, its content as it is."""
    if message["role"] == "tool":
        return (
            f"← {message.get('name') or message.get('tool_call_id') or 'tool'}:"
            f" {message['content']}"
        )
    parts = (
        message.get("reasoning_content", ""),
        message["content"],
        *map(call_text, message.get("tool_calls", ())),
    )
    return "\n\n".join(filter(None, parts))


def call_text(call: Mapping[str, Any]) -> str:
    """A call of a tool in a line."""
    about = call["function"]
    return (
        f"→ {about['name']}({json.dumps(about['arguments'], ensure_ascii=False, sort_keys=True)})"
    )
