"""What an engine knows of a model besides its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from burnish.models.backbone import Backbone
from burnish.models.sampled import window_of


@dataclass(frozen=True)
class SampledModel:
    """A model's shape and its tokenizer. It is data and goes to engines in other processes, where
    weights follow by `Engine.load`.

    Args:
        config: the model's configuration, as transformers completes it.
        tokenizer: decodes.
        rotary: the module that turns positions into cosines and sines.
        context: tokens of the longest sequence that may be sampled.
        products: the precision of the matrices.
    """

    config: Any
    tokenizer: Any
    rotary: nn.Module
    context: int
    products: torch.dtype

    @classmethod
    def of(cls, backbone: Backbone) -> SampledModel:
        """That of a model in memory."""
        window = window_of(backbone.config.to_dict())
        return cls(
            backbone.config,
            backbone.tokenizer,
            backbone.model.model.rotary_emb,
            min(backbone.context, window or backbone.context),
            backbone.products,
        )
