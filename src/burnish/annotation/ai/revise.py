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

    name: str

    def complete(self, messages: Sequence[Message]) -> str:
        """The answer to a conversation."""
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
        talk = [*prompt.messages, Message(role="assistant", content=current)]
        asked = f"Point out, in a few sentences, where your answer above falls short of this principle: {principle}"
        critique = model.complete([*talk, Message(role="user", content=asked)]).strip()
        rewrite = (
            "Rewrite your answer so that it no longer falls short in this way. Reply with the rewritten answer alone, "
            "without a word about the change."
        )
        talk += [
            Message(role="user", content=asked),
            Message(role="assistant", content=critique),
            Message(role="user", content=rewrite),
        ]
        revised = model.complete(talk).strip() or current
        steps.append({"round": number + 1, "principle": principle, "critique": critique, "revised": revised})
        current = revised
    messages = [*(dict(m) for m in prompt.messages), {"role": "assistant", "content": current}]
    return {"id": prompt.id, "messages": messages, "initial": initial, "revisions": steps, "model": model.name}


def drawn(principles: Sequence[str], rounds: int, *, seed: int, name: str) -> list[str]:
    """`rounds` principles in an order that follows from (seed, name); all of them come before one comes again."""
    order = sorted(principles, key=lambda text: hashlib.sha256(f"{seed}\x1f{name}\x1f{text}".encode()).hexdigest())
    return [order[i % len(order)] for i in range(rounds)]
