"""Dropout on the input of adapters (Srivastava et al., 2014; Hu et al., arXiv:2106.09685):

    h = W x + s B A (m ⊙ x) / (1 − p),    m_td ~ Bernoulli(1 − p)

m follows from the seed, the number of the update, the layer and what stands up to token t, by a
hash: from no generator whose state would have to be kept. So a run that goes on from a checkpoint
draws what one would have that was never killed; cutting a batch into micro-batches, dealing them
among ranks or running a shared prompt once changes no number; a layer that is run again in the
backward pass draws the same; and a token's mask is the same on every device. Tokens behind
different beginnings, channels, layers and updates draw independently.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from burnish.batch import Segment

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_MIX = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)
_MIX_32 = (0x7FEB352D, 0x846CA68B - 2**32)
_RANGE = 2**32


class Dropping:
    """Whether the adapters of a backbone drop now, and what their masks follow from.

    Nothing is dropped outside of `update`, nor where no gradient is asked for: in evaluation, in
    generation and in the passes of references and old log-probabilities.
    """

    def __init__(self) -> None:
        self._update: int | None = None
        self._keys_T: Tensor | None = None

    @contextmanager
    def update(self, *, seed: int, step: int) -> Iterator[None]:
        """Within this the role that learns drops; `seed` and the number of the update are all that
        the masks depend on besides the tokens."""
        self._update = number_of(f"{seed} {step}")
        try:
            yield
        finally:
            self._update = self._keys_T = None

    @property
    def on(self) -> bool:
        """Whether what is computed now drops."""
        return self._update is not None and torch.is_grad_enabled()

    def read(self, tokens_T: Tensor, positions_T: Tensor, segments: Sequence[Segment]) -> None:
        """These tokens are run next, packed as these segments."""
        if self.on:
            hashes_T = _hashes(tokens_T, positions_T)
            self._keys_T = self._keys(_of_beginnings(hashes_T, segments))

    def read_rows(self, tokens_NL: Tensor) -> None:
        """These tokens are run next, each row a sequence from its start."""
        if self.on:
            positions_L = torch.arange(tokens_NL.shape[1], device=tokens_NL.device)
            self._keys_T = self._keys(_hashes(tokens_NL, positions_L).cumsum(1).flatten())

    def again(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Contexts for a layer that is run now and again in the backward pass, when other tokens
        may have been read since."""
        return nullcontext(), self._reading(self._keys_T)

    @contextmanager
    def _reading(self, keys_T: Tensor | None) -> Iterator[None]:
        before, self._keys_T = self._keys_T, keys_T
        try:
            yield
        finally:
            self._keys_T = before

    def _keys(self, beginnings_T: Tensor) -> Tensor:
        assert self._update is not None
        return _upper_half(_mixed(beginnings_T + self._update))

    def kept(self, layer: int, rows: int, width: int, p: float) -> Tensor | None:
        """[rows, width] bool: what of the input of the layer with this number is kept; None: all of
        it. Raises ValueError for other rows than the tokens that are being run."""
        if not self.on or p == 0.0:
            return None
        keys_T = self._keys_T
        if keys_T is None or len(keys_T) != rows:
            read = "none were" if keys_T is None else f"{len(keys_T)} were"
            raise ValueError(f"a layer has {rows} rows of input, where {read} read")
        assert self._update is not None
        channels_D = torch.arange(width, device=keys_T.device) * _GOLDEN
        channels_D = _upper_half(_mixed(channels_D + (layer ^ self._update)))
        return _spread(keys_T, channels_D) >= round(p * _RANGE) - _RANGE // 2


class AdapterDropout(nn.Module):
    """The dropout of one adapter set on one layer, in the place of PEFT's `nn.Dropout`."""

    def __init__(self, p: float, *, name: str, dropping: Dropping) -> None:
        super().__init__()
        self.p, self._layer, self._dropping = p, number_of(name), dropping

    def kept(self, x: Tensor) -> Tensor | None:
        """[T, D] bool: which of the numbers of `x` [..., D] are kept; None: all of them."""
        width = x.shape[-1]
        return self._dropping.kept(self._layer, x.numel() // max(width, 1), width, self.p)

    @property
    def on(self) -> bool:
        """Whether what is computed now drops."""
        return self._dropping.on and self.p > 0.0

    def forward(self, x: Tensor) -> Tensor:
        """m ⊙ x / (1 − p), or x."""
        kept = self.kept(x)
        return x if kept is None else x * kept.view(x.shape) / (1.0 - self.p)


def number_of(text: str) -> int:
    """A whole number in [−2^63, 2^63) that follows from a text."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), signed=True)


def recomputing(dropping: Dropping) -> Callable[..., Any]:
    """`torch.utils.checkpoint` of a layer whose adapters may drop."""
    from torch.utils.checkpoint import checkpoint

    def run(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return checkpoint(
            function,
            *args,
            use_reentrant=False,
            preserve_rng_state=False,
            context_fn=dropping.again,
            **kwargs,
        )

    return run


def _hashes(tokens: Tensor, positions: Tensor) -> Tensor:
    return _mixed(_mixed(tokens) + positions)


def _of_beginnings(hashes_T: Tensor, segments: Sequence[Segment]) -> Tensor:
    """[T]: for each token the sum of the hashes of all that stands up to it in its sequence, its
    parent's included."""
    sums = torch.cat((hashes_T.new_zeros(1), hashes_T.cumsum(0)))
    starts = torch.tensor([s.start for s in segments], device=hashes_T.device)
    lengths = torch.tensor([s.stop - s.start for s in segments], device=hashes_T.device)
    parents = [s if s.parent is None else segments[s.parent] for s in segments]
    first = torch.tensor([p.start for p in parents], device=hashes_T.device)
    last = torch.tensor(
        [p.start if s is p else p.stop for s, p in zip(segments, parents, strict=True)],
        device=hashes_T.device,
    )
    before = sums[last] - sums[first] - sums[starts]
    return sums[1:] + before.repeat_interleave(lengths)


def _mixed(x: Tensor) -> Tensor:
    """splitmix64's finalizer (Steele, Lea and Flood, OOPSLA 2014), of int64 that wraps."""
    x = x + _GOLDEN
    x = (x ^ _shifted(x, 30)) * _MIX[0]
    x = (x ^ _shifted(x, 27)) * _MIX[1]
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """To the right, filled up with zeros, which torch does for no signed number."""
    return (x >> bits) & (2 ** (64 - bits) - 1)


def _upper_half(x: Tensor) -> Tensor:
    return (x >> 32).to(torch.int32)


def _spread(keys_T: Tensor, channels_D: Tensor) -> Tensor:
    """[T, D] int32, uniform: two rounds of multiply and xor-shift on key ⊕ channel, in place. The
    shifts fill up with the sign, which costs the highest bit before it is multiplied away."""
    x = keys_T[:, None] ^ channels_D
    shifted = x >> 16
    x.bitwise_xor_(shifted).mul_(_MIX_32[0])
    torch.bitwise_right_shift(x, 15, out=shifted)
    return x.bitwise_xor_(shifted).mul_(_MIX_32[1])
