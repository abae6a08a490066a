"""Worlds drawn by seed: a policy before training, and a gold taste that is known.

The policy is a chain over V tokens with a constant chance to end. Gold has a liking for every token
and every pair of neighbours, it gives a little for every token, and from the token `onset` on each
further one costs more than the one before. A reward model that does not know positions sees only
an average of that cost: on answers that are longer than most it was trained on, it is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from burnish.lab.chains import Answers, Floats, sample, scores_of, standardized
from burnish.lab.settings import World

_NEVER = -1e9  # the log-probability of what does not happen: finite, so that sums of it are
_SCALE = 10.0  # tokens over which the cost of one more grows by `World.cost`


@dataclass(frozen=True, slots=True)
class Drawn:
    """A world: log-policy and gold [T + 1, S, S], gold with mean 0 and standard deviation 1 over
    the policy's answers, and the length as a score."""

    policy_TSS: Floats
    gold_TSS: Floats
    length_TSS: Floats

    @property
    def tokens(self) -> int:
        """V, the size of the vocabulary."""
        return self.policy_TSS.shape[1] - 1

    def answers(self, count: int, rng: np.random.Generator) -> Answers:
        """Answers of the policy."""
        return sample(self.policy_TSS, count, rng)

    def gold(self, answers: Answers) -> Floats:
        """[N]: what gold gives each."""
        return scores_of(answers, self.gold_TSS)


def draw(settings: World, seed: int) -> Drawn:
    """The world of a seed."""
    rng = np.random.default_rng([seed, 1])
    tokens, longest = settings.vocabulary, settings.max_length
    next_SV = np.exp(settings.spread * rng.normal(size=(tokens + 1, tokens)))
    next_SV /= next_SV.sum(axis=1, keepdims=True)
    policy_TSS = _log_policy(next_SV, longest, settings.end)
    liking_SV = _liking(next_SV, settings, rng)
    later_T = np.maximum(np.arange(longest) - settings.onset, 0.0) / _SCALE
    gold_TSS = np.zeros_like(policy_TSS)
    gold_TSS[:-1, :, :-1] = liking_SV + settings.length - settings.cost * later_T[:, None, None]
    gold_TSS = standardized(policy_TSS, gold_TSS)
    length_TSS = np.zeros_like(policy_TSS)
    length_TSS[:-1, :, :-1] = 1.0
    return Drawn(policy_TSS, gold_TSS, length_TSS)


def _log_policy(next_SV: Floats, longest: int, end: float) -> Floats:
    """[T + 1, S, S]: never empty, and never longer than T."""
    tokens = next_SV.shape[1]
    chances_TSS = np.zeros((longest + 1, tokens + 1, tokens + 1))
    chances_TSS[:longest, :, :tokens] = next_SV * (1.0 - end)
    chances_TSS[:longest, :, tokens] = end
    chances_TSS[0, :, :tokens], chances_TSS[0, :, tokens] = next_SV, 0.0
    chances_TSS[longest, :, tokens] = 1.0
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(chances_TSS), _NEVER)


def _liking(next_SV: Floats, settings: World, rng: np.random.Generator) -> Floats:
    """[S, V]: what a token after another is worth; over the policy's own steps of mean 0 and
    standard deviation 1."""
    tokens = next_SV.shape[1]
    liking_SV = rng.normal(size=tokens) + settings.bigrams * rng.normal(size=next_SV.shape)
    often_V = np.full(tokens, 1.0 / tokens)
    for _ in range(200):  # the share of each token in a long answer
        often_V = often_V @ next_SV[:tokens]
    steps_VV = often_V[:, None] * next_SV[:tokens]
    liking_SV -= (steps_VV * liking_SV[:tokens]).sum()
    return liking_SV / np.sqrt((steps_VV * liking_SV[:tokens] ** 2).sum())
