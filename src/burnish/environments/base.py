"""The contract of an environment, and environments that are made of tools.

    observation = environment.reset(prompt)
    text, reward, done = environment.step(what_the_policy_wrote)

One object plays one episode: it is made, reset once, and stepped after each turn of the policy
until it says that it is done. `reset` returns text for the end of the prompt, or None. The text of
`step` is the next message to the policy.
"""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from burnish.records import Prompt


class Step(NamedTuple):
    """What comes of a turn: the answer to the policy, what the turn earned, and whether the episode
    is over."""

    text: str
    reward: float
    done: bool


class Environment(Protocol):
    """One episode. Tools are described to the policy in OpenAI's function form."""

    @property
    def role(self) -> str:
        """The chat role of its answers."""
        ...

    @property
    def tools(self) -> Sequence[Mapping[str, Any]]:
        """What the policy can call; empty where there is nothing."""
        ...

    def reset(self, prompt: Prompt) -> str | None:
        """Begin; what the prompt ends with, if anything."""
        ...

    def step(self, text: str) -> Step:
        """Answer a turn of the policy."""
        ...


@dataclass(frozen=True, slots=True)
class CallForm:
    """How a chat template writes a tool call: JSON with a name and arguments, between two marks
    (both may be empty)."""

    before: str = "<tool_call>"
    after: str = "</tool_call>"

    def write(self, name: str, arguments: Mapping[str, Any]) -> str:
        """A call as the policy should write it."""
        inner = json.dumps({"name": name, "arguments": dict(arguments)})
        return f"{self.before}\n{inner}\n{self.after}".strip()

    def find(self, text: str) -> str | None:
        """The JSON of the first call in a turn; None if there is no call."""
        if not self.before:
            stripped = text.strip()
            return stripped if stripped.startswith("{") else None
        _, found, rest = text.partition(self.before)
        return (
            rest.partition(self.after)[0].strip()
            if found and self.after
            else rest.strip()
            if found
            else None
        )


class ToolEnvironment:
    """Public methods are tools: a turn that calls one is answered with its result, a turn without a
    call ends the episode.

    A subclass writes its tools as methods with annotated parameters and a docstring, and `score`,
    what the last turn earns. What the policy did wrong (a call that is no JSON, a tool that is not
    there, wrong arguments) is told to it, not raised.
    """

    role = "tool"

    def __init__(self, form: CallForm = CallForm()) -> None:
        self.form = form
        self.calls = 0

    @property
    def tools(self) -> Sequence[Mapping[str, Any]]:
        """The descriptions of the methods."""
        return tuple(_described(name, getattr(self, name)) for name in self._names())

    def reset(self, prompt: Prompt) -> str | None:
        """Begin; the prompt stays as it is."""
        self.prompt, self.calls = prompt, 0
        return None

    def step(self, text: str) -> Step:
        """Run the call in this turn; without one the episode is over."""
        call = self.form.find(text)
        if call is None:
            return Step("", self.score(text), True)
        self.calls += 1
        return Step(self._run(call), 0.0, False)

    def score(self, text: str) -> float:
        """What the last turn earns."""
        raise NotImplementedError

    def _names(self) -> list[str]:
        inherited = set(dir(ToolEnvironment))
        members = inspect.getmembers(type(self), inspect.isfunction)
        return [name for name, _ in members if not name.startswith("_") and name not in inherited]

    def _run(self, call: str) -> str:
        try:
            asked = json.loads(call)
            name, arguments = asked["name"], asked.get("arguments", asked.get("parameters", {}))
        except (ValueError, KeyError, TypeError, AttributeError):
            return 'error: a call is JSON with "name" and "arguments"'
        if name not in self._names():
            return (
                f"error: there is no tool {str(name)[:40]!r}; there are {', '.join(self._names())}"
            )
        method = getattr(self, name)
        try:
            inspect.signature(method).bind(**arguments)
        except TypeError:
            return f"error: {name} takes {', '.join(inspect.signature(method).parameters)}"
        return str(method(**arguments))


_JSON_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}


def _described(name: str, method: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(method)
    names = list(inspect.signature(method).parameters)
    properties = {p: {"type": _JSON_TYPES.get(hints.get(p, str), "string")} for p in names}
    about = (inspect.getdoc(method) or name).splitlines()[0]
    parameters = {"type": "object", "properties": properties, "required": names}
    return {
        "type": "function",
        "function": {"name": name, "description": about, "parameters": parameters},
    }
