"""Supervised fine-tuning: the negative log-likelihood of the assistant's tokens, averaged over the tokens of a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from burnish.algorithms.aggregate import aggregate
from burnish.batch import Batch, TokenSequence
from burnish.config.schema import Sft
from burnish.data.prompts import Stream
from burnish.models.roles import View
from burnish.runs.metrics import Writer
from burnish.trainers.learner import Learner, Term
from burnish.trainers.loop import Loop, Progress


def steps_of(*, examples: int, batch_size: int, epochs: float) -> int:
    """Optimiser steps in `epochs` passes over `examples`, at least one."""
    return max(1, math.ceil(epochs * examples / batch_size))


def nll_term(view: View, batch: Batch, *, denominator: int | Tensor, weight: float = 1.0) -> Term:
    """−weight · Σ log π(token) / denominator over the trained tokens of a micro-batch."""
    nll_P = -view.logprobs(batch).logprobs_P
    loss = weight * aggregate(per_token=nll_P, mask=None, denominator=denominator)
    return Term(loss, {})


def train_sft(
    view: View,
    train: Sequence[TokenSequence],
    heldout: Sequence[TokenSequence],
    *,
    config: Sft,
    seed: int,
    folder: Path,
    progress: Progress | None = None,
    writers: Sequence[Writer] = (),
) -> None:
    """Train `view` in place on `train`; metrics and checkpoints go to `folder`. Resumes what was begun there."""
    total = steps_of(examples=len(train), batch_size=config.batch_size, epochs=config.epochs)
    learner = Learner(view, config.optimiser, total_steps=total)
    stream = Stream(train, seed=seed, batch_size=config.batch_size)
    loop = Loop(
        folder,
        total=total,
        checkpoint=config.checkpoint,
        state={"learner": learner},
        progress=progress,
        writers=writers,
    )
    for step in loop.steps():
        batch = Batch(tuple(stream.batch(step)))
        values = (
            {}
            if step
            else {"eval_loss_before": mean_nll(view, heldout, max_tokens=config.optimiser.micro_batch_tokens)}
        )
        pieces = [batch.select(rows) for rows in batch.micro_batches(config.optimiser.micro_batch_tokens)]
        values |= learner.update(partial(nll_term, view, piece, denominator=batch.trained_tokens) for piece in pieces)
        if (step + 1) % config.eval_every == 0 or step + 1 == total:
            values["eval_loss"] = mean_nll(view, heldout, max_tokens=config.optimiser.micro_batch_tokens)
        loop.log(values | {"skipped_steps": learner.skipped}, tokens=sum(len(s) for s in batch.sequences))


@torch.no_grad()
def mean_nll(view: View, sequences: Sequence[TokenSequence], *, max_tokens: int) -> float:
    """Mean negative log-likelihood (nats per token) of the trained tokens of `sequences`."""
    batch = Batch(tuple(sequences))
    pieces = (batch.select(rows) for rows in batch.micro_batches(max_tokens))
    return sum(float(-view.logprobs(piece).logprobs_P.double().sum()) for piece in pieces) / batch.trained_tokens
