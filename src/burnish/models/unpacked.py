"""Layouts run as whole sequences, for models in which packing would not be exact.

A convolution or a state space hands what it saw on to the next token, whoever that belongs to. Such
a model runs each sequence in a row of its own. What fills a shorter row up stands behind it, where
nothing that is causal can see it, so rows need no mask and their numbers are those of each sequence
alone. A shared prompt is run once for each answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from burnish.batch import Layout, Segment


@lru_cache(maxsize=4)
def whole_sequences(segments: tuple[Segment, ...]) -> tuple[tuple[int, ...], ...]:
    """For each sequence of a layout, where in T its tokens stand: those of its shared prompt, then
    its own."""
    parents = {segment.parent for segment in segments}
    sequences = []
    for number, segment in enumerate(segments):
        if number in parents or segment.stop == segment.start:
            continue
        prompt = () if segment.parent is None else _places(segments[segment.parent])
        sequences.append((*prompt, *_places(segment)))
    return tuple(sequences)


def run_in_rows(
    layout: Layout, run: Callable[[Tensor], Tensor], *, width: int, alone: bool = False
) -> Tensor:
    """[T, D]: the hidden states of a layout, of whose sequences `run` takes rows [N, L] of tokens
    and gives [N, L, D].

    With `alone` it takes one at a time. The state of a token that several sequences share is that
    of the first: they are the same.
    """
    sequences = whole_sequences(layout.segments)
    source = torch.full((len(layout.tokens_T),), -1)
    states: list[Tensor] = []
    before = 0
    for rows in [[row] for row in range(len(sequences))] if alone else _alike(sequences):
        places_NL = _filled_up([sequences[row] for row in rows])
        states.append(run(layout.tokens_T[places_NL.to(layout.tokens_T.device)]).flatten(0, 1))
        for number, row in enumerate(rows):
            places = torch.tensor(sequences[row])
            own = torch.arange(len(places)) + before + number * places_NL.shape[1]
            source[places] = torch.where(source[places] < 0, own, source[places])
        before += places_NL.numel()
    if not states:
        return layout.tokens_T.new_empty(0, width, dtype=torch.float32)
    return torch.cat(states)[source.to(states[0].device)]


def _places(segment: Segment) -> tuple[int, ...]:
    return tuple(range(segment.start, segment.stop))


def _alike(sequences: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """Sequences of like length (the same power of two) together, so that filling up costs at most
    as much again."""
    alike: dict[int, list[int]] = {}
    for number, sequence in enumerate(sequences):
        alike.setdefault(len(sequence).bit_length(), []).append(number)
    return list(alike.values())


def _filled_up(sequences: Sequence[tuple[int, ...]]) -> Tensor:
    """[N, L]: each sequence filled up with its last token."""
    longest = max(len(sequence) for sequence in sequences)
    return torch.tensor([[*s, *s[-1:] * (longest - len(s))] for s in sequences])
