"""Attention over packed sequences, as an attention implementation that any transformers model can
be loaded with.

Each segment of a `burnish.batch.Layout` attends causally to itself and to the whole of its parent
segment (a shared prompt), as far as the layer's sliding window reaches, so no sequence sees its
neighbours, no FLOP goes to padding, and no tokens × tokens mask is built.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, AttentionMaskInterface

from burnish.batch import Segment
from burnish.models.matmul import small_products
from burnish.models.pieces import Piece, additive_mask, bunch_up, cut_into_pieces

NAME = "burnish_packed"
_LONG = 256  # queries from which on a piece's products are large enough for oneDNN


@dataclass(frozen=True, slots=True)
class SlidingWindow:
    """What stands in the place of a mask: a token sees itself and the `size` − 1 tokens before
    it."""

    size: int

    def __getitem__(self, places: tuple[slice, ...]) -> SlidingWindow:
        """Gemma 4 takes the part of a mask that belongs to the queries it keeps: here, all of
        them."""
        if any(place.indices(2) != (0, 2, 1) for place in places):
            raise NotImplementedError("packed attention takes all queries of a layout")
        return self


def packed_mask(
    *, local_size: int | None = None, use_vmap: bool = False, config: Any = None, **_: Any
) -> SlidingWindow | None:
    """The mask that transformers asks for, for one kind of layer: how far a token sees; None is the
    whole of its sequence.

    Raises NotImplementedError for a mask of another kind (chunks, blocks seen in both directions).
    """
    if use_vmap or (
        local_size is not None and local_size == getattr(config, "attention_chunk_size", None)
    ):
        raise NotImplementedError(
            "packed attention is causal, with or without a sliding window, and nothing else"
        )
    return None if local_size is None else SlidingWindow(local_size)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: SlidingWindow | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    segments: tuple[Segment, ...] | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of packed segments.

    Args:
        module: the attention layer.
        query: [1, H, T, d].
        key: [1, H_kv, T, d].
        value: [1, H_kv, T, d_v].
        attention_mask: what `packed_mask` returned for this layer; the segments say the rest.
        scaling: multiplies the scores (None: 1/√d).
        dropout: probability of dropping an attention weight.
        segments: of the layout that is run.
        softcap: c, where scores s become c tanh(s / c) (Gemma 2, arXiv:2408.00118, section 2).
        s_aux: [H], a sink for each head: a score that takes its part of the softmax and gives
            nothing (arXiv:2309.17453).

    Returns:
        ([1, T, H, d_v], None).
    """
    if segments is None or not (
        attention_mask is None or isinstance(attention_mask, SlidingWindow)
    ):
        raise ValueError("packed attention is driven by segments: call the model through a View")
    window = None if attention_mask is None else attention_mask.size
    output = attend_to_segments(
        query,
        key,
        value,
        segments,
        scaling=scaling,
        dropout=dropout,
        window=window,
        softcap=softcap,
        sinks=s_aux,
    )
    return output, None


def attend_to_segments(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    segments: tuple[Segment, ...],
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """[1, T, H, d_v]: `packed_attention` without a layer, of the same query, key and value."""
    shaped = softcap is not None or sinks is not None
    if query.device.type == "cpu" and not dropout and not shaped:
        pieces = cut_into_pieces(segments, window)
        if query.shape[-1] == value.shape[-1]:
            return _OnCpu.apply(query, key, value, pieces, scaling).transpose(1, 2)
        return _of_two_widths(query, key, value, pieces, scaling)
    core = _Core(scaling, dropout, softcap, sinks)
    return _in_few_calls(query, key, value, segments, window, core)


def _of_two_widths(
    query: Tensor, key: Tensor, value: Tensor, pieces: tuple[Piece, ...], scaling: float | None
) -> Tensor:
    """The kernel knows one width: the smaller is filled up with zeros, which add nothing to a score
    or to an output."""
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    width = max(query.shape[-1], value.shape[-1])
    q, k, v = (F.pad(x, (0, width - x.shape[-1])) for x in (query, key, value))
    return _OnCpu.apply(q, k, v, pieces, scaling)[..., : value.shape[-1]].transpose(1, 2)


@dataclass(frozen=True, slots=True)
class _Core:
    """Attention of N pieces of one size, [N, H, Q, d] on [N, H, K, d]."""

    scaling: float | None
    dropout: float
    softcap: float | None
    sinks: Tensor | None

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """[N, H, Q, d_v]; `mask` [N, 1, Q, K] is True where a query sees, None is causal."""
        if self.softcap is None and self.sinks is None:
            return F.scaled_dot_product_attention(
                q,
                k,
                v,
                attn_mask=mask,
                is_causal=mask is None,
                dropout_p=self.dropout,
                scale=self.scaling,
            )
        # No fused kernel caps scores: they are written out, and made again in the backward pass
        # instead of kept.
        if torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v)):
            return checkpoint(self._written_out, q, k, v, mask, use_reentrant=False)
        return self._written_out(q, k, v, mask)

    def _written_out(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        scaling = q.shape[-1] ** -0.5 if self.scaling is None else self.scaling
        scores = (q @ k.transpose(-1, -2)).mul(scaling)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        if self.softcap is not None:
            scores = torch.tanh(scores / self.softcap) * self.softcap
        if mask is None:
            mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~mask, -torch.inf)
        if self.sinks is not None:
            sinks = self.sinks.to(scores.dtype)[None, :, None, None].expand(*scores.shape[:-1], 1)
            scores = torch.cat((scores, sinks), dim=-1)
        weights = scores.softmax(dim=-1)[..., : k.shape[-2]].to(v.dtype)
        return F.dropout(weights, self.dropout) @ v if self.dropout else weights @ v


def _in_few_calls(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    segments: tuple[Segment, ...],
    window: int | None,
    core: _Core,
) -> Tensor:
    """Padded, pieces of like size together: on a GPU a call for each would take longer to launch
    than to run."""
    bunches, place_T = bunch_up(segments, window, query.device)
    outputs = []
    for bunch in bunches:
        q = query[0][:, bunch.queries_NQ].transpose(0, 1)
        k, v = (x[0][:, bunch.keys_NK].transpose(0, 1) for x in (key, value))
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
        outputs.append(core(q, k, v, bunch.mask_N1QK).transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs)[place_T][None]


class _OnCpu(torch.autograd.Function):
    """torch's flash attention for CPUs, piece by piece.

    A function of its own, because autograd would make a gradient as large as the whole batch for
    every slice of it, and because short pieces' products are faster outside oneDNN, in the backward
    pass as well. Keys and values are kept once for all the query heads that share them, the output
    in the layout in which the next product reads it.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        pieces: tuple[Piece, ...],
        scaling: float | None,
    ) -> Tensor:
        _, heads, tokens, width = query.shape
        output = query.new_empty(1, tokens, heads, width).transpose(1, 2)
        sums = []
        for piece in pieces:
            own, how = slice(*piece.queries), _how(piece, query, scaling)
            k, v = (_keys(x, piece, heads=heads) for x in (key, value))
            with _library_for(piece):
                output[:, :, own], logsumexp = (
                    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                        query[:, :, own], k, v, **how
                    )
                )
            sums.append(logsumexp)
        ctx.save_for_backward(query, key, value, output, *sums)
        ctx.pieces, ctx.scaling = pieces, scaling
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        query, key, value, output, *sums = ctx.saved_tensors
        pieces: tuple[Piece, ...] = ctx.pieces
        by_query, by_key, by_value = (
            torch.empty_like(query),
            torch.zeros_like(key),
            torch.zeros_like(value),
        )
        for piece, logsumexp in zip(pieces, sums, strict=True):
            own, how = slice(*piece.queries), _how(piece, query, ctx.scaling)
            k, v = (_keys(x, piece, heads=query.shape[1]) for x in (key, value))
            with _library_for(piece):
                of_query, of_key, of_value = (
                    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                        grad[:, :, own], query[:, :, own], k, v, output[:, :, own], logsumexp, **how
                    )
                )
            by_query[:, :, own] = of_query
            for total, of_heads in ((by_key, of_key), (by_value, of_value)):
                part, at = of_heads.unflatten(1, (total.shape[1], -1)).sum(2), 0
                for start, stop in piece.keys:
                    total[:, :, start:stop] += part[:, :, at : at + stop - start]
                    at += stop - start
        return by_query, by_key, by_value, None, None


def _how(piece: Piece, query: Tensor, scaling: float | None) -> dict[str, Any]:
    mask = None
    if not piece.is_causal:
        mask = additive_mask(piece.rows, piece.columns, piece.window, query.dtype, query.device)
    return {"dropout_p": 0.0, "is_causal": mask is None, "attn_mask": mask, "scale": scaling}


def _library_for(piece: Piece) -> AbstractContextManager[None]:
    return nullcontext() if piece.rows >= _LONG else small_products()


def _keys(x: Tensor, piece: Piece, *, heads: int) -> Tensor:
    """[1, H, columns, d] of [1, H_kv, T, d], for H `heads` of queries: the keys or values that a
    piece sees."""
    runs = [x[:, :, start:stop] for start, stop in piece.keys]
    seen = runs[0] if len(runs) == 1 else torch.cat(runs, dim=2)
    return seen.repeat_interleave(heads // seen.shape[1], dim=1) if heads > seen.shape[1] else seen


AttentionInterface.register(NAME, packed_attention)
AttentionMaskInterface.register(NAME, packed_mask)
