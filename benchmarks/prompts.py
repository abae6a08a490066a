"""The prompts of the benchmarks: plain text, so that both sides tokenise the same. Imports nothing of either side."""

from __future__ import annotations

import json
from pathlib import Path


def texts(count: int) -> list[str]:
    """The first prompts of the quickstart."""
    path = Path(__file__).parents[1] / "src" / "burnish" / "data" / "quickstart" / "prompts.jsonl"
    return [json.loads(line)["prompt"] for line in path.read_text().splitlines()[:count]]


def batch(rows: int) -> list[str]:
    """`rows` prompts: 4 different ones, each as often as it takes (1 for one row)."""
    different = texts(min(rows, 4))
    return [text for text in different for _ in range(rows // len(different))]
