"""The engine that a sampler is given when engines are a service: it publishes, asks the pool and
looks whether the answers can be right."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from burnish.execution.pool import Answer, Pool
from burnish.execution.probe import GapProbe
from burnish.execution.publish import Publisher
from burnish.generation.base import Request, SamplingParams
from burnish.models.weights import Weights
from burnish.records import Completion


class ServedEngine:
    """A pool of engines as one `Engine`.

    Args:
        pool: the engines.
        publisher: how weights get to them.
        probe: compares their log-probabilities with the trainer's, once for each version.
        record: told, once for each version, how long it took and who died.
    """

    def __init__(
        self,
        pool: Pool,
        publisher: Publisher,
        *,
        probe: GapProbe,
        record: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._pool, self._publisher, self._probe, self._record = pool, publisher, probe, record
        self.version = -1
        self._row: dict[str, Any] = {}

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

        Raises UserError where no engine is left, or one does not sample what was published.
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
            self._row["gap"] = self._probe.check(
                _by_engine(requests, answers), version=self.version
            )
        if progress is not None:
            progress(tokens)
        return [answer.completion for answer in answers]

    def close(self) -> None:
        """End the engines and take the published weights away."""
        self._pool.close()
        self._publisher.close()
        self.sleep()  # the last row, which the watch's look at the end leaves open


def _by_engine(
    requests: Sequence[Request], answers: Sequence[Answer]
) -> dict[str, list[tuple[Request, Completion]]]:
    found: dict[str, list[tuple[Request, Completion]]] = {}
    for request, answer in zip(requests, answers, strict=True):
        found.setdefault(answer.engine, []).append((request, answer.completion))
    return found
