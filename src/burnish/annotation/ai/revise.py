"""Constitutional AI's other half (Bai et al., arXiv:2212.08073, §3): critique an answer by a principle, revise it, and use the
revision as a demonstration.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

from burnish.records import Message, Prompt


class Writer(Protocol):
    """What answers: see `burnish.endpoint.ChatModel`."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    def complete(self, messages: Sequence[Message]) -> str:
        """The answer to a conversation."""
        ...


class Writers(Protocol):
    """What answers many conversations at once."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    def complete_all(self, conversations: Sequence[Sequence[Message]]) -> list[list[str]]:
        """One answer to each conversation."""
        ...


def revise(
    prompt: Prompt, model: Writer, principles: Sequence[str], *, rounds: int, seed: int, answer: str | None = None
) -> dict[str, Any]:
    """A row for SFT: `messages` with the last revision, and how it came about (`initial`, `revisions`).

    `answer` is the answer to begin with; None: the model's own. The principle of each round is drawn by a hash of
    (seed, prompt id, round), without drawing one twice while others are left. An empty revision keeps the answer before.
    """
    initial = model.complete(prompt.messages) if answer is None else answer
    current, steps = initial, []
    for number, principle in enumerate(drawn(principles, rounds, seed=seed, name=prompt.id)):
        talk = [*prompt.messages, Message(role="assistant", content=current), _critique_of(principle)]
        critique = model.complete(talk).strip()
        talk += [Message(role="assistant", content=critique), Message(role="user", content=_REWRITE)]
        current = model.complete(talk).strip() or current
        steps.append(_step(number, principle, critique, current))
    return _row(prompt, initial, current, steps, model.name)


def revise_all(
    prompts: Sequence[Prompt], model: Writers, principles: Sequence[str], *, rounds: int, seed: int
) -> list[dict[str, Any]]:
    """`revise` of several prompts, each turn of all of them written together."""
    initial = [answers[0] for answers in model.complete_all([prompt.messages for prompt in prompts])]
    current, steps = list(initial), [list[dict[str, Any]]() for _ in prompts]
    orders = [drawn(principles, rounds, seed=seed, name=prompt.id) for prompt in prompts]
    for number in range(rounds):
        talks = [
            [*prompt.messages, Message(role="assistant", content=text), _critique_of(order[number])]
            for prompt, text, order in zip(prompts, current, orders, strict=True)
        ]
        critiques = [answers[0].strip() for answers in model.complete_all(talks)]
        talks = [
            [*talk, Message(role="assistant", content=critique), Message(role="user", content=_REWRITE)]
            for talk, critique in zip(talks, critiques, strict=True)
        ]
        for row, answers in enumerate(model.complete_all(talks)):
            current[row] = answers[0].strip() or current[row]
            steps[row].append(_step(number, orders[row][number], critiques[row], current[row]))
    rows = zip(prompts, initial, current, steps, strict=True)
    return [_row(prompt, first, last, own, model.name) for prompt, first, last, own in rows]


_REWRITE = (
    "Rewrite your answer so that it no longer falls short in this way. Reply with the rewritten answer alone, "
    "without a word about the change."
)


def _critique_of(principle: str) -> Message:
    asked = f"Point out, in a few sentences, where your answer above falls short of this principle: {principle}"
    return Message(role="user", content=asked)


def _step(number: int, principle: str, critique: str, revised: str) -> dict[str, Any]:
    return {"round": number + 1, "principle": principle, "critique": critique, "revised": revised}


def _row(prompt: Prompt, initial: str, current: str, steps: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    messages = [*(dict(m) for m in prompt.messages), {"role": "assistant", "content": current}]
    return {"id": prompt.id, "messages": messages, "initial": initial, "revisions": list(steps), "model": name}


def drawn(principles: Sequence[str], rounds: int, *, seed: int, name: str) -> list[str]:
    """`rounds` principles in an order that follows from (seed, name); all of them come before one comes again."""
    order = sorted(principles, key=lambda text: hashlib.sha256(f"{seed}\x1f{name}\x1f{text}".encode()).hexdigest())
    return [order[i % len(order)] for i in range(rounds)]
