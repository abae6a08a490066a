"""The reward model: Bradley–Terry on every comparison of a prompt together, each response encoded once.

Loss of a prompt with responses y_1..y_K and comparisons C: (1/|C|) Σ −p log σ(d) − (1−p) log σ(−d), d = r_i − r_j,
averaged over prompts (Ouyang et al., arXiv:2203.02155, eq. 1, with soft labels p).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from burnish.algorithms.preference_losses import bradley_terry_loss
from burnish.batch import Batch, TokenSequence, cut
from burnish.config.schema import RewardModel
from burnish.models.roles import View
from burnish.records import Comparison
from burnish.runs.metrics import Writer
from burnish.trainers.learner import Term
from burnish.trainers.loop import Progress
from burnish.trainers.passes import train_in_passes


@dataclass(frozen=True, slots=True)
class RankedGroup:
    """A prompt's responses as tokens (the same prompt in each) and the comparisons among them, by index."""

    sequences: tuple[TokenSequence, ...]
    comparisons: tuple[Comparison, ...]

    def __post_init__(self) -> None:
        if not self.comparisons:
            raise ValueError("a group without comparisons teaches nothing")

    @property
    def cost(self) -> int:
        """Tokens run: the prompt once, then every response."""
        return len(self.sequences[0].prompt) + sum(len(s.response) for s in self.sequences)


@dataclass(frozen=True, slots=True)
class _Pairs:
    """The comparisons of several groups over the rows of one batch."""

    first: Tensor
    second: Tensor
    probability: Tensor
    margin: Tensor
    weight: Tensor


def bradley_terry_term(view: View, groups: Sequence[RankedGroup], *, config: RewardModel, prompts: int) -> Term:
    """The loss of some of a step's groups, divided by the `prompts` of the whole step."""
    scores_N = view.scores(Batch(tuple(s for group in groups for s in group.sequences)))
    pairs = _pairs(groups, soft=config.soft_labels, margin=config.margin)
    loss = bradley_terry_loss(
        scores_first=scores_N[pairs.first],
        scores_second=scores_N[pairs.second],
        probability=pairs.probability,
        margin=pairs.margin,
    )
    difference = (scores_N[pairs.first] - scores_N[pairs.second]).detach()
    right = torch.where(difference == 0, 0.5, ((difference > 0) == (pairs.probability > 0.5)).float())
    decided = pairs.probability != 0.5
    sums = {"correct": right[decided].sum(), "decided": decided.sum()}
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


def _pairs(groups: Sequence[RankedGroup], *, soft: bool, margin: float) -> _Pairs:
    first: list[int] = []
    second: list[int] = []
    probability: list[float] = []
    margins: list[float] = []
    weight: list[float] = []
    row = 0
    for group in groups:
        for pair in group.comparisons:
            first.append(row + pair.first)
            second.append(row + pair.second)
            certain = float(pair.probability > 0.5) if pair.probability != 0.5 else 0.5
            probability.append(pair.probability if soft else certain)
            margins.append(pair.margin + margin * abs(2.0 * pair.probability - 1.0))
            weight.append(1.0 / len(group.comparisons))
        row += len(group.sequences)
    return _Pairs(*map(torch.tensor, (first, second, probability, margins, weight)))
