"""The prompts of the benchmarks: plain text, so that both sides tokenise the same. Imports nothing of either side."""

from __future__ import annotations

import json
from pathlib import Path


def texts(count: int) -> list[str]:
    """The first prompts of the quickstart."""
    path = Path(__file__).parents[1] / "src" / "burnish" / "data" / "quickstart" / "prompts.jsonl"
    return [json.loads(line)["prompt"] for line in path.read_text().splitlines()[:count]]
