"""Chat templates: Jinja as transformers reads it, bounded, with a fixed date, and with `{%
generation %}` blocks marked.

A template is code that comes with a model. It runs in Jinja's sandbox, sees plain data only, and is
stopped when it counts too many steps, takes too long or writes too much. What it prints equals
`tokenizer.apply_chat_template`, but for the date.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from functools import lru_cache
from typing import Any

from jinja2 import Environment, Template, TemplateError, TemplateSyntaxError, meta, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from burnish.data.sources import one_line
from burnish.errors import UserError
from burnish.records import Message

# round a generation block; noncharacters: Unicode keeps them out of text
BEGIN, END = (
    "\ufdd0",
    "\ufdd1",
)
RESERVED = ("messages", "tools", "documents", "add_generation_prompt")
"""Names that a template is given anyway, and that `chat_template_kwargs` may not hold."""

TEMPLATE_FIELD = "model.chat_template"
"""The field of errors that are the template's own, whatever row they were met at."""

_STEPS = 2_000_000  # passes of loops and calls of macros in one rendering
_SECONDS = 10.0  # of CPU time
_CHARACTERS = 10_000_000  # that a template may add of its own to what it is given
_WIDE = re.compile(r"\d{6,}")  # a width in a format: '%1000000d'


class _Limit(TemplateError):
    """A template does more than a template needs to."""


class _Budget(threading.local):
    """What the rendering in this thread has used up."""

    steps = 0
    until = 0.0
    characters = _CHARACTERS
    marking = False


_BUDGET = _Budget()


class ChatTemplate:
    """A compiled template. `options` are the names that it reads and is not given: what
    `chat_template_kwargs` may set.

    Raises UserError for text that is no Jinja template.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        environment = _environment()
        try:
            tree = environment.parse(text)
            self.has_blocks = any(_is_block(node) for node in tree.find_all(nodes.CallBlock))
            unknown = meta.find_undeclared_variables(tree)
            literals = [node.data for node in tree.find_all(nodes.TemplateData)]
            literals += [
                node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)
            ]
            code = environment.compile(_Counting().visit(tree))
        except (TemplateSyntaxError, RecursionError) as error:
            line = f" in line {error.lineno}" if isinstance(error, TemplateSyntaxError) else ""
            problem = f"the chat template is not valid Jinja ({one_line(error)}{line})."
            raise UserError(
                problem, field=TEMPLATE_FIELD, hint="Mend it, or set model.chat_template."
            ) from error
        self.literals = "\0".join(literals)
        self.options = frozenset(unknown) - {*RESERVED, *environment.globals, "strftime_now"}
        self.reads_tools = "tools" in unknown
        self._template = Template.from_code(environment, code, environment.make_globals(None))

    def render(
        self, variables: Mapping[str, Any], *, day: date | None, name: str, marked: bool = False
    ) -> str:
        """What the template prints.

        Args:
            variables: what it is given: `messages`, `tools`, `add_generation_prompt`, special
                tokens and options.
            day: the date it prints where it prints today's; None: today's.
            name: how an error calls what is rendered.
            marked: put `BEGIN` and `END` round what stands in generation blocks.

        Raises UserError when the template refuses what it is given, fails, or does not come to an
        end.
        """
        given = sum(len(message["content"]) for message in variables["messages"])
        _BUDGET.steps, _BUDGET.until = 0, time.thread_time() + _SECONDS
        _BUDGET.characters, _BUDGET.marking = _CHARACTERS + 20 * given, marked
        pieces, written = [], 0
        try:
            for piece in self._template.generate(**variables, strftime_now=_clock(day)):
                pieces.append(piece)
                written += len(piece)
                if written > _BUDGET.characters:
                    raise _Limit(_too_much())
        except _Limit as error:
            problem = f"the chat template does not come to an end with {name!r}: {error}."
            raise UserError(
                problem, hint="Mend the template, or set model.chat_template to another."
            ) from error
        except TemplateError as error:
            problem = f"the chat template refuses {name!r}: {one_line(error)}."
            hint = "Change the roles, or set model.chat_template to another template."
            raise UserError(problem, hint=hint) from error
        except Exception as error:  # the template's own mistakes are of every kind
            problem = (
                f"the chat template fails with {name!r}: {type(error).__name__}: {one_line(error)}."
            )
            raise UserError(
                problem, hint="Mend the template, or set model.chat_template to another."
            ) from error
        return "".join(pieces)


@lru_cache(maxsize=32)
def compiled(text: str) -> ChatTemplate:
    """The template of a text; the same text is compiled once."""
    return ChatTemplate(text)


def plain_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as a template is given them: reasoning under both names that templates read, nothing
    that is ours alone."""
    plain = []
    for message in messages:
        fields: dict[str, Any] = {
            key: value for key, value in message.items() if key != "trainable"
        }
        if "reasoning_content" in fields:
            fields["thinking"] = fields["reasoning_content"]
        plain.append(fields)
    return plain


class _Blocks(Extension):
    """`{% generation %}`: what stands in it is printed as it is, between marks where they are asked
    for."""

    tags = {"generation"}  # noqa: RUF012  (Jinja's own way of naming them)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("marked"), [], [], body).set_lineno(line)

    def marked(self, caller: Any) -> str:
        text = str(caller())
        return f"{BEGIN}{text}{END}" if _BUDGET.marking else text


def _is_block(node: nodes.CallBlock) -> bool:
    called = node.call.node
    return isinstance(called, nodes.ExtensionAttribute) and called.identifier == _Blocks.identifier


class _Counting(NodeTransformer):
    """Counts the passes of loops and the calls of macros, and looks at texts that are put
    together."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        passes = nodes.EnvironmentAttribute("passes")
        node.iter = nodes.Call(passes, [node.iter], [], None, None).set_lineno(node.lineno)
        return node

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:
        self.generic_visit(node)
        count = nodes.Call(nodes.EnvironmentAttribute("count_step"), [], [], None, None)
        node.body.insert(0, nodes.ExprStmt(count).set_lineno(node.lineno))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return nodes.Call(
            nodes.EnvironmentAttribute("joined"), node.nodes, [], None, None
        ).set_lineno(node.lineno)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, in which no operation makes a text, a list or a number that is huge."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "+" and isinstance(left, str | list) and isinstance(right, str | list):
            _check_size(len(left) + len(right))
        elif operator == "*":
            _check_product(left, right)
        elif operator == "**" and not (_is_small(left, 10**6) and _is_small(right, 64)):
            raise _Limit("it makes a number that is too large")
        elif operator == "%" and isinstance(left, str) and _WIDE.search(left):
            raise _Limit(_too_much())
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, obj: Any, *args: Any, **kwargs: Any) -> Any:
        method = getattr(obj, "__wrapped__", obj)  # the sandbox wraps str.format
        _check_arguments(
            getattr(method, "__self__", None), getattr(method, "__name__", ""), args, kwargs
        )
        return super().call(context, obj, *args, **kwargs)

    def joined(self, *parts: Any) -> str:
        """What `~` makes of its operands."""
        texts = [str(part) for part in parts]
        _check_size(sum(map(len, texts)))
        return "".join(texts)

    def passes(self, items: Any) -> Iterator[Any]:
        """The items of a loop, each of them counted."""
        for item in items:
            self.count_step()
            yield item

    def count_step(self) -> None:
        """Count a pass of a loop or a call of a macro."""
        _BUDGET.steps += 1
        if _BUDGET.steps % 64 == 0:
            if _BUDGET.steps > _STEPS:
                raise _Limit(f"more than {_STEPS:,} passes of its loops")
            if time.thread_time() > _BUDGET.until:
                raise _Limit(f"more than {_SECONDS:.0f} s of CPU time")


def _environment() -> Environment:
    """What a chat template can rely on: the names, filters and switches that transformers gives
    it."""
    environment = _Sandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Blocks, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _tojson
    for name in ("center", "indent", "batch", "slice", "format", "replace", "join"):
        environment.filters[name] = _checked_filter(name, environment.filters[name])
    del environment.globals["lipsum"]  # random text
    environment.globals["raise_exception"] = _raise
    environment.globals["dict"] = dict
    environment.globals["namespace"] = _Variables
    return environment


def _checked_filter(name: str, function: Any) -> Any:
    """A filter whose result could be much larger than what it is given."""

    def checked(*args: Any, **kwargs: Any) -> Any:
        # Those that Jinja hands its context or environment get it first.
        given = args[1:] if hasattr(function, "jinja_pass_arg") else args
        _check_arguments(given[0] if given else None, name, given[1:], kwargs)
        return function(*args, **kwargs)

    if hasattr(function, "jinja_pass_arg"):
        checked.jinja_pass_arg = function.jinja_pass_arg  # type: ignore[attr-defined]
    return checked


def _check_arguments(owner: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse a call that asks for something huge."""
    given = (*args, *kwargs.values())
    if isinstance(owner, str) or name in ("center", "indent", "batch", "slice"):
        for value in given:
            if (
                isinstance(value, int)
                and abs(value) > 100_000
                and name not in ("find", "index", "startswith")
            ):
                raise _Limit(_too_much())
    if name == "format" and isinstance(owner, str) and _WIDE.search(owner):
        raise _Limit(_too_much())
    texts = [value for value in given if isinstance(value, str)]
    if name == "replace" and isinstance(owner, str) and len(texts) > 1:
        _check_size(len(owner) + owner.count(texts[0]) * len(texts[1]))
    if name == "join" and texts and hasattr(owner, "__len__"):
        _check_size(len(owner) * len(texts[0]))
    if name == "join" and isinstance(owner, str) and args and hasattr(args[0], "__len__"):
        _check_size(len(owner) * len(args[0]))


def _is_small(value: Any, most: int) -> bool:
    return isinstance(value, int | float) and -most <= value <= most


def _check_product(left: Any, right: Any) -> None:
    for repeated, times in ((left, right), (right, left)):
        if isinstance(repeated, str | list | tuple) and isinstance(times, int):
            _check_size(len(repeated) * times)
        elif isinstance(repeated, int) and abs(repeated) > 10**300:
            raise _Limit("it makes a number that is too large")


def _check_size(size: int) -> None:
    if size > _BUDGET.characters:
        raise _Limit(_too_much())


def _too_much() -> str:
    return f"more than {_BUDGET.characters:,} characters"


class _Variables(Namespace):
    """A namespace that takes no names of Python's own."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *rest = args
        for name in dict(*rest, **kwargs):
            _check_name(name)
        Namespace.__init__(self, *rest, **kwargs)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a template may not set the name {name!r}")


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: Any = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    """JSON as it is, without Jinja's escapes for HTML."""
    if isinstance(indent, int) and indent > 1000:
        raise _Limit(_too_much())
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise(message: str) -> None:
    raise TemplateError(message)


def _clock(day: date | None) -> Any:
    """What a template asks for the time: midnight of the fixed day, or now."""

    def strftime_now(form: str) -> str:
        moment = datetime.now() if day is None else datetime(day.year, day.month, day.day)
        return moment.strftime(form)

    return strftime_now
