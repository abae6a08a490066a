"""What attention over packed segments is made of: runs of queries, each with the runs of keys that
it sees.

A segment is one piece, unless a sliding window cuts it: then its queries are taken in blocks, and a
block reads only the keys that lie in reach of one of its queries. Keys stand in the order of their
positions and the last query sees the last key, so that who sees whom inside a piece follows from
its size and the window alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from burnish.batch import Segment

_BLOCK = (64, 512)  # queries of a block: about the window, within these bounds

Run = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens [start, stop) of a layout look at the tokens in `keys`; `window` is set where it hides
    some of those."""

    queries: Run
    keys: tuple[Run, ...]
    window: int | None = None

    @property
    def rows(self) -> int:
        """How many queries there are."""
        return self.queries[1] - self.queries[0]

    @property
    def columns(self) -> int:
        """How many keys there are."""
        return sum(stop - start for start, stop in self.keys)

    @property
    def is_causal(self) -> bool:
        """Whether the queries are the keys, each seeing all up to itself."""
        return self.keys == (self.queries,) and self.window is None


@lru_cache(maxsize=8)
def cut_into_pieces(segments: tuple[Segment, ...], window: int | None) -> tuple[Piece, ...]:
    """The pieces of a layout's segments; with a `window` of w a token sees itself and the w − 1
    before it. Cached: layers share them."""
    pieces: list[Piece] = []
    for segment in segments:
        if segment.stop == segment.start:  # an answer can be empty
            continue
        parent = (
            segments[segment.parent]
            if segment.parent is not None
            else Segment(segment.start, segment.start)
        )
        shared, own = parent.stop - parent.start, segment.stop - segment.start
        block = (
            own
            if window is None or shared + own <= window
            else min(max(window, _BLOCK[0]), _BLOCK[1])
        )
        for start in range(0, own, block):
            stop = min(start + block, own)
            # By position in the sequence, of which the parent's tokens are the first.
            low = 0 if window is None else max(0, shared + start - window + 1)
            runs = (
                (parent.start + low, parent.stop),
                (segment.start + max(0, low - shared), segment.start + stop),
            )
            keys = tuple(run for run in runs if run[1] > run[0])
            cuts = window is not None and shared + stop - low > window
            pieces.append(
                Piece((segment.start + start, segment.start + stop), keys, window if cuts else None)
            )
    return tuple(pieces)


@lru_cache(maxsize=32)
def additive_mask(
    rows: int, columns: int, window: int | None, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """[rows, columns]: 0 where the last `rows` tokens of `columns` see, −inf elsewhere. Cached:
    layers share it."""
    seen = torch.ones(rows, columns, dtype=torch.bool, device=device).tril(columns - rows)
    if window is not None:
        seen = seen.triu(columns - rows - window + 1)
    return torch.zeros_like(seen, dtype=dtype).masked_fill_(~seen, -torch.inf)


@dataclass(frozen=True, slots=True)
class Bunch:
    """N pieces of about the same size, padded to Q queries and K keys: where in T each of them
    stands, and who sees whom (None: causally). What is padded repeats the piece's last token; a
    query there is computed and not read."""

    queries_NQ: Tensor
    keys_NK: Tensor
    mask_N1QK: Tensor | None


@lru_cache(maxsize=8)
def bunch_up(
    segments: tuple[Segment, ...], window: int | None, device: torch.device
) -> tuple[tuple[Bunch, ...], Tensor]:
    """The bunches, and where in their outputs, laid end to end, each token's stands. Cached: layers
    share them."""
    alike: dict[tuple[bool, int, int], list[Piece]] = {}
    for piece in cut_into_pieces(segments, window):
        # Up to the same power of two, so that padding is never more than the whole again.
        alike.setdefault(
            (piece.is_causal, piece.rows.bit_length(), piece.columns.bit_length()), []
        ).append(piece)
    bunches = []
    place_T = torch.empty(sum(s.stop - s.start for s in segments), dtype=torch.long)
    before = 0
    for (causal, *_), members in alike.items():
        queries = [torch.arange(*piece.queries) for piece in members]
        keys = [torch.cat([torch.arange(*run) for run in piece.keys]) for piece in members]
        queries_NQ, keys_NK = _padded(queries), _padded(keys)
        mask = None
        if not causal:
            # The column of the key that a query is itself: the last that it sees.
            last_NQ = torch.tensor([p.columns - p.rows for p in members])[:, None] + torch.arange(
                queries_NQ.shape[1]
            )
            columns = torch.arange(keys_NK.shape[1])
            mask = columns <= last_NQ[..., None]
            if window is not None:
                mask &= columns > last_NQ[..., None] - window
            # A padded query may lie beyond the window of every key: it sees them all, and is not
            # read.
            mask |= ~mask.any(-1, keepdim=True)
            mask = mask[:, None].to(device)
        for row, places in enumerate(queries):
            start = before + row * queries_NQ.shape[1]
            place_T[places] = torch.arange(start, start + len(places))
        before += queries_NQ.numel()
        bunches.append(Bunch(queries_NQ.to(device), keys_NK.to(device), mask))
    return tuple(bunches), place_T.to(device)


def _padded(rows: list[Tensor]) -> Tensor:
    """Rows of numbers as one matrix, each filled up with its last."""
    longest = max(len(row) for row in rows)
    return torch.stack([torch.cat((row, row[-1:].expand(longest - len(row)))) for row in rows])
