"""What an engine is asked for, and what every engine can do."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from burnish.records import Completion

if TYPE_CHECKING:
    from burnish.models.weights import Weights


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to sample. `temperature` 0 is greedy; `top_k` 0, `top_p` 1 and `min_p` 0 switch
    truncation off.

    Args:
        max_new_tokens: at most this many tokens.
        temperature: divides the logits.
        top_k: only this many most likely tokens.
        top_p: of those, the fewest whose probability reaches this.
        min_p: of those, the ones at least this many times as likely as the most likely
            (arXiv:2407.01082).
        repetition_penalty: logits of tokens that stand in the prompt or the completion are divided
            by this where positive, multiplied where negative; 1: off (arXiv:1909.05858).
        min_new_tokens: the end tokens are forbidden until that many tokens stand.
        stop: a completion ends where one of these strings appears; its text stops before the
            string, its tokens hold it. Not together with `min_new_tokens`.
        stop_token_ids: tokens that end a completion as the end tokens do.
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    min_new_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or self.min_new_tokens > self.max_new_tokens:
            raise ValueError("max_new_tokens must be at least 1 and min_new_tokens")
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise ValueError("temperature and top_k must be at least 0, top_p in (0, 1]")
        if not 0 <= self.min_p <= 1 or not self.repetition_penalty > 0:
            raise ValueError("min_p must be in [0, 1], repetition_penalty above 0")
        if not all(self.stop) or (self.stop and self.min_new_tokens):
            raise ValueError("a stop string must not be empty, nor go with min_new_tokens")

    @property
    def truncates(self) -> bool:
        """Whether some tokens of the vocabulary can never be drawn."""
        return (self.top_k, self.top_p, self.min_p) != (0, 1.0, 0.0)


@dataclass(frozen=True, slots=True)
class Request:
    """One completion to write. The same request has the same random numbers whatever else is in the
    batch."""

    prompt_tokens: tuple[int, ...]
    seed: int


def request_seed(*parts: object) -> int:
    """A 63-bit seed from whatever identifies a request (run seed, step, prompt id, number of the
    sample)."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Engine(Protocol):
    """Writes completions with the weights that it was given. `version` is what `load` was told
    last, −1 while it sleeps."""

    version: int

    def load(self, weights: Weights, *, version: int) -> None:
        """Sample with these weights from now on: every tensor of the model by its name, whole,
        adapters merged, as `burnish.models.weights.merge_on_demand` gives them."""
        ...

    def sleep(self) -> None:
        """Give back what it holds of them; nothing is generated before the next `load`."""
        ...

    def generate(
        self,
        requests: Sequence[Request],
        params: SamplingParams,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> list[Completion]:
        """One completion for each request, in their order, with the log-probabilities of its
        tokens.

        A request's random numbers are its own: the same request gives the same tokens in any
        company, but for rounding. `progress` is told of the tokens drawn after each step. Raises
        UserError for a prompt without tokens or a model whose logits are no numbers, ValueError if
        a prompt and its completion do not fit the model's context, RuntimeError while the engine
        sleeps.
        """
        ...
