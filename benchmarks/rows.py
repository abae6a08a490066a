"""Tokenised pairs that both sides train on, rendered by Burnish: {"train": rows, "heldout": rows},
a row being prompt_ids, chosen_ids and rejected_ids (the answers alone)."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from burnish.data.columns import demonstrations, preference_pairs
from burnish.data.prompts import split_by_prompt
from burnish.data.render import render_each, render_response
from burnish.data.sources import read_rows
from burnish.records import Comparison, PreferenceGroup, Prompt


def conversations(count: int) -> list[PreferenceGroup]:
    """Of the shipped demonstrations: 1 to 3 turns, the last answer 1 to 3 demonstrations long; the
    worse answer is another's."""
    turns = [
        demo.messages
        for demo in demonstrations(read_rows("builtin:quickstart/demonstrations")).items
    ]
    answers = [turn[-1]["content"] for turn in turns]
    groups = []
    for number in range(count):
        at = 3 * number % (len(turns) - 12)
        talk = [message for turn in turns[at : at + 1 + number % 3] for message in turn]
        paragraphs = 1 + (number // 3) % 3
        sides = (
            "\n\n".join(answers[first : first + paragraphs]) for first in (at + number % 3, at + 6)
        )
        groups.append(
            PreferenceGroup(
                Prompt(str(number), tuple(talk[:-1])), tuple(sides), (Comparison(0, 1, 1.0),)
            )
        )
    return groups


def tokenised(
    tokenizer: Any, groups: Sequence[PreferenceGroup], *, max_tokens: int
) -> list[dict[str, Any]]:
    """One row for each pair that fits."""

    def render(group: PreferenceGroup) -> dict[str, Any]:
        pair = group.comparisons[0]
        order = (pair.first, pair.second) if pair.probability > 0.5 else (pair.second, pair.first)
        chosen, rejected = (
            render_response(tokenizer, group.prompt, group.responses[i], max_tokens=max_tokens)
            for i in order
        )
        return {
            "prompt": group.prompt.id,
            "prompt_ids": chosen.prompt_tokens,
            "chosen_ids": chosen.response_tokens,
            "rejected_ids": rejected.response_tokens,
        }

    return [row for _, row in render_each(groups, render, too_long="drop").items]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--source", help="HH transcripts; without it the shipped demonstrations")
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--count", type=int, help="pairs to train on")
    options = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    if options.source is None:
        parts = (conversations(2 * options.count), ())
    else:
        parts = split_by_prompt(
            preference_pairs(read_rows(options.source)).items, heldout=0.3, seed=0
        )
    train, heldout = (
        tokenised(tokenizer, part, max_tokens=options.max_tokens) if part else [] for part in parts
    )
    options.out.write_text(json.dumps({"train": train[: options.count], "heldout": heldout}))


if __name__ == "__main__":
    main()
