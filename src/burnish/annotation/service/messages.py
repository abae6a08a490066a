"""Turns of a conversation as they are uploaded: text, calls of tools and what they returned."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from burnish.annotation.service.submission import LONGEST_TEXT, StorableText
from burnish.annotation.settings import is_storable
from burnish.records import Message


class FunctionRow(BaseModel):
    """What is called, with its arguments as an object (or, as OpenAI writes them, the JSON text of
    one)."""

    model_config = ConfigDict(extra="forbid")

    name: StorableText = Field(min_length=1, max_length=200)
    arguments: dict[str, Any] = Field(default_factory=dict)

    @field_validator("arguments", mode="before")
    @classmethod
    def _read(cls, given: Any) -> Any:
        if isinstance(given, str):
            try:
                return json.loads(given or "{}")
            except (ValueError, RecursionError) as error:
                raise ValueError(f"the arguments are no JSON ({error})") from error
        return {} if given is None else given

    @field_validator("arguments")
    @classmethod
    def _storable(cls, given: dict[str, Any]) -> dict[str, Any]:
        if not is_storable(given):
            raise ValueError("there are characters or numbers that cannot be stored")
        return given


class CallRow(BaseModel):
    """A call of a tool."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["function"] = "function"
    id: StorableText | None = Field(default=None, max_length=200)
    function: FunctionRow


class MessageRow(BaseModel):
    """One turn. An assistant's may call tools (`tool_calls`) and think first (`reasoning_content`);
    a tool's has the name of what was called, or the id of the call."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: StorableText = Field(default="", max_length=LONGEST_TEXT)
    reasoning_content: StorableText | None = Field(default=None, max_length=LONGEST_TEXT)
    tool_calls: list[CallRow] | None = Field(default=None, max_length=50)
    tool_call_id: StorableText | None = Field(default=None, max_length=200)
    name: StorableText | None = Field(default=None, max_length=200)

    @field_validator("content", mode="before")
    @classmethod
    def _text(cls, given: Any) -> Any:
        return "" if given is None else given

    @model_validator(mode="after")
    def _whose(self) -> MessageRow:
        if self.role != "assistant" and (self.tool_calls or self.reasoning_content):
            raise ValueError(
                "tool_calls and reasoning_content belong to an assistant's turn, not the"
                f" {self.role}'s"
            )
        if self.role != "tool" and (self.tool_call_id or self.name):
            raise ValueError(
                f"tool_call_id and name belong to a tool's turn, not the {self.role}'s"
            )
        if "content" not in self.model_fields_set and not self.tool_calls:
            raise ValueError("a turn has content")
        return self

    def turn(self) -> Message:
        """The turn as it is kept: without what it does not have."""
        kept = self.model_dump(exclude_none=True, exclude={"content"})
        if not kept.get("tool_calls"):
            kept.pop("tool_calls", None)
        return Message(**{"content": self.content, **kept})
