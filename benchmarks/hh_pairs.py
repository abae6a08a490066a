"""Anthropic's HH as tokens that both sides read: the same pairs, split by prompt, through Burnish's own reader and renderer."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from burnish.data.columns import preference_pairs
from burnish.data.prompts import split_by_prompt
from burnish.data.render import render_each, render_response
from burnish.data.sources import read_rows
from burnish.records import PreferenceGroup


def tokenised(model: str, source: str, *, max_tokens: int, heldout: float, limit: int | None) -> dict[str, Any]:
    """{"train": rows, "heldout": rows}, a row being prompt_ids, chosen_ids and rejected_ids (the last two begin with the first)."""
    tokenizer = AutoTokenizer.from_pretrained(model)

    def render(group: PreferenceGroup) -> dict[str, Any]:
        pair = group.comparisons[0]
        order = (pair.first, pair.second) if pair.probability > 0.5 else (pair.second, pair.first)
        chosen, rejected = (
            render_response(tokenizer, group.prompt, group.responses[i], max_tokens=max_tokens) for i in order
        )
        prompt = list(chosen.prompt_tokens)
        sides = {"chosen_ids": chosen, "rejected_ids": rejected}
        rows = {name: [*prompt, *side.response_tokens] for name, side in sides.items()}
        return {"prompt_ids": prompt, **rows, "prompt": group.prompt.id}

    groups = preference_pairs(read_rows(source)).items
    parts = dict(zip(("train", "heldout"), split_by_prompt(groups, heldout=heldout, seed=0), strict=True))
    rows = {name: [row for _, row in render_each(part, render, too_long="drop").items] for name, part in parts.items()}
    rows["train"] = rows["train"][:limit]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("source")
    parser.add_argument("out", type=Path)
    parser.add_argument("--max-tokens", type=int, default=192)
    parser.add_argument("--heldout", type=float, default=0.3)
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()
    rows = tokenised(
        options.model, options.source, max_tokens=options.max_tokens, heldout=options.heldout, limit=options.limit
    )
    options.out.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
