"""Exact sampling from logits with one uniform number a row, and where those numbers come from."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

_BLOCK = 256


def uniforms(seeds: np.ndarray, positions: np.ndarray) -> Tensor:
    """[B] numbers in [0, 1): a function of (seed, position) alone (splitmix64, Steele et al. 2014),
    so batches do not matter."""
    with np.errstate(over="ignore"):
        z = seeds.astype(np.uint64) + (positions.astype(np.uint64) + np.uint64(1)) * np.uint64(
            0x9E3779B97F4A7C15
        )
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return torch.from_numpy((z >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def sample(
    logits_BV: Tensor,
    uniforms_B: Tensor,
    *,
    temperature: float,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    scratch_RV: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw one token a row. Returns (tokens [B], their log-probabilities [B] in the distribution
    that was sampled).

    temperature 0 takes the most likely token, whose log-probability is then that of the untempered
    model: the distribution is a point, and log 1 = 0 would say nothing. Truncation keeps, in this
    order, the `top_k` most likely tokens, of those the fewest whose probability reaches `top_p`,
    and of those the ones at least `min_p` times as likely as the most likely; the rest is
    renormalized. `scratch_RV` (float32, R ≥ B) saves memory of that size each time.
    """
    logits_BV = logits_BV.float()
    if temperature == 0.0:
        tokens_B = logits_BV.argmax(dim=-1)
        return tokens_B, logprob_of(logits_BV, tokens_B)
    if temperature != 1.0:
        logits_BV = logits_BV / temperature
    if top_k == 0 and top_p == 1.0:
        top_B1 = logits_BV.amax(dim=-1, keepdim=True)
        if min_p > 0.0:
            logits_BV = _at_least(logits_BV, top_B1, min_p)
        scratch_BV = (
            torch.empty_like(logits_BV) if scratch_RV is None else scratch_RV[: len(logits_BV)]
        )
        weights_BV = torch.sub(logits_BV, top_B1, out=scratch_BV).exp_()
        tokens_B, total_B = _invert(weights_BV, uniforms_B)
        at_token_B = (logits_BV.gather(1, tokens_B[:, None]) - top_B1)[:, 0]
        return tokens_B, (at_token_B.double() - total_B.log()).float()
    kept_BK, ids_BK = _nucleus(logits_BV, top_k=top_k, top_p=top_p)
    if min_p > 0.0:
        kept_BK = _at_least(kept_BK, kept_BK[:, :1], min_p)
    choice_B = invert_cdf(kept_BK.softmax(dim=-1), uniforms_B)
    return ids_BK.gather(1, choice_B[:, None])[:, 0], logprob_of(kept_BK, choice_B)


def penalise_repetition(logits_BV: Tensor, seen_BV: Tensor, penalty: float) -> Tensor:
    """A copy in which the logit of every token in `seen_BV` is divided by `penalty` if positive,
    multiplied if negative.

    CTRL (Keskar et al., arXiv:1909.05858, section 4.1), in the form that transformers and vLLM use.
    """
    penalised_BV = torch.where(logits_BV > 0, logits_BV / penalty, logits_BV * penalty)
    return torch.where(seen_BV, penalised_BV, logits_BV)


def logprob_of(logits_BV: Tensor, tokens_B: Tensor) -> Tensor:
    """[B]: log softmax(logits) at the tokens."""
    logits_BV = logits_BV.float()
    return logits_BV.gather(1, tokens_B[:, None])[:, 0] - logits_BV.logsumexp(dim=-1)


def invert_cdf(probabilities_BV: Tensor, uniforms_B: Tensor) -> Tensor:
    """The index at which the cumulative probability passes u, [B]. Rows need not sum to exactly 1;
    zeros are never drawn.

    Two levels: sums of blocks of 256 find the block, sums inside it the index. That touches every
    probability once instead of writing a cumulative sum over the whole vocabulary.
    """
    return _invert(probabilities_BV, uniforms_B)[0]


def _invert(probabilities_BV: Tensor, uniforms_B: Tensor) -> tuple[Tensor, Tensor]:
    """`invert_cdf`, and the sum [B] of each row in float64."""
    rows, width = probabilities_BV.shape
    if width % _BLOCK:
        probabilities_BV = torch.nn.functional.pad(probabilities_BV, (0, _BLOCK - width % _BLOCK))
    blocks = probabilities_BV.view(rows, -1, _BLOCK)
    ends_BN = blocks.sum(dim=-1).double().cumsum(dim=-1)
    targets_B1 = (uniforms_B.to(ends_BN.device) * ends_BN[:, -1])[:, None]
    block_B = _first_above(ends_BN, targets_B1)
    index = torch.arange(rows, device=ends_BN.device)
    start_B = torch.where(block_B > 0, ends_BN[index, (block_B - 1).clamp(min=0)], 0.0)
    inside_BK = blocks[index, block_B].double().cumsum(dim=-1)
    # Rounding can leave the remainder at or above the block's own end: the last entry that has any
    # mass is meant then.
    remainder_B1 = torch.minimum(
        (targets_B1[:, 0] - start_B)[:, None],
        inside_BK[:, -1:].nextafter(torch.zeros_like(inside_BK[:, -1:])),
    )
    # Where a row holds NaN, nothing above finds a place in it: any valid one will do, for its
    # log-probability is NaN.
    index_B = block_B * _BLOCK + _first_above(inside_BK, remainder_B1.clamp(min=0.0))
    return index_B.clamp(max=width - 1), ends_BN[:, -1]


def _first_above(cumulative_BN: Tensor, targets_B1: Tensor) -> Tensor:
    return torch.searchsorted(cumulative_BN, targets_B1, right=True)[:, 0].clamp(
        max=cumulative_BN.shape[1] - 1
    )


def _nucleus(logits_BV: Tensor, *, top_k: int, top_p: float) -> tuple[Tensor, Tensor]:
    """(logits, ids) of candidates, most likely first; those beyond `top_p` are −inf.

    Without `top_k` the nucleus is looked for among ever more candidates, for a sort of the whole
    vocabulary costs as much as the model's own step and a nucleus is nearly always small.
    """
    width = logits_BV.shape[1]
    if top_k:
        kept_BK, ids_BK = logits_BV.topk(min(top_k, width), dim=-1)
        total_B1 = kept_BK.logsumexp(dim=-1, keepdim=True)
    else:
        total_B1, size = logits_BV.logsumexp(dim=-1, keepdim=True), min(_BLOCK, width)
        kept_BK, ids_BK = logits_BV.topk(size, dim=-1)
        while size < width and bool(((kept_BK - total_B1).exp().sum(dim=-1) < top_p).any()):
            size = min(8 * size, width)
            kept_BK, ids_BK = logits_BV.topk(size, dim=-1)
    probabilities_BK = (kept_BK - total_B1).exp()
    before_BK = probabilities_BK.cumsum(dim=-1) - probabilities_BK
    beyond_BK = before_BK >= top_p
    beyond_BK[:, 0] = False
    return kept_BK.masked_fill(beyond_BK, -torch.inf), ids_BK


def _at_least(logits_BK: Tensor, top_B1: Tensor, min_p: float) -> Tensor:
    return logits_BK.masked_fill(logits_BK < top_B1 + math.log(min_p), -torch.inf)
