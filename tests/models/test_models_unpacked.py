"""Layouts as rows of whole sequences."""

from __future__ import annotations

import torch

from burnish.batch import Batch, TokenSequence
from burnish.models.unpacked import run_in_rows, whole_sequences

BATCH = Batch((
    TokenSequence((1, 2, 3), (4, 5)),
    TokenSequence((1, 2, 3), (6, 7, 8, 9)),
    TokenSequence((1, 2, 3), ()),
    TokenSequence((10,), (11, 12)),
))  # fmt: skip


def _sums(tokens_NL: torch.Tensor) -> torch.Tensor:
    """A model whose state is the sum of all tokens up to here: it would see neighbours, or what
    fills a row up before it."""
    return tokens_NL.cumsum(1)[..., None].float().requires_grad_(True)


def test_every_token_has_the_state_of_its_sequence():
    layout = BATCH.layout
    states = run_in_rows(layout, _sums, width=1)[:, 0]
    for places in whole_sequences(layout.segments):
        torch.testing.assert_close(
            states[list(places)], layout.tokens_T[list(places)].cumsum(0).float()
        )


def test_the_sequences_are_whole():
    layout = BATCH.layout
    rows = [layout.tokens_T[list(places)].tolist() for places in whole_sequences(layout.segments)]
    assert rows == [[1, 2, 3, 4, 5], [1, 2, 3, 6, 7, 8, 9], [10, 11, 12]]


def test_a_prompt_without_answers_is_a_sequence():
    layout = Batch((TokenSequence((1, 2), ()), TokenSequence((1, 2), ()))).layout
    states = run_in_rows(layout, _sums, width=1)[:, 0]
    torch.testing.assert_close(states, torch.tensor([1.0, 3.0]))
