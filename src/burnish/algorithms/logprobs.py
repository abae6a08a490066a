"""Log-probabilities and entropies of tokens, without ever holding the matrix positions × vocabulary."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class TokenLogprobs(NamedTuple):
    """Per scored position [P], in nats, float32 (or float64): log π(token), and the entropy of π if it was asked for."""

    logprobs_P: Tensor
    entropy_P: Tensor | None


def token_logprobs(
    *,
    hidden_PD: Tensor,
    weight_VD: Tensor,
    targets_P: Tensor,
    temperature: float = 1.0,
    chunk: int = 512,
    entropy: bool = False,
) -> TokenLogprobs:
    """log softmax(h Wᵀ / temperature) at the targets, and −Σ π log π.

    Computed `chunk` positions at a time, forward and backward; the backward pass computes each chunk's logits again from
    the saved hidden states, so memory is chunk × V and time one more product with W. Differentiable with respect to
    `hidden_PD` and `weight_VD`; a weight that needs no gradient costs none.

    Args:
        hidden_PD: hidden states that score the targets.
        weight_VD: weight of the language-model head.
        targets_P: token ids, int64.
        temperature: divides the logits; > 0.
        chunk: positions at once.
        entropy: also return entropies (and let gradients flow through them).
    """
    logprobs_P, entropy_P = _ChunkedLogSoftmax.apply(hidden_PD, weight_VD, targets_P, temperature, chunk, entropy)
    return TokenLogprobs(logprobs_P, entropy_P if entropy else None)


class _ChunkedLogSoftmax(torch.autograd.Function):
    """d log π_y / d logits = onehot(y) − π and dH / d logits_v = −π_v (log π_v + H), chunk by chunk."""

    @staticmethod
    def forward(
        ctx: Any, hidden_PD: Tensor, weight_VD: Tensor, targets_P: Tensor, temperature: float, chunk: int, entropy: bool
    ) -> tuple[Tensor, Tensor]:
        logprobs, entropies, normalisers = [], [], []
        for at in range(0, len(targets_P), chunk):
            logits = _logits(hidden_PD[at : at + chunk], weight_VD, temperature)
            lse = logits.logsumexp(dim=-1)
            logprobs.append(logits.gather(1, targets_P[at : at + chunk, None])[:, 0] - lse)
            normalisers.append(lse)
            if entropy:
                log_p = logits.sub_(lse[:, None])
                entropies.append(-(log_p.exp() * log_p).nan_to_num_(nan=0.0).sum(dim=-1))
        empty = hidden_PD.new_zeros(0, dtype=_wide(hidden_PD.dtype))
        logprobs_P, lse_P = torch.cat(logprobs or [empty]), torch.cat(normalisers or [empty])
        entropy_P = torch.cat(entropies) if entropies else torch.zeros_like(logprobs_P)
        ctx.save_for_backward(hidden_PD, weight_VD, targets_P, lse_P, entropy_P)
        ctx.temperature, ctx.chunk, ctx.entropy = temperature, chunk, entropy
        if not entropy:
            ctx.mark_non_differentiable(entropy_P)
        return logprobs_P, entropy_P

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, Tensor | None, None, None, None, None]:
        grad_logprobs_P, grad_entropy_P = grad_outputs
        hidden_PD, weight_VD, targets_P, lse_P, entropy_P = ctx.saved_tensors
        grad_hidden = torch.empty_like(hidden_PD) if ctx.needs_input_grad[0] else None
        grad_weight = torch.zeros_like(weight_VD) if ctx.needs_input_grad[1] else None
        for at in range(0, len(targets_P), ctx.chunk):
            part = slice(at, at + ctx.chunk)
            log_p = _logits(hidden_PD[part], weight_VD, ctx.temperature).sub_(lse_P[part, None])
            p = log_p.exp()
            grad = grad_logprobs_P[part]
            if ctx.entropy:
                by_entropy = (log_p + entropy_P[part, None]).mul_(grad_entropy_P[part, None])
                grad_logits = p.mul_(by_entropy.add_(grad[:, None])).neg_()
            else:
                grad_logits = p.mul_(-grad[:, None])
            rows = torch.arange(len(grad), device=grad.device)
            grad_logits[rows, targets_P[part]] += grad
            grad_logits = grad_logits.div_(ctx.temperature).to(hidden_PD.dtype)
            if grad_hidden is not None:
                grad_hidden[part] = grad_logits @ weight_VD
            if grad_weight is not None:
                grad_weight.addmm_(grad_logits.T, hidden_PD[part])
        return grad_hidden, grad_weight, None, None, None, None


def _wide(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype == torch.float64 else torch.float32


def _logits(hidden: Tensor, weight: Tensor, temperature: float) -> Tensor:
    logits = F.linear(hidden, weight).to(_wide(hidden.dtype))
    return logits if temperature == 1.0 else logits.div_(temperature)
