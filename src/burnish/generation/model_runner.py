"""Runs the decoder for the rows of one call: prompts end to end, then a token of every row at a
time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from burnish.batch import Segment
from burnish.generation.decoder import Decoder
from burnish.generation.in_flight import InFlight
from burnish.generation.kv_cache import KvCache
from burnish.models.device import Graphs
from burnish.models.matmul import small_products
from burnish.models.packed_attention import attend_to_segments

_PIECE = 128  # places by which the cache that a recorded step reads grows


class ModelRunner:
    """What one call of an engine holds in memory. A prompt that several requests share is run once
    and copied. On a GPU a decode step is recorded once for each size and launched as one (CUDA
    graphs).

    Args:
        decoder: the model.
        rows: sequences side by side.
        places: the longest of them, in tokens.
    """

    def __init__(self, decoder: Decoder, *, rows: int, places: int) -> None:
        embedding = decoder.embedding
        self._decoder = decoder
        self.cache = KvCache(
            embedding,
            layers=decoder.layers,
            rows=rows,
            heads=decoder.kv_heads,
            places=places,
            width=decoder.head_dim,
        )
        self._make_room(rows, places)

    def _make_room(self, rows: int, places: int) -> None:
        embedding = self._decoder.embedding
        self._rope = self._decoder.rope(places)
        self.logits_RV = embedding.new_empty(rows, len(embedding))
        self.scratch_RV = torch.empty_like(self.logits_RV, dtype=torch.float32)
        # What a step reads; recorded steps hold on to this very tensor.
        self._latest_2R = torch.zeros(2, rows, dtype=torch.long, device=embedding.device)
        self._graphs = Graphs(embedding.device) if embedding.device.type != "cpu" else None

    def fit(self, rows: int, places: int, *, most_rows: int, most_places: int) -> None:
        """Have room for this many sequences of this many tokens, between two steps: doubled where
        it is too little, up to the most."""
        if rows <= len(self.logits_RV) and places <= self.cache.places:
            return
        rows = max(len(self.logits_RV), min(1 << (rows - 1).bit_length(), most_rows))
        places = max(self.cache.places, min(1 << (places - 1).bit_length(), most_places))
        self.cache.grow(rows, places)
        self._make_room(rows, places)

    def free(self) -> None:
        """Give its memory back, whoever still holds the object."""
        self.cache.free()
        self.logits_RV = self.scratch_RV = self._latest_2R = self.logits_RV.new_empty(0)

    def prefill(self, fresh: Sequence[InFlight], *, first_row: int) -> None:
        """Run the prompts end to end, fill their rows of the cache and of the logits."""
        rows_of: dict[tuple[int, ...], list[int]] = {}
        for offset, sequence in enumerate(fresh):
            rows_of.setdefault(sequence.request.prompt_tokens, []).append(first_row + offset)
        device = self._decoder.embedding.device
        tokens = torch.tensor([t for prompt in rows_of for t in prompt], device=device)
        positions = torch.cat([torch.arange(len(prompt)) for prompt in rows_of]).to(device)
        ends = np.cumsum([len(prompt) for prompt in rows_of]).tolist()
        segments = tuple(
            Segment(end - len(prompt), end) for prompt, end in zip(rows_of, ends, strict=True)
        )
        # Each row gets its prompt's keys and values: which tokens' they are, and where they go.
        pairs = [
            (segment, row)
            for segment, rows in zip(segments, rows_of.values(), strict=True)
            for row in rows
        ]
        source = torch.cat([torch.arange(segment.start, segment.stop) for segment, _ in pairs]).to(
            device
        )
        row_of = torch.cat(
            [torch.full((segment.stop - segment.start,), row) for segment, row in pairs]
        ).to(device)
        vectors, place = self.cache.vectors(), self.cache.vectors_of(row_of, positions[source])

        def attend(number: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            for known, new in zip(vectors[number], (k, v), strict=True):
                known.index_put_((place,), new[source])
            query, key, value = (x.transpose(0, 1)[None] for x in (q, k, v))
            return attend_to_segments(query, key, value, segments, scaling=1.0)[0]

        hidden = self._decoder.hidden(tokens, positions, self._rope, attend)
        last = {row: segment.stop - 1 for segment, row in pairs}
        last_BD = hidden[[last[first_row + offset] for offset in range(len(fresh))]]
        self._decoder.write_logits(last_BD, self.logits_RV[first_row : first_row + len(fresh)])

    def decode(self, active: Sequence[InFlight]) -> None:
        """One step: the last token of every active sequence."""
        lengths = [s.length for s in active]
        rows, kv_len = len(active), max(lengths) + 1
        if self._graphs is not None:
            rows, kv_len = self._recorded_size(rows, kv_len)
        idle = [0] * (rows - len(active))  # rows that nobody waits for: what they give is not read
        latest = torch.tensor([[s.tokens[-1] for s in active] + idle, lengths + idle])
        self._latest_2R[:, :rows].copy_(latest)
        step = partial(self._step, rows, kv_len)
        if self._graphs is None:
            step()
        else:
            self._graphs.run((rows, kv_len), step)

    def _recorded_size(self, rows: int, kv_len: int) -> tuple[int, int]:
        """The size of the recorded step that serves this one: powers of two rows, cache in
        pieces."""
        most_rows, pieces = self._latest_2R.shape[1], -(-kv_len // _PIECE)
        return min(1 << (rows - 1).bit_length(), most_rows), min(pieces * _PIECE, self.cache.places)

    def _step(self, rows: int, kv_len: int) -> None:
        """The latest token of the first `rows` sequences, on `kv_len` places of the cache. Reads
        `_latest_2R` and the cache, writes the cache and `logits_RV`; nothing in it depends on what
        stands in them, or waits for the device."""
        heads, width = self._decoder.kv_heads, self._decoder.head_dim
        tokens, positions = self._latest_2R[:, :rows].unbind()
        unseen = torch.arange(kv_len, device=positions.device) > positions[:, None]
        bias = self._decoder.embedding.new_zeros(unseen.shape).masked_fill_(unseen, -torch.inf)
        bias = bias.repeat_interleave(heads, dim=0)[:, None]
        every_row = torch.arange(rows, device=positions.device)
        place = self.cache.vectors_of(every_row, positions)
        vectors, known = self.cache.vectors(), self.cache.known(rows, kv_len)
        layers = [
            x.unbind()
            for x in (vectors[:, 0], vectors[:, 1], known[:, 0].transpose(2, 3), known[:, 1])
        ]

        def attend(number: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys_into, values_into, turned_keys, values = (each[number] for each in layers)
            keys_into.index_put_((place,), k)
            values_into.index_put_((place,), v)
            # The query heads that share a key head stand in the place of query positions: keys are
            # never repeated. A row's heads are sequences of their own.
            return _attention(q.reshape(rows * heads, -1, width), turned_keys, values, bias).view(
                rows, -1, width
            )

        hidden_BD = self._decoder.hidden(tokens, positions, self._rope, attend)
        self._decoder.write_logits(hidden_BD, self.logits_RV[:rows])


def _attention(q: Tensor, turned_k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Attention of few queries on many keys, [N, few, d] on [N, d, many], `bias` added to the
    scores. Two batched products take half of the time of a CPU's fused kernel."""
    with small_products():
        return torch.bmm(q, turned_k).add_(bias).softmax(dim=-1).bmm(v)
