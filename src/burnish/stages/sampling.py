"""Rollouts of prompts: what renders them and seeds them, on top of an engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from burnish.config.sections import Sampling
from burnish.data.render import end_token_ids, render_prompt
from burnish.errors import UserError
from burnish.generation.base import Engine, Request, SamplingParams, request_seed
from burnish.generation.engine import make_engine
from burnish.models.backbone import Backbone
from burnish.models.roles import View
from burnish.models.sampled import shorter_notice
from burnish.models.weights import merge_on_demand
from burnish.records import Completion, Prompt, Rollout
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
    return backbone.longest(max_length) - sampling.max_new_tokens


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


def engine_here(
    view: View,
    sampling: Sampling,
    *,
    max_length: int,
    say: Callable[[str], None] = lambda _: None,
) -> Engine:
    """The engine in this process that samples a role. `say` is told if sampling is slower, or
    sequences are shorter, than a user would expect."""
    longest = view.backbone.longest(max_length)
    if longest < min(max_length, view.backbone.context):
        say(shorter_notice(longest, min(max_length, view.backbone.context)))
    return make_engine(
        view,
        end_tokens=frozenset(end_tokens_of(view.backbone)),
        quantization=sampling.quantization,
        longest=longest,
        say=say,
    )


def sampling_params(sampling: Sampling) -> SamplingParams:
    """The recipe's section as an engine takes it."""
    return SamplingParams(
        max_new_tokens=sampling.max_new_tokens,
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        min_p=sampling.min_p,
        repetition_penalty=sampling.repetition_penalty,
        stop=sampling.stop,
    )


@dataclass(frozen=True)
class Writer:
    """An engine and what it is asked with. The random numbers of a completion follow from (seed,
    purpose, what identifies it).

    Args:
        engine: writes.
        params: how it draws.
        tokenizer: renders what it goes on from.
        longest: tokens of a prompt and its completion together.
        seed: the run's.
        purpose: whose random numbers they are.
    """

    engine: Engine
    params: SamplingParams
    tokenizer: Any
    longest: int
    seed: int
    purpose: str

    @classmethod
    def of(
        cls,
        engine: Engine,
        backbone: Backbone,
        sampling: Sampling,
        *,
        seed: int,
        max_length: int,
        purpose: str,
    ) -> Writer:
        """One for a model by the recipe's section."""
        return cls(
            engine, sampling_params(sampling), backbone.tokenizer, backbone.longest(max_length),
            seed, purpose,
        )  # fmt: skip

    @property
    def room(self) -> int:
        """How many tokens a prompt may have."""
        return self.longest - self.params.max_new_tokens

    def load(self, view: View, *, version: int) -> None:
        """Give the engine a role's present weights, unless it has this version."""
        if version != self.engine.version:
            self.engine.load(merge_on_demand(view), version=version)

    def write(
        self,
        jobs: Sequence[tuple[tuple[int, ...], tuple[object, ...]]],
        progress: Callable[[int], None] | None = None,
    ) -> list[Completion]:
        """One completion for each (tokens to go on from, what identifies it), in order."""
        requests = [
            Request(tokens, request_seed(self.seed, self.purpose, *parts)) for tokens, parts in jobs
        ]
        return self.engine.generate(requests, self.params, progress=progress)


class PromptSampler:
    """One answer to each prompt, with what `writer` asks."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def load(self, view: View, *, version: int) -> None:
        """Take over new weights."""
        self._writer.load(view, version=version)

    def sleep(self) -> None:
        """Give the engine's weights back until the next `load`."""
        self._writer.engine.sleep()

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        samples: int,
        round: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> list[Rollout]:
        """`samples` completions of each prompt, those of one prompt side by side."""
        writer = self._writer
        asked = [
            (prompt, render_prompt(writer.tokenizer, prompt, max_tokens=writer.room), number)
            for prompt, number in numbered(prompts, samples)
        ]
        jobs = [(tokens, (round, prompt.id, number)) for prompt, tokens, number in asked]
        completions = writer.write(jobs, progress)
        return [
            Rollout(prompt, tokens, completion, writer.engine.version)
            for (prompt, tokens, _), completion in zip(asked, completions, strict=True)
        ]


def prompt_sampler(
    view: View,
    sampling: Sampling,
    *,
    seed: int,
    max_length: int,
    purpose: str,
    say: Callable[[str], None] = lambda _: None,
) -> PromptSampler:
    """What samples answers of a role with an engine in this process."""
    engine = engine_here(view, sampling, max_length=max_length, say=say)
    writer = Writer.of(
        engine, view.backbone, sampling, seed=seed, max_length=max_length, purpose=purpose
    )
    return PromptSampler(writer)
