"""The loop of every trainer that makes passes over fixed data: batches in, one optimizer step each,
evaluation now and then."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from burnish.config.sections import Passes
from burnish.data.prompts import Stream
from burnish.models.roles import View
from burnish.runs.metrics import Writer
from burnish.trainers.best import Best
from burnish.trainers.learner import Diverged, Learner, Term
from burnish.trainers.loop import Loop, Progress

Example = TypeVar("Example")


def steps_of(*, examples: int, batch_size: int, epochs: float, max_steps: int | None = None) -> int:
    """Optimizer steps in `epochs` passes over `examples`, at least one, or `max_steps` in place of
    them. A batch holds no more than all of them."""
    steps = max(1, math.ceil(epochs * examples / min(batch_size, examples)))
    return steps if max_steps is None else max_steps


def train_in_passes(
    view: View,
    examples: Sequence[Example],
    *,
    terms: Callable[[Sequence[Example]], Iterable[Callable[[], Term]]],
    cost: Callable[[Example], int],
    evaluate: Callable[[], Mapping[str, float]],
    config: Passes,
    seed: int,
    folder: Path,
    at_start: bool = True,
    metrics: Callable[[dict[str, float]], dict[str, float]] = lambda values: values,
    progress: Progress | None = None,
    writers: Sequence[Writer] = (),
) -> bool:
    """Train `view` in place; metrics and checkpoints go to `folder`. Resumes what was begun there.

    Args:
        view: the role that learns.
        examples: one of them is what `batch_size` counts; a batch is no larger than all of them.
        terms: the loss of a batch, in micro-batches (see `burnish.trainers.learner`).
        cost: tokens that an example runs.
        evaluate: `eval_*` metrics on held-out data; called every `eval_every` steps and after the
            last.
        at_start: also before the first step, as `eval_*_before`.
        config: epochs or steps, batch size, optimizer, evaluation (and what it decides) and
            checkpoints.
        seed: of the order of the examples.
        folder: the stage's folder.
        metrics: turns a step's summed statistics into what is logged.
        progress: told after each step.
        writers: where else metrics go.

    Returns whether the role was given the weights of an earlier evaluation than the last
    (`keep: best`).

    Raises Diverged where the learner does, where not one step could be made, and where the held-out
    loss at the end is no finite number.
    """
    total = steps_of(
        examples=len(examples),
        batch_size=config.batch_size,
        epochs=config.epochs,
        max_steps=config.max_steps,
    )
    best = Best(view, config)
    learner = Learner(view, config.optimizer, total_steps=total, seed=seed)
    stream = Stream(examples, seed=seed, batch_size=min(config.batch_size, len(examples)))
    loop = Loop(
        folder,
        total=total,
        checkpoint=config.checkpoint,
        state={"learner": learner, **best.state},
        progress=progress,
        writers=writers,
    )
    for step in loop.steps():
        batch = stream.batch(step)
        values = (
            {f"{name}_before": value for name, value in evaluate().items()}
            if at_start and step == 0
            else {}
        )
        values |= metrics(learner.update(terms(batch)))
        ends = step + 1 == total
        if (step + 1) % config.eval_every == 0 or ends:
            evaluation = evaluate()
            values |= evaluation
            if best.evaluated(evaluation, step + 1):
                loop.stop()
                ends = ends or not best.has_kept  # else these weights are not the stage's
        if ends:
            _refuse_no_loss(values)
        loop.log(values | {"skipped_steps": learner.skipped}, tokens=sum(map(cost, batch)))
    learner.refuse_standstill()
    return best.end()


def _refuse_no_loss(values: Mapping[str, float]) -> None:
    loss = values.get("eval_loss", 0.0)  # not there where nothing is held out
    if not math.isfinite(loss):
        raise Diverged(
            f"the trained model's loss on held-out data is {loss}.",
            hint="Its weights have grown too large: lower the learning rate.",
        )
