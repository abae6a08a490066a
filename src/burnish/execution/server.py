"""An engine that carries out orders, wherever it runs: in a process of this machine, or as an actor
of a cluster."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from burnish.errors import UserError
from burnish.execution.orders import Event, Failed, Generate, Load, Loaded, Order, Written
from burnish.execution.publish import Reader
from burnish.generation.native import NativeEngine
from burnish.generation.sampled_model import SampledModel
from burnish.models.matmul import use_fast_exact_matmul


@dataclass(frozen=True)
class EngineSpec:
    """What an engine is made of; its weights follow.

    Args:
        model: the shape of the model, and its tokenizer.
        end_tokens: ids that end a completion.
        device: where it computes.
        threads: of a CPU. As many as the trainer's, or another order of summation could change
            the last digits of log-probabilities.
    """

    model: SampledModel
    end_tokens: frozenset[int]
    device: str
    threads: int


class EngineServer:
    """Carries out orders one after the other."""

    def __init__(self, spec: EngineSpec) -> None:
        torch.set_num_threads(spec.threads)
        if torch.device(spec.device).type == "cpu":
            use_fast_exact_matmul()
        spec.model.rotary.to(spec.device)
        self._spec = spec
        self._engine: NativeEngine | None = None

    def answer(self, order: Order) -> Event:
        """What the order gives. A mistake of the user's is an event; whatever else is raised has
        spoilt the engine."""
        if isinstance(order, Load):
            return self._load(order)
        return self._generate(order)

    def _load(self, order: Load) -> Loaded:
        version = order.publication.version
        reader = Reader(order.publication, torch.device(self._spec.device))
        if self._engine is None:
            self._engine = NativeEngine(
                self._spec.model,
                reader.weights,
                version=version,
                end_tokens=self._spec.end_tokens,
            )
        else:
            self._engine.load(reader.weights, version=version)
        return Loaded(version, reader.checksum)

    def _generate(self, order: Generate) -> Written | Failed:
        assert self._engine is not None  # weights come first
        try:
            completions = self._engine.generate(order.requests, order.params)
        except UserError as error:
            return Failed(error.problem, error.hint)
        return Written(order.number, self._engine.version, tuple(completions))
