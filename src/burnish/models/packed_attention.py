"""Attention over packed sequences, as an attention implementation that any transformers model can be loaded with.

Each segment of a `burnish.batch.Layout` attends causally to itself and to the whole of its parent segment (a shared
prompt), so no sequence sees its neighbours, no FLOP goes to padding, and no tokens × tokens mask is built.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

from burnish.batch import Segment

NAME = "burnish_packed"


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
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    outputs = []
    for segment in segments:
        own = slice(segment.start, segment.stop)
        q, k, v = query[:, :, own], key[:, :, own], value[:, :, own]
        mask = None
        if segment.parent is not None:
            parent = segments[segment.parent]
            seen = slice(parent.start, parent.stop)
            k, v = torch.cat((key[:, :, seen], k), dim=2), torch.cat((value[:, :, seen], v), dim=2)
            rows, columns = q.shape[2], k.shape[2]
            mask = torch.ones(rows, columns, dtype=torch.bool, device=q.device).tril(columns - rows)
        if sliding_window is not None and k.shape[2] > sliding_window:
            raise NotImplementedError(
                f"a sequence of {k.shape[2]} tokens is longer than the sliding window {sliding_window}"
            )
        outputs.append(
            F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=mask is None, dropout_p=dropout, scale=scaling
            )
        )
    return torch.cat(outputs, dim=2).transpose(1, 2), None


AttentionInterface.register(NAME, packed_attention)
