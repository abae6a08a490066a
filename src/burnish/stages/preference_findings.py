"""What preference optimisation did to held-out pairs: numbers with intervals, pure over what was
measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from burnish.evaluation.reward_report import length_correlation
from burnish.records import PreferenceGroup
from burnish.statistics.uncertainty import bootstrap_mean, bootstrap_share
from burnish.trainers.groups import RankedGroup
from burnish.trainers.preference import FALL, Example, Scored

Answered = Sequence[tuple[PreferenceGroup, RankedGroup]]


def pair_table(
    heldout: Answered, measured: Sequence[Example], scored: Sequence[Scored]
) -> dict[str, np.ndarray]:
    """One entry a held-out pair with a better side: `lead` of its reward; the changes `rise_chosen`
    and `rise_rejected` of the log-probabilities (nats, whole answers); `words`, by how many words
    the better answer is longer; `prompt`, a number.

    `every_lead` has the first answer's lead for every comparison, ties among them.
    """
    columns: dict[str, list[float]] = {
        n: [] for n in ("lead", "rise_chosen", "rise_rejected", "words", "prompt")
    }
    every: list[float] = []
    for number, ((group, tokens), example, said) in enumerate(
        zip(heldout, measured, scored, strict=True)
    ):
        assert example.reference is not None
        words = [len(text.split()) for text in group.responses]
        rise = [now - before for now, before in zip(said.logprobs, example.reference, strict=True)]
        for pair in tokens.comparisons:
            every.append(said.rewards[pair.first] - said.rewards[pair.second])
            if pair.probability == 0.5:
                continue
            better, worse = (
                (pair.first, pair.second) if pair.probability > 0.5 else (pair.second, pair.first)
            )
            entry = (
                said.rewards[better] - said.rewards[worse],
                rise[better],
                rise[worse],
                words[better] - words[worse],
                number,
            )
            for name, value in zip(columns, entry, strict=True):
                columns[name].append(value)
    return {name: np.array(values) for name, values in columns.items()} | {
        "every_lead": np.array(every)
    }


def pair_findings(pairs: dict[str, np.ndarray]) -> dict[str, Any]:
    """Shares and means over held-out pairs with intervals over prompts."""
    lead, words, prompt = pairs["lead"], pairs["words"], pairs["prompt"]
    right = np.where(lead == 0, 0.5, (lead > 0).astype(float))
    fell = {side: (pairs[f"rise_{side}"] < -FALL).astype(float) for side in ("chosen", "rejected")}

    def share(values: np.ndarray, where: np.ndarray | None = None) -> dict[str, Any] | None:
        keep = np.ones(len(values), dtype=bool) if where is None else where
        if not keep.any():
            return None
        return bootstrap_share(values[keep], groups=prompt[keep].tolist()).to_dict()

    def mean(values: np.ndarray) -> dict[str, Any]:
        return bootstrap_mean(values, groups=prompt.tolist()).to_dict()

    return {
        "pairs_heldout": len(lead),
        "accuracy": share(right),
        "accuracy_longer": share(right, words > 0),
        "accuracy_shorter": share(right, words < 0),
        "longer_wins": share(np.where(words == 0, 0.5, (words > 0).astype(float))),
        "chosen_falls": share(fell["chosen"]),
        "rejected_falls": share(fell["rejected"]),
        "both_fall": share(fell["chosen"] * fell["rejected"]),
        "margin": mean(lead),
        "rise_chosen": mean(pairs["rise_chosen"]),
        "rise_rejected": mean(pairs["rise_rejected"]),
        "length_correlation": length_correlation(lead, words),
    }
