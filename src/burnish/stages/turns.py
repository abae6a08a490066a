"""Rollouts of several turns: the policy writes, an environment answers, until it says that the
episode is over.

Tokens are the record: what was sampled stays as it was sampled, and the environment's answer is
tokenised by itself and put behind it, in the chat template's own form. Its tokens are in the record
too, and not trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from burnish.config.online import Conversation
from burnish.config.sections import Sampling
from burnish.data.render import (
    call_marks,
    describes_tools,
    render_prompt,
    render_reply,
    without_control_tokens,
)
from burnish.environments.base import CallForm, Environment, ToolEnvironment
from burnish.environments.calculator import Calculator
from burnish.errors import UserError
from burnish.generation.base import Engine
from burnish.models.roles import View
from burnish.own_code import module_at
from burnish.records import LARGEST_REWARD, Completion, Message, Prompt, Reward, Rollout
from burnish.stages.sampling import PromptSampler, Writer, engine_here, numbered
from burnish.trainers.gather import Scorer

PAID = "environment"
"""What the environment's reward is called among the components."""

_SHIPPED: dict[str, Callable[..., Environment]] = {"calculator": Calculator}


@dataclass
class _Episode:
    """One rollout in progress."""

    prompt: Prompt
    prompt_tokens: tuple[int, ...]
    number: int
    environment: Environment
    tokens: list[int] = field(default_factory=list)
    mask: list[bool] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    paid: float = 0.0
    done: bool = False
    stopped: bool = False

    def add(self, completion: Completion) -> None:
        """A turn of the policy."""
        self.tokens += completion.tokens
        self.mask += [True] * len(completion.tokens)
        self.logprobs += completion.sampler_logprobs
        self.texts.append(completion.text)

    def answer(self, tokens: Sequence[int], text: str) -> None:
        """A turn of the environment."""
        self.tokens += tokens
        self.mask += [False] * len(tokens)
        self.texts.append(text)

    def rollout(self, version: int) -> Rollout:
        """The record."""
        completion = Completion(
            text="\n".join(self.texts),
            tokens=tuple(self.tokens),
            sampler_logprobs=tuple(self.logprobs),
            finish_reason="stop" if self.stopped else "length",
            response_mask=tuple(self.mask),
        )
        return Rollout(self.prompt, self.prompt_tokens, completion, version, {PAID: self.paid})


class ConversationSampler:
    """Rollouts of several turns, with what `writer` asks. An episode that runs out of turns, or of
    room, counts as cut off."""

    def __init__(self, writer: Writer, *, make: Callable[[], Environment], max_turns: int) -> None:
        self._writer, self._make, self._turns = writer, make, max_turns

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
        """`samples` episodes of each prompt, those of one prompt side by side."""
        episodes = [self._begin(prompt, number) for prompt, number in numbered(prompts, samples)]
        for turn in range(self._turns):
            active = [e for e in episodes if not e.done]
            if not active:
                break
            jobs = [
                ((*e.prompt_tokens, *e.tokens), (round, e.prompt.id, e.number, turn))
                for e in active
            ]
            completions = self._writer.write(jobs, progress)
            for episode, completion in zip(active, completions, strict=True):
                self._advance(episode, completion, last=turn + 1 == self._turns)
        return [episode.rollout(self._writer.engine.version) for episode in episodes]

    def _begin(self, prompt: Prompt, number: int) -> _Episode:
        environment, tokenizer = self._make(), self._writer.tokenizer
        described = describes_tools(tokenizer)
        shown = _introduced(prompt, environment.reset(prompt), environment, described=described)
        tools = environment.tools if described else ()
        tokens = render_prompt(tokenizer, shown, max_tokens=self._writer.room, tools=tools)
        return _Episode(prompt, tokens, number, environment)

    def _checked_pay(self, reward: Any) -> float:
        try:
            pay = math.nan if isinstance(reward, str | bytes) else float(reward)
        except (TypeError, ValueError, OverflowError):
            pay = math.nan
        if not abs(pay) <= LARGEST_REWARD:
            problem = f"the environment paid {reward!r:.60} for a turn."
            hint = (
                f"Its rewards are numbers of at most {LARGEST_REWARD:g} in size; 0.0 where a turn"
                " earns nothing."
            )
            raise UserError(problem, field="online.environment", hint=hint)
        return pay

    def _advance(self, episode: _Episode, completion: Completion, *, last: bool) -> None:
        episode.add(completion)
        if (
            completion.finish_reason == "length"
        ):  # the policy was cut off in mid-sentence: there is nothing to answer
            episode.done = True
            return
        text, reward, done = episode.environment.step(completion.text)
        episode.paid += self._checked_pay(reward)
        episode.done = episode.stopped = done
        if done or last:
            episode.done = True
            return
        tokenizer = self._writer.tokenizer
        text = without_control_tokens(tokenizer, text)  # it may quote what the policy wrote
        reply = render_reply(tokenizer, Message(role=episode.environment.role, content=text))
        used = len(episode.prompt_tokens) + len(episode.tokens) + len(reply)
        if used > self._writer.room:
            episode.done = True
            return
        episode.answer(reply, text)


def make_sampler(
    environment: Conversation | None,
    view: View,
    sampling: Sampling,
    *,
    seed: int,
    max_length: int,
    purpose: str,
    engine: Engine | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> PromptSampler | ConversationSampler:
    """What samples `view`: single answers, or episodes in the environment; with `engine`, or with
    one in this process."""
    if engine is None:
        engine = engine_here(view, sampling, max_length=max_length, say=say)
    writer = Writer.of(
        engine, view.backbone, sampling, seed=seed, max_length=max_length, purpose=purpose
    )
    if environment is None:
        return PromptSampler(writer)
    make = environment_maker(environment, view)
    return ConversationSampler(writer, make=make, max_turns=environment.max_turns)


class PaidScorer:
    """What the environment paid, times its weight, on top of other rewards (None: there are no
    others)."""

    def __init__(self, inner: Scorer | None, *, weight: float) -> None:
        self._inner, self._weight = inner, weight

    def score(self, rollouts: Sequence[Rollout]) -> list[Reward]:
        """One reward for each rollout, in order."""
        others = (
            [Reward(0.0)] * len(rollouts) if self._inner is None else self._inner.score(rollouts)
        )
        return [
            replace(
                reward,
                value=reward.value + self._weight * rollout.paid.get(PAID, 0.0),
                components={**reward.components, PAID: rollout.paid.get(PAID, 0.0)},
            )
            for reward, rollout in zip(others, rollouts, strict=True)
        ]


def with_pay(inner: Scorer | None, environment: Conversation | None) -> Scorer:
    """The recipe's rewards, and what the environment pays where there is one."""
    if environment is not None:
        return PaidScorer(inner, weight=environment.weight)
    assert inner is not None  # a recipe without either is refused when it is read
    return inner


def environment_maker(how: Conversation, view: View) -> Callable[[], Environment]:
    """What makes an episode's environment. Raises UserError if there is no such environment."""
    found = environment_class(how.name)
    marks = call_marks(view.backbone.tokenizer)
    form = CallForm() if marks is None else CallForm(*marks)
    if isinstance(found, type) and issubclass(found, ToolEnvironment):
        return partial(found, form)
    return found


def environment_class(name: str) -> Callable[..., Environment]:
    """What makes the environment of a name. Raises UserError if there is no such environment."""
    return _SHIPPED.get(name) or _imported(name)


def _imported(name: str) -> Callable[..., Environment]:
    place, _, attribute = name.rpartition(":")
    hint = (
        f"Name one that is shipped ({', '.join(_SHIPPED)}) or package.module:Class, or"
        " path/to/file.py:Class."
    )
    if not place:
        raise UserError(
            f'there is no environment "{name}".', field="online.environment.name", hint=hint
        )
    try:
        return getattr(module_at(place, field="online.environment.name"), attribute)
    except AttributeError as error:
        raise UserError(
            f'the environment "{name}" cannot be imported: {error}.',
            field="online.environment.name",
            hint=hint,
        ) from error


def _introduced(
    prompt: Prompt, observation: str | None, environment: Environment, *, described: bool
) -> Prompt:
    """The prompt as the policy sees it: the observation behind it, and the tools before it if the
    template does not say them."""
    messages = list(prompt.messages)
    if observation:
        final = messages[-1]
        messages[-1] = Message(role=final["role"], content=f"{final['content']}\n\n{observation}")
    if environment.tools and not described:
        messages = _with_system(messages, tool_text(environment))
    return Prompt(prompt.id, tuple(messages), prompt.columns)


def tool_text(environment: Environment) -> str:
    """The tools in words, for templates that have no place for them."""
    form = environment.form if isinstance(environment, ToolEnvironment) else CallForm()
    lines = ["You can use tools:"]
    for tool in environment.tools:
        about = tool["function"]
        arguments = {name: "..." for name in about["parameters"]["properties"]}
        lines += [
            f"{about['name']}: {about['description']} Write:",
            form.write(about["name"], arguments),
        ]
    return "\n".join(lines)


def _with_system(messages: list[Message], text: str) -> list[Message]:
    if messages[0]["role"] == "system":
        return [
            Message(role="system", content=f"{messages[0]['content']}\n\n{text}"),
            *messages[1:],
        ]
    return [Message(role="system", content=text), *messages]
