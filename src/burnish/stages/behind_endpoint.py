"""Answers of a model that stands behind an endpoint, as an evaluation takes them: text, without
tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from burnish.endpoint import Endpoint
from burnish.errors import UserError
from burnish.generation.base import request_seed
from burnish.records import Completion, Prompt, Rollout
from burnish.stages.context import Step

_SIDE_BY_SIDE = 8


def is_endpoint(reference: str) -> bool:
    """Whether a model is named as URL#MODEL."""
    return "://" in reference


def behind_endpoint(
    step: Step, reference: str, *, samples: int | None = None
) -> Callable[[Sequence[Prompt]], list[Rollout]]:
    """What has a model answer each prompt `samples` times (None: `responses_per_prompt`). Raises
    UserError for an address without a model's name, and for sampling that the protocol cannot ask
    for."""
    config, sampling = step.settings, step.settings.sampling
    each = config.responses_per_prompt if samples is None else samples
    url, _, model = reference.partition("#")
    if not model:
        raise UserError(
            f"{reference} names no model.", field=f"{step.name}.models", hint="Write URL#MODEL."
        )
    unknown = {"top_k": sampling.top_k, "min_p": sampling.min_p, "stop": sampling.stop}
    asked = next((key for key, value in unknown.items() if value), None)
    if sampling.repetition_penalty != 1:
        asked = "repetition_penalty"
    if asked is not None or config.environment is not None:
        what = f"sampling.{asked}" if asked is not None else "an environment"
        raise UserError(
            f"{what} cannot be asked of an endpoint.",
            field=f"{step.name}.models",
            hint="Leave one out.",
        )
    endpoint = Endpoint(
        url,
        model,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=sampling.max_new_tokens,
    )

    def ask(one: tuple[Prompt, int]) -> Rollout:
        prompt, number = one
        seed = request_seed(step.seed, "evaluate", prompt.id, number) % 2**31
        text, finish = endpoint.answer(prompt.messages, seed=seed)
        return Rollout(
            prompt, (), Completion(text, (), (), "length" if finish == "length" else "stop"), 0
        )

    def generate(prompts: Sequence[Prompt]) -> list[Rollout]:
        jobs = [(prompt, number) for prompt in prompts for number in range(each)]
        with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            return list(pool.map(ask, jobs))

    return generate
