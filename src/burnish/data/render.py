"""Between chat and tokens: what a model reads, and which of it is trained.

Tokens are cut where a sampler would cut them: a prompt, with the header of the assistant's turn, is
tokenised as it is at generation, and the response follows. What is trained and what is sampled are
then the same tokens, even where a tokenizer would merge across that border. The end token of every
assistant turn is trained, or the model would never learn to stop; the header before a turn and the
white space after its end token are not.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from burnish.data.chat import OPENED, Chat, chat_of
from burnish.data.columns import Loaded, NothingLeft, Origin, Record, record_id
from burnish.data.messages import as_written
from burnish.data.pieces import encoded, tokenised
from burnish.data.templates import BEGIN, END, TEMPLATE_FIELD
from burnish.errors import UserError
from burnish.records import TEXT, Demonstration, Message, Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Output = TypeVar("Output")
Span = tuple[int, int]  # characters [start, stop) of a rendered conversation

_NO_ORIGINS: Mapping[str, Origin] = MappingProxyType({})
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_REASONING = re.compile(r"\s*(?:<think>)?(.*?)</think>(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation's tokens, and for each of them whether it is trained."""

    tokens: tuple[int, ...]
    response_mask: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class RenderedResponse:
    """A prompt's tokens up to the end of the assistant's header, and the response's tokens, the end
    token included; which of them are the model's own (None: all)."""

    prompt_tokens: tuple[int, ...]
    response_tokens: tuple[int, ...]
    response_mask: tuple[bool, ...] | None = None


class TooLong(UserError):
    """There are more tokens than there is room for. `render_each` can drop and count such items."""


def render_demonstration(
    tokenizer: PreTrainedTokenizerBase, demo: Demonstration, *, max_tokens: int
) -> tuple[Rendered, ...]:
    """The demonstration under the tokenizer's chat template, every assistant turn and its end token
    trained once.

    A template with `{% generation %}` blocks says itself where the turns are. With any other, the
    conversation's growing
    beginnings are rendered: what the template adds to the prompt before a turn is that turn. Where
    each rendering begins with the one before, that is one sequence. Where the template writes
    earlier turns otherwise once there are later ones (without their reasoning, say), each turn is a
    sequence of its own, behind the prompt that a sampler would have had.

    Raises TooLong where a sequence is above `max_tokens`, and UserError when there is no template,
    when it leaves out or changes the text, or ends a turn without an end token, and when the text
    holds a control token.
    """
    what = f"demonstration {demo.id!r}"
    if demo.messages[0]["role"] == TEXT:
        plain = _as_it_stands(tokenizer, demo.messages[0]["content"])
        _check_length(len(plain.tokens), max_tokens, what)
        return (plain,)
    chat = chat_of(tokenizer)
    _check_text(chat, demo.messages, demo.id)
    chat.check_options(demo.chat_template_kwargs, field="chat_template_kwargs")
    text = chat.text(demo.messages, demo.id, tools=demo.tools, kwargs=demo.chat_template_kwargs)
    _check_kept(chat, text, demo.messages, demo.id, demo.tools)
    found = (
        _spans_of_blocks(chat, demo, text)
        if chat.template.has_blocks
        else _spans_of_prefixes(chat, demo, text)
    )
    if found is None:
        return tuple(_turns_apart(tokenizer, chat, demo, max_tokens))
    text, spans = found
    pieces = tokenised(tokenizer, text, [place for span in spans for place in span])
    mask = tuple(i % 2 == 1 for i, piece in enumerate(pieces) for _ in piece)
    _check_length(len(mask), max_tokens, what)
    return (Rendered(tuple(token for piece in pieces for token in piece), mask),)


def _as_it_stands(tokenizer: PreTrainedTokenizerBase, text: str) -> Rendered:
    """A text outside any chat: as the tokenizer has it, with its end token behind; trained is all
    of it but the first token, which nothing comes before.

    A text that was written by a chat template holds these tokens already.
    """
    begin, end = (
        None if one is None else str(one) for one in (tokenizer.bos_token, tokenizer.eos_token)
    )
    begun = begin is not None and text.startswith(begin)
    tokens = list(tokenizer(text, add_special_tokens=not begun)["input_ids"])
    closed = end is not None and (
        text.rstrip().endswith(end) or tokens[-1:] == [tokenizer.eos_token_id]
    )
    if tokenizer.eos_token_id is not None and not closed:
        tokens.append(tokenizer.eos_token_id)
    return Rendered(tuple(tokens), (False, *[True] * (len(tokens) - 1)))


def render_prompt(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Prompt,
    *,
    max_tokens: int,
    tools: Sequence[Mapping[str, Any]] = (),
) -> tuple[int, ...]:
    """The prompt's tokens, with the header of the assistant's turn at the end.

    The template is handed `tools`, or else the prompt's own. Of it no more is asked than this one
    rendering. Raises TooLong above `max_tokens`; other errors as `render_demonstration`.
    """
    chat = chat_of(tokenizer)
    _check_text(chat, prompt.messages, prompt.id)
    before = _before(chat, prompt, tools=tools)
    tokens = encoded(tokenizer, before)
    _check_length(len(tokens), max_tokens, f"prompt {prompt.id!r}")
    return tokens


def render_response(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt, text: str, *, max_tokens: int
) -> RenderedResponse:
    """The tokens of `prompt`, as `render_prompt` has them, and of `text` as the answer to it, which
    may be empty.

    A text that holds tokens of the template's own (channels, stray headers: only a model writes
    them) is taken as it is, with the end token behind it; any other is written as the template
    writes an answer.

    Raises TooLong when both together exceed `max_tokens`; other errors as `render_demonstration`.
    """
    chat = chat_of(tokenizer)
    what = f"prompt {prompt.id!r} with its response"
    _check_text(chat, prompt.messages, prompt.id)
    before = _before(chat, prompt)
    said = Message(role="assistant", content=text)
    if chat.structure_pattern.search(text):
        _check_ends(chat, text, prompt)
        turn = text + _turn_end(chat)
    else:
        turn = _turn(
            chat,
            before,
            (*prompt.messages, said),
            prompt.id,
            prompt.tools,
            prompt.chat_template_kwargs,
        )
    prompt_tokens, response_tokens = tokenised(tokenizer, before + turn, [len(before)])
    _check_length(len(prompt_tokens) + len(response_tokens), max_tokens, what)
    return RenderedResponse(prompt_tokens, response_tokens)


def render_reply(
    tokenizer: PreTrainedTokenizerBase, message: Message, *, name: str = "reply"
) -> tuple[int, ...]:
    """The tokens between the end token of an assistant's turn and the next such turn, with
    `message` said in between.

    They go behind the tokens that were sampled, which are never decoded and tokenised again.
    Raises UserError when the template refuses the message's role or leaves it out, and when the
    text holds a control token.
    """
    chat = chat_of(tokenizer)
    _check_text(chat, [message], name)
    said, asked = (
        Message(role="assistant", content="burnishsaid"),
        Message(role="user", content="a"),
    )
    whole = chat.text([asked, said, message], name, header=True)
    _check_kept(chat, whole, [asked, said, message], name)
    place = whole.rfind(said["content"])
    end = chat.control_pattern.search(whole, place)
    if place < 0 or end is None:
        raise UserError(
            f"the chat template leaves no place for {name!r}.", hint="Use another template."
        )
    return encoded(tokenizer, whole[end.end() :])


def without_control_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """The text with the template's control tokens taken out, for text that a machine made and
    nobody can mend."""
    pattern, before = chat_of(tokenizer).control_text_pattern, None
    while text != before:  # what is left may spell another
        before, text = text, pattern.sub("", text)
    return text


def quotable(
    tokenizer: PreTrainedTokenizerBase, messages: Iterable[Message]
) -> tuple[Message, ...]:
    """Messages that quote what models wrote, each `without_control_tokens`."""
    cleaned = ((m, without_control_tokens(tokenizer, m["content"])) for m in messages)
    return tuple(m if text == m["content"] else {**m, "content": text} for m, text in cleaned)


def call_marks(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str] | None:
    """What the chat template writes before and after the JSON of a tool call; None if it writes no
    tool calls."""
    chat = chat_of(tokenizer)
    call = {"type": "function", "function": {"name": "burnish_probe", "arguments": {"x": 1}}}
    said = Message(role="assistant", content="", tool_calls=[call])
    asked = Message(role="user", content="a")
    try:
        header = chat.text([asked], "probe", header=True)
        text = chat.text([asked, said], "probe")
    except UserError:  # a template may refuse the form in ways of its own; then it has none
        return None
    turn = text[len(header) :] if text.startswith(header) else text
    at = turn.find("burnish_probe")
    start, stop = turn.rfind("{", 0, at), turn.rfind("}")
    if at < 0 or start < 0:
        return None
    after = turn[stop + 1 :]
    for token in chat.controls:
        after = after.partition(token)[0]
    return turn[:start].strip(), after.strip()


def describes_tools(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the chat template describes tools to the model when it is handed them."""
    return chat_of(tokenizer).template.reads_tools


def end_token_ids(
    tokenizer: PreTrainedTokenizerBase, generation_config: object | None = None
) -> tuple[int, ...]:
    """Where generation stops: at the token that ends the template's assistant turn, which comes
    first, at the tokenizer's `eos_token`, and at each `eos_token_id` of the model's generation
    config.

    Raises UserError where there is none at all.
    """
    end = chat_of(tokenizer).turn_end
    template = [] if end is None else list(encoded(tokenizer, end))[-1:]
    named = getattr(generation_config, "eos_token_id", None)
    listed = named if isinstance(named, list | tuple) else [named]
    ids = dict.fromkeys(
        i for i in (*template, tokenizer.eos_token_id, *listed) if isinstance(i, int) and i >= 0
    )
    if not ids:
        raise UserError(_NO_END, field=TEMPLATE_FIELD, hint=_NO_END_HINT)
    return tuple(ids)


def render_each(
    items: Iterable[Record],
    render: Callable[[Record], Output],
    *,
    too_long: Literal["error", "drop"] = "error",
    origins: Mapping[str, Origin] = _NO_ORIGINS,
) -> Loaded[tuple[Record, Output]]:
    """Each item beside what `render` makes of it; with `too_long="drop"`, those too long are
    dropped and counted.

    An error names the item's file and row if `origins` (those of the `Loaded` that the items came
    from) knows it.
    """
    kept: list[tuple[Record, Output]] = []
    dropped: Counter[str] = Counter()
    for item in items:
        try:
            kept.append((item, render(item)))
        except TooLong as error:
            if too_long == "error":
                raise _placed(error, origins.get(record_id(item))) from error
            dropped["too long"] += 1
        except UserError as error:
            raise _placed(error, origins.get(record_id(item))) from error
    if not kept:
        raise NothingLeft(
            f"nothing is left that fits (too long: {dropped['too long']}). Allow more tokens."
        )
    return Loaded(tuple(kept), dict(dropped), origins)


def _placed(error: UserError, origin: Origin | None) -> UserError:
    if origin is None or error.field == TEMPLATE_FIELD:  # the row is not to blame
        return error
    field = None if error.field is None else as_written(error.field, origin.reading)
    return type(error)(
        error.problem, file=origin.file, row=origin.row, field=field, hint=error.hint
    )


def _before(chat: Chat, prompt: Prompt, *, tools: Sequence[Mapping[str, Any]] = ()) -> str:
    """What the model reads before it answers."""
    kwargs = prompt.chat_template_kwargs
    if kwargs:
        chat.check_options(kwargs, field="chat_template_kwargs")
    before = chat.text(
        prompt.messages, prompt.id, header=True, tools=tools or prompt.tools, kwargs=kwargs
    )
    _check_kept(chat, before, prompt.messages, prompt.id, prompt.tools)
    return before


def _spans_of_prefixes(chat: Chat, demo: Demonstration, text: str) -> tuple[str, list[Span]] | None:
    """Where in `text` the trained turns are, from after the header to after the end token; None
    where a later turn changes what stands before. A template that ends its last turn with nothing
    gets the end token behind the text."""
    spans: list[Span] = []
    for k, message in enumerate(demo.messages):
        if not _is_trained(message):
            continue
        given: dict[str, Any] = {"tools": demo.tools, "kwargs": demo.chat_template_kwargs}
        before = chat.text(demo.messages[:k], demo.id, header=True, **given)
        after = (
            chat.text(demo.messages[: k + 1], demo.id, **given)
            if k + 1 < len(demo.messages)
            else text
        )
        if not after.startswith(before):
            return None
        _check_turn(chat, after[len(before) :], message, k, demo.id)
        stop = _stop(chat, after, (len(before), len(after)), message)
        if not text.startswith(after[:stop]):
            return None
        if stop is None:  # the next role's token may end it
            stop = _stop(chat, text, (len(before), len(after)), message)
        if stop is None and k + 1 == len(demo.messages):
            text += _turn_end(chat)
            stop = len(text)
        if stop is None:
            return None
        spans.append((len(before), stop))
    return text, spans


def _turns_apart(
    tokenizer: PreTrainedTokenizerBase, chat: Chat, demo: Demonstration, max_tokens: int
) -> Iterable[Rendered]:
    """One sequence a trained turn, with the prefix that the model would see."""
    for k, message in enumerate(demo.messages):
        if not _is_trained(message):
            continue
        talk = demo.messages[:k]
        before = chat.text(
            talk, demo.id, header=True, tools=demo.tools, kwargs=demo.chat_template_kwargs
        )
        _check_kept(chat, before, talk, demo.id, demo.tools)
        turn = _turn(chat, before, (*talk, message), demo.id, demo.tools, demo.chat_template_kwargs)
        prompt, response = tokenised(tokenizer, before + turn, [len(before)])
        _check_length(len(prompt) + len(response), max_tokens, f"demonstration {demo.id!r}")
        yield Rendered((*prompt, *response), (*[False] * len(prompt), *[True] * len(response)))


def _turn(
    chat: Chat,
    before: str,
    messages: Sequence[Message],
    name: str,
    tools: Sequence[Mapping[str, Any]],
    kwargs: Mapping[str, Any],
) -> str:
    """What the model is to write after `before`: the last message as the template writes it, with
    its end token.

    Where the template writes the turn otherwise than its own prompt begins it, what the prompt
    opened is gone on with.
    """
    whole = chat.text(messages, name, tools=tools, kwargs=kwargs)
    if whole.startswith(before):
        _check_turn(chat, whole[len(before) :], messages[-1], len(messages) - 1, name)
        stop = _stop(chat, whole, (len(before), len(whole)), messages[-1])
        return whole[len(before) :] + _turn_end(chat) if stop is None else whole[len(before) : stop]
    return _gone_on(before, messages[-1], len(messages) - 1, name) + _turn_end(chat)


def _gone_on(before: str, message: Message, number: int, name: str) -> str:
    """The message as it follows a prompt that opens a mark for it. An answer without reasoning
    closes the mark at once."""
    reasoning, content = message.get("reasoning_content"), message["content"]
    if message.get("tool_calls"):
        problem = (
            f"the chat template does not write the tool calls of {name!r} where the model would."
        )
        raise UserError(
            problem,
            field=f"messages[{number}].tool_calls",
            hint="Set model.chat_template to one that does.",
        )
    opened = OPENED.search(before)
    if opened is None:
        if reasoning is not None:
            raise _lost("reasoning", f"messages[{number}].reasoning_content", name)
        return content
    mark, space = (opened[1], opened[2]) if opened[1] else (opened[3], opened[4])
    opening, closing = (f"<{mark}>", f"</{mark}>") if opened[1] else (f"[{mark}]", f"[/{mark}]")
    line = "\n" if "\n" in space else ""
    if reasoning is not None:
        return f"{reasoning.strip()}{line}{closing}{line * 2}{content}"
    if closing in content:
        rest = content.lstrip()
        return rest[len(opening) :].removeprefix(line) if rest.startswith(opening) else content
    return f"{line}{closing}{line * 2}{content}"


def _spans_of_blocks(chat: Chat, demo: Demonstration, text: str) -> tuple[str, list[Span]]:
    """What stands in `{% generation %}` blocks, found by rendering with a mark at either end of
    them.

    Blocks with no token of a turn's structure between them are of one turn, whose end token is
    trained with the last.
    """
    given: dict[str, Any] = {"tools": demo.tools, "kwargs": demo.chat_template_kwargs}
    marked = chat.text(demo.messages, demo.id, marked=True, **given)
    turns: list[list[Span]] = []
    start = length = depth = 0
    for piece in re.split(f"([{BEGIN}{END}])", marked):
        if piece in (BEGIN, END):
            depth += 1 if piece == BEGIN else -1
            if piece == BEGIN and depth == 1:
                start = length
            elif piece == END and depth == 0 and length > start:
                gap = text[turns[-1][-1][1] : start] if turns else ""
                if not turns or chat.control_pattern.search(
                    text[turns[-1][-1][0] : turns[-1][-1][1]] + gap
                ):
                    turns.append([])
                turns[-1].append((start, length))
        else:
            length += len(piece)
    if marked.replace(BEGIN, "").replace(END, "") != text:
        raise UserError(
            f"the generation blocks of the chat template cannot be followed in {demo.id!r}."
            " Simplify them."
        )
    said = [
        (k, message) for k, message in enumerate(demo.messages) if message["role"] == "assistant"
    ]
    if len(turns) != len(said):
        problem = f"the chat template marks {len(turns)} turns of the {len(said)} in {demo.id!r}."
        raise UserError(problem, hint="Mend the template.")
    spans: list[Span] = []
    for blocks, (k, message) in zip(turns, said, strict=True):
        _check_turn(chat, text[blocks[0][0] : blocks[-1][1]], message, k, demo.id)
        stop = _stop(chat, text, blocks[-1], message)
        if stop is None and k + 1 == len(demo.messages):
            text += _turn_end(chat)
            stop = len(text)
        if stop is None:
            raise UserError(_NO_END, field=TEMPLATE_FIELD, hint=_NO_END_HINT)
        if _is_trained(message):
            spans += [*blocks[:-1], (blocks[-1][0], stop)]
    return text, spans


def _is_trained(message: Message) -> bool:
    return message["role"] == "assistant" and message.get("trainable", True)


def _stop(chat: Chat, text: str, span: Span, message: Message) -> int | None:
    """Where the turn's end token ends: the first token after the words, in the span or behind it
    but for white space."""
    start, stop = span
    words = message["content"].strip()
    said = text.rfind(words, start, stop) if words and not message.get("tool_calls") else -1
    if said >= 0:
        first = chat.control_pattern.search(text, said + len(words), stop)
        if first is not None:
            return first.end()
    turn = text[start:stop].rstrip()
    if turn.endswith(chat.controls):
        return start + len(turn)
    after = re.compile(rf"\s*(?:{chat.control_pattern.pattern})").match(text, stop)
    return None if after is None else after.end()


_NO_END = (
    "the chat template ends the assistant's turn with no special token: the model would never learn"
    " to stop."
)
_NO_END_HINT = (
    "Use a template with an end-of-turn token that the tokenizer knows as special"
    " (model.chat_template)."
)


def _turn_end(chat: Chat) -> str:
    if chat.turn_end is None:
        raise UserError(_NO_END, field=TEMPLATE_FIELD, hint=_NO_END_HINT)
    return chat.turn_end


def _check_text(chat: Chat, messages: Sequence[Message], name: str) -> None:
    """Text that spells a token of the template would end its turn, or begin another, behind the
    reader's back."""
    for i, message in enumerate(messages):
        own = message["role"] == "assistant"
        pattern = chat.structure_pattern if own else chat.control_text_pattern
        for key, text in (
            ("content", message["content"]),
            ("reasoning_content", message.get("reasoning_content")),
        ):
            found = pattern.search(text) if text else None
            if found is not None:
                problem = (
                    f"the {message['role']}'s text in {name!r} holds the control token"
                    f" {found[0]!r}. Remove it."
                )
                raise UserError(problem, field=f"messages[{i}].{key}")


def _check_ends(chat: Chat, text: str, prompt: Prompt) -> None:
    """A response may hold what a model can write, but not the token that would have ended it."""
    end = _turn_end(chat).strip()
    if end in text:
        problem = (
            f"the assistant's text in {prompt.id!r} holds the control token {end!r}. Remove it."
        )
        raise UserError(problem, field=f"messages[{len(prompt.messages)}].content")


def _check_kept(
    chat: Chat,
    text: str,
    messages: Sequence[Message],
    name: str,
    tools: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Nothing that somebody wrote vanishes: the words of every other role, and the tools, stand in
    the rendered text.

    An assistant's earlier turns may lose their reasoning: that is the template's way of showing
    them.
    """
    shown = chat.shown_roles(tuple(message["role"] for message in messages))
    place = 0
    for i, message in enumerate(messages):
        words = message["content"].strip()
        if message["role"] == "assistant":
            reasoned = _REASONING.fullmatch(words)
            words = reasoned[2].strip() if reasoned is not None else words
        if not words:
            continue
        if message["role"] != "assistant" and i not in shown:
            raise _lost(f"{message['role']}'s text", f"messages[{i}].content", name)
        at = _find(text, words, 0 if message["role"] in ("system", "developer") else place)
        if at < 0:
            raise _lost(f"{message['role']}'s text", f"messages[{i}].content", name)
        place = max(place, at) if message["role"] not in ("system", "developer") else place
    for i, tool in enumerate(tools):
        named = str(tool.get("function", tool).get("name", ""))
        if named not in text:
            raise _lost("tools", f"tools[{i}]", name)


def _find(text: str, words: str, place: int) -> int:
    at = text.find(words, place)
    return text.find(json.dumps(words, ensure_ascii=False)[1:-1], place) if at < 0 else at


def _check_turn(chat: Chat, turn: str, message: Message, number: int, name: str) -> None:
    """What the assistant says stands in its turn: words, reasoning, calls of tools."""
    words = message["content"].strip()
    if words not in turn:
        reasoned = _REASONING.fullmatch(words)
        parts = [] if reasoned is None else [part.strip() for part in reasoned.groups()]
        if not parts or not all(part in turn for part in parts):
            problem = (
                f"the chat template changes what the assistant says in {name!r}. Use another"
                " template."
            )
            raise UserError(problem, field=f"messages[{number}].content")
    reasoning = message.get("reasoning_content")
    if reasoning is not None and reasoning.strip() not in turn:
        raise _lost("reasoning", f"messages[{number}].reasoning_content", name)
    for i, call in enumerate(message.get("tool_calls", ())):
        if call["function"]["name"] not in turn:
            raise _lost("tool calls", f"messages[{number}].tool_calls[{i}]", name)


def _lost(what: str, field: str, name: str) -> UserError:
    hint = (
        "Put it into the text of another turn, remove it, or set model.chat_template to a template"
        " that writes it."
    )
    return UserError(
        f"the chat template leaves out, or changes, the {what} in {name!r}.", field=field, hint=hint
    )


def _check_length(tokens: int, max_tokens: int, what: str) -> None:
    if tokens > max_tokens:
        problem = f"{what} has {tokens} tokens; at most {max_tokens} fit."
        raise TooLong(problem, field="messages", hint="Shorten it, drop it, or allow more tokens.")
