"""Which pairs to ask about next: those that teach a reward model most. Pure: features or scores in,
numbers or an order out.

A reward is taken to be linear in features x of an answer, r = θ·x, a pair's label as
Bernoulli(σ(θ·d)) of d = x_i − x_j. Features may be the last hidden states of a reward model, or
anything measured. The numbers can be put into `Item.score` (`assign_scores`), after which
annotators meet the items in that order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from burnish.annotation.snapshot import Opened
from burnish.annotation.tables import Item, Project
from burnish.errors import UserError

Floats = NDArray[np.float64]
Strategy = Literal["random", "uncertainty", "disagreement", "d-optimal"]


@dataclass(frozen=True, slots=True)
class Posterior:
    """A normal approximation of what is known of θ: its mode, and the precision matrix (inverse
    covariance) there."""

    mean_F: Floats
    precision_FF: Floats

    @property
    def covariance_FF(self) -> Floats:
        """Of θ."""
        return np.asarray(np.linalg.inv(self.precision_FF), dtype=np.float64)


def fit(differences_NF: Floats, labels_N: Floats, *, prior_precision: float = 1.0) -> Posterior:
    """Laplace's approximation: the mode of Σ log σ(±θ·d) − ½ λ |θ|² by Newton's method, and the
    Hessian there.

    `labels_N` in [0, 1] are probabilities that the first is better. Without data the prior comes
    back.
    """
    features = differences_NF.shape[1]
    theta, prior = np.zeros(features), prior_precision * np.eye(features)
    precision = prior
    for _ in range(50):
        p = 1.0 / (1.0 + np.exp(-np.clip(differences_NF @ theta, -30.0, 30.0)))
        precision = (differences_NF * (p * (1.0 - p))[:, None]).T @ differences_NF + prior
        step = np.linalg.solve(precision, differences_NF.T @ (labels_N - p) - prior @ theta)
        theta = theta + step
        if np.abs(step).max(initial=0.0) < 1e-8:
            break
    return Posterior(theta, precision)


def uncertainty(differences_NF: Floats, theta_F: Floats) -> Floats:
    """−|θ·d|: highest where the reward model calls the pair a draw."""
    return -np.abs(differences_NF @ theta_F)


def disagreement(members_MN: Floats) -> Floats:
    """Mutual information between the label and the member (BALD, Houlsby et al. 2011), in nats.

    `members_MN[m, n]` is member m's probability that the first of pair n is better: H(mean p) −
    mean H(p). Zero where all members agree, even on a draw: noise that no label can remove is not
    sought.
    """
    return _entropy(members_MN.mean(axis=0)) - _entropy(members_MN).mean(axis=0)


def d_optimal(differences_NF: Floats, posterior: Posterior, count: int) -> list[int]:
    """The `count` pairs that shrink the posterior's volume most, chosen one after another.

    Adding pair d with weight w = p(1 − p) raises log det of the precision by log(1 + w dᵀ Σ d)
    (Sylvester); Σ is updated by Sherman–Morrison after each choice, so that one batch does not ask
    the same thing twice.
    """
    p = 1.0 / (1.0 + np.exp(-np.clip(differences_NF @ posterior.mean_F, -30.0, 30.0)))
    weight_N = p * (1.0 - p)
    covariance, free, chosen = (
        posterior.covariance_FF.copy(),
        np.ones(len(differences_NF), dtype=bool),
        [],
    )
    for _ in range(min(count, len(differences_NF))):
        gain_N = weight_N * np.einsum("nf,fg,ng->n", differences_NF, covariance, differences_NF)
        best = int(np.where(free, gain_N, -np.inf).argmax())
        chosen.append(best)
        free[best] = False
        moved_F = covariance @ differences_NF[best]
        covariance -= weight_N[best] * np.outer(moved_F, moved_F) / (1.0 + gain_N[best])
    return chosen


def choose(
    strategy: Strategy,
    differences_NF: Floats,
    posterior: Posterior,
    count: int,
    *,
    rng: np.random.Generator,
    members: int = 20,
) -> list[int]:
    """The next `count` pairs by a strategy; equal scores are broken at random.

    "disagreement" draws `members` reward models from the posterior, as an ensemble trained on
    resamples would be.
    """
    total = len(differences_NF)
    if strategy == "random":
        return rng.permutation(total)[:count].tolist()
    if strategy == "d-optimal":
        return d_optimal(differences_NF, posterior, count)
    if strategy == "uncertainty":
        score_N = uncertainty(differences_NF, posterior.mean_F)
    else:
        thetas_MF = rng.multivariate_normal(posterior.mean_F, posterior.covariance_FF, size=members)
        score_N = disagreement(
            1.0 / (1.0 + np.exp(-np.clip(thetas_MF @ differences_NF.T, -30.0, 30.0)))
        )
    return np.lexsort((rng.random(total), -score_N))[:count].tolist()


def item_scores(scores: Mapping[str, Sequence[Floats]]) -> dict[str, float]:
    """By item, how much the members of an ensemble of reward models disagree on its candidates.

    `scores[item]` holds one vector a member, its rewards of the item's candidates. The value is the
    mean of `disagreement` over the pairs of candidates, with P = σ(difference of rewards).
    """
    found = {}
    for item, members in scores.items():
        rewards_MK = np.array([np.asarray(one, dtype=float) for one in members])
        first, second = np.triu_indices(rewards_MK.shape[1], k=1)
        chance_MN = 1.0 / (
            1.0 + np.exp(-np.clip(rewards_MK[:, first] - rewards_MK[:, second], -30.0, 30.0))
        )
        found[item] = float(disagreement(chance_MN).mean())
    return found


def assign_scores(opened: Opened, project: str, scores: Mapping[str, float]) -> int:
    """Put scores into the items of a project: of equal priority, the higher score is offered first.
    Returns how many changed.

    Raises UserError for a project or an item that is not there, and for a score that is not finite.
    """
    with Session(opened.engine) as session, session.begin():
        project_id = session.scalar(select(Project.id).where(Project.name == project))
        if project_id is None:
            raise UserError(f'there is no project "{project}".')
        query = select(Item.external_id, Item.id).where(Item.project_id == project_id)
        known = {external_id: item_id for external_id, item_id in session.execute(query)}
        for item, score in scores.items():
            if item not in known:
                raise UserError(f'there is no item "{item}" in project "{project}".')
            if not np.isfinite(score):
                raise UserError(f'the score of item "{item}" is not a finite number.')
            session.execute(update(Item).where(Item.id == known[item]).values(score=float(score)))
        return len(scores)


def _entropy(p: Floats) -> Floats:
    """−p log p − (1 − p) log (1 − p)."""
    q = np.clip(p, 1e-12, 1.0 - 1e-12)
    return -q * np.log(q) - (1.0 - q) * np.log(1.0 - q)
