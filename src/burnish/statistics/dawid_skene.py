"""How reliable each annotator is and what the right classes probably are, by Dawid & Skene
(1979)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from burnish.statistics.coefficients import Floats, Judgement

Unit = tuple[str, str]


@dataclass(frozen=True, slots=True)
class DawidSkene:
    """A fit: `classes` [C]; `prior_C`; by annotator the `confusion` [true, said]; by unit the
    `posterior` over classes."""

    classes: tuple[float, ...]
    prior_C: Floats
    confusion: Mapping[str, Floats]
    posterior: Mapping[Unit, Floats]
    log_likelihood: float

    def accuracy(self, annotator: str) -> float:
        """The probability that the annotator says the right class of a random unit: Σ_c π_c
        θ_cc."""
        return float(self.prior_C @ np.diag(self.confusion[annotator]))

    def label(self, unit: Unit) -> float:
        """The most probable class of a unit."""
        return self.classes[int(self.posterior[unit].argmax())]


def dawid_skene(
    judgements: Sequence[Judgement],
    *,
    pseudo_votes: float = 12.0,
    right: float = 2 / 3,
    iterations: int = 100,
    tolerance: float = 1e-6,
) -> DawidSkene:
    """Expectation-maximisation over units with unknown true classes, annotators with a confusion
    matrix each.

    Starts from each unit's share of votes. M-step: π_c = mean of the posteriors, θ_a[c, k] ∝
    Σ_units posterior_c · [a said k], plus a prior that shrinks annotators with few votes:
    `pseudo_votes` · π_c votes in row c, `right` of them on the diagonal, the rest spread evenly.
    E-step: posterior_c ∝ π_c Π_a θ_a[c, said]. Stops when no posterior moves by more than
    `tolerance`. `pseudo_votes=0` is the maximum likelihood of the paper.

    Raises ValueError without judgements.
    """
    if not judgements:
        raise ValueError("there are no judgements to learn from")
    classes = tuple(sorted({one.value for one in judgements}))
    annotators = sorted({one.annotator for one in judgements})
    units = sorted({(one.item_id, one.unit) for one in judgements})
    at_unit, at_name, at_class = (
        {key: i for i, key in enumerate(keys)} for keys in (units, annotators, classes)
    )  # fmt: skip
    said_UAC = np.zeros((len(units), len(annotators), len(classes)))
    for one in judgements:
        said_UAC[at_unit[one.item_id, one.unit], at_name[one.annotator], at_class[one.value]] += 1.0
    votes_UC = said_UAC.sum(axis=1)
    posterior_UC = votes_UC / votes_UC.sum(axis=1, keepdims=True)
    for _ in range(iterations):
        prior_C = posterior_UC.mean(axis=0)
        confusion_ACK = _confusions(
            said_UAC, posterior_UC, prior_C, pseudo_votes=pseudo_votes, right=right
        )
        log_joint_UC = _log_joint(said_UAC, confusion_ACK, prior_C)
        peak = log_joint_UC.max(axis=1, keepdims=True)
        moved = np.exp(log_joint_UC - peak)
        moved /= moved.sum(axis=1, keepdims=True)
        change, posterior_UC = float(np.abs(moved - posterior_UC).max()), moved
        if change < tolerance:
            break
    prior_C = posterior_UC.mean(axis=0)
    confusion_ACK = _confusions(
        said_UAC, posterior_UC, prior_C, pseudo_votes=pseudo_votes, right=right
    )
    log_joint_UC = _log_joint(said_UAC, confusion_ACK, prior_C)
    return DawidSkene(
        classes,
        prior_C,
        dict(zip(annotators, confusion_ACK, strict=True)),
        dict(zip(units, posterior_UC, strict=True)),
        float(np.logaddexp.reduce(log_joint_UC, axis=1).sum()),
    )


def reliability(judgements: Sequence[Judgement]) -> dict[str, float]:
    """Each annotator's probability of the right class; 8 of 12 where there is no vote but theirs.
    Empty without judgements."""
    if not judgements:
        return {}
    fit = dawid_skene(judgements)
    return {name: fit.accuracy(name) for name in fit.confusion}


def overlap(judgements: Sequence[Judgement]) -> dict[str, int]:
    """Of each annotator, how many of their units somebody else judged too: without any, reliability
    is only the prior."""
    by_unit: dict[Unit, set[str]] = defaultdict(set)
    for one in judgements:
        by_unit[one.item_id, one.unit].add(one.annotator)
    counts = {one.annotator: 0 for one in judgements}
    for names in by_unit.values():
        if len(names) > 1:
            for name in names:
                counts[name] += 1
    return counts


def _confusions(
    said_UAC: Floats, posterior_UC: Floats, prior_C: Floats, *, pseudo_votes: float, right: float
) -> Floats:
    """[A, C, K]: rows sum to 1; a row without any evidence is uniform."""
    count = len(prior_C)
    wrong = (1.0 - right) / (count - 1) if count > 1 else 0.0
    belief = np.full((count, count), wrong) + np.eye(count) * (
        (right if count > 1 else 1.0) - wrong
    )
    confusion = (
        np.einsum("uc,uak->ack", posterior_UC, said_UAC) + pseudo_votes * prior_C[:, None] * belief
    )
    totals = confusion.sum(axis=2, keepdims=True)
    return np.where(totals > 0, confusion / np.where(totals > 0, totals, 1.0), 1.0 / count)


def _log_joint(said_UAC: Floats, confusion_ACK: Floats, prior_C: Floats) -> Floats:
    """log π_c + Σ_a log θ_a[c, said], [U, C]."""
    tiny = np.finfo(float).tiny
    return np.log(np.maximum(prior_C, tiny)) + np.einsum(
        "uak,ack->uc", said_UAC, np.log(np.maximum(confusion_ACK, tiny))
    )
