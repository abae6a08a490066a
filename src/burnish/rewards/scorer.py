"""The scorer that the online loop asks: every reward called on the rollouts it applies to, then composed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from burnish.errors import UserError
from burnish.records import Prompt, Reward, Rollout
from burnish.rewards.base import Judged, Judgement, Scope, call
from burnish.rewards.compose import Part, compose

_SILENT = Judgement(None)
_PATIENCE = 3  # batches in a row without any value


@dataclass(frozen=True, slots=True)
class Source:
    """A reward and how it is called: `scope` and `messages` as in `base.call`. A `score` method is asked with rollouts instead."""

    part: Part
    reward: Any
    scope: Scope = "full"
    messages: bool = False


class CompositeScorer:
    """`score(rollouts)`: one reward for each, its components and verdicts by name."""

    def __init__(self, sources: Sequence[Source], *, on_close: Iterable[Callable[[], None]] = ()) -> None:
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

        Raises UserError after `_PATIENCE` batches in a row to which no reward applied: nothing would ever be learnt.
        """
        tags = [tags_of(rollout.prompt) for rollout in rollouts]
        judged = [self._judge(source, rollouts, tags) for source in self.sources]
        self._look_for_silence(judged, len(rollouts))
        return compose(
            [source.part for source in self.sources], judged, groups=[r.prompt.id for r in rollouts], tags=tags
        )

    def check(self, prompts: Sequence[Prompt], origins: Mapping[str, Any] | None = None) -> list[str]:
        """Look at prompts before anything is sampled: which reward applies to how many, and whether right answers can be read.

        Returns a line for each reward that passes over some of them. Raises UserError where one applies to none, or where an
        answer or tests cannot be read; `origins` tell the file and row of a prompt by its id.
        """
        lines = []
        for source in self.sources if prompts else ():
            name, routed = source.part.name, [p for p in prompts if source.part.applies(tags_of(p))]
            if not routed:
                tags = ", ".join(sorted(source.part.tags))
                known = ", ".join(sorted({tag for p in prompts for tag in tags_of(p)})[:12]) or "none"
                problem = f'the reward "{name}" applies to none of {len(prompts)} prompts: it asks for the tag {tags}, they have {known}.'
                raise UserError(problem, field="rewards.tags", hint="Mend `tags`, or leave the reward out.")
            count = _applicable(source, routed, origins or {})
            if not count:
                problem = (
                    f'the reward "{name}" applies to none of {len(routed)} prompts: {source.reward.why_not(routed)}'
                )
                raise UserError(problem)
            if count < len(routed):
                lines.append(
                    f'the reward "{name}" applies to {count} of {len(routed)} prompts: the others have no answer for it.'
                )
        return lines

    def _look_for_silence(self, judged: Sequence[Judged], count: int) -> None:
        serious = [
            one
            for source, one in zip(self.sources, judged, strict=True)
            if source.part.weight != 0 or source.part.gate is not None
        ]
        silent = count and all(j.value is None and j.counted for one in serious for j in one.judgements)
        self._silent = self._silent + 1 if silent else 0
        if self._silent >= _PATIENCE:
            names = ", ".join(f'"{name}"' for name in self.names)
            problem = f"in {_PATIENCE} batches no reward ({names}) applied to any of {count} completions, so nothing is learnt."
            raise UserError(
                problem,
                field="rewards",
                hint="A reward that returns None does not apply: mend it, its column or its tags.",
            )

    def close(self) -> None:
        """End the worker processes that rewards hold."""
        for close in self._on_close:
            close()

    def _judge(self, source: Source, rollouts: Sequence[Rollout], tags: Sequence[frozenset[str]]) -> Judged:
        """The judgements of one reward, asked for the rollouts it applies to only."""
        rows = [i for i in range(len(rollouts)) if source.part.applies(tags[i])]
        chosen = [rollouts[i] for i in rows]
        found = (
            Judged(tuple(source.reward.score(chosen)))
            if hasattr(source.reward, "score")
            else call(source.part.name, source.reward, chosen, scope=source.scope, messages=source.messages)
        )
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


def _applicable(source: Source, prompts: Sequence[Prompt], origins: Mapping[str, Any]) -> int:
    """How many prompts a reward applies to, by its own word; all, if it cannot tell beforehand."""
    applies = getattr(source.reward, "applies_to", None)
    if applies is None:
        return len(prompts)
    count = 0
    for prompt in prompts:
        try:
            count += bool(applies(prompt))
        except UserError as error:
            origin = origins.get(prompt.id)
            where = {"file": origin.file, "row": origin.row} if origin is not None else {}
            raise UserError(error.problem, field=error.field, hint=error.hint, **where) from error
    return count


def tags_of(prompt: Prompt) -> frozenset[str]:
    """A prompt's tags, from its columns `tags` (a list, or text with commas) and `tag`."""
    found: set[str] = set()
    for name in ("tags", "tag"):
        value = prompt.columns.get(name)
        items = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else ()
        found |= {str(item).strip() for item in items}
    return frozenset(found - {""})
