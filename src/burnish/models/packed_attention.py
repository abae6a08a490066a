"""Attention over packed sequences, as an attention implementation that any transformers model can be loaded with.

Each segment of a `burnish.batch.Layout` attends causally to itself and to the whole of its parent segment (a shared
prompt), so no sequence sees its neighbours, no FLOP goes to padding, and no tokens × tokens mask is built.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface

from burnish.batch import Segment
from burnish.models.matmul import small_products

NAME = "burnish_packed"
_LONG = 256  # queries from which on a segment's products are large enough for oneDNN


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    segments: tuple[Segment, ...] | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of packed segments.

    Args:
        module: the attention layer (gives the number of query heads a key head serves).
        query: [1, H, T, d].
        key: [1, H_kv, T, d].
        value: [1, H_kv, T, d].
        attention_mask: must be None; the segments say who sees whom.
        scaling: multiplies the scores (None: 1/√d).
        dropout: probability of dropping an attention weight.
        segments: of the layout that is run.
        sliding_window: refused where it would cut a segment short.

    Returns:
        ([1, T, H, d], None).
    """
    if segments is None or attention_mask is not None:
        raise ValueError("packed attention is driven by segments: call the model through a View")
    for segment in segments:
        seen = _seen(segments, segment)
        if sliding_window is not None and seen > sliding_window:
            raise NotImplementedError(f"a sequence of {seen} tokens is longer than the sliding window {sliding_window}")
    return attend_to_segments(query, key, value, segments, scaling=scaling, dropout=dropout), None


def attend_to_segments(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    segments: tuple[Segment, ...],
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """[1, T, H, d]: `packed_attention` without a layer, of the same query, key and value."""
    if query.device.type == "cpu" and not dropout:
        return _OnCpu.apply(query, key, value, segments, scaling).transpose(1, 2)
    return _in_few_calls(query, key, value, segments, scaling=scaling, dropout=dropout)


@dataclass(frozen=True, slots=True)
class _Bunch:
    """N segments of about the same size, padded to Q queries and K keys: where in T each of them stands, and who sees whom
    (None: causally). What is padded repeats the segment's last token; a query there is computed and not read."""

    queries_NQ: Tensor
    keys_NK: Tensor
    mask_N1QK: Tensor | None


def _in_few_calls(
    query: Tensor, key: Tensor, value: Tensor, segments: tuple[Segment, ...], *, scaling: float | None, dropout: float
) -> Tensor:
    """Padded, segments of like size together: on a GPU a call for each would take longer to launch than to run."""
    bunches, place_T = _bunches(segments, query.device)
    outputs = []
    for bunch in bunches:
        q = query[0][:, bunch.queries_NQ].transpose(0, 1)
        k, v = (x[0][:, bunch.keys_NK].transpose(0, 1) for x in (key, value))
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
        mask = bunch.mask_N1QK
        mixed = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, dropout_p=dropout, scale=scaling
        )
        outputs.append(mixed.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs)[place_T][None]


@lru_cache(maxsize=4)
def _bunches(segments: tuple[Segment, ...], device: torch.device) -> tuple[tuple[_Bunch, ...], Tensor]:
    """The bunches, and where in their outputs, laid end to end, each token's stands. Cached: layers share them."""
    alike: dict[tuple[bool, int, int], list[Segment]] = {}
    for segment in (s for s in segments if s.stop > s.start):  # an answer can be empty
        # Up to the same power of two, so that padding is never more than the whole again.
        own, seen = segment.stop - segment.start, _seen(segments, segment)
        alike.setdefault((segment.parent is not None, own.bit_length(), seen.bit_length()), []).append(segment)
    bunches = []
    place_T = torch.empty(sum(s.stop - s.start for s in segments), dtype=torch.long)
    before = 0
    for (shared, *_), members in alike.items():
        queries = [torch.arange(s.start, s.stop) for s in members]
        parents = [segments[s.parent] if s.parent is not None else Segment(0, 0) for s in members]
        keys = [torch.cat((torch.arange(p.start, p.stop), q)) for p, q in zip(parents, queries, strict=True)]
        queries_NQ, keys_NK = _padded(queries), _padded(keys)
        mask = None
        if shared:
            last_NQ = torch.tensor([p.stop - p.start for p in parents])[:, None] + torch.arange(queries_NQ.shape[1])
            mask = (torch.arange(keys_NK.shape[1]) <= last_NQ[..., None])[:, None].to(device)
        for row, places in enumerate(queries):
            start = before + row * queries_NQ.shape[1]
            place_T[places] = torch.arange(start, start + len(places))
        before += queries_NQ.numel()
        bunches.append(_Bunch(queries_NQ.to(device), keys_NK.to(device), mask))
    return tuple(bunches), place_T.to(device)


def _padded(rows: list[Tensor]) -> Tensor:
    """Rows of numbers as one matrix, each filled up with its last."""
    longest = max(len(row) for row in rows)
    return torch.stack([torch.cat((row, row[-1:].expand(longest - len(row)))) for row in rows])


class _OnCpu(torch.autograd.Function):
    """torch's flash attention for CPUs, segment by segment.

    A function of its own, because autograd would make a gradient as large as the whole batch for every slice of it, and
    because short segments' products are faster outside oneDNN, in the backward pass as well. Keys and values are kept once
    for all the query heads that share them, the output in the layout in which the next product reads it.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, segments: tuple[Segment, ...], scaling: float | None
    ) -> Tensor:
        _, heads, tokens, width = query.shape
        output = query.new_empty(1, tokens, heads, width).transpose(1, 2)
        sums = []
        for segment in segments:
            own, how = slice(segment.start, segment.stop), _how(segment, segments, query, scaling)
            k, v = (_keys(x, segments, segment, heads=query.shape[1]) for x in (key, value))
            with _library_for(segment):
                output[:, :, own], logsumexp = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                    query[:, :, own], k, v, **how
                )
            sums.append(logsumexp)
        ctx.save_for_backward(query, key, value, output, *sums)
        ctx.segments, ctx.scaling = segments, scaling
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        query, key, value, output, *sums = ctx.saved_tensors
        segments: tuple[Segment, ...] = ctx.segments
        by_query, by_key, by_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        for segment, logsumexp in zip(segments, sums, strict=True):
            own, how = slice(segment.start, segment.stop), _how(segment, segments, query, ctx.scaling)
            k, v = (_keys(x, segments, segment, heads=query.shape[1]) for x in (key, value))
            with _library_for(segment):
                of_query, of_key, of_value = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                    grad[:, :, own], query[:, :, own], k, v, output[:, :, own], logsumexp, **how
                )
            by_query[:, :, own] = of_query
            for total, of_heads in ((by_key, of_key), (by_value, of_value)):
                part = of_heads.unflatten(1, (total.shape[1], -1)).sum(2)
                shared = part.shape[2] - (segment.stop - segment.start)
                total[:, :, own] += part[:, :, shared:]
                if segment.parent is not None:
                    parent = segments[segment.parent]
                    total[:, :, parent.start : parent.stop] += part[:, :, :shared]
        return by_query, by_key, by_value, None, None


def _how(segment: Segment, segments: tuple[Segment, ...], query: Tensor, scaling: float | None) -> dict[str, Any]:
    mask = None
    if segment.parent is not None:
        mask = _mask(segment.stop - segment.start, _seen(segments, segment), query.dtype, query.device)
    return {"dropout_p": 0.0, "is_causal": mask is None, "attn_mask": mask, "scale": scaling}


def _library_for(segment: Segment) -> AbstractContextManager[None]:
    return nullcontext() if segment.stop - segment.start >= _LONG else small_products()


def _seen(segments: tuple[Segment, ...], segment: Segment) -> int:
    """Keys that the last token of a segment sees."""
    parent = segments[segment.parent] if segment.parent is not None else None
    return segment.stop - segment.start + (parent.stop - parent.start if parent is not None else 0)


def _keys(x: Tensor, segments: tuple[Segment, ...], segment: Segment, *, heads: int) -> Tensor:
    """[1, H, seen, d] of [1, H_kv, T, d], for H `heads` of queries: a segment's part of the keys or values, its parent's before it."""
    seen = x[:, :, segment.start : segment.stop]
    if segment.parent is not None:
        parent = segments[segment.parent]
        seen = torch.cat((x[:, :, parent.start : parent.stop], seen), dim=2)
    return seen.repeat_interleave(heads // seen.shape[1], dim=1) if heads > seen.shape[1] else seen


@lru_cache(maxsize=32)
def _mask(rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[rows, columns]: the last `rows` tokens of `columns` see themselves and what is before them. Cached: layers share it."""
    seen = torch.ones(rows, columns, dtype=torch.bool, device=device).tril(columns - rows)
    return torch.zeros_like(seen, dtype=dtype).masked_fill_(~seen, -torch.inf)


AttentionInterface.register(NAME, packed_attention)
