"""Estimators of KL(π ‖ π_ref) from one sample, and the adaptive penalty."""

from __future__ import annotations

from torch import Tensor

ESTIMATORS = ("k1", "k2", "k3")


def kl_estimate(*, logprobs: Tensor, ref_logprobs: Tensor, estimator: str) -> Tensor:
    """Per token, any shape, nats. With u = π_ref/π (Schulman, "Approximating KL divergence", 2020):

    k1 = −log u, unbiased, of either sign; k2 = (log u)²/2, biased; k3 = u − log u − 1, unbiased and
    never negative. As a loss on policy, k1 has zero expected gradient, k2 gives the gradient of
    KL(π ‖ π_ref), k3 that of KL(π_ref ‖ π). That holds for log-probabilities of whole sequences.
    Summed over tokens, each step's divergence is differentiated with the distribution of its
    prefixes held fixed: what a token does to the divergence of later ones
    is left out. k1 inside the reward leaves nothing out.
    Raises ValueError for another estimator.
    """
    log_u = ref_logprobs - logprobs
    if estimator == "k1":
        return -log_u
    if estimator == "k2":
        return 0.5 * log_u**2
    if estimator == "k3":
        return log_u.expm1() - log_u
    raise ValueError(f"unknown KL estimator {estimator!r}; there are {', '.join(ESTIMATORS)}")


def adapt_beta(*, beta: float, kl: float, target: float, horizon: float, n_samples: int) -> float:
    """β after `n_samples` completions whose mean KL was `kl` (Ziegler et al., arXiv:1909.08593,
    section 2.2):

    β ← β · (1 + clip(kl/target − 1, −0.2, 0.2) · n_samples / horizon).
    """
    error = min(max(kl / target - 1.0, -0.2), 0.2)
    return beta * (1.0 + error * n_samples / horizon)
