"""`burnish chat`: words as they are drawn, what the models are told first, and Ctrl-C, which stops
an answer and not the program."""

from __future__ import annotations

import io
import os
import signal
import sys
from typing import Any

import pytest
from rich.console import Console

from burnish.cli.chat import _Speaker, converse
from burnish.data.render import quotable, render_prompt
from burnish.errors import UserError
from burnish.generation.base import Request, SamplingParams, request_seed
from burnish.records import Message, Prompt
from burnish.stages.serve import make_ready


class Terminal(io.StringIO):
    """Standard output that remembers when it was written to."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []

    def write(self, text: str) -> int:
        self.writes.append(text)
        return super().write(text)


def talk(monkeypatch: pytest.MonkeyPatch, *lines: str, **options: Any) -> Terminal:
    out = Terminal()
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    monkeypatch.setattr(sys, "stdout", out)
    settings = {"vs": None, "system": None, "temperature": 1.0, "max_new_tokens": 24, "seed": 3}
    converse("tiny", **{**settings, **options})
    return out


def expected(*messages: Message, turn: int, count: int = 24) -> str:
    """The engine's own answer to these messages."""
    ready = make_ready("tiny")
    prompt = Prompt("chat", quotable(ready.tokenizer, messages))
    tokens = render_prompt(ready.tokenizer, prompt, max_tokens=900)
    params = SamplingParams(count, temperature=1.0)
    seed = request_seed(3, "chat", turn, "chat", 0)
    return ready.engine.generate([Request(tokens, seed)], params)[0].text.strip()


def test_words_come_one_by_one_and_are_the_engines(monkeypatch: pytest.MonkeyPatch):
    out = talk(monkeypatch, "hello", "and then?")
    first = Message(role="user", content="hello")
    answer = expected(first, turn=0)
    second = Message(role="user", content="and then?")
    again = expected(first, Message(role="assistant", content=answer), second, turn=1)
    shown = out.getvalue()
    assert f"tiny> {answer}" in shown
    assert f"tiny> {again}" in shown
    assert len([text for text in out.writes if text and text in answer]) > 8


def test_what_the_models_are_told_first_is_told_again_after_a_reset(
    monkeypatch: pytest.MonkeyPatch,
):
    out = talk(monkeypatch, "hello", "/reset", "hello", system="Be brief.")
    system = Message(role="system", content="Be brief.")
    for turn in (0, 1):
        answer = expected(system, Message(role="user", content="hello"), turn=turn)
        assert f"tiny> {answer}" in out.getvalue()


def test_two_models_answer_side_by_side(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "120")
    shown = talk(monkeypatch, "hello", vs="tiny", max_new_tokens=6).getvalue()
    assert shown.count("─ tiny ─") >= 2


def test_ctrl_c_stops_an_answer_and_the_talk_goes_on(monkeypatch: pytest.MonkeyPatch):
    answer, steps = _Speaker.answer, []

    def counted(self: _Speaker, question: str, turn: int) -> Any:
        for _ in answer(self, question, turn):
            steps.append(turn)
            if turn == 0 and len(steps) == 5:
                os.kill(os.getpid(), signal.SIGINT)
            yield

    monkeypatch.setattr(_Speaker, "answer", counted)
    before = signal.getsignal(signal.SIGINT)
    shown = talk(monkeypatch, "hello", "go on", max_new_tokens=40).getvalue()
    assert "Stopped." in shown
    assert steps.count(0) <= 6
    assert steps.count(1) > 6
    assert signal.getsignal(signal.SIGINT) is before


def test_a_question_that_does_not_fit_is_said_and_the_talk_goes_on(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(Console, "is_terminal", False)
    shown = talk(monkeypatch, "a" * 1100, "hello", max_new_tokens=8).getvalue()
    assert "tokens; at most 1016 fit" in shown.replace("\n", " ")
    assert expected(Message(role="user", content="hello"), turn=1, count=8) in shown


def test_answers_longer_than_the_model_reads_are_refused(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match="leave no room"):
        talk(monkeypatch, "hello", max_new_tokens=1024)
