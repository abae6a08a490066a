"""What an engine is asked for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to sample. `temperature` 0 is greedy; `top_k` 0 and `top_p` 1 switch truncation off.

    `min_new_tokens` forbids the end tokens until that many tokens stand.
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_new_tokens: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or self.min_new_tokens > self.max_new_tokens:
            raise ValueError("max_new_tokens must be at least 1 and min_new_tokens")
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise ValueError("temperature and top_k must be at least 0, top_p in (0, 1]")


@dataclass(frozen=True, slots=True)
class Request:
    """One completion to write. The same request has the same random numbers whatever else is in the batch."""

    prompt_tokens: tuple[int, ...]
    seed: int


def request_seed(*parts: object) -> int:
    """A 63-bit seed from whatever identifies a request (run seed, step, prompt id, number of the sample)."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
