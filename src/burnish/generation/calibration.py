"""What 8-bit products are fitted to: how large the input channels of each matrix get, on a text
that is always the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from burnish.models.int8 import Int8Matrix
from burnish.models.thin import Thin

Matrix = Thin | Int8Matrix

# Prose, code, numbers and marks, so that most input channels show how large they get.
CALIBRATION_TEXT = """The quick brown fox jumps over the lazy dog. In 1969, people first walked on the Moon; it took 8 days.
def add(a, b):
    return a + b

Dear Sir, thank you very much for your kind letter! How are you? (Yes, 3.14 is close to pi.)"""  # noqa: E501


class Calibration:
    """The largest magnitudes of each matrix's input channels, by the layer's number (−1: the head)
    and the matrix's name."""

    def __init__(self) -> None:
        self._absmax: dict[tuple[int, str], Tensor] = {}
        self._observing = False

    def absmax(self, number: int, name: str) -> Tensor | None:
        """[K] of one matrix; None where nothing was observed."""
        return self._absmax.get((number, name))

    @contextmanager
    def observing(self) -> Iterator[None]:
        """What is multiplied meanwhile is looked at."""
        self._observing = True
        try:
            yield
        finally:
            self._observing = False

    def observe(self, number: int, name: str, matrix: Matrix, x: Tensor) -> Matrix:
        """The matrix, which is about to be multiplied with `x`."""
        if self._observing:
            self._absmax[number, name] = matrix.inputs(x).abs().amax(dim=0)
        return matrix
