"""From per-token numbers to one, with the denominator passed in, so that how a batch is cut never changes a gradient."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_sum(*, x: Tensor, mask: Tensor) -> Tensor:
    """Σ over the entries where `mask` is True: a scalar. What stands elsewhere is ignored, NaN included."""
    return torch.where(mask, x, 0.0).sum()


def aggregate(*, per_token: Tensor, mask: Tensor | None, denominator: float | Tensor) -> Tensor:
    """Σ over masked entries (all, where `mask` is None) / denominator: a scalar. What stands at masked-out entries is ignored.

    The denominator is the whole batch's count of tokens (or sequences, or a constant), never the micro-batch's own.
    """
    total = per_token.sum() if mask is None else masked_sum(x=per_token, mask=mask)
    return total / denominator


def explained_variance(*, values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """1 − Var(returns − values) / Var(returns) over masked entries: 1 is perfect, 0 as good as a constant; NaN if the returns do not vary."""
    target, error = returns[mask], (returns - values)[mask]
    variance = target.var(correction=0)
    return torch.where(variance > 0, 1.0 - error.var(correction=0) / variance, torch.nan)
