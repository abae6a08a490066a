"""Prompts in an order that a cursor remembers, those that teach nothing sampled less."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

from burnish.data.prompts import Stream
from burnish.records import Prompt


class PromptSource:
    """Prompts without end: `data.prompts.Stream`'s order, read by a cursor that belongs into the
    checkpoint.

    With `floor` below 1, a prompt whose turn comes is taken with probability floor + (1 − floor) ·
    4 p (1 − p) and passed over otherwise; p = (passed + 1)/(tried + 2) is its pass rate, the mean
    of a Beta posterior under a uniform prior. At each visit earlier counts are multiplied by
    `decay`, so that what was too hard once is tried again in earnest. A prompt never tried has p =
    ½ and is always taken. The draws follow from (seed, cursor).
    """

    def __init__(
        self, prompts: Sequence[Prompt], *, seed: int, floor: float = 1.0, decay: float = 1.0
    ) -> None:
        self._stream = Stream(prompts, seed=seed, batch_size=1)
        self._seed, self._floor, self._decay = seed, floor, decay
        self._distinct = len({prompt.id for prompt in prompts})
        self._known: dict[str, tuple[float, float]] = {}  # prompt id: tried, passed
        self.cursor = 0
        self.passed_over = 0

    def take(self, count: int) -> list[Prompt]:
        """The next `count` prompts. With a floor below 1 none comes twice in one call, if there are
        enough."""
        taken: list[Prompt] = []
        ids: set[str] = set()
        while len(taken) < count:
            (prompt,) = self._stream.batch(self.cursor)
            if self._floor < 1.0 and not self._accepts(
                prompt, ids if count <= self._distinct else set()
            ):
                self.passed_over += 1
            else:
                taken.append(prompt)
                ids.add(prompt.id)
            self.cursor += 1
        return taken

    def weight(self, prompt_id: str) -> float:
        """The probability with which this prompt is taken when its turn comes."""
        tried, passed = self._known.get(prompt_id, (0.0, 0.0))
        p = (passed + 1.0) / (tried + 2.0)
        return self._floor + (1.0 - self._floor) * 4.0 * p * (1.0 - p)

    def learn(self, prompt_id: str, *, tried: int, passed: int) -> None:
        """`passed` of `tried` completions of this prompt were right."""
        if self._floor < 1.0:
            before = self._known.get(prompt_id, (0.0, 0.0))
            self._known[prompt_id] = (
                self._decay * before[0] + tried,
                self._decay * before[1] + passed,
            )

    def state_dict(self) -> dict[str, Any]:
        """The cursor, and what is known of each prompt."""
        known = {name: list(counts) for name, counts in self._known.items()}
        return {"cursor": self.cursor, "passed_over": self.passed_over, "known": known}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put them back."""
        self.cursor, self.passed_over = state["cursor"], state["passed_over"]
        self._known = {name: (counts[0], counts[1]) for name, counts in state["known"].items()}

    def _accepts(self, prompt: Prompt, taken: set[str]) -> bool:
        draw = blake2b(f"{self._seed}/curriculum/{self.cursor}".encode(), digest_size=8).digest()
        return (
            prompt.id not in taken and int.from_bytes(draw, "big") < self.weight(prompt.id) * 2**64
        )
