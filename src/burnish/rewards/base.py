"""The contract of a reward: a callable with the ecosystem's signature, and what comes of calling
it.

    reward(prompts, completions, completion_ids, **columns) -> list[float | None]

One value a completion; None: this reward does not apply to it. The function may be async. `columns`
are the prompts' other columns, one list each, and with them `trainer_state`, `log_extra(column,
values)` and `log_metric(name, value)`, as TRL hands them; a function without `**kwargs` gets those
that it names.

The class form may add `name`, `scope` and `judge`, which takes the same arguments and returns
`Judgement`s: values with the verdict they rest on. Torch-free.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import os
import re
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from burnish.errors import UserError
from burnish.records import LARGEST_REWARD, Message, Prompt, Rollout

Scope = Literal["answer", "full"]

_THINK = "think"
_ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL)


class Reward(Protocol):
    """The function form. The list has one value a completion; None where the reward does not
    apply."""

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]],
        **columns: Any,
    ) -> Sequence[float | None] | Awaitable[Sequence[float | None]]:
        """Score completions."""
        ...


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one reward says of one completion.

    `value` None: the reward does not apply. `counted` False: no value could be had through no fault
    of the completion (a verifier's time-out or error); it is masked and counted, never scored as
    wrong. `verdict` says why, for those that judge.
    """

    value: float | None
    verdict: str | None = None
    counted: bool = True


@dataclass(frozen=True, slots=True)
class Judged:
    """One reward's judgements of a batch, and what it logged, by name, one for each completion:
    numbers, and texts (`notes`).
    None: nothing was logged for that completion."""

    judgements: tuple[Judgement, ...]
    logged: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    notes: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrainerState:
    """What a reward sees of the training, under transformers' names: `global_step` steps are
    done."""

    global_step: int


def after_reasoning(text: str) -> str:
    """What follows the reasoning of a completion.

    Reasoning stands between <think> and </think>: what follows the last </think> is left. A <think>
    that is never closed
    leaves nothing: the empty text. A text without these tags is left whole.
    """
    before, closed, after = text.rpartition(f"</{_THINK}>")
    rest = after if closed else before + after
    if f"<{_THINK}>" in rest:
        rest = rest[: rest.index(f"<{_THINK}>")] if closed else ""
    return rest.strip()


def answer_of(text: str) -> str:
    """The part of a completion that is its answer (`scope: answer`): of what follows the reasoning,
    the content of the last <answer>...</answer> (an unclosed one reaches to the end) if there is
    one, else all. No white space around it."""
    rest = after_reasoning(text)
    tagged = _ANSWER.findall(rest)
    return (tagged[-1] if tagged else rest).strip()


def scoped(text: str, scope: Scope) -> str:
    """The text that a reward of this scope sees."""
    return answer_of(text) if scope == "answer" else text


def prompt_text(prompt: Prompt) -> str:
    """The last thing the user said: what a reward gets as the prompt's text."""
    return next((m["content"] for m in reversed(prompt.messages) if m["role"] == "user"), "")


def columns_of(rollouts: Sequence[Rollout]) -> dict[str, list[Any]]:
    """The prompts' columns as lists, one item a rollout; None where a prompt lacks the column."""
    names = dict.fromkeys(name for rollout in rollouts for name in rollout.prompt.columns)
    return {name: [rollout.prompt.columns.get(name) for rollout in rollouts] for name in names}


def call(
    name: str,
    reward: Callable[..., Any],
    rollouts: Sequence[Rollout],
    *,
    scope: Scope = "full",
    messages: bool = False,
) -> Judged:
    """Call a reward on rollouts and check what it returns.

    Args:
        name: how the recipe calls it; every error names it.
        reward: function or class form, sync or async.
        rollouts: what to score.
        scope: `answer` hands it `answer_of` each completion, and leaves out `completion_ids`, which
            are of the whole.
        messages: hand prompts and completions as lists of messages instead of text.

    Raises UserError when the reward raises, returns another number of values, or one that is
    neither a finite number nor None.
    """
    if not rollouts:
        return Judged(())
    texts = [scoped(r.completion.text, scope) for r in rollouts]
    prompts: list[Any] = [
        list(r.prompt.messages) if messages else prompt_text(r.prompt) for r in rollouts
    ]
    completions: list[Any] = (
        [[Message(role="assistant", content=t)] for t in texts] if messages else texts
    )
    log = _Log(name, len(rollouts))
    known = columns_of(rollouts) | {
        "trainer_state": TrainerState(max(rollout.weight_version for rollout in rollouts)),
        "log_extra": log.extra,
        "log_metric": log.metric,
    }
    ids = (
        [list(r.completion.tokens) for r in rollouts] if scope == "full" else [None] * len(rollouts)
    )
    known |= {"prompts": prompts, "completions": completions, "completion_ids": ids}
    function = getattr(reward, "judge", reward)
    try:
        with _staying():
            found = function(**_accepted(function, known))
            if inspect.isawaitable(found):
                found = _awaited(found)
            judgements = tuple(_checked(name, found, len(rollouts)))
    except UserError:
        raise
    except BaseException as error:
        if type(error) is KeyboardInterrupt:
            raise
        raise _failure(name, error, messages=messages) from error
    return Judged(judgements, log.numbers, log.notes)


class _Left(BaseException):
    """A reward called `os._exit`, which would have ended the run without a word."""


@contextmanager
def _staying() -> Iterator[None]:
    """Meanwhile `os._exit` raises in this process; in processes that a reward forks it does what it
    always does."""
    leave, process = os._exit, os.getpid()

    def refuse(status: int) -> None:
        if os.getpid() != process:
            leave(status)
        raise _Left(f"os._exit({status})")

    os._exit = refuse  # type: ignore[assignment]
    try:
        yield
    finally:
        os._exit = leave


def _failure(name: str, error: BaseException, *, messages: bool) -> UserError:
    """What a reward raised, as one line. What ends a process, raised by a reward, is a mistake like
    any other."""
    try:
        text = " ".join(str(error).split())[:300]
    except Exception:  # an error whose text cannot be had
        text = "no message"
    kind = type(error).__name__
    if isinstance(error, SystemExit | _Left):
        shown = f"exit({error.code!r})" if isinstance(error, SystemExit) else text
        problem, hint = (
            f"left the process: {shown}.",
            "Run a program that a model wrote in a process of its own, or by the reward code.",
        )
        return UserError(f'the reward "{name}" {problem}', hint=hint)
    hint = "The run stops here: mend the reward."
    if isinstance(error, TypeError) and not messages and text.startswith(_INDEXED_TEXT):
        hint = "It reads completions as chat messages: set `messages: true` for it in the recipe."
    elif messages and isinstance(error, AttributeError | TypeError) and _LISTED_TEXT.search(text):
        hint = "It reads completions as text: set `messages: false` for it in the recipe."
    return UserError(f'the reward "{name}" raised {kind}: {text}.', hint=hint)


_INDEXED_TEXT = ("string indices must be integers", "string index indices must be integers")
_LISTED_TEXT = re.compile(
    r"'list' object has no attribute|expected string or bytes-like object|got 'list'|not list"
)


class _Log:
    """What a reward logs: numbers join the components, everything else is kept as text."""

    def __init__(self, reward: str, count: int) -> None:
        self._reward, self._count = reward, count
        self.numbers: dict[str, tuple[float | None, ...]] = {}
        self.notes: dict[str, tuple[str | None, ...]] = {}

    def extra(self, column: str, values: Sequence[Any]) -> None:
        """One value for each completion."""
        values = values.tolist() if hasattr(values, "tolist") else list(values)  # type: ignore[union-attr]
        if len(values) != self._count:
            problem = (
                f"logged {len(values)} values of {str(column)!r:.40} for {self._count} completions."
            )
            raise UserError(f'the reward "{self._reward}" {problem}')
        if all(isinstance(v, int | float) and math.isfinite(v) for v in values):
            self.numbers[str(column)] = tuple(float(v) for v in values)
        else:
            self.notes[str(column)] = tuple(
                None if v is None else str(v)[:_LONGEST_NOTE] for v in values
            )

    def metric(self, metric: str, value: Any) -> None:
        """One number for all of the batch."""
        try:
            number = float(value)
        except (TypeError, ValueError):
            problem = f"logged {value!r:.60} as the metric {str(metric)!r:.40}, which is no number."
            raise UserError(f'the reward "{self._reward}" {problem}') from None
        if math.isfinite(number):
            self.numbers[str(metric)] = (number,) * self._count
        else:
            self.notes[str(metric)] = (str(number),) * self._count


_LONGEST_NOTE = 2000


def _accepted(function: Callable[..., Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that the function takes: all, if it has `**kwargs`."""
    parameters = inspect.signature(function).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return dict(known)
    return {name: value for name, value in known.items() if name in parameters}


def _awaited(found: Awaitable[Any]) -> Any:
    """The result of an async reward, whether or not an event loop runs in this thread."""

    async def wait() -> Any:
        return await found

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(wait())
    results: list[Any] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(asyncio.run(wait()))
        except BaseException as error:  # handed on to the caller below
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _checked(name: str, found: Any, count: int) -> list[Judgement]:
    if hasattr(found, "tolist"):
        found = found.tolist()
    if not isinstance(found, Sequence) or isinstance(found, str):
        raise UserError(
            f'the reward "{name}" returned {type(found).__name__}, not a list of numbers.'
        )
    if len(found) != count:
        raise UserError(
            f'the reward "{name}" returned {len(found)} values for {count} completions.'
        )
    judgements = [
        (
            Judgement(v.value, v.verdict, v.counted)
            if hasattr(v, "verdict")
            else Judgement(_number(name, v, i))
        )
        for i, v in enumerate(found)
    ]
    for place, judgement in enumerate(judgements):
        if judgement.value is not None and not abs(judgement.value) <= LARGEST_REWARD:
            kind = (
                f"of at most {LARGEST_REWARD:g} in size"
                if math.isfinite(judgement.value)
                else "that are finite"
            )
            problem = (
                f"returned {judgement.value} for completion {place}: rewards are numbers {kind}, or"
                " None."
            )
            raise UserError(
                f'the reward "{name}" {problem}',
                hint="Mend it, or have it return None where it does not apply.",
            )
    return judgements


def _number(name: str, value: Any, place: int) -> float | None:
    if value is None:
        return None
    try:
        if isinstance(value, str | bytes):
            raise TypeError("text")
        return float(value)
    except (TypeError, ValueError, OverflowError):
        problem = f"returned {value!r:.60} for completion {place}, which is no number."
        raise UserError(f'the reward "{name}" {problem}') from None
