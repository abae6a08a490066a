"""Scores for active selection from trained reward models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from burnish.annotation.selection import item_scores
from burnish.annotation.snapshot import Entry
from burnish.batch import TokenSequence
from burnish.data.render import TooLong
from burnish.data.render_traces import render_answer
from burnish.errors import UserError
from burnish.models.backbone import load_backbone
from burnish.models.device import AUTO, resolve
from burnish.models.ensemble import members_of
from burnish.models.weights import load_reward_model
from burnish.trainers.reward_model import score_sequences

_TOKENS = 4096


def scores_of(
    models: Sequence[Path],
    entries: Sequence[Entry],
    *,
    max_length: int = 1024,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, float]:
    """By item, what a label teaches: the disagreement of several models, or of one's members
    (`item_scores`); of one model alone, its uncertainty −min |r_i − r_j| over pairs of candidates.
    Items with a candidate that is too long are left out, and said.

    Raises UserError for a folder that holds no reward model.
    """
    rewards: dict[str, list[np.ndarray]] = {}
    long: set[str] = set()
    for folder in models:
        if not folder.is_dir():
            raise UserError(
                "there is no such folder.", file=folder, hint="Name a run's reward/model."
            )
        view = load_reward_model(folder, partial(load_backbone, device=resolve(AUTO)))
        limit = min(max_length, view.backbone.context)
        for entry in entries:
            try:
                rendered = [
                    render_answer(
                        view.backbone.tokenizer,
                        entry.prompt,
                        text,
                        entry.traces.get(text, ()),
                        max_tokens=limit,
                    )
                    for text in entry.candidates
                ]
            except TooLong:
                long.add(entry.item_id)
                continue
            sequences = [TokenSequence(r.prompt_tokens, r.response_tokens) for r in rendered]
            for member in members_of(view):
                scores = score_sequences(member, sequences, max_tokens=_TOKENS).double().numpy()
                rewards.setdefault(entry.item_id, []).append(scores)
    if long:
        say(f"{len(long)} items are longer than {max_length} tokens and keep the score they had")
    known = {item: found for item, found in rewards.items() if item not in long}
    if any(len(found) > 1 for found in known.values()):
        return item_scores(known)
    return {
        item: -float(min(abs(a - b) for a, b in _pairs(found[0]))) for item, found in known.items()
    }


def _pairs(scores: np.ndarray) -> list[tuple[float, float]]:
    first, second = np.triu_indices(len(scores), k=1)
    return list(zip(scores[first].tolist(), scores[second].tolist(), strict=True))
