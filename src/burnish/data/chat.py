"""A tokenizer and its chat template as one thing: texts of conversations, and which of its tokens
end, begin or mark what."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from burnish.data.kept import kept
from burnish.data.templates import TEMPLATE_FIELD, ChatTemplate, compiled, plain_messages
from burnish.errors import UserError
from burnish.records import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_OPTIONS, _CHAT = "burnish_chat_options", "burnish_chat"  # attributes that a tokenizer gets
# Marks of what an answer is made of, which its text may hold: reasoning, answers, calls of tools.
_MARK = re.compile(
    r"<\|?/?(?:\w+_of_)?(?:think|thinking|thought|reason|reasoning|answer|solution|tool|tools|function|scratchpad)"
    r"(?:_\w+)?\|?>|\[/?(?:THINK|TOOL_CALLS|TOOL_RESULTS|ARGS|CALL_ID)\]",
    re.IGNORECASE,
)
OPENED = re.compile(r"<([A-Za-z_]+)>(\s*)\Z|\[([A-Z_]+)\](\s*)\Z")
"""What a prompt opens for the answer: a mark such as `<think>` at its end, and the white space
after it."""

_CLOSED = re.compile(r"<([A-Za-z_]+)>\s*</\1>\s*\Z")
_SAID = "burnishsaid"  # stands for an answer where only the template's own words matter


@dataclass(frozen=True)
class ChatOptions:
    """What a run settles for every text: the day that templates print as today's, and
    `chat_template_kwargs`."""

    day: date | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)


def set_chat_options(tokenizer: PreTrainedTokenizerBase, options: ChatOptions) -> None:
    """Use these options in everything that is rendered with this tokenizer from now on.

    Raises UserError for an option that the chat template does not read.
    """
    setattr(tokenizer, _OPTIONS, options)
    chat_of(tokenizer).check_options(options.kwargs, field="model.chat_template_kwargs")


def chat_of(tokenizer: PreTrainedTokenizerBase) -> Chat:
    """The chat of a tokenizer as it is now; made anew when its template, tokens or options have
    changed."""
    options = getattr(tokenizer, _OPTIONS, None) or ChatOptions()
    state = (
        tokenizer.chat_template,
        tokenizer.special_tokens_map,
        tokenizer.all_special_tokens,
        len(tokenizer),
        options,
    )
    return kept(tokenizer, _CHAT, state, lambda: Chat(tokenizer, options))


class Chat:
    """See `chat_of`. Nothing here is worked out before it is asked for."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, options: ChatOptions) -> None:
        self._tokenizer, self._options = tokenizer, options
        self._shown: dict[tuple[str, ...], frozenset[int]] = {}

    @cached_property
    def template(self) -> ChatTemplate:
        """The template. Raises UserError if there is none."""
        return self._template(())

    def _template(self, tools: Sequence[Mapping[str, Any]]) -> ChatTemplate:
        try:
            return compiled(
                self._tokenizer.get_chat_template(tools=[dict(tool) for tool in tools] or None)
            )
        except ValueError as error:
            hint = (
                "Set model.chat_template to a template or its path, or put a chat_template.jinja"
                " beside the tokenizer."
            )
            name = self._tokenizer.name_or_path or None
            raise UserError(
                "the tokenizer has no chat template.", file=name, field=TEMPLATE_FIELD, hint=hint
            ) from error

    def text(
        self,
        messages: Sequence[Message],
        name: str,
        *,
        header: bool = False,
        tools: Sequence[Mapping[str, Any]] = (),
        kwargs: Mapping[str, Any] = _NOTHING,
        marked: bool = False,
    ) -> str:
        """The conversation as text, with the header of an assistant's turn behind it where asked
        for."""
        variables = {
            **self._names, **self._options.kwargs, **kwargs,
            "messages": plain_messages(messages), "tools": [dict(tool) for tool in tools] or None,
            "documents": None, "add_generation_prompt": header,
        }  # fmt: skip
        template = self._template(tools) if tools else self.template
        return template.render(variables, day=self._options.day, name=name, marked=marked)

    def check_options(self, kwargs: Mapping[str, Any], *, field: str) -> None:
        """Raise UserError for an option that the template does not read: it would be passed over in
        silence."""
        options = self.template.options - self._names.keys()
        unknown = next((key for key in kwargs if key not in options), None)
        if unknown is not None:
            known = ", ".join(sorted(options)) or "none"
            hint = f"The options it reads: {known}."
            raise UserError(f'the chat template has no option "{unknown}".', field=field, hint=hint)

    @cached_property
    def _names(self) -> dict[str, Any]:
        return dict(self._tokenizer.special_tokens_map)

    @cached_property
    def special(self) -> tuple[str, ...]:
        """The tokenizer's special tokens."""
        added = (
            token.content
            for token in self._tokenizer.added_tokens_decoder.values()
            if token.special
        )
        return tuple(dict.fromkeys((*self._tokenizer.all_special_tokens, *added)))

    @cached_property
    def controls(self) -> tuple[str, ...]:
        """What can end a turn: special tokens, and other tokens of their own that the template
        writes; no marks."""
        literals = self.template.literals
        added = (token.content for token in self._tokenizer.added_tokens_decoder.values())
        written = (token for token in added if token in literals and token.strip())
        tokens = dict.fromkeys((*self.special, *written))
        return tuple(sorted((t for t in tokens if not _MARK.fullmatch(t)), key=len, reverse=True))

    @cached_property
    def control_pattern(self) -> re.Pattern[str]:
        """Finds the next token of `controls`."""
        return re.compile("|".join(map(re.escape, self.controls)) or "(?!)")

    @cached_property
    def _structure(self) -> frozenset[str]:
        """The tokens that turns are made of: what begins and ends a text, and what stands round
        what a user says."""
        asked = [Message(role="user", content="a")]
        try:
            written = self.text(asked, "probe") + without_opening(
                self.text(asked, "probe", header=True)
            )
        except UserError:  # what the template refuses is said where somebody's text is rendered
            written = self.template.literals
        named = [value for value in self._names.values() if isinstance(value, str)]
        ends = [] if self.turn_end is None else [self.turn_end.strip()]
        extra = set(self._names.get("extra_special_tokens", [])) | set(
            self._names.get("additional_special_tokens", [])
        )
        return frozenset(
            (
                *(t for t in named if t not in extra),
                *ends,
                *(t for t in self.controls if t in written),
            )
        )

    @cached_property
    def structure_pattern(self) -> re.Pattern[str]:
        """Finds what no assistant's text may hold: it would end its turn, or begin another."""
        return _pattern(self._structure)

    @cached_property
    def control_text_pattern(self) -> re.Pattern[str]:
        """Finds what no other text may hold: the tokens that turns are made of, and every special
        one that is no mark."""
        named, literals = self._tokenizer.all_special_tokens, self.template.literals
        used = (t for t in self.special if (t in named or t in literals) and not _MARK.fullmatch(t))
        return _pattern((*self._structure, *used))

    @cached_property
    def turn_end(self) -> str | None:
        """What follows an assistant's words up to the end of its end token; None if there is no
        such token.

        Where the template writes none, it is the token that begins the next role's turn.
        """
        asked, said = Message(role="user", content="a"), Message(role="assistant", content=_SAID)
        # that there is one at all is asked outside: only what it refuses is passed over
        _ = self.template
        for talk in ([asked, said], [asked, said, asked]):
            try:
                _, found, rest = self.text(talk, "probe").rpartition(_SAID)
            except UserError:
                return None
            match = self.control_pattern.search(rest) if found else None
            if match is not None and (len(talk) == 2 or not rest[: match.start()].strip()):
                return rest[: match.end()]
        return None

    def shown_roles(self, roles: tuple[str, ...]) -> frozenset[int]:
        """The places of a conversation with these roles whose words the template prints at all."""
        if roles not in self._shown:
            words = [f"burnish{i}words" for i in range(len(roles))]
            talk = [
                Message(role=role, content=text) for role, text in zip(roles, words, strict=True)
            ]
            try:
                text = self.text(talk, "probe").casefold()
                self._shown[roles] = frozenset(i for i, word in enumerate(words) if word in text)
            except UserError:  # it may look at more than roles
                self._shown[roles] = frozenset(range(len(roles)))
        return self._shown[roles]


def without_opening(header: str) -> str:
    """A prompt's end without the mark that it opens, or opens and closes, for the answer."""
    return _CLOSED.sub("", OPENED.sub("", header))


def _pattern(tokens: Sequence[str] | frozenset[str]) -> re.Pattern[str]:
    longest_first = sorted({token for token in tokens if token}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
