"""How much sense a frozen base model sees in an answer: what counting words cannot tell.

Every log-probability is a mean over the tokens of an answer, in nats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from burnish.batch import Batch, TokenSequence
from burnish.models.roles import View

_LEAST_GAP = 0.5
_TELLING = 0.5  # nats that an answer of its own gains from its prompt over another


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer's text, its prompt's tokens, and those of another prompt, `beside`."""

    prompt_tokens: tuple[int, ...]
    beside_tokens: tuple[int, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Scale:
    """What a model gives to real text, and to the same words in another order."""

    real: float
    scrambled: float

    @property
    def tells(self) -> bool:
        """Whether the model tells one from the other; one without training does not."""
        return self.real - self.scrambled >= _LEAST_GAP


def sense_of(own: float, beside: float, scale: Scale) -> float:
    """The sense of an answer, in [0, 1]: clip((t − ¼) / ½, 0, 1) · clip((own − beside) / ½, 0, 1).

    `own` is its mean log-probability after its prompt and `beside` after another; t = (own −
    scrambled) / (real − scrambled) places it between scrambled and real text. A salad of words has
    no t, and an answer that fits every prompt gains nothing from its own. Neither factor stops
    nonsense in good English.
    """
    place = (own - scale.scrambled) / (scale.real - scale.scrambled)
    return _clip((place - 0.25) / 0.5) * _clip((own - beside) / _TELLING)


class SenseOfBase:
    """`view` is the base model's; `specimens` are real texts behind prompts that they do not belong
    to. `max_tokens` go through the model at once, and no more than `longest` of a prompt with its
    answer: what is beyond is not read."""

    def __init__(
        self, view: View, specimens: Sequence[Answer], *, max_tokens: int, longest: int
    ) -> None:
        self._view, self._max_tokens, self._longest = view, max_tokens, longest
        self._encode: Callable[[str], tuple[int, ...]] = lambda text: tuple(
            view.backbone.tokenizer(text, add_special_tokens=False)["input_ids"]
        )
        real = self._means([(one.prompt_tokens, one.text) for one in specimens])
        scrambled = self._means([(one.prompt_tokens, _backwards(one.text)) for one in specimens])
        self.scale = Scale(sum(real) / len(real), sum(scrambled) / len(scrambled))

    def of(self, answers: Sequence[Answer]) -> list[float]:
        """The sense of each answer; 0 of an empty one."""
        own = self._means([(one.prompt_tokens, one.text) for one in answers])
        beside = self._means([(one.beside_tokens, one.text) for one in answers])
        return [
            sense_of(a, b, self.scale) if one.text.strip() else 0.0
            for one, a, b in zip(answers, own, beside, strict=True)
        ]

    @torch.no_grad()
    def _means(self, asked: Sequence[tuple[tuple[int, ...], str]]) -> list[float]:
        """The mean log-probability of each text behind its prompt; 0 where it has no token."""
        rows = [
            (prompt, self._encode(text)[: max(0, self._longest - len(prompt))])
            for prompt, text in asked
        ]
        found = [0.0] * len(rows)
        places = [place for place, (_, tokens) in enumerate(rows) if tokens]
        if not places:
            return found
        batch = Batch(tuple(TokenSequence(*rows[place]) for place in places))
        pieces = [batch.select(some) for some in batch.micro_batches(self._max_tokens)]
        logprobs_P = torch.cat([self._view.logprobs(piece).logprobs_P for piece in pieces])
        lengths = [len(rows[place][1]) for place in places]
        for place, own in zip(places, logprobs_P.split(lengths), strict=True):
            found[place] = float(own.double().mean())
        return found


def _backwards(text: str) -> str:
    return " ".join(reversed(text.split()))


def _clip(value: float) -> float:
    return min(1.0, max(0.0, value))
