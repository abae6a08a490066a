"""Exact sampling from logits with one uniform number a row, and where those numbers come from."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_BLOCK = 256


def uniforms(seeds: np.ndarray, positions: np.ndarray) -> Tensor:
    """[B] numbers in [0, 1): a function of (seed, position) alone (splitmix64, Steele et al. 2014), so batches do not matter."""
    with np.errstate(over="ignore"):
        z = seeds.astype(np.uint64) + (positions.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return torch.from_numpy((z >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def sample(
    logits_BV: Tensor, uniforms_B: Tensor, *, temperature: float, top_k: int = 0, top_p: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Draw one token a row. Returns (tokens [B], their log-probabilities [B] in the distribution that was sampled).

    temperature 0 takes the most likely token, whose log-probability is then that of the untempered model: the
    distribution is a point, and log 1 = 0 would say nothing. Truncation keeps the `top_k` most likely tokens, then the
    fewest of them whose probability reaches `top_p`, and renormalises.
    """
    logits_BV = logits_BV.float()
    if temperature == 0.0:
        tokens_B = logits_BV.argmax(dim=-1)
        return tokens_B, _logprob(logits_BV, tokens_B)
    logits_BV = logits_BV / temperature
    if top_k == 0 and top_p == 1.0:
        logsumexp_B1 = logits_BV.logsumexp(dim=-1, keepdim=True)
        tokens_B = invert_cdf((logits_BV - logsumexp_B1).exp_(), uniforms_B)
        return tokens_B, (logits_BV.gather(1, tokens_B[:, None]) - logsumexp_B1)[:, 0]
    kept_BK, ids_BK = logits_BV.topk(min(top_k or logits_BV.shape[1], logits_BV.shape[1]), dim=-1)
    if top_p < 1.0:
        probabilities_BK = kept_BK.softmax(dim=-1)
        before_BK = probabilities_BK.cumsum(dim=-1) - probabilities_BK
        kept_BK = kept_BK.masked_fill(before_BK >= top_p, -torch.inf)
    choice_B = invert_cdf(kept_BK.softmax(dim=-1), uniforms_B)
    return ids_BK.gather(1, choice_B[:, None])[:, 0], _logprob(kept_BK, choice_B)


def invert_cdf(probabilities_BV: Tensor, uniforms_B: Tensor) -> Tensor:
    """The index at which the cumulative probability passes u, [B]. Rows need not sum to exactly 1; zeros are never drawn.

    Two levels: sums of blocks of 256 find the block, sums inside it the index. That touches every probability once
    instead of writing a cumulative sum over the whole vocabulary.
    """
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
    # Rounding can leave the remainder at or above the block's own end: the last entry that has any mass is meant then.
    remainder_B1 = torch.minimum(
        (targets_B1[:, 0] - start_B)[:, None], inside_BK[:, -1:].nextafter(torch.zeros_like(inside_BK[:, -1:]))
    )
    return block_B * _BLOCK + _first_above(inside_BK, remainder_B1.clamp(min=0.0))


def _first_above(cumulative_BN: Tensor, targets_B1: Tensor) -> Tensor:
    return torch.searchsorted(cumulative_BN, targets_B1, right=True)[:, 0].clamp(max=cumulative_BN.shape[1] - 1)


def _logprob(logits_BV: Tensor, tokens_B: Tensor) -> Tensor:
    return logits_BV.gather(1, tokens_B[:, None])[:, 0] - logits_BV.logsumexp(dim=-1)
