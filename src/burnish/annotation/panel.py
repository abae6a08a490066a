"""Simulated annotators who label through the store as people will.

Each has a personal taste over measurable properties of a response, and the weaknesses that people
have: noise, a liking for what is shown first, moments of inattention. What the properties are, and
how they are measured, comes from outside.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from burnish.annotation.store import Ranking, Store, Task


@dataclass(frozen=True, slots=True)
class Persona:
    """A simulated annotator. Utilities are weighted means of properties, in units of the gold taste
    (0 to 1). A negative weight is a dislike; with weights that are all 0, every response is worth
    the same.

    Args:
        name: also the annotator's name in the store.
        weights: the personal taste, by property.
        noise: scale of the Gumbel noise on each utility, so that of two responses whose utilities
            differ by Δ the better is preferred with probability σ(Δ/noise): Bradley–Terry, and
            Plackett–Luce for a whole ranking.
        position_bias: utility that the response shown first gains; it falls linearly to 0 for the
            last.
        lapse: probability that an item is ranked at random.
        tie_margin: responses whose perceived utilities lie closer than this share a rank.
    """

    name: str
    weights: Mapping[str, float]
    noise: float
    position_bias: float = 0.0
    lapse: float = 0.0
    tie_margin: float = 0.0


_CHARACTERS = (
    ("careful", 0.02, 0.00, 0.00),
    ("steady", 0.04, 0.01, 0.02),
    ("hasty", 0.08, 0.02, 0.05),
    ("first-liker", 0.05, 0.12, 0.02),
    ("distracted", 0.06, 0.02, 0.25),
)
"""Name, noise, position bias, lapse rate."""


def default_panel(gold: Mapping[str, float], *, size: int, seed: int) -> tuple[Persona, ...]:
    """`size` personas: the gold taste with each weight multiplied by a factor in [0.5, 1.5], and
    one of five characters in turn."""
    rng = np.random.default_rng([seed, 0xB])
    panel = []
    for number in range(size):
        name, noise, position_bias, lapse = _CHARACTERS[number % len(_CHARACTERS)]
        weights = {prop: weight * float(rng.uniform(0.5, 1.5)) for prop, weight in gold.items()}
        suffix = f"-{number // len(_CHARACTERS) + 1}" if size > len(_CHARACTERS) else ""
        panel.append(
            Persona(f"{name}{suffix}", weights, noise, position_bias, lapse, tie_margin=0.01)
        )
    return tuple(panel)


def rank(
    *, properties_KF: np.ndarray, names: Sequence[str], persona: Persona, rng: np.random.Generator
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(order of showing, rank of each response) of K responses with F properties, the columns
    called `names`."""
    count = len(properties_KF)
    presented = rng.permutation(count)
    weights_F = np.array([persona.weights.get(name, 0.0) for name in names])
    scale = np.abs(weights_F).sum()
    utility_K = properties_KF @ weights_F / scale if scale else np.zeros(count)
    bonus_K = np.empty(count)
    bonus_K[presented] = persona.position_bias * np.linspace(1.0, 0.0, count)
    perceived_K = utility_K + bonus_K + persona.noise * rng.gumbel(size=count)
    if rng.random() < persona.lapse:
        perceived_K = rng.random(count)
    return tuple(presented.tolist()), _ranks(perceived_K, persona.tie_margin)


def label_items(
    store: Store,
    project: str,
    panel: Sequence[Persona],
    properties_of: Callable[[Task], np.ndarray],
    names: Sequence[str],
    *,
    annotators_per_item: int,
    seed: int,
) -> None:
    """Have every item ranked by `annotators_per_item` of the panel, through the store.

    Who ranks an item, and how, follows from (seed, item, annotator) alone: a labelling that was
    killed and started again ends with the same rankings as one that never was.
    """
    for persona in panel:
        store.add_annotator(persona.name, kind="simulated")
    answered = {persona.name: store.answered(project, persona.name) for persona in panel}
    if annotators_per_item > len(panel):
        raise ValueError(
            f"{annotators_per_item} annotators for each item, of a panel of {len(panel)}"
        )
    for number, task in enumerate(store.tasks(project)):
        properties_KF = properties_of(task)
        for turn in range(annotators_per_item):
            persona = panel[(number + turn) % len(panel)]
            if task.item_id in answered[persona.name]:
                continue
            rng = _rng(seed, task.item_id, persona.name)
            presented, ranks = rank(
                properties_KF=properties_KF, names=names, persona=persona, rng=rng
            )
            store.submit(project, Ranking(task.item_id, persona.name, presented, ranks))


def _ranks(perceived_K: np.ndarray, tie_margin: float) -> tuple[int, ...]:
    """Competition ranks: 1 for the best; a response within `tie_margin` of the one above it shares
    its rank."""
    ranks = [0] * len(perceived_K)
    order = np.argsort(-perceived_K, kind="stable").tolist()
    for place, index in enumerate(order):
        above = order[place - 1]
        tied = place > 0 and perceived_K[above] - perceived_K[index] < tie_margin
        ranks[index] = ranks[above] if tied else place + 1
    return tuple(ranks)


def _rng(*parts: object) -> np.random.Generator:
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))
