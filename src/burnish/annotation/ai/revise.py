"""Constitutional AI's other half (Bai et al., arXiv:2212.08073, §3): critique an answer by a
principle, revise it, and use the revision as a demonstration.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

from burnish.records import Message, Prompt


class Writer(Protocol):
    """What answers many conversations at once: see `burnish.endpoint.Endpoint`."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    def complete_all(self, conversations: Sequence[Sequence[Message]]) -> list[list[str]]:
        """A list with one answer for each conversation."""
        ...


def revise(
    prompts: Sequence[Prompt],
    model: Writer,
    principles: Sequence[str],
    *,
    rounds: int,
    seed: int,
    answers: Sequence[str | None] | None = None,
) -> list[dict[str, Any]]:
    """A row for SFT of each prompt: `messages` with the last revision, and how it came about
    (`initial`, `revisions`).

    `answers` are those to begin with; None, or None among them: the model's own. The principle of
    each round is drawn by a hash of (seed, prompt id, round), without drawing one twice while
    others are left. An empty revision keeps the answer before. What is written in a turn is written
    for all prompts together.
    """
    given = [None] * len(prompts) if answers is None else list(answers)
    own = iter(
        _written(
            model, [p.messages for p, text in zip(prompts, given, strict=True) if text is None]
        )
    )
    initial = [next(own) if text is None else text for text in given]
    current, steps = list(initial), [list[dict[str, Any]]() for _ in prompts]
    orders = [drawn(principles, rounds, seed=seed, name=prompt.id) for prompt in prompts]
    for number in range(rounds):
        talks = [
            [*prompt.messages, Message(role="assistant", content=text), _critique_of(order[number])]
            for prompt, text, order in zip(prompts, current, orders, strict=True)
        ]
        critiques = [text.strip() for text in _written(model, talks)]
        talks = [
            [
                *talk,
                Message(role="assistant", content=critique),
                Message(role="user", content=_REWRITE),
            ]
            for talk, critique in zip(talks, critiques, strict=True)
        ]
        for row, text in enumerate(_written(model, talks)):
            current[row] = text.strip() or current[row]
            steps[row].append(
                {
                    "round": number + 1,
                    "principle": orders[row][number],
                    "critique": critiques[row],
                    "revised": current[row],
                }
            )
    return [
        {
            "id": prompt.id,
            "messages": [
                *(dict(m) for m in prompt.messages),
                {"role": "assistant", "content": last},
            ],
            "initial": first,
            "revisions": made,
            "model": model.name,
        }
        for prompt, first, last, made in zip(prompts, initial, current, steps, strict=True)
    ]


def _written(model: Writer, talks: Sequence[Sequence[Message]]) -> list[str]:
    return [answers[0] for answers in model.complete_all(talks)] if talks else []


_REWRITE = (
    "Rewrite your answer so that it no longer falls short in this way. Reply with the rewritten"
    " answer alone, without a word about the change."
)


def _critique_of(principle: str) -> Message:
    asked = (
        "Point out, in a few sentences, where your answer above falls short of this principle:"
        f" {principle}"
    )
    return Message(role="user", content=asked)


def drawn(principles: Sequence[str], rounds: int, *, seed: int, name: str) -> list[str]:
    """`rounds` principles in an order that follows from (seed, name); all of them come before one
    comes again."""
    order = sorted(
        principles,
        key=lambda text: hashlib.sha256(f"{seed}\x1f{name}\x1f{text}".encode()).hexdigest(),
    )
    return [order[i % len(order)] for i in range(rounds)]
