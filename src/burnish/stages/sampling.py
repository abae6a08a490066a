"""Rollouts from a role: an engine behind the sampler the loops ask for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from burnish.config.sections import Sampling
from burnish.data.render import end_token_ids, render_prompt
from burnish.errors import UserError
from burnish.generation.base import Request, SamplingParams, request_seed
from burnish.generation.engine import make_engine
from burnish.models.backbone import Backbone
from burnish.models.roles import View
from burnish.models.sampled import shorter_notice
from burnish.records import Prompt, Rollout
from burnish.stages.context import Step
from burnish.stages.lengths import render_rows


def fitting(
    step: Step,
    backbone: Backbone,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    what: str,
    *,
    required: bool = True,
) -> list[Prompt]:
    """The prompts that leave room for an answer within `model.max_length`; of the others the first
    is an error that names its row, or they are dropped and counted, as `data.drop` says."""
    room = _room(step.recipe.model.max_length, backbone, sampling)
    if room < 1:
        problem = f"model.max_length ({step.recipe.model.max_length}) leaves no room for a prompt."
        raise UserError(
            problem,
            hint=f"It must be well above sampling.max_new_tokens ({sampling.max_new_tokens}).",
        )
    render = partial(render_prompt, backbone.tokenizer, max_tokens=room)
    rows = render_rows(
        step,
        backbone,
        prompts,
        render,
        what=what,
        room=room,
        reserved=sampling.max_new_tokens,
        required=required,
    )
    return [prompt for prompt, _ in rows]


def _room(max_length: int, backbone: Backbone, sampling: Sampling) -> int:
    """How many tokens a prompt may have."""
    return min(max_length, backbone.turned_alike) - sampling.max_new_tokens


def end_tokens_of(backbone: Backbone) -> tuple[int, ...]:
    """Every token that ends an answer of this model, that of its chat template first."""
    return end_token_ids(backbone.tokenizer, backbone.model.generation_config)


def numbered(prompts: Sequence[Prompt], samples: int) -> Iterator[tuple[Prompt, int]]:
    """`samples` pairs (prompt, number) for each prompt, in order.

    The number tells the completions of one prompt apart. A prompt that stands again goes on
    counting where it left off, so that no two completions of a batch have the same random numbers.
    """
    used: Counter[str] = Counter()
    for prompt in prompts:
        first = used[prompt.id]
        used[prompt.id] += samples
        for number in range(first, first + samples):
            yield prompt, number


class LocalSampler:
    """Completions of prompts, in this process. The random numbers of a completion follow from
    (seed, round, prompt, number).

    `say` is told if sampling is slower than a user would expect.
    """

    def __init__(
        self,
        view: View,
        sampling: Sampling,
        *,
        seed: int,
        max_length: int,
        purpose: str,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._tokenizer = view.backbone.tokenizer
        end_tokens = frozenset(end_tokens_of(view.backbone))
        longest = min(max_length, view.backbone.turned_alike)
        if longest < min(max_length, view.backbone.context):
            say(shorter_notice(longest, min(max_length, view.backbone.context)))
        self._engine = make_engine(
            view,
            end_tokens=end_tokens,
            quantization=sampling.quantization,
            longest=longest,
            say=say,
        )
        self._params = SamplingParams(
            max_new_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            min_p=sampling.min_p,
            repetition_penalty=sampling.repetition_penalty,
            stop=sampling.stop,
        )
        self._room = _room(max_length, view.backbone, sampling)
        self._seed, self._purpose = seed, purpose

    def load(self, view: View, *, version: int) -> None:
        """Take over new weights."""
        if version != self._engine.version:
            self._engine.load(view, version=version)

    def sleep(self) -> None:
        """Give the engine's weights back until the next `load`."""
        self._engine.sleep()

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        samples: int,
        round: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> list[Rollout]:
        """`samples` completions of each prompt, those of one prompt side by side."""
        jobs = [
            (prompt, render_prompt(self._tokenizer, prompt, max_tokens=self._room), number)
            for prompt, number in numbered(prompts, samples)
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
