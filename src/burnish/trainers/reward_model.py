"""The reward model: Bradley–Terry on every comparison of a prompt together, each response encoded
once.

Loss of a prompt with responses y_1..y_K and comparisons C: (1/|C|) Σ −p log σ(d) − (1−p) log σ(−d),
d = r_i − r_j, averaged over prompts (Ouyang et al., arXiv:2203.02155, eq. 1, with soft labels p).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from burnish.algorithms.preference_losses import bradley_terry_loss
from burnish.batch import Batch, TokenSequence, cut
from burnish.config.sections import ComparedPasses
from burnish.models.ensemble import RewardModel, scores_and_spread
from burnish.models.roles import View, finite
from burnish.ranks import dealt
from burnish.runs.metrics import Writer
from burnish.trainers.best import require_heldout
from burnish.trainers.groups import RankedGroup, pairs_of
from burnish.trainers.learner import Term
from burnish.trainers.loop import Progress
from burnish.trainers.passes import train_in_passes


def bradley_terry_term(
    view: View, groups: Sequence[RankedGroup], *, config: ComparedPasses, prompts: int
) -> Term:
    """The loss of some of a step's groups, divided by the `prompts` of the whole step."""
    return _term(view.scores(_batch(groups)), groups, config=config, prompts=prompts)


def _batch(groups: Sequence[RankedGroup]) -> Batch:
    return Batch(tuple(s for group in groups for s in group.sequences))


def _term(
    scores_N: Tensor, groups: Sequence[RankedGroup], *, config: ComparedPasses, prompts: int
) -> Term:
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
    config: ComparedPasses,
    seed: int,
    folder: Path,
    progress: Progress | None = None,
    writers: Sequence[Writer] = (),
) -> Tensor | None:
    """Train `view` (adapter or whole model, with its head) in place; resumes what was begun in
    `folder`.

    Returns the scores of the held-out responses as `score_groups` gives them for the trained
    weights; None where the last evaluation was of others (`keep: best`), where a resumed run had no
    step left, or where nothing is held out.
    """
    require_heldout(config, heldout)
    scores_N: Tensor | None = None

    def terms(groups: Sequence[RankedGroup]) -> Iterator[Callable[[], Term]]:
        for run in cut([g.cost for g in groups], config.optimizer.micro_batch_tokens):
            yield partial(
                bradley_terry_term,
                view,
                [groups[i] for i in run],
                config=config,
                prompts=len(groups),
            )

    def evaluation() -> dict[str, float]:
        nonlocal scores_N
        if not heldout:
            return {}
        scores_N = score_groups(view, heldout, config=config)
        term = _term(scores_N, heldout, config=config, prompts=len(heldout))
        # Comparisons labelled exactly ½ have no right answer and count in the loss only.
        decided = float(term.sums["decided"])
        accuracy = float(term.sums["correct"]) / decided if decided else float("nan")
        return {"eval_loss": float(term.loss), "eval_accuracy": accuracy}

    def metrics(values: dict[str, float]) -> dict[str, float]:
        correct, decided = values.pop("correct"), values.pop("decided")
        return values | {"accuracy": correct / decided} if decided else values

    earlier = train_in_passes(
        view,
        train,
        terms=terms,
        cost=lambda group: group.cost,
        evaluate=evaluation,
        metrics=metrics,
        at_start=False,  # a head that has learnt nothing is a coin
        config=config,
        seed=seed,
        folder=folder,
        progress=progress,
        writers=writers,
    )
    return None if earlier else scores_N


@torch.no_grad()
def score_groups(
    view: RewardModel, groups: Sequence[RankedGroup], *, config: ComparedPasses
) -> Tensor:
    """[N]: the scores of the groups' responses, one group's after another's."""
    return torch.cat(dealt(view.scores, _pieces(groups, config)))


@torch.no_grad()
def score_groups_and_spread(
    model: RewardModel, groups: Sequence[RankedGroup], *, config: ComparedPasses
) -> tuple[Tensor, Tensor | None]:
    """`score_groups`, and [N]: the standard deviation of the members' scores of each response (None
    of a single model)."""
    found = dealt(partial(scores_and_spread, model), _pieces(groups, config))
    spreads = [spread_N for _, spread_N in found if spread_N is not None]
    return torch.cat([scores_N for scores_N, _ in found]), torch.cat(spreads) if spreads else None


def _pieces(groups: Sequence[RankedGroup], config: ComparedPasses) -> list[Batch]:
    """Micro-batches of the groups' responses."""
    runs = cut([g.cost for g in groups], config.optimizer.micro_batch_tokens)
    return [_batch([groups[i] for i in run]) for run in runs]


@torch.no_grad()
def score_sequences(
    view: RewardModel, sequences: Sequence[TokenSequence], *, max_tokens: int
) -> Tensor:
    """[N]: the score of each sequence. Raises UserError where some are no finite numbers."""
    batch = Batch(tuple(sequences))
    pieces = [batch.select(rows) for rows in batch.micro_batches(max_tokens)]
    scores_N = torch.cat(dealt(view.scores, pieces))
    return finite(scores_N, "scores of the reward model")
