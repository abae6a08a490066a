"""The check at loading: does the model that Burnish runs give the logits that transformers gives?

A short packed input (a sequence, and two answers that share a prompt) is run through Burnish's own
path, and each of its sequences alone through transformers' eager attention, on the same module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from burnish.batch import Batch, Layout, TokenSequence
from burnish.errors import UserError
from burnish.models.unpacked import whole_sequences

if TYPE_CHECKING:
    from burnish.models.backbone import Backbone

_TOLERANCE = {
    torch.float32: 1e-3,
    torch.float64: 1e-3,
}  # of the largest logit; half precision rounds to three digits
_OF_HALF = 5e-2


@torch.no_grad()
def eager_logits(backbone: Backbone) -> Tensor:
    """[3, 4, V]: transformers' own logits of the three sequences, in rows of their own."""
    layout = _specimen(backbone)
    rows = layout.tokens_T[torch.tensor(whole_sequences(layout.segments))].to(backbone.device)
    before = backbone.model.config._attn_implementation
    backbone.model.set_attn_implementation("eager")
    try:
        return backbone.model(input_ids=rows, use_cache=False).logits
    finally:
        backbone.model.set_attn_implementation(before)


@torch.no_grad()
def refuse_if_different(backbone: Backbone, expected: Tensor) -> None:
    """Compare Burnish's logits of the same input with `eager_logits`. Raises UserError naming the
    type of the model."""
    layout = _specimen(backbone)
    ours = backbone.logits(backbone.hidden(layout))[
        torch.tensor(whole_sequences(layout.segments)).to(backbone.device)
    ]
    difference = (ours.float() - expected.float()).abs()
    largest = float(expected.float().abs().max())
    if ours.dtype in _TOLERANCE:
        worst, allowed = float(difference.max()), _TOLERANCE[ours.dtype] * largest
    else:  # an expert that is chosen by a hair may be another one
        worst, allowed = float(difference.mean()), _OF_HALF * largest
    if not worst <= allowed:
        raise UserError(
            f"this model of type {backbone.model.config.model_type} gives other logits here than in"
            f" transformers (they differ by {worst:.1e}, the largest is {largest:.1e}), so it"
            " cannot be trained.",
            file=backbone.reference,
            hint="Please report it with the model's config.json.",
        )


def _specimen(backbone: Backbone) -> Layout:
    """Three sequences of four tokens, two of them with the same prompt."""
    vocabulary = len(backbone.embeddings)
    tokens = [(13 * place + 5) % vocabulary for place in range(10)]
    prompt = tuple(tokens[4:6])
    sequences = (
        TokenSequence(tuple(tokens[:2]), tuple(tokens[2:4])),
        TokenSequence(prompt, tuple(tokens[6:8])),
        TokenSequence(prompt, tuple(tokens[8:])),
    )
    return Batch(sequences).layout
