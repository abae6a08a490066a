"""Linear Bradley–Terry reward models: counts of what stands in an answer, fitted to pairs.

A reward model's features are counts, so that its score is a sum over steps and a policy can be
optimised against it exactly. Its size is what it counts: tokens; tokens and groups of pairs of
neighbours; every pair; every pair and the positions of tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from burnish.lab.chains import Answers, Floats, moments, scores_of
from burnish.lab.settings import Features, Labels
from burnish.lab.worlds import Drawn

_POSITIONS = 6  # stretches of an answer that are told apart
_GROUPS = 24  # of pairs of neighbours, drawn at random
Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Labelled pairs: the difference of the features of a and b, and 1 where a was preferred."""

    features_NF: Floats
    preferred_N: Floats


def indices(kind: Features, *, tokens: int, steps: int) -> list[Index]:
    """What is counted: for each of several families an index [T + 1, S, S] of the feature that a
    step adds to; −1 for the end, which adds to none."""
    shape = (steps, tokens + 1, tokens + 1)
    after = np.broadcast_to(np.arange(tokens + 1), shape)
    before = np.broadcast_to(np.arange(tokens + 1)[:, None], shape)
    pairs = before * tokens + after
    stretch = np.broadcast_to((np.arange(steps) * _POSITIONS // steps)[:, None, None], shape)
    grouped = np.random.default_rng(0).integers(_GROUPS, size=(tokens + 1) * tokens)
    families = {
        "tokens": [after],
        "groups": [after, tokens + grouped[np.minimum(pairs, len(grouped) - 1)]],
        "pairs": [pairs],
        "positions": [pairs, (tokens + 1) * tokens + stretch * tokens + after],
    }  # fmt: skip
    return [np.where(after < tokens, family, -1) for family in families[kind]]


def count(answers: Answers, families: list[Index]) -> Floats:
    """[N, F]: how often each feature occurs in each answer."""
    size = 1 + max(int(family.max()) for family in families)
    counts = np.zeros(len(answers) * size)
    for family in families:
        found_M = family.ravel()[answers.step_M]
        places = (answers.row_M * size + found_M)[found_M >= 0]
        counts += np.bincount(places, minlength=len(counts))
    return counts.reshape(len(answers), size)


def score(weights_F: Floats, families: list[Index]) -> Floats:
    """[T + 1, S, S]: the weights as a score."""
    padded = np.append(weights_F, 0.0)  # index −1
    return sum((padded[family] for family in families), np.zeros(families[0].shape))


def label(world: Drawn, labels: Labels, families: list[Index], rng: np.random.Generator) -> Pairs:
    """Pairs of answers of the policy with what annotators say of them.

    P(a preferred) = σ(sharpness · (gold_a − gold_b) + length_bias · (length_a − length_b)); a share
    `flipped` of the labels is then turned round.
    """
    first, second = (world.answers(labels.pairs, rng) for _ in range(2))
    gap_N = labels.sharpness * (world.gold(first) - world.gold(second))
    gap_N += labels.length_bias * (first.lengths_N - second.lengths_N)
    preferred_N = rng.random(labels.pairs) < 1.0 / (1.0 + np.exp(-gap_N))
    flipped_N = rng.random(labels.pairs) < labels.flipped
    features_NF = count(first, families) - count(second, families)
    return Pairs(features_NF, (preferred_N ^ flipped_N).astype(np.float64))


def fit(pairs: Pairs, *, l2: float) -> Floats:
    """[F]: the weights that minimise Σ −log σ(± w · x) + l2 |w|² / 2 (Bradley & Terry 1952, as a
    logistic regression on differences), by Newton's method with steps of at most 3."""
    features_NF, weights_F = pairs.features_NF, np.zeros(pairs.features_NF.shape[1])
    for _ in range(60):
        chance_N = 1.0 / (1.0 + np.exp(-np.clip(features_NF @ weights_F, -500.0, 500.0)))
        gradient_F = features_NF.T @ (chance_N - pairs.preferred_N) + l2 * weights_F
        weighted_NF = features_NF * (chance_N * (1.0 - chance_N))[:, None]
        hessian_FF = features_NF.T @ weighted_NF + l2 * np.eye(len(weights_F))
        step_F = np.linalg.solve(hessian_FF, gradient_F)
        longest = float(np.abs(step_F).max())
        weights_F = weights_F - step_F * min(1.0, 3.0 / max(longest, 1e-12))
        if longest < 1e-6:
            break
    return weights_F


def train(world: Drawn, labels: Labels, rng: np.random.Generator) -> Floats:
    """[T + 1, S, S]: the score of a reward model that was fitted to freshly labelled pairs."""
    steps = world.policy_TSS.shape[0]
    families = indices(labels.features, tokens=world.tokens, steps=steps)
    return score(fit(label(world, labels, families, rng), l2=labels.l2), families)


def covariance(world: Drawn, first_TSS: Floats, second_TSS: Floats) -> float:
    """Of two scores over the policy's answers, exactly: (Var(x + y) − Var(x − y)) / 4."""
    added = moments(world.policy_TSS, first_TSS + second_TSS)[1]
    return (added - moments(world.policy_TSS, first_TSS - second_TSS)[1]) / 4.0


def without_length(world: Drawn, score_TSS: Floats) -> Floats:
    """The score less its slope on length over the policy's answers: what is left does not
    correlate with length there."""
    length_TSS = world.length_TSS
    variance = moments(world.policy_TSS, length_TSS)[1]
    return score_TSS - covariance(world, score_TSS, length_TSS) / variance * length_TSS


def accuracy(world: Drawn, score_TSS: Floats, rng: np.random.Generator, count: int = 4096) -> float:
    """The share of pairs that the score orders as gold does; a tie counts half."""
    first, second = world.answers(count, rng), world.answers(count, rng)
    said_N = np.sign(scores_of(first, score_TSS) - scores_of(second, score_TSS))
    true_N = np.sign(world.gold(first) - world.gold(second))
    return float(np.mean(0.5 + 0.5 * said_N * true_N))
