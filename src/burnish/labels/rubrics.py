"""The rewards that verdicts on rubrics come to, over annotators."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from burnish.labels.scores import scores_in
from burnish.labels.soft import UNHEARD, vote_weight
from burnish.records import Opinion


def rewards(
    opinions: Sequence[Opinion], reliability: Mapping[str, float] | None = None
) -> tuple[float, ...] | None:
    """The reward of each candidate of an item: the mean score over annotators, each weighted as
    their votes are (`soft.vote_weight`); None where nobody gave verdicts.

    Where a reviewer decided the item, the decision alone counts, as with votes.
    """
    decided = [said for said in opinions if said.source == "adjudication"]
    scored = [(said, found) for said in decided or opinions if (found := scores_in(said))]
    if not scored:
        return None
    weights = [
        1.0 if reliability is None else vote_weight(reliability.get(said.annotator, UNHEARD))
        for said, _ in scored
    ]
    total = math.fsum(weights)
    columns = zip(*(found for _, found in scored), strict=True)
    return tuple(
        math.fsum(w * value for w, value in zip(weights, values, strict=True)) / total
        for values in columns
    )
