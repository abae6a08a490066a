"""Log-probabilities and entropies of tokens, without ever holding the matrix positions ×
vocabulary."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_ROWS = 8192  # of a head in another precision that are converted at once


class TokenLogprobs(NamedTuple):
    """Per scored position [P], in nats, float32 (or float64): log π(token), and the entropy of π if
    it was asked for."""

    logprobs_P: Tensor
    entropy_P: Tensor | None


def token_logprobs(
    *,
    hidden_PD: Tensor,
    weight_VD: Tensor,
    targets_P: Tensor,
    bias_V: Tensor | None = None,
    scale: float = 1.0,
    softcap: float | None = None,
    temperature: float = 1.0,
    chunk: int = 512,
    entropy: bool = False,
) -> TokenLogprobs:
    """log softmax((f(scale · h Wᵀ) + b) / temperature) at the targets, and −Σ π log π; f(z) = c
    tanh(z / c) with c the `softcap` (Gemma 2, arXiv:2408.00118, section 2), or f(z) = z without
    one.

    Computed `chunk` positions at a time, forward and backward; the backward pass computes each
    chunk's logits again from the saved hidden states, so memory is chunk × V and time one more
    product with W. Differentiable once, with respect to `hidden_PD`, `weight_VD` and `bias_V`; what
    needs no gradient costs none, nor does an entropy that enters no loss.

    Args:
        hidden_PD: hidden states that score the targets.
        weight_VD: weight of the language-model head; of another precision than `hidden_PD` it is
            brought to that a few rows at a time.
        targets_P: token ids, int64.
        bias_V: added to the logits; −inf bans a token.
        scale: multiplies the product (Granite and Cohere scale their logits).
        softcap: bounds the logits to (−c, c); > 0.
        temperature: divides the logits; > 0.
        chunk: positions at once; ≥ 1.
        entropy: also return entropies (and let gradients flow through them).

    Raises ValueError for a chunk, a temperature or a softcap out of range.
    """
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}; at least one position is needed")
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; log-probabilities need one above 0")
    if softcap is not None and not softcap > 0:
        raise ValueError(f"softcap is {softcap}; logits are capped by a number above 0")
    shape = _Shape(scale, softcap, temperature)
    inputs = (hidden_PD, weight_VD, bias_V, targets_P)
    apply = cast(Any, _ChunkedLogSoftmax.apply)  # pyright: ignore[reportUnknownMemberType]
    return TokenLogprobs(*apply(*inputs, shape, chunk, entropy))


class _Shape(NamedTuple):
    """What is done to the product h Wᵀ before the softmax, in this order."""

    scale: float
    softcap: float | None
    temperature: float


class _ChunkedLogSoftmax(torch.autograd.Function):
    """With z the logits: d log π_y / dz = onehot(y) − π and dH / dz_v = −π_v (log π_v + H), chunk
    by chunk.

    Every pass over a chunk works in place on one buffer, or on two where both π and log π are
    needed.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_PD: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        targets_P: Tensor,
        shape: _Shape,
        chunk: int,
        entropy: bool,
    ) -> tuple[Tensor, Tensor | None]:
        buffer = _buffer(hidden_PD, weight_VD, chunk)
        second = torch.empty_like(buffer) if entropy else None
        logprobs_P = buffer.new_empty(len(targets_P))
        lse_P = torch.empty_like(logprobs_P)
        entropy_P = torch.empty_like(logprobs_P) if entropy else None
        for part in _parts(len(targets_P), chunk):
            logits = _logits(hidden_PD[part], weight_VD, bias_V, shape, buffer)
            top = logits.amax(dim=-1)
            logits.sub_(top[:, None])
            at_target = logits.gather(1, targets_P[part, None])[:, 0]
            if second is None or entropy_P is None:
                log_total = logits.exp_().sum(dim=-1).log_()
            else:
                p = torch.exp(_finite(logits), out=second[: len(top)])
                total = p.sum(dim=-1)
                log_total = total.log()
                entropy_P[part] = log_total - p.mul_(logits).sum(dim=-1) / total
            logprobs_P[part] = at_target - log_total
            lse_P[part] = top + log_total
        ctx.save_for_backward(hidden_PD, weight_VD, bias_V, targets_P, lse_P, entropy_P)
        ctx.shape, ctx.chunk = shape, chunk
        # an output that enters no loss then has the gradient None, not zeros
        ctx.set_materialize_grads(False)
        return logprobs_P, entropy_P

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override]
        ctx: Any, grad_logprobs_P: Tensor | None, grad_entropy_P: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        hidden_PD, weight_VD, bias_V, targets_P, lse_P, entropy_P = ctx.saved_tensors
        if grad_logprobs_P is None:
            grad_logprobs_P = torch.zeros_like(lse_P)
        grad_hidden = torch.empty_like(hidden_PD) if ctx.needs_input_grad[0] else None
        # Sums over chunks are kept wide, so that they do not depend on how many chunks there are.
        grad_weight = (
            torch.zeros_like(weight_VD, dtype=lse_P.dtype) if ctx.needs_input_grad[1] else None
        )
        grad_bias = torch.zeros_like(bias_V, dtype=lse_P.dtype) if ctx.needs_input_grad[2] else None
        buffer = _buffer(hidden_PD, weight_VD, ctx.chunk)
        second = None if grad_entropy_P is None else torch.empty_like(buffer)
        shape: _Shape = ctx.shape
        capped = torch.empty_like(buffer) if shape.softcap is not None else None
        by_bias = -1.0 / shape.temperature
        by_product = by_bias * shape.scale
        for part in _parts(len(targets_P), ctx.chunk):
            hidden, by_token = hidden_PD[part], grad_logprobs_P[part]
            slope = None if capped is None else capped[: len(by_token)]
            log_p = _logits(hidden, weight_VD, bias_V, shape, buffer, slope).sub_(lse_P[part, None])
            if second is None or grad_entropy_P is None:
                descent = log_p.exp_().mul_(by_token[:, None])
            else:
                p = torch.exp(_finite(log_p), out=second[: len(by_token)])
                by_entropy = grad_entropy_P[part]
                constant = by_token + by_entropy * entropy_P[part]
                descent = p.mul_(log_p.mul_(by_entropy[:, None]).add_(constant[:, None]))
            descent[torch.arange(len(by_token), device=descent.device), targets_P[part]] -= by_token
            if grad_bias is not None:
                grad_bias.add_(descent.sum(dim=0), alpha=by_bias)
            if slope is not None:
                descent.mul_(slope)
            descent = descent.to(hidden.dtype)
            if grad_hidden is not None and weight_VD.dtype == hidden.dtype:
                grad_hidden[part].addmm_(descent, weight_VD, beta=0, alpha=by_product)
            elif grad_hidden is not None:
                grad_hidden[part].zero_()
                for rows in _parts(len(weight_VD), _ROWS):
                    wide = weight_VD[rows].to(hidden.dtype)
                    grad_hidden[part].addmm_(descent[:, rows], wide, alpha=by_product)
            if grad_weight is not None and grad_weight.dtype == hidden.dtype:
                grad_weight.addmm_(descent.T, hidden, alpha=by_product)
            elif grad_weight is not None:
                grad_weight.add_(descent.T @ hidden, alpha=by_product)
        grad_weight = None if grad_weight is None else grad_weight.to(weight_VD.dtype)
        grad_bias = None if grad_bias is None else grad_bias.to(bias_V.dtype)
        return grad_hidden, grad_weight, grad_bias, None, None, None, None


def _parts(positions: int, chunk: int) -> list[slice]:
    return [slice(at, at + chunk) for at in range(0, positions, chunk)]


def by_rows(hidden_XD: Tensor, weight_VD: Tensor, logits_XV: Tensor) -> Tensor:
    """hidden · Wᵀ in the precision of `hidden_XD`, written into `logits_XV`; of a W in another
    precision few rows are converted at a time."""
    for rows in _parts(len(weight_VD), _ROWS):
        logits_XV[:, rows] = hidden_XD @ weight_VD[rows].to(hidden_XD.dtype).T
    return logits_XV


def _buffer(hidden_PD: Tensor, weight_VD: Tensor, chunk: int) -> Tensor:
    wide = torch.float64 if hidden_PD.dtype == torch.float64 else torch.float32
    return hidden_PD.new_empty(min(chunk, len(hidden_PD)), len(weight_VD), dtype=wide)


def _logits(
    hidden: Tensor,
    weight_VD: Tensor,
    bias_V: Tensor | None,
    shape: _Shape,
    buffer: Tensor,
    slope: Tensor | None = None,
) -> Tensor:
    """Written into the first rows of `buffer`; the product itself is made in the inputs' precision.
    `slope` takes the derivative of the cap, 1 − tanh²."""
    logits = buffer[: len(hidden)]
    if weight_VD.dtype != hidden.dtype:
        by_rows(hidden, weight_VD, logits)
    elif logits.dtype == hidden.dtype:
        torch.mm(hidden, weight_VD.T, out=logits)
    else:
        logits.copy_(hidden @ weight_VD.T)
    if shape.softcap is not None:
        logits.mul_(shape.scale / shape.softcap).tanh_()
        if slope is not None:
            torch.mul(logits, logits, out=slope).neg_().add_(1.0)
        logits.mul_(shape.softcap)
    elif shape.scale != 1.0:
        logits.mul_(shape.scale)
    if bias_V is not None:
        logits.add_(bias_V)
    return logits if shape.temperature == 1.0 else logits.div_(shape.temperature)


def _finite(log_p: Tensor) -> Tensor:
    """In place: −inf becomes the least number, for 0 · log 0 is 0 and 0 · −inf is not a number."""
    return log_p.clamp_(min=torch.finfo(log_p.dtype).min)
