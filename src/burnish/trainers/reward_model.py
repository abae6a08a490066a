"""The reward model: Bradley–Terry on every comparison of a prompt together, each response encoded once.

Loss of a prompt with responses y_1..y_K and comparisons C: (1/|C|) Σ −p log σ(d) − (1−p) log σ(−d), d = r_i − r_j,
averaged over prompts (Ouyang et al., arXiv:2203.02155, eq. 1, with soft labels p).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from burnish.algorithms.preference_losses import bradley_terry_loss
from burnish.batch import Batch, TokenSequence, cut
from burnish.config.schema import RewardModel
from burnish.models.roles import View
from burnish.runs.metrics import Writer
from burnish.trainers.groups import RankedGroup, pairs_of
from burnish.trainers.learner import Term
from burnish.trainers.loop import Progress
from burnish.trainers.passes import train_in_passes


def bradley_terry_term(view: View, groups: Sequence[RankedGroup], *, config: RewardModel, prompts: int) -> Term:
    """The loss of some of a step's groups, divided by the `prompts` of the whole step."""
    scores_N = view.scores(Batch(tuple(s for group in groups for s in group.sequences)))
    pairs = pairs_of(groups, soft=config.soft_labels, margin=config.margin)
    loss = bradley_terry_loss(
        scores_first=scores_N[pairs.better],
        scores_second=scores_N[pairs.worse],
        probability=pairs.probability,
        margin=pairs.margin,
    )
    difference = loss.stats["score_difference"]
    right = torch.where(difference == 0, 0.5, (difference > 0).float())
    sums = {"correct": right[pairs.decided].sum(), "decided": pairs.decided.sum()}
    return Term((loss.per_token * pairs.weight).sum() / prompts, sums)


def train_reward_model(
    view: View,
    train: Sequence[RankedGroup],
    heldout: Sequence[RankedGroup],
    *,
    config: RewardModel,
    seed: int,
    folder: Path,
    progress: Progress | None = None,
    writers: Sequence[Writer] = (),
) -> None:
    """Train `view` (adapter or whole model, with its head) in place; resumes what was begun in `folder`."""

    def terms(groups: Sequence[RankedGroup]) -> Iterator[Callable[[], Term]]:
        for run in cut([g.cost for g in groups], config.optimiser.micro_batch_tokens):
            yield partial(bradley_terry_term, view, [groups[i] for i in run], config=config, prompts=len(groups))

    def evaluation() -> dict[str, float]:
        if not heldout:
            return {}
        loss, accuracy = evaluate(view, heldout, config=config)
        return {"eval_loss": loss, "eval_accuracy": accuracy}

    def metrics(values: dict[str, float]) -> dict[str, float]:
        correct, decided = values.pop("correct"), values.pop("decided")
        return values | {"accuracy": correct / decided} if decided else values

    train_in_passes(
        view, train, terms=terms, cost=lambda group: group.cost, evaluate=evaluation, metrics=metrics,
        config=config, seed=seed, folder=folder, progress=progress, writers=writers,
    )  # fmt: skip


@torch.no_grad()
def evaluate(view: View, groups: Sequence[RankedGroup], *, config: RewardModel) -> tuple[float, float]:
    """(loss, accuracy) on `groups`; comparisons labelled exactly ½ have no right answer and count in the loss only."""
    terms = [
        bradley_terry_term(view, [groups[i] for i in run], config=config, prompts=len(groups))
        for run in cut([g.cost for g in groups], config.optimiser.micro_batch_tokens)
    ]
    decided = sum(float(t.sums["decided"]) for t in terms)
    accuracy = sum(float(t.sums["correct"]) for t in terms) / decided if decided else float("nan")
    return sum(float(t.loss) for t in terms), accuracy


@torch.no_grad()
def score_sequences(view: View, sequences: Sequence[TokenSequence], *, max_tokens: int) -> Tensor:
    """[N]: the score of each sequence."""
    batch = Batch(tuple(sequences))
    return torch.cat([view.scores(batch.select(rows)) for rows in batch.micro_batches(max_tokens)])
