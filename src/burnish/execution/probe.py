"""Whether what engines sample is what is trained: their log-probabilities beside the trainer's own.

Weights that are old, half loaded or another model's write plausible text; that they are wrong shows
in nothing but these numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from burnish.batch import Batch, TokenSequence
from burnish.errors import UserError
from burnish.generation.base import Request
from burnish.models.roles import View
from burnish.records import Completion

SAMPLES = 2
"""Completions of each engine that are worth looking at."""
ByEngine = Mapping[str, Sequence[tuple[Request, Completion]]]
"""What engines wrote, by their names."""
_TIMES, _LEAST = 5.0, 1e-3


class GapProbe:
    """Compares with the role that is trained.

    `limit` is the mean |log p_trainer − log p_engine| of a token (nats, temperature 1, nothing
    truncated) above which the run stops. None: 5 times the first that is seen, when both surely
    have the same weights, and at least 1e-3.
    """

    def __init__(self, view: View, *, limit: float | None) -> None:
        self._view, self._limit = view, limit

    @torch.no_grad()
    def check(self, written: ByEngine, *, version: int) -> float:
        """The largest gap of any engine. Raises UserError, naming the engine, above the limit. All
        ranks call it together."""
        gaps = {engine: self._gap(pairs) for engine, pairs in written.items() if pairs}
        worst = max(gaps, key=lambda engine: gaps[engine])
        if self._limit is None:
            self._limit = max(_TIMES * gaps[worst], _LEAST)
        if not gaps[worst] <= self._limit:
            raise UserError(
                f"{worst} does not sample the weights that are trained: with version {version} its"
                f" log-probabilities are {gaps[worst]:.3g} nats a token from the trainer's, and at"
                f" most {self._limit:.3g} is allowed. Nothing of it is trained on.",
                field="scale.stop_at_gap",
                hint=(
                    "Checkpoints are as they were: run the same command again. A larger "
                    "stop_at_gap allows more, if such a gap is right for this model's precision."
                ),
            )
        return gaps[worst]

    def _gap(self, pairs: Sequence[tuple[Request, Completion]]) -> float:
        batch = Batch(tuple(TokenSequence(r.prompt_tokens, c.tokens) for r, c in pairs))
        trainer_P = self._view.logprobs(batch).logprobs_P
        engine_P = torch.tensor([x for _, c in pairs for x in c.model_logprobs])
        return float((trainer_P - engine_P).abs().mean())
