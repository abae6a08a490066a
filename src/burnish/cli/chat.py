"""`burnish chat`: a conversation in the terminal, with one model or two side by side, in words that
come as they are drawn."""

from __future__ import annotations

import signal
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.columns import Columns
from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from burnish.data.render import quotable, render_prompt
from burnish.errors import UserError
from burnish.generation.base import Request, SamplingParams, request_seed
from burnish.generation.text_stream import TextStream
from burnish.records import Message, Prompt
from burnish.stages.serve import Ready, make_ready

_STOPPED = "Stopped."
Writing = Generator[None, None, None]
"""An answer that is being written; it yields after each token."""


@dataclass
class _Speaker:
    """A model and its own side of the conversation; `text` is what it has said of the answer that
    it is at."""

    name: str
    ready: Ready
    params: SamplingParams
    seed: int
    system: str | None = None
    messages: list[Message] = field(default_factory=list)
    text: str = ""

    def begin(self) -> None:
        """Begin anew."""
        said = Message(role="system", content=self.system or "")
        self.messages = [] if self.system is None else [said]

    def answer(self, question: str, turn: int) -> Writing:
        """Write an answer, a token a step, and remember as much of it as is written."""
        asked = Message(role="user", content=question)
        messages = quotable(self.ready.tokenizer, [*self.messages, asked])
        room = self.ready.max_length - self.params.max_new_tokens
        tokens = render_prompt(self.ready.tokenizer, Prompt("chat", messages), max_tokens=room)
        seed = request_seed(self.seed, "chat", turn, "chat", 0)
        self.text = ""
        stream = TextStream(self.ready.finisher, self.params)
        try:
            with self.ready.engine.open(max_rows=1) as session:
                sequence = session.add(Request(tokens, seed), self.params)
                while session.unfinished:
                    session.step()
                    if sequence.completion is not None:
                        self.text += stream.close(sequence.completion.text)
                    else:
                        self.text += stream.push(sequence.tokens)
                    yield
        finally:
            if self.text.strip():
                said = Message(role="assistant", content=self.text.strip())
                self.messages += [asked, said]


def converse(
    model: str,
    *,
    vs: str | None,
    system: str | None,
    temperature: float,
    max_new_tokens: int,
    seed: int,
) -> None:
    """Read questions from standard input until it ends; /reset begins anew, /quit leaves. Ctrl-C
    stops the answer that is being written, and leaves at the prompt."""
    console = Console()
    params = SamplingParams(max_new_tokens, temperature=temperature)
    speakers = [
        _Speaker(name, make_ready(name, say=_say), params, seed, system)
        for name in (model, vs)
        if name is not None
    ]
    for speaker in speakers:
        _check_room(speaker)
        speaker.begin()
    if sys.stdin.isatty():
        hint = "Type a message. /reset begins anew, /quit leaves, Ctrl-C stops an answer."
        console.print(hint, style="dim")
    turn = 0
    while (question := _ask(console)) not in (None, "/quit", "/exit"):
        if question == "/reset":
            for speaker in speakers:
                speaker.begin()
        elif question:
            _reply(console, speakers, question, turn)
            turn += 1


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _check_room(speaker: _Speaker) -> None:
    if speaker.params.max_new_tokens >= speaker.ready.max_length:
        raise UserError(
            f"{speaker.name} reads at most {speaker.ready.max_length} tokens: answers of "
            f"{speaker.params.max_new_tokens} leave no room for a question.",
            field="--max-new-tokens",
        )


def _ask(console: Console) -> str | None:
    try:
        return (console.input("[bold]you>[/] ") if sys.stdin.isatty() else input()).strip()
    except EOFError:
        return None


def _reply(console: Console, speakers: list[_Speaker], question: str, turn: int) -> None:
    writing = [speaker.answer(question, turn) for speaker in speakers]
    show = _words if len(speakers) == 1 else _panels
    try:
        with _interruptible() as stop:
            show(console, speakers, writing, stop)
    except UserError as error:
        console.print(f"{error}", style="red", markup=False)
    finally:
        for answer in writing:
            answer.close()  # so that what is written so far is remembered


class _Stop:
    """Whether Ctrl-C has been typed."""

    asked = False


@contextmanager
def _interruptible() -> Iterator[_Stop]:
    """Ctrl-C asks for an end between two tokens, so that no step is cut in the middle."""
    stop = _Stop()

    def ask(number: int, frame: Any) -> None:
        stop.asked = True

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def _words(
    console: Console, speakers: Sequence[_Speaker], writing: Sequence[Writing], stop: _Stop
) -> None:
    """One speaker's words, as they come."""
    speaker, shown = speakers[0], 0
    for _ in writing[0]:
        if not shown and speaker.text.strip():
            console.print(Text(f"{speaker.name}> ", style="bold"), end="")
            shown = len(speaker.text) - len(speaker.text.lstrip())
        if speaker.text.strip():
            sys.stdout.write(speaker.text[shown:])
            sys.stdout.flush()
            shown = len(speaker.text)
        if stop.asked:
            break
    print()
    if stop.asked:
        console.print(_STOPPED, style="dim")


def _panels(
    console: Console, speakers: Sequence[_Speaker], writing: Sequence[Writing], stop: _Stop
) -> None:
    """Several speakers side by side, a token of each at a time."""
    width = max(30, console.width // len(speakers) - 2)

    def panels() -> Columns:
        return Columns(
            [Panel(Text(s.text.strip()), title=Text(s.name), width=width) for s in speakers]
        )

    left = list(writing)
    with Live(
        console=console, refresh_per_second=8, get_renderable=panels, vertical_overflow="visible"
    ):
        while left and not stop.asked:
            left = [answer for answer in left if _goes_on(answer)]
    if stop.asked:
        console.print(_STOPPED, style="dim")


def _goes_on(answer: Writing) -> bool:
    """Whether another token has been written."""
    try:
        next(answer)
    except StopIteration:
        return False
    return True
