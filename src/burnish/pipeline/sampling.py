"""Rollouts from a role: the native engine behind the sampler the loops ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from burnish.config.schema import Sampling
from burnish.data.render import end_token_ids, render_prompt
from burnish.generation.base import Request, SamplingParams, request_seed
from burnish.generation.native import NativeEngine
from burnish.models.roles import View
from burnish.records import Prompt, Rollout


class LocalSampler:
    """Completions of prompts, in this process. The random numbers of a completion follow from (seed, round, prompt, sample)."""

    def __init__(self, view: View, sampling: Sampling, *, seed: int, max_length: int, purpose: str) -> None:
        self._tokenizer = view.backbone.tokenizer
        self._engine = NativeEngine(view, end_tokens=frozenset(end_token_ids(self._tokenizer)))
        self._params = SamplingParams(
            max_new_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
        )
        self._room = max_length - sampling.max_new_tokens
        self._seed, self._purpose = seed, purpose

    def load(self, view: View, *, version: int) -> None:
        """Take over new weights."""
        if version != self._engine.version:
            self._engine.load(view, version=version)

    def generate(
        self, prompts: Sequence[Prompt], *, samples: int, round: int = 0, progress: Callable[[int], None] | None = None
    ) -> list[Rollout]:
        """`samples` completions of each prompt, those of one prompt side by side."""
        jobs = [
            (prompt, render_prompt(self._tokenizer, prompt, max_tokens=self._room), number)
            for prompt in prompts
            for number in range(samples)
        ]
        requests = [
            Request(tokens, request_seed(self._seed, self._purpose, round, prompt.id, number))
            for prompt, tokens, number in jobs
        ]
        completions = self._engine.generate(requests, self._params, progress=progress)
        return [
            Rollout(prompt, tokens, completion, self._engine.version)
            for (prompt, tokens, _), completion in zip(jobs, completions, strict=True)
        ]
