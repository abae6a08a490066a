"""`burnish chat`: a conversation in the terminal, with one model or two side by side."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from burnish.config.sections import Sampling
from burnish.data.render import quotable
from burnish.errors import UserError
from burnish.models.backbone import load_backbone
from burnish.models.device import AUTO, resolve
from burnish.models.roles import View
from burnish.records import Message, Prompt
from burnish.runs.stage_record import verify_if_stage
from burnish.stages.chat_settings import settle_as_in_its_run
from burnish.stages.sampling import PromptSampler, prompt_sampler
from burnish.stages.serve import model_of


@dataclass
class _Speaker:
    """A model and its own side of the conversation."""

    name: str
    sampler: PromptSampler
    tokenizer: Any
    messages: list[Message] = field(default_factory=list)

    def answer(self, question: str, turn: int) -> str:
        self.messages.append({"role": "user", "content": question})
        prompt = Prompt("chat", quotable(self.tokenizer, self.messages))
        text = self.sampler.generate([prompt], samples=1, round=turn)[0].completion.text.strip()
        self.messages.append({"role": "assistant", "content": text})
        return text


def converse(
    model: str, *, vs: str | None, temperature: float, max_new_tokens: int, seed: int
) -> None:
    """Read questions from standard input until it ends; /reset begins anew, /quit leaves."""
    console = Console()
    speakers = [
        _speaker(name, temperature, max_new_tokens, seed)
        for name in (model, vs)
        if name is not None
    ]
    if sys.stdin.isatty():
        console.print("Type a message. /reset begins anew, /quit leaves.", style="dim")
    turn = 0
    while (question := _ask(console)) not in (None, "/quit", "/exit"):
        if question == "/reset":
            for speaker in speakers:
                speaker.messages.clear()
        elif question:
            _reply(console, speakers, question, turn)
            turn += 1


def _speaker(name: str, temperature: float, max_new_tokens: int, seed: int) -> _Speaker:
    say = lambda line: print(line, file=sys.stderr)  # noqa: E731
    model = model_of(name)
    verify_if_stage(Path(model))
    backbone = load_backbone(model, device=resolve(AUTO), say=say)
    settle_as_in_its_run(backbone, model)
    sampling = Sampling(temperature=temperature, max_new_tokens=max_new_tokens)
    sampler = prompt_sampler(
        View(backbone), sampling, seed=seed, max_length=backbone.context, purpose="chat", say=say
    )
    return _Speaker(name, sampler, backbone.tokenizer)


def _ask(console: Console) -> str | None:
    try:
        return (console.input("[bold]you>[/] ") if sys.stdin.isatty() else input()).strip()
    except EOFError:
        return None


def _reply(console: Console, speakers: list[_Speaker], question: str, turn: int) -> None:
    try:
        answers = [(speaker.name, speaker.answer(question, turn)) for speaker in speakers]
    except UserError as error:
        for speaker in speakers:
            if speaker.messages and speaker.messages[-1]["role"] == "user":
                speaker.messages.pop()
        console.print(f"{error}", style="red", markup=False)
        return
    width = max(30, console.width // len(answers) - 2)
    console.print(
        Columns([Panel(Text(text), title=Text(name), width=width) for name, text in answers])
    )
