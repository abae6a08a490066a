"""The model that a stage talks to: one of its own policies, or one behind an endpoint."""

from __future__ import annotations

from burnish.endpoint import Endpoint
from burnish.stages.chat_model import LocalChat
from burnish.stages.context import Step


def chat_of(
    step: Step,
    name: str | None,
    endpoint: str | None,
    *,
    slot: str,
    max_length: int,
    max_tokens: int = 16,
    temperature: float = 0.0,
    logprobs: bool = False,
) -> Endpoint | LocalChat:
    """`name` at the endpoint, or the policy in a slot in this process, which reads at most
    `max_length` tokens."""
    if endpoint is not None:
        return Endpoint(
            endpoint, name or "", temperature=temperature, max_tokens=max_tokens, logprobs=logprobs
        )
    return LocalChat(
        step.model(slot), max_new_tokens=max_tokens, temperature=temperature, seed=step.seed,
        max_length=max_length, say=step.say_once,
    )  # fmt: skip
