"""Packed attention with windows, caps, sinks and two widths, against dense attention that is
written out."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from burnish.batch import Segment
from burnish.models.packed_attention import SlidingWindow, packed_attention, packed_mask
from burnish.models.pieces import cut_into_pieces

# Alone; a prompt with two answers; an empty answer's place; alone, of one token.
SHORT = (
    Segment(0, 7),
    Segment(7, 12),
    Segment(12, 15, 1),
    Segment(15, 16, 1),
    Segment(16, 16),
    Segment(16, 17),
)
# Longer than a block of queries, the prompt as well as the answers.
LONG = (Segment(0, 150), Segment(150, 230), Segment(230, 400, 1), Segment(400, 402, 1))
CASES = [
    (segments, window) for segments,
    windows in ((SHORT, (None, 1, 2, 3, 6, 99)), (LONG, (None, 5, 64, 70, 130, 999)))
    for window in windows
]  # fmt: skip


def _dense(
    query, key, value, segments, *, window, softcap=None, sinks=None, scaling=None
) -> torch.Tensor:
    """[1, T, H, d]: every pair of tokens looked at in turn, by the sequence it belongs to and its
    position there."""
    tokens = query.shape[2]
    visible = torch.zeros(tokens, tokens, dtype=torch.bool)
    for segment in segments:
        parent = None if segment.parent is None else segments[segment.parent]
        places = [
            *(range(parent.start, parent.stop) if parent else ()),
            *range(segment.start, segment.stop),
        ]
        for position, place in enumerate(places):
            if place >= segment.start:
                visible[place, places[max(0, position + 1 - (window or tokens)) : position + 1]] = (
                    True
                )
    key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in (key, value))
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    weights = scores.masked_fill(~visible, -torch.inf).exp()
    total = weights.sum(-1, keepdim=True)
    if sinks is not None:
        total = total + sinks.exp()[None, :, None, None]
    return (weights / total @ value).transpose(1, 2)


def _inputs(segments: tuple[Segment, ...], widths: tuple[int, int] = (8, 8)) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    tokens, (width, of_values) = max(s.stop for s in segments), widths
    shapes = ((1, 4, tokens, width), (1, 2, tokens, width), (1, 2, tokens, of_values), (4,))
    return [
        torch.randn(s, generator=generator, dtype=torch.float64, requires_grad=True) for s in shapes
    ]


def _compare(segments, *, window, widths=(8, 8), with_sinks=False, **how) -> None:
    results = []
    for dense in (False, True):
        inputs = _inputs(segments, widths)
        query, key, value, sinks = inputs
        if dense:
            how_here = {k: v for k, v in how.items() if k != "dropout"}
            out = _dense(
                query,
                key,
                value,
                segments,
                window=window,
                sinks=sinks if with_sinks else None,
                **how_here,
            )
        else:
            mask = None if window is None else SlidingWindow(window)
            s_aux = sinks if with_sinks else None
            out, _ = packed_attention(
                torch.nn.Module(), query, key, value, mask, segments=segments, s_aux=s_aux, **how
            )
        weight = torch.randn(
            out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
        )
        (out * weight).sum().backward()
        results.append((out.detach(), *(x.grad for x in (inputs if with_sinks else inputs[:3]))))
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize(("segments", "window"), CASES)
@pytest.mark.parametrize(
    "dropout", [0.0, 1e-12]
)  # the second goes where a GPU goes, and drops nothing
def test_windows(segments: tuple[Segment, ...], window: int | None, dropout: float):
    _compare(segments, window=window, dropout=dropout)


@pytest.mark.parametrize(("segments", "window"), CASES)
def test_capped_scores(segments: tuple[Segment, ...], window: int | None):
    _compare(segments, window=window, softcap=0.7, scaling=0.9)


@pytest.mark.parametrize(("segments", "window"), CASES)
@pytest.mark.parametrize("softcap", [None, 1.5])
def test_sinks(segments: tuple[Segment, ...], window: int | None, softcap: float | None):
    _compare(segments, window=window, with_sinks=True, softcap=softcap)


@pytest.mark.parametrize("widths", [(6, 10), (10, 6)])
@pytest.mark.parametrize("scaling", [None, 0.4])
@pytest.mark.parametrize("with_sinks", [False, True])
def test_values_of_another_width(widths: tuple[int, int], scaling: float | None, with_sinks: bool):
    _compare(SHORT, window=3, widths=widths, scaling=scaling, with_sinks=with_sinks)


def test_worked_numbers_of_a_sink():
    """One token with score ln 3 and a sink of 0: 3 of 4 parts of the value 8 are 6."""
    one = torch.ones(1, 1, 1, 1)
    out, _ = packed_attention(
        torch.nn.Module(),
        one * torch.tensor(3.0).log(),
        one,
        one * 8,
        None,
        segments=(Segment(0, 1),),
        scaling=1.0,
        s_aux=torch.zeros(1),
    )
    torch.testing.assert_close(out, torch.full((1, 1, 1, 1), 6.0))


@pytest.mark.parametrize("window", [None, 1, 5, 64, 130])
@pytest.mark.parametrize("segments", [SHORT, LONG])
def test_pieces_hold_every_query_once_and_no_key_out_of_reach(
    segments: tuple[Segment, ...], window: int | None
):
    pieces = cut_into_pieces(segments, window)
    queries = [place for piece in pieces for place in range(*piece.queries)]
    assert queries == list(range(max(s.stop for s in segments)))
    for piece in pieces:
        assert all(start < stop for start, stop in piece.keys)
        assert all(a[1] <= b[0] for a, b in pairwise(piece.keys))
        if window is not None:
            assert piece.columns <= piece.rows + window - 1


def test_masks_of_another_kind_are_refused():
    class Chunked:
        attention_chunk_size = 8

    with pytest.raises(NotImplementedError):
        packed_mask(local_size=8, config=Chunked())
    with pytest.raises(NotImplementedError):
        packed_mask(use_vmap=True)
    with pytest.raises(ValueError, match="driven by segments"):
        packed_attention(
            torch.nn.Module(), *_inputs(SHORT)[:3], torch.zeros(17, 17), segments=SHORT
        )
