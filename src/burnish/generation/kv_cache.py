"""The keys and values of every sequence that is being written, in one block of memory."""

from __future__ import annotations

import torch
from torch import Tensor


class KvCache:
    """One block, which goes back to the system whole: [layer, keys or values, row, head, place,
    width].

    Args:
        like: a tensor of its dtype and on its device.
        layers: the decoder's.
        rows: sequences side by side.
        heads: key heads.
        places: the longest sequence, in tokens.
        width: of a head.
    """

    def __init__(
        self, like: Tensor, *, layers: int, rows: int, heads: int, places: int, width: int
    ) -> None:
        self._block = like.new_zeros((layers, 2, rows, heads, places, width))

    @property
    def places(self) -> int:
        """How many tokens of a sequence it holds."""
        return self._block.shape[4]

    def vectors(self) -> Tensor:
        """[layer, keys or values, *, width]: all vectors, a layer's laid end to end."""
        layers, _, _, _, _, width = self._block.shape
        return self._block.view(layers, 2, -1, width)

    def vectors_of(self, rows_T: Tensor, positions_T: Tensor) -> Tensor:
        """[T, head]: which of a layer's vectors become the keys, and which the values, of tokens in
        these rows."""
        heads = self._block.shape[3]
        cells = rows_T[:, None] * heads + torch.arange(heads, device=rows_T.device)
        return cells * self.places + positions_T[:, None]

    def known(self, rows: int, kv_len: int) -> Tensor:
        """[layer, keys or values, row and head, `kv_len`, width] of the first rows and places; a
        view."""
        layers, _, _, _, _, width = self._block.shape
        return self._block[:, :, :rows, :, :kv_len].view(layers, 2, -1, kv_len, width)

    def move(self, source: int, target: int, length: int) -> None:
        """Copy a row's first `length` places into another row."""
        self._block[:, :, target, :, :length] = self._block[:, :, source, :, :length]

    def grow(self, rows: int, places: int) -> None:
        """Have at least as many rows and places; what stands in it stays."""
        before = self._block
        layers, two, old_rows, heads, old_places, width = before.shape
        self._block = before.new_zeros(
            (layers, two, max(rows, old_rows), heads, max(places, old_places), width)
        )
        self._block[:, :, :old_rows, :, :old_places] = before

    def free(self) -> None:
        """Give the memory back."""
        self._block = self._block.new_empty(0)
