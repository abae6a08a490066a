"""The engine that a sampler is given when engines are a service: it publishes and asks the pool;
and the sampler that looks whether the answers can be right."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from burnish.execution.journal import Sampler
from burnish.execution.pool import Answer, Pool
from burnish.execution.probe import SAMPLES, ByEngine, GapProbe
from burnish.execution.publish import Publisher
from burnish.generation.base import Request, SamplingParams
from burnish.models.roles import View
from burnish.models.weights import Weights
from burnish.ranks import told
from burnish.records import Completion, Prompt, Rollout


class ServedEngine:
    """A pool of engines as one `Engine`.

    Args:
        pool: the engines.
        publisher: how weights get to them.
        record: told, once for each version, how long it took and who died.
    """

    def __init__(
        self,
        pool: Pool,
        publisher: Publisher,
        *,
        record: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._pool, self._publisher, self._record = pool, publisher, record
        self.version = -1
        self._row: dict[str, Any] = {}
        self._unseen: ByEngine = {}

    def load(self, weights: Weights, *, version: int) -> None:
        """Publish the weights, and wait until every engine has taken them over."""
        begun = time.perf_counter()
        before = self._pool.restarted, self._pool.resent
        publication = self._publisher.publish(weights, version=version)
        written = time.perf_counter()
        self._pool.load(publication)
        self.version = version
        self._row = {
            "version": version,
            "engines": self._pool.engines,
            "publish_seconds": written - begun,
            "load_seconds": time.perf_counter() - written,
            "generate_seconds": 0.0,
            "tokens": 0,
            "before": before,
        }

    def sleep(self) -> None:
        """Engines keep the weights, in memory of their own; they write nothing before the next
        `load`."""
        if self.version < 0:
            return
        restarted, resent = self._row.pop("before")
        self._row["restarted"] = self._pool.restarted - restarted
        self._row["resent"] = self._pool.resent - resent
        self._record(self._row)
        self.version = -1

    def generate(
        self,
        requests: Sequence[Request],
        params: SamplingParams,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> list[Completion]:
        """One completion for each request, in their order. `progress` is told of all tokens at the
        end.

        Raises UserError where no engine is left.
        """
        if not requests:
            return []
        if self.version < 0:
            raise RuntimeError("the engine sleeps: load weights first")
        begun = time.perf_counter()
        answers = self._pool.generate(requests, params)
        self._row["generate_seconds"] += time.perf_counter() - begun
        tokens = sum(len(answer.completion.tokens) for answer in answers)
        self._row["tokens"] += tokens
        if "gap" not in self._row:
            self._unseen = _by_engine(requests, answers)
        if progress is not None:
            progress(tokens)
        return [answer.completion for answer in answers]

    def unseen(self) -> ByEngine:
        """What each engine has written with these weights, where nobody has looked at that yet;
        asked for once."""
        found, self._unseen = self._unseen, {}
        return found

    def saw(self, gap: float) -> None:
        """How far it was from the trainer's log-probabilities, for the record."""
        self._row["gap"] = gap

    def close(self) -> None:
        """End the engines and take the published weights away."""
        self._pool.close()
        self._publisher.close()
        self.sleep()  # the last row, which the watch's look at the end leaves open


class ProbedSampler:
    """A sampler whose engines are looked at, once for each version of the weights, before anybody
    sees what they wrote.

    Args:
        inner: draws, on the first rank.
        engine: what it draws with, on the first rank.
        probe: compares its log-probabilities with the trainer's, for which all ranks run the model.
    """

    def __init__(self, inner: Sampler, engine: ServedEngine | None, probe: GapProbe) -> None:
        self._inner, self._engine, self._probe = inner, engine, probe
        self._version = -1

    def load(self, view: View, *, version: int) -> None:
        """Take over new weights."""
        self._version = version
        self._inner.load(view, version=version)

    def sleep(self) -> None:
        """Sample nothing before the next `load`."""
        self._inner.sleep()

    def generate(self, prompts: Sequence[Prompt], *, samples: int, round: int) -> list[Rollout]:
        """`samples` completions of each prompt. Raises UserError, on every rank, where an engine
        does not sample what was published."""
        rollouts = self._inner.generate(prompts, samples=samples, round=round)
        written = told(lambda: {} if self._engine is None else self._engine.unseen())
        if written:
            gap = self._probe.check(written, version=self._version)
            if self._engine is not None:
                self._engine.saw(gap)
        return rollouts


def _by_engine(requests: Sequence[Request], answers: Sequence[Answer]) -> ByEngine:
    """A few of each engine's."""
    found: dict[str, list[tuple[Request, Completion]]] = {}
    for request, answer in zip(requests, answers, strict=True):
        pairs = found.setdefault(answer.engine, [])
        if len(pairs) < SAMPLES:
            pairs.append((request, answer.completion))
    return found
