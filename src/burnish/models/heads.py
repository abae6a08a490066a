"""Scalar heads: the value head of a critic and the score head of a reward model."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ScalarHead(nn.Module):
    """A linear map from a hidden state to one number, followed by a fixed affine map: gain · (w·h +
    b) + bias.

    `w` is drawn with standard deviation 1/√(d+1) and `b` is 0, as the first papers of the field do
    (arXiv:2009.01325, arXiv:1909.08593). `gain` and `bias` are set after training, so that
    reference completions score mean 0, std 1.
    With `zero`, `w` is 0 as well: a critic that starts so says 0 everywhere, the mean of a
    normalized reward model.
    """

    gain: Tensor
    bias: Tensor

    def __init__(self, width: int, *, seed: int = 0, zero: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.linear.weight.normal_(
                0.0, 0.0 if zero else (width + 1) ** -0.5, generator=generator
            )
            self.linear.bias.zero_()
        self.register_buffer("gain", torch.ones(()))
        self.register_buffer("bias", torch.zeros(()))

    def forward(self, hidden_XD: Tensor) -> Tensor:
        """[X, D] -> [X], in float32."""
        return self.linear(hidden_XD.float()).squeeze(-1) * self.gain + self.bias

    @torch.no_grad()
    def normalize(self, scores: Tensor) -> None:
        """Set gain and bias so that these scores (made with the present gain and bias) would have
        mean 0 and std 1."""
        mean, std = scores.double().mean(), scores.double().std(correction=0)
        if not std > 0:
            raise ValueError(
                "every score is the same: a gain that gives them a standard deviation of 1 does not"
                " exist"
            )
        self.gain.copy_(self.gain.double() / std)
        self.bias.copy_((self.bias.double() - mean) / std)
