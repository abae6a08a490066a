"""What both sides of the RLVR benchmark share: how an answer is judged, and the curve that a side
reports. Imports neither."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_NUMBER = re.compile(r"[-−]?\s?\d[\d,]*")


def correct(text: str, answer: str) -> float:
    """1 if the last number in `text` is `answer`."""
    found = _NUMBER.findall(text)
    return float(
        bool(found) and found[-1].replace("−", "-").replace(",", "").replace(" ", "") == answer
    )


def messages(row: dict[str, Any]) -> list[dict[str, str]]:
    """The prompt as a chat."""
    return [{"role": "user", "content": row["prompt"]}]


class Curve:
    """Accuracy on held-out problems against seconds of training; the time that measuring takes does
    not count."""

    def __init__(self, measure: Callable[[], Sequence[float]], *, every: int) -> None:
        self._measure, self._every = measure, every
        self._began, self._measuring = time.perf_counter(), 0.0
        self.points: list[dict[str, Any]] = []

    def tick(self, step: int, *, last: bool = False) -> None:
        """`step` steps are done."""
        if step % self._every and not last:
            return
        start = time.perf_counter()
        values = list(self._measure())
        seconds = start - self._began - self._measuring
        self._measuring += time.perf_counter() - start
        self.points.append({"step": step, "seconds": seconds, "values": values})

    def write(self, path: Path) -> None:
        """Into a file of JSON."""
        path.write_text(json.dumps(self.points))
