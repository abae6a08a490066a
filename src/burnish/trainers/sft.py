"""Supervised fine-tuning: the negative log-likelihood of the assistant's tokens, averaged over the
tokens of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from burnish.algorithms.aggregate import aggregate
from burnish.batch import Batch, TokenSequence
from burnish.config.sections import Passes
from burnish.models.roles import View
from burnish.ranks import dealt
from burnish.runs.metrics import Writer
from burnish.trainers.best import require_heldout
from burnish.trainers.learner import Term
from burnish.trainers.loop import Progress
from burnish.trainers.passes import train_in_passes


def nll_term(view: View, batch: Batch, *, denominator: int | Tensor, weight: float = 1.0) -> Term:
    """−weight · Σ log π(token) / denominator over the trained tokens of a micro-batch."""
    nll_P = -view.logprobs(batch).logprobs_P
    loss = weight * aggregate(per_token=nll_P, denominator=denominator)
    return Term(loss, {})


Demonstrated = TokenSequence | tuple[TokenSequence, ...]
"""A demonstration: one sequence, or the several that a conversation of many turns can make."""


def train_sft(
    view: View,
    train: Sequence[Demonstrated],
    heldout: Sequence[Demonstrated],
    *,
    config: Passes,
    seed: int,
    folder: Path,
    progress: Progress | None = None,
    writers: Sequence[Writer] = (),
) -> None:
    """Train `view` in place on `train`; metrics and checkpoints go to `folder`. Resumes what was
    begun there.

    `config.batch_size` counts demonstrations, whatever number of sequences they make.
    """
    require_heldout(config, heldout)
    limit = config.optimizer.micro_batch_tokens

    def terms(examples: Sequence[Demonstrated]) -> Iterator[Callable[[], Term]]:
        batch = Batch(_flat(examples))
        for rows in batch.micro_batches(limit):
            yield partial(nll_term, view, batch.select(rows), denominator=batch.trained_tokens)

    def evaluate() -> dict[str, float]:
        return {"eval_loss": mean_nll(view, heldout, max_tokens=limit)} if heldout else {}

    train_in_passes(
        view, train, terms=terms, cost=lambda one: sum(map(len, _flat([one]))), evaluate=evaluate,
        config=config, seed=seed, folder=folder, progress=progress, writers=writers,
    )  # fmt: skip


@torch.no_grad()
def mean_nll(view: View, sequences: Sequence[Demonstrated], *, max_tokens: int) -> float:
    """Mean negative log-likelihood (nats per token) of the trained tokens of `sequences`."""
    batch = Batch(_flat(sequences))
    pieces = [batch.select(rows) for rows in batch.micro_batches(max_tokens)]
    sums = dealt(lambda piece: float(-view.logprobs(piece).logprobs_P.double().sum()), pieces)
    return sum(sums) / batch.trained_tokens


def _flat(examples: Sequence[Demonstrated]) -> tuple[TokenSequence, ...]:
    return tuple(
        sequence
        for example in examples
        for sequence in ((example,) if isinstance(example, TokenSequence) else example)
    )
