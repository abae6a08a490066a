"""A world of strings in which a policy can be optimised exactly: chains with additive scores.

An answer is a string of up to T tokens. A policy gives, at every position and after every token,
the chance of each next token and of the end; a score is a sum of one number a step, which may
depend on the position, the token before and the token that follows. For such scores the policy
that trades score against KL best, π ∝ p exp(score / β), is again a chain, and it, its expectations
and its KL are found by dynamic programming, without sampling.

Shapes: T positions; S = V + 1 states (V tokens and, as the token before, the start; as the token
that follows, the end); N answers; B inverse temperatures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Tokens = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Answers:
    """N answers, step by step: M steps in all, the ends among them.

    `row_M` is the answer that a step belongs to, `step_M` its place in a score [T + 1, S, S] laid
    flat, `lengths_N` the tokens of each answer.
    """

    row_M: Tokens
    step_M: Tokens
    lengths_N: Tokens

    def __len__(self) -> int:
        return len(self.lengths_N)


def tilted(policy_TSS: Floats, score_TSS: Floats, inverse_B: Floats) -> tuple[Floats, Floats]:
    """(log-policies [B, T + 1, S, S], log Z [B]) of π ∝ p exp(score · inverse) for each inverse
    temperature 1/β, given p as log-probabilities [T + 1, S, S].

    Backwards over positions: log Z_t(s) = log Σ_u p_t(u | s) exp(score_t(s, u) / β + log
    Z_{t+1}(u)), log Z after the end being 0.
    """
    steps, states, _ = policy_TSS.shape
    found = np.empty((len(inverse_B), steps, states, states))
    ahead_BS = np.zeros((len(inverse_B), states))
    for t in range(steps - 1, -1, -1):
        ahead_BS[:, -1] = 0.0  # the end
        exponent = policy_TSS[t] + inverse_B[:, None, None] * score_TSS[t] + ahead_BS[:, None, :]
        top = exponent.max(axis=2)
        ahead_BS = top + np.log(np.exp(exponent - top[:, :, None]).sum(axis=2))
        found[:, t] = exponent - ahead_BS[:, :, None]
    return found, ahead_BS[:, -1]  # the first step stands after the start


def expectations(policies_BTSS: Floats, scores: list[Floats]) -> Floats:
    """[len(scores), B]: the expected sum of each score [T + 1, S, S] under each log-policy."""
    batch, steps, states, _ = policies_BTSS.shape
    state_BS = np.zeros((batch, states))
    state_BS[:, -1] = 1.0
    totals = np.zeros((len(scores), batch))
    for t in range(steps):
        joint_BSS = state_BS[:, :, None] * np.exp(policies_BTSS[:, t])
        for row, score in enumerate(scores):
            totals[row] += np.einsum("bij,ij->b", joint_BSS, score[t])
        state_BS = joint_BSS.sum(axis=1)
        state_BS[:, -1] = 0.0  # who has ended stays
    return totals


def moments(policy_TSS: Floats, score_TSS: Floats) -> tuple[float, float]:
    """(mean, variance) of a score [T + 1, S, S] under one log-policy, exactly: backwards, E[X] and
    E[X²] of what is still to come."""
    chances_TSS = np.exp(policy_TSS)
    first_S, second_S = np.zeros(chances_TSS.shape[1]), np.zeros(chances_TSS.shape[1])
    for chances_SS, step_SS in zip(chances_TSS[::-1], score_TSS[::-1], strict=True):
        first_S[-1] = second_S[-1] = 0.0  # the end
        square_SS = step_SS**2 + 2.0 * step_SS * first_S + second_S
        first_S = (chances_SS * (step_SS + first_S)).sum(axis=1)
        second_S = (chances_SS * square_SS).sum(axis=1)
    return float(first_S[-1]), float(second_S[-1] - first_S[-1] ** 2)


def kl_of(policy_TSS: Floats, score_TSS: Floats, inverse_B: Floats) -> Floats:
    """[B]: KL(π ‖ p) of the tilted policies, E_π[score] / β − log Z, in nats an answer."""
    tilted_BTSS, log_z_B = tilted(policy_TSS, score_TSS, inverse_B)
    return inverse_B * expectations(tilted_BTSS, [score_TSS])[0] - log_z_B


def inverse_at_kl(policy_TSS: Floats, score_TSS: Floats, kl_B: Floats) -> Floats:
    """[B]: the 1/β at which the tilted policy is `kl_B` away, by bisection (the KL grows with
    1/β).

    Infinite where no policy is that far: the best answers alone make up the policy before.
    """
    grid = np.geomspace(1e-3, 1e3, 49) / np.sqrt(moments(policy_TSS, score_TSS)[1])
    known = np.maximum.accumulate(kl_of(policy_TSS, score_TSS, grid))
    place_B = np.clip(np.searchsorted(known, kl_B), 1, len(grid) - 1)
    low_B, high_B = np.log(grid[place_B - 1]), np.log(grid[place_B])
    kl_low_B, kl_high_B = known[place_B - 1], known[place_B]
    for turn in range(12):
        part_B = (kl_B - kl_low_B) / np.maximum(kl_high_B - kl_low_B, 1e-300)
        part_B = np.full(len(kl_B), 0.5) if turn % 3 == 2 else np.clip(part_B, 0.02, 0.98)
        middle_B = low_B + part_B * (high_B - low_B)
        middle_kl_B = kl_of(policy_TSS, score_TSS, np.exp(middle_B))
        short_B = middle_kl_B < kl_B
        low_B, high_B = np.where(short_B, middle_B, low_B), np.where(short_B, high_B, middle_B)
        kl_low_B = np.where(short_B, middle_kl_B, kl_low_B)
        kl_high_B = np.where(short_B, kl_high_B, middle_kl_B)
    return np.exp(np.where(kl_B - kl_low_B < kl_high_B - kl_B, low_B, high_B))


def standardized(policy_TSS: Floats, score_TSS: Floats) -> Floats:
    """The score with mean 0 and standard deviation 1 over the policy's answers, exactly."""
    mean, variance = moments(policy_TSS, score_TSS)
    scaled_TSS = score_TSS / np.sqrt(variance)
    scaled_TSS[0] -= mean / np.sqrt(variance)  # every answer has a first step
    return scaled_TSS


def sample(policy_TSS: Floats, count: int, rng: np.random.Generator) -> Answers:
    """`count` answers drawn from a log-policy."""
    steps, states, _ = policy_TSS.shape
    cumulative_TSS = np.exp(policy_TSS).cumsum(axis=2)
    offsets_S = np.arange(states, dtype=np.float64)[:, None]
    running, state = np.arange(count), np.full(count, states - 1)
    lengths_N = np.full(count, steps - 1)
    rows, places = [], []
    for t in range(steps):
        # One sorted list of all states' cumulative chances, each moved up by its number
        ladder = (np.minimum(cumulative_TSS[t], 1.0) + offsets_S).ravel()
        drawn = np.searchsorted(ladder, state + rng.random(len(state)), side="right")
        after = np.minimum(drawn - state * states, states - 1)
        rows.append(running)
        places.append((t * states + state) * states + after)
        going = after < states - 1
        lengths_N[running[~going]] = t
        running, state = running[going], after[going]
        if not len(running):
            break
    return Answers(np.concatenate(rows), np.concatenate(places), lengths_N)


def scores_of(answers: Answers, score_TSS: Floats) -> Floats:
    """[N]: the score of each answer, the sum over its steps, the end among them."""
    values_M = score_TSS.ravel()[answers.step_M]
    totals_N = np.bincount(answers.row_M, weights=values_M, minlength=len(answers))
    return totals_N.astype(np.float64)
