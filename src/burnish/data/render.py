"""Between chat and tokens: what a model reads, and which of it is trained.

Tokens are cut where a sampler would cut them: a prompt, with the header of the assistant's turn, is tokenised as it is at
generation, and the response follows. What is trained and what is sampled are then the same tokens, even where a tokenizer
would merge across that border. The end token of every assistant turn is trained, or the model would never learn to stop;
the header before a turn and the white space after its end token are not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from burnish.data.columns import Loaded, NothingLeft, Origin, Record, record_id
from burnish.data.sources import one_line
from burnish.errors import UserError
from burnish.records import Demonstration, Message, Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Output = TypeVar("Output")
Span = tuple[int, int]  # characters [start, stop) of a rendered conversation

_NO_ORIGINS: Mapping[str, Origin] = MappingProxyType({})
_BLOCK_BEGIN = re.compile(r"\{%(-?)\s*generation\s*(-?)%\}")
_BLOCK_END = re.compile(r"\{%(-?)\s*endgeneration\s*(-?)%\}")
_BEGIN, _END = "\ufdd0", "\ufdd1"  # noncharacters: Unicode keeps them out of text


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation's tokens, and for each of them whether it is trained."""

    tokens: tuple[int, ...]
    response_mask: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class RenderedResponse:
    """A prompt's tokens up to the end of the assistant's header, and the response's tokens, the end token included."""

    prompt_tokens: tuple[int, ...]
    response_tokens: tuple[int, ...]


class TooLong(UserError):
    """There are more tokens than there is room for. `render_each` can drop and count such items."""


def render_demonstration(tokenizer: PreTrainedTokenizerBase, demo: Demonstration, *, max_tokens: int) -> Rendered:
    """The demonstration under the tokenizer's chat template, every assistant turn and its end token trained.

    A template with `{% generation %}` blocks says itself where the turns are. With any other, the conversation's growing
    beginnings are rendered: what the template adds to the prompt before a turn is that turn. This needs each rendering
    to begin with the one before.

    Raises TooLong above `max_tokens`, and UserError when there is no template, when it is not prefix-stable, changes the
    text, or ends a turn without a special token, and when the text holds a control token.
    """
    _check_text(tokenizer, demo.messages, demo.id)
    text = _text(tokenizer, demo.messages, demo.id)
    spans = _spans(tokenizer, demo, text)
    pieces = _tokenised(tokenizer, text, [place for span in spans for place in span])
    mask = tuple(i % 2 == 1 for i, piece in enumerate(pieces) for _ in piece)
    _check_length(len(mask), max_tokens, f"demonstration {demo.id!r}")
    return Rendered(tuple(token for piece in pieces for token in piece), mask)


def render_prompt(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt, *, max_tokens: int, tools: Sequence[Mapping[str, Any]] = ()
) -> tuple[int, ...]:
    """The prompt's tokens, with the header of the assistant's turn at the end; `tools` are handed to the template.

    Raises TooLong above `max_tokens`; other errors as `render_demonstration`.
    """
    _check_text(tokenizer, prompt.messages, prompt.id)
    tokens = _encoded(tokenizer, _text(tokenizer, prompt.messages, prompt.id, header=True, tools=tools))
    _check_length(len(tokens), max_tokens, f"prompt {prompt.id!r}")
    return tokens


def render_response(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt, text: str, *, max_tokens: int
) -> RenderedResponse:
    """The tokens of `prompt`, as `render_prompt` has them, and of `text` as the answer to it, which may be empty.

    Raises TooLong when both together exceed `max_tokens`; other errors as `render_demonstration`.
    """
    messages = (*prompt.messages, Message(role="assistant", content=text))
    _check_text(tokenizer, messages, prompt.id)
    before = _text(tokenizer, prompt.messages, prompt.id, header=True)
    whole = _text(tokenizer, messages, prompt.id)
    _check_prefix(before, whole, prompt.id)
    stop = _turn_end(tokenizer, whole, (len(before), len(whole)), text, prompt.id)
    prompt_tokens, response_tokens = _tokenised(tokenizer, whole[:stop], [len(before)])
    _check_length(len(prompt_tokens) + len(response_tokens), max_tokens, f"prompt {prompt.id!r} with its response")
    return RenderedResponse(prompt_tokens, response_tokens)


def render_reply(tokenizer: PreTrainedTokenizerBase, message: Message, *, name: str = "reply") -> tuple[int, ...]:
    """The tokens between the end token of an assistant's turn and the next such turn, with `message` said in between.

    They go behind the tokens that were sampled, which are never decoded and tokenised again.
    Raises UserError when the template refuses the message's role, is not prefix-stable, or the text holds a control token.
    """
    _check_text(tokenizer, [message], name)
    said = Message(role="assistant", content="b")
    asked = Message(role="user", content="a")
    header = _text(tokenizer, [asked], name, header=True)
    before = _text(tokenizer, [asked, said], name)
    whole = _text(tokenizer, [asked, said, message], name, header=True)
    _check_prefix(before, whole, name)
    return _encoded(tokenizer, whole[_turn_end(tokenizer, before, (len(header), len(before)), "b", name) :])


def without_control_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """The text with the template's control tokens taken out, for text that a machine made and nobody can mend."""
    for token in _special_tokens(tokenizer):
        text = text.replace(token, "")
    return text


def call_marks(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str] | None:
    """What the chat template writes before and after the JSON of a tool call; None if it writes no tool calls."""
    call = {"type": "function", "function": {"name": "burnish_probe", "arguments": {"x": 1}}}
    said: dict[str, Any] = {"role": "assistant", "content": "", "tool_calls": [call]}
    try:
        header = _text(tokenizer, [Message(role="user", content="a")], "probe", header=True)
        template = _template(tokenizer)
        chat = [{"role": "user", "content": "a"}, said]
        text = str(tokenizer.apply_chat_template(chat, chat_template=template, tokenize=False))
    except Exception:  # a template may refuse the form in ways of its own; then it has none
        return None
    turn = text[len(header) :] if text.startswith(header) else text
    at = turn.find("burnish_probe")
    start, stop = turn.rfind("{", 0, at), turn.rfind("}")
    if at < 0 or start < 0:
        return None
    after = turn[stop + 1 :]
    for token in _special_tokens(tokenizer):
        after = after.partition(token)[0]
    return turn[:start].strip(), after.strip()


def describes_tools(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the chat template describes tools to the model when it is handed them."""
    return re.search(r"\btools\b", _template(tokenizer)) is not None


def end_token_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Where generation stops: the token that ends the template's assistant turn, then `eos_token` if it is another."""
    probe = Prompt("probe", (Message(role="user", content="a"),))
    end_of_turn = render_response(tokenizer, probe, "a", max_tokens=2**31).response_tokens[-1]
    eos = tokenizer.eos_token_id
    return (end_of_turn, eos) if isinstance(eos, int) and eos != end_of_turn else (end_of_turn,)


def render_each(
    items: Iterable[Record],
    render: Callable[[Record], Output],
    *,
    too_long: Literal["error", "drop"] = "error",
    origins: Mapping[str, Origin] = _NO_ORIGINS,
) -> Loaded[tuple[Record, Output]]:
    """Each item beside what `render` makes of it; with `too_long="drop"`, those too long are dropped and counted.

    An error names the item's file and row if `origins` (those of the `Loaded` that the items came from) knows it.
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
        raise NothingLeft(f"nothing is left that fits (too long: {dropped['too long']}). Allow more tokens.")
    return Loaded(tuple(kept), dict(dropped), origins)


def _placed(error: UserError, origin: Origin | None) -> UserError:
    if origin is None:
        return error
    return type(error)(error.problem, file=origin.file, row=origin.row, field=error.field, hint=error.hint)


def _spans(tokenizer: PreTrainedTokenizerBase, demo: Demonstration, text: str) -> list[Span]:
    """Where in `text` the assistant's turns are, from after the header to after the end token."""
    template = _template(tokenizer)
    if _BLOCK_BEGIN.search(template):
        spans = _spans_of_blocks(tokenizer, demo, text, template)
    else:
        spans = _spans_of_prefixes(tokenizer, demo, text)
    said = [message["content"] for message in demo.messages if message["role"] == "assistant"]
    if len(spans) != len(said):
        raise UserError(
            f"the chat template marks {len(spans)} turns of the {len(said)} in {demo.id!r}. Mend the template."
        )
    turns = zip(spans, said, strict=True)
    return [(span[0], _turn_end(tokenizer, text, span, content, demo.id)) for span, content in turns]


def _spans_of_prefixes(tokenizer: PreTrainedTokenizerBase, demo: Demonstration, text: str) -> list[Span]:
    spans: list[Span] = []
    for k, message in enumerate(demo.messages):
        if message["role"] == "assistant":
            before = _text(tokenizer, demo.messages[:k], demo.id, header=True)
            after = _text(tokenizer, demo.messages[: k + 1], demo.id)
            _check_prefix(before, after, demo.id)
            _check_prefix(after, text, demo.id)
            spans.append((len(before), len(after)))
    return spans


def _spans_of_blocks(tokenizer: PreTrainedTokenizerBase, demo: Demonstration, text: str, template: str) -> list[Span]:
    """What stands in `{% generation %}` blocks, found by rendering the template with a mark at either end of them.

    Not by transformers' `return_assistant_tokens_mask`, which leaves out the last bytes of a turn that ends with a
    character of several tokens. The comments keep the blocks' effect on the white space beside them.
    """
    marking = _BLOCK_BEGIN.sub(rf"{{%\1 generation %}}{{{{ '{_BEGIN}' }}}}{{# \2#}}", template)
    marking = _BLOCK_END.sub(rf"{{#\1 #}}{{{{ '{_END}' }}}}{{% endgeneration \2%}}", marking)
    marked = _text(tokenizer, demo.messages, demo.id, template=marking)
    spans: list[Span] = []
    start = length = 0
    plain: list[str] = []
    for piece in re.split(f"([{_BEGIN}{_END}])", marked):
        if piece == _BEGIN:
            start = length
        elif piece == _END:
            spans.append((start, length))
        else:
            plain.append(piece)
            length += len(piece)
    if "".join(plain) != text:
        raise UserError(f"the generation blocks of the chat template cannot be followed in {demo.id!r}. Simplify them.")
    return spans


def _turn_end(tokenizer: PreTrainedTokenizerBase, text: str, span: Span, content: str, name: str) -> int:
    """Where the turn's end token ends: the last thing in the span, or the first after it, but for white space."""
    start, stop = span
    turn = text[start:stop].rstrip()
    if content.strip() not in turn:
        raise UserError(f"the chat template changes what the assistant says in {name!r}. Use another template.")
    specials = _special_tokens(tokenizer)
    if turn.endswith(specials):
        return start + len(turn)
    after = re.compile(rf"\s*(?:{'|'.join(map(re.escape, specials))})").match(text, stop) if specials else None
    if after is None:
        problem = (
            "the chat template ends the assistant's turn with no special token: the model would never learn to stop."
        )
        raise UserError(problem, hint="Use a template with an end-of-turn token that the tokenizer knows as special.")
    return after.end()


def _tokenised(tokenizer: PreTrainedTokenizerBase, text: str, cuts: Sequence[int]) -> list[tuple[int, ...]]:
    """The tokens of `text` in len(cuts) + 1 pieces, no token lying across a cut.

    A piece is what the tokens up to its end add to those up to its beginning. Where a merge across the cut changes those,
    it is tokenised alone; if its text would not survive that, no cut is possible there.
    """
    stops = [*cuts, len(text)]
    heads = [_encoded(tokenizer, text[:stop]) for stop in stops]
    pieces, merged = [heads[0]], False
    for (start, stop), (head, longer) in zip(pairwise(stops), pairwise(heads), strict=True):
        if longer[: len(head)] == head:
            pieces.append(longer[len(head) :])
        else:
            pieces.append(_encoded(tokenizer, text[start:stop]))
            merged = True
    if merged and tokenizer.decode([token for piece in pieces for token in piece]) != tokenizer.decode(list(heads[-1])):
        raise UserError(
            "the tokenizer cannot cut prompt from response here: a token lies across them.", hint="Trim the text."
        )
    return pieces


def _encoded(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def _text(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    name: str,
    *,
    header: bool = False,
    template: str | None = None,
    tools: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The conversation as text, with the header of an assistant's turn behind it where asked for."""
    from jinja2 import TemplateError

    template = _template(tokenizer) if template is None else template
    chat = [{**message} for message in messages]
    try:
        given: Any = [dict(tool) for tool in tools] or None
        text = tokenizer.apply_chat_template(
            chat, tools=given, chat_template=template, tokenize=False, add_generation_prompt=header
        )
    except TemplateError as error:
        raise UserError(f"the chat template refuses {name!r}: {one_line(error)}.", hint="Change the roles.") from error
    return str(text)


def _template(tokenizer: PreTrainedTokenizerBase) -> str:
    try:
        return tokenizer.get_chat_template()
    except ValueError as error:
        hint = "Use an instruct model, or put a chat_template.jinja beside the tokenizer."
        name = tokenizer.name_or_path or None
        raise UserError("the tokenizer has no chat template.", file=name, field="chat_template", hint=hint) from error


def _special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    added = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    return tuple(dict.fromkeys((*tokenizer.all_special_tokens, *added)))


def _check_text(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], name: str) -> None:
    """Text that spells a token of the template would end its turn, or begin another, behind the reader's back."""
    template, named = _template(tokenizer), tokenizer.all_special_tokens
    for i, message in enumerate(messages):
        for token in _special_tokens(tokenizer):
            if token in message["content"] and (token in named or token in template):
                problem = f"the {message['role']}'s text in {name!r} holds the control token {token!r}. Remove it."
                raise UserError(problem, field=f"messages[{i}].content")


def _check_prefix(beginning: str, whole: str, name: str) -> None:
    if not whole.startswith(beginning):
        problem = (
            f"the chat template is not prefix-stable: in {name!r} a later turn changes how an earlier one is written."
        )
        raise UserError(problem, hint="Use a template with {% generation %} blocks, or single-turn data.")


def _check_length(tokens: int, max_tokens: int, what: str) -> None:
    if tokens > max_tokens:
        problem = f"{what} has {tokens} tokens; at most {max_tokens} fit."
        raise TooLong(problem, field="messages", hint="Shorten it, drop it, or allow more tokens.")
