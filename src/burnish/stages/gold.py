"""What the gold taste of simulated annotators says of labels and of a model that learnt from
them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from burnish.config.making import Panel
from burnish.evaluation.reward_report import pairwise_accuracy
from burnish.records import PreferenceGroup
from burnish.rewards.base import prompt_text
from burnish.rewards.taste import taste_score
from burnish.stages.context import Step


def taste_of(step: Step, panel: Panel) -> dict[str, float]:
    """The weights of what a panel likes: its own, or the recipe's."""
    return (panel.taste or step.recipe.taste).model_dump()


def ceilings(
    step: Step, groups: Sequence[PreferenceGroup], difference: np.ndarray
) -> dict[str, Any]:
    """What the panel's noise allows on held-out pairs: `ceiling`, how often the gold taste itself
    agrees with the labels; and `gold_accuracy`, how often the model agrees with the gold taste.
    Empty where no panel has labelled them."""
    compared = step.parent("comparisons")
    panels = (
        [one.panel for one in getattr(compared.settings, "by", ())] if compared is not None else []
    )
    if not panels or panels[0] is None or any(panel is None for panel in panels):
        return {}
    weights = taste_of(step, panels[0])
    gold, labels, prompt_of_pair = [], [], []
    for number, group in enumerate(groups):
        scores = [taste_score(weights, prompt_text(group.prompt), text) for text in group.responses]
        for pair in group.comparisons:
            gold.append(scores[pair.first] - scores[pair.second])
            labels.append(pair.probability)
            prompt_of_pair.append(number)
    truth = np.array(gold)
    return {
        "ceiling": accuracy(truth, np.array(labels), prompt_of_pair),
        "gold_accuracy": accuracy(
            difference, np.where(truth == 0, 0.5, (truth > 0).astype(float)), prompt_of_pair
        ),
    }


def accuracy(
    difference: np.ndarray, labels: np.ndarray, groups: Sequence[Hashable]
) -> dict[str, Any] | None:
    """How often the difference's sign is the label's side, with its interval; None where every
    label is a tie."""
    return (
        None
        if (labels == 0.5).all()
        else pairwise_accuracy(difference, labels, groups=groups).to_dict()
    )
