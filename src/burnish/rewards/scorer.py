"""The scorer that the online loop asks: every reward called on the rollouts it applies to, then
composed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from burnish.errors import UserError
from burnish.ranks import told
from burnish.records import Prompt, Reward, Rollout
from burnish.rewards.base import Judged, Judgement, Scope, call
from burnish.rewards.compose import Part, compose

_SILENT = Judgement(None)
_PATIENCE = 3  # batches in a row without any value


@dataclass(frozen=True, slots=True)
class Source:
    """A reward and how it is called: `scope` and `messages` as in `base.call`. A `score` method is
    asked with rollouts instead."""

    part: Part
    reward: Any
    scope: Scope = "full"
    messages: bool = False


class CompositeScorer:
    """`score(rollouts)`: one reward for each, its components and verdicts by name."""

    def __init__(
        self, sources: Sequence[Source], *, on_close: Iterable[Callable[[], None]] = ()
    ) -> None:
        names = [source.part.name for source in sources]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"a scorer needs rewards with different names, not {names}")
        self.sources, self._on_close = tuple(sources), tuple(on_close)
        self._silent = 0

    @property
    def names(self) -> tuple[str, ...]:
        """What the components are called."""
        return tuple(source.part.name for source in self.sources)

    def score(self, rollouts: Sequence[Rollout]) -> list[Reward]:
        """One reward for each rollout, in order.

        Raises UserError after `_PATIENCE` batches in a row to which no reward applied: nothing
        would ever be learnt.
        """
        tags = [tags_of(rollout.prompt) for rollout in rollouts]
        judged = [self._judge(source, rollouts, tags) for source in self.sources]
        self._look_for_silence(judged, len(rollouts))
        return compose(
            [source.part for source in self.sources],
            judged,
            groups=[r.prompt.id for r in rollouts],
            tags=tags,
        )

    def _look_for_silence(self, judged: Sequence[Judged], count: int) -> None:
        serious = [
            one
            for source, one in zip(self.sources, judged, strict=True)
            if source.part.weight != 0 or source.part.gate is not None
        ]
        silent = count and all(
            j.value is None and j.counted for one in serious for j in one.judgements
        )
        self._silent = self._silent + 1 if silent else 0
        if self._silent >= _PATIENCE:
            names = ", ".join(f'"{name}"' for name in self.names)
            problem = (
                f"in {_PATIENCE} batches no reward ({names}) applied to any of {count} completions,"
                " so nothing is learnt."
            )
            raise UserError(
                problem,
                field="rewards",
                hint="A reward that returns None does not apply: mend it, its column or its tags.",
            )

    def close(self) -> None:
        """End the worker processes that rewards hold."""
        for close in self._on_close:
            close()

    def _judge(
        self, source: Source, rollouts: Sequence[Rollout], tags: Sequence[frozenset[str]]
    ) -> Judged:
        """The judgements of one reward, asked for the rollouts it applies to only."""
        rows = [i for i in range(len(rollouts)) if source.part.applies(tags[i])]
        chosen = [rollouts[i] for i in rows]
        ask = partial(_asked, source, chosen)
        found = ask() if getattr(source.reward, "on_every_rank", False) else told(ask)
        judgements = [_SILENT] * len(rollouts)
        for row, judgement in zip(rows, found.judgements, strict=True):
            judgements[row] = judgement
        return Judged(
            tuple(judgements),
            {name: _spread(values, rows, len(rollouts)) for name, values in found.logged.items()},
            {name: _spread(values, rows, len(rollouts)) for name, values in found.notes.items()},
        )


def _spread(values: Sequence[Any], rows: Sequence[int], count: int) -> tuple[Any, ...]:
    """Values of some rows among all; None for the others."""
    spread: list[Any] = [None] * count
    for row, value in zip(rows, values, strict=True):
        spread[row] = value
    return tuple(spread)


def _asked(source: Source, rollouts: Sequence[Rollout]) -> Judged:
    if hasattr(source.reward, "judged"):
        return source.reward.judged(rollouts)
    if hasattr(source.reward, "score"):
        return Judged(tuple(source.reward.score(rollouts)))
    return call(
        source.part.name, source.reward, rollouts, scope=source.scope, messages=source.messages
    )


def check_prompts(
    part: Part,
    reward: Any,
    prompts: Sequence[Prompt],
    origins: Mapping[str, Any] | None = None,
    *,
    needed: bool = True,
) -> str | None:
    """Look at prompts before anything is sampled: to how many a reward applies, and whether their
    right answers can be read.

    Returns a line where it passes over some of them, else None. Raises UserError where it applies
    to none (without `needed` it is only said), or where an answer or tests cannot be read;
    `origins` tell the file and row of a prompt by its id.
    """
    if not prompts:
        return None
    routed = [prompt for prompt in prompts if part.applies(tags_of(prompt))]
    applies = getattr(reward, "applies_to", None)
    count = (
        len(routed)
        if applies is None
        else sum(_applies(applies, prompt, origins or {}) for prompt in routed)
    )
    if count == len(routed) > 0:
        return None
    if count or not needed:
        lacks = [(len(routed) - count, "have nothing for it to compare with")]
        lacks.append((len(prompts) - len(routed), "have none of its tags"))
        told = ", ".join(f"{number} {what}" for number, what in lacks if number)
        return f'the reward "{part.name}" applies to {count} of {len(prompts)} prompts; {told}'
    if routed:
        raise UserError(
            f'the reward "{part.name}" applies to none of {len(routed)} prompts:'
            f" {reward.why_not(routed)}"
        )
    known = ", ".join(sorted({tag for prompt in prompts for tag in tags_of(prompt)})[:12]) or "none"
    asked = ", ".join(sorted(part.tags))
    problem = (
        f'the reward "{part.name}" applies to none of {len(prompts)} prompts: it asks for the tag'
        f" {asked}; they have {known}."
    )
    raise UserError(problem, field="rewards.tags", hint="Mend `tags`, or leave the reward out.")


def _applies(applies: Callable[[Prompt], bool], prompt: Prompt, origins: Mapping[str, Any]) -> bool:
    try:
        return bool(applies(prompt))
    except UserError as error:
        origin = origins.get(prompt.id)
        file, row = (None, None) if origin is None else (origin.file, origin.row)
        raise UserError(
            error.problem, file=file, row=row, field=error.field, hint=error.hint
        ) from error


def tags_of(prompt: Prompt) -> frozenset[str]:
    """A prompt's tags, from its columns `tags` (a list, or text with commas) and `tag`."""
    found: set[str] = set()
    for name in ("tags", "tag"):
        value = prompt.columns.get(name)
        items = (
            value.split(",")
            if isinstance(value, str)
            else value
            if isinstance(value, list | tuple)
            else ()
        )
        found |= {str(item).strip() for item in items}
    return frozenset(found - {""})
