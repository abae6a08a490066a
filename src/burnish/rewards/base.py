"""The contract of a reward: a callable with the ecosystem's signature, and what comes of calling it.

    reward(prompts, completions, completion_ids, **columns) -> list[float | None]

One value a completion; None: this reward does not apply to it. The function may be async. `columns` are the prompts' other
columns, one list each, and with them `trainer_state` (None), `log_extra(column, values)` and `log_metric(name, value)`, as
TRL hands them; a function without `**kwargs` gets those that it names.

The class form may add `name`, `scope` and `judge`, which takes the same arguments and returns `Judgement`s: values with
the verdict they rest on. Torch-free.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import re
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from burnish.errors import UserError
from burnish.records import Message, Prompt, Rollout

Scope = Literal["answer", "full"]

_THINK = "think"
_ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL)


class Reward(Protocol):
    """The function form. The list has one value a completion; None where the reward does not apply."""

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

    `value` None: the reward does not apply. `counted` False: no value could be had through no fault of the completion (a
    verifier's time-out or error); it is masked and counted, never scored as wrong. `verdict` says why, for those that judge.
    """

    value: float | None
    verdict: str | None = None
    counted: bool = True


@dataclass(frozen=True, slots=True)
class Judged:
    """One reward's judgements of a batch, and the numbers it logged: by name, one for each completion."""

    judgements: tuple[Judgement, ...]
    logged: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


def after_reasoning(text: str) -> str:
    """What follows the reasoning of a completion.

    Reasoning stands between <think> and </think>: what follows the last </think> is left. A <think> that is never closed
    leaves nothing: the empty text. A text without these tags is left whole.
    """
    before, closed, after = text.rpartition(f"</{_THINK}>")
    rest = after if closed else before + after
    if f"<{_THINK}>" in rest:
        rest = rest[: rest.index(f"<{_THINK}>")] if closed else ""
    return rest.strip()


def answer_of(text: str) -> str:
    """The part of a completion that is its answer (`scope: answer`): of what follows the reasoning, the content of the last
    <answer>...</answer> (an unclosed one reaches to the end) if there is one, else all. No white space around it."""
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
    name: str, reward: Callable[..., Any], rollouts: Sequence[Rollout], *, scope: Scope = "full", messages: bool = False
) -> Judged:
    """Call a reward on rollouts and check what it returns.

    Args:
        name: how the recipe calls it; every error names it.
        reward: function or class form, sync or async.
        rollouts: what to score.
        scope: `answer` hands it `answer_of` each completion, and leaves out `completion_ids`, which are of the whole.
        messages: hand prompts and completions as lists of messages instead of text.

    Raises UserError when the reward raises, returns another number of values, or one that is neither a finite number nor None.
    """
    if not rollouts:
        return Judged(())
    texts = [scoped(r.completion.text, scope) for r in rollouts]
    prompts: list[Any] = [list(r.prompt.messages) if messages else prompt_text(r.prompt) for r in rollouts]
    completions: list[Any] = [[Message(role="assistant", content=t)] for t in texts] if messages else texts
    logged: dict[str, tuple[float, ...]] = {}
    known = columns_of(rollouts) | {
        "trainer_state": None,
        "log_extra": _extra_logger(logged, len(rollouts)),
        "log_metric": lambda metric, value: logged.update({str(metric): (float(value),) * len(rollouts)}),
    }
    ids = [list(r.completion.tokens) for r in rollouts] if scope == "full" else [None] * len(rollouts)
    known |= {"prompts": prompts, "completions": completions, "completion_ids": ids}
    function = getattr(reward, "judge", reward)
    try:
        found = function(**_accepted(function, known))
        if inspect.isawaitable(found):
            found = _awaited(found)
    except UserError:
        raise
    except Exception as error:
        problem = f"raised {type(error).__name__}: {' '.join(str(error).split())[:300]}."
        raise UserError(f'the reward "{name}" {problem}', hint="The run stops here: mend the reward.") from error
    return Judged(tuple(_checked(name, found, len(rollouts))), logged)


def _extra_logger(logged: dict[str, tuple[float, ...]], count: int) -> Callable[[str, Sequence[Any]], None]:
    """What a reward calls to log a column. Numbers join the components; other columns are not kept."""

    def log_extra(column: str, values: Sequence[Any]) -> None:
        if len(values) == count and all(isinstance(v, int | float) and math.isfinite(v) for v in values):
            logged[str(column)] = tuple(float(v) for v in values)

    return log_extra


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
        raise UserError(f'the reward "{name}" returned {type(found).__name__}, not a list of numbers.')
    if len(found) != count:
        raise UserError(f'the reward "{name}" returned {len(found)} values for {count} completions.')
    judgements = [
        Judgement(v.value, v.verdict, v.counted) if hasattr(v, "verdict") else Judgement(_number(name, v, i))
        for i, v in enumerate(found)
    ]
    for place, judgement in enumerate(judgements):
        if judgement.value is not None and not math.isfinite(judgement.value):
            problem = f"returned {judgement.value} for completion {place}: rewards are finite numbers, or None."
            raise UserError(f'the reward "{name}" {problem}')
    return judgements


def _number(name: str, value: Any, place: int) -> float | None:
    if value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        problem = f"returned {value!r:.60} for completion {place}, which is no number."
        raise UserError(f'the reward "{name}" {problem}') from None
