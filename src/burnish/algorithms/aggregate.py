"""From per-token numbers to one, with the denominator passed in, so that how a batch is cut never
changes a gradient."""

from __future__ import annotations

import torch
from torch import Tensor


def aggregate(*, per_token: Tensor, denominator: float | Tensor) -> Tensor:
    """Σ over all entries / denominator: a scalar.

    The denominator is the whole batch's count of tokens (or sequences, or a constant), never the
    micro-batch's own.
    """
    return per_token.sum() / denominator


AGGREGATIONS = ("token", "sequence", "constant", "sum")


def loss_denominator(*, kind: str, tokens: int, sequences: int, constant: int) -> int:
    """What the sum of a whole batch's (weighted) per-token losses is divided by.

    token: all its tokens, so that each counts the same (arXiv:2503.14476, eq. 12). sequence: its
    sequences, each token weighted by 1/|o| first (arXiv:2402.03300, eq. 3). constant: sequences × a
    fixed length, so that no length is preferred (arXiv:2503.20783). sum: its sequences, so that a
    sequence counts by its sum (arXiv:2402.14740). Raises ValueError for another kind.
    """
    found = {
        "token": tokens,
        "sequence": sequences,
        "constant": sequences * constant,
        "sum": sequences,
    }
    if kind not in found:
        raise ValueError(f"unknown aggregation {kind!r}; there are {', '.join(AGGREGATIONS)}")
    return found[kind]


def token_weights(*, kind: str, counts_N: Tensor) -> Tensor | None:
    """[P]: the weight of each token, counts_N the tokens of each sequence; None where all weigh
    1."""
    return torch.repeat_interleave(1.0 / counts_N, counts_N) if kind == "sequence" else None


def explained_variance(*, values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """1 − Var(returns − values) / Var(returns) over masked entries: 1 is perfect, 0 as good as a
    constant; NaN if the returns do not vary."""
    target, error = returns[mask], (returns - values)[mask]
    variance = target.var(correction=0)
    return torch.where(variance > 0, 1.0 - error.var(correction=0) / variance, torch.nan)
