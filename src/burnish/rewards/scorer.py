"""The scorer that the online loop asks: every reward called on the rollouts it applies to, then composed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from burnish.records import Prompt, Reward, Rollout
from burnish.rewards.base import Judged, Judgement, Scope, call
from burnish.rewards.compose import Part, compose

_SILENT = Judgement(None)


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

    @property
    def names(self) -> tuple[str, ...]:
        """What the components are called."""
        return tuple(source.part.name for source in self.sources)

    def score(self, rollouts: Sequence[Rollout]) -> list[Reward]:
        """One reward for each rollout, in order."""
        tags = [tags_of(rollout.prompt) for rollout in rollouts]
        judged = [self._judge(source, rollouts, tags) for source in self.sources]
        return compose(
            [source.part for source in self.sources], judged, groups=[r.prompt.id for r in rollouts], tags=tags
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
        # what a reward logs of a part of the rollouts has no value for the others
        logged = found.logged if len(rows) == len(rollouts) else {}
        return Judged(tuple(judgements), logged)


def tags_of(prompt: Prompt) -> frozenset[str]:
    """A prompt's tags, from its columns `tags` (a list, or text with commas) and `tag`."""
    found: set[str] = set()
    for name in ("tags", "tag"):
        value = prompt.columns.get(name)
        items = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else ()
        found |= {str(item).strip() for item in items}
    return frozenset(found - {""})
