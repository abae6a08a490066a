"""From what somebody said of an item to votes on its pairs of candidates. The formulas:
docs/annotation-statistics.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from burnish.labels.scores import scores_in
from burnish.records import LabelledItem, Opinion


@dataclass(frozen=True, slots=True)
class Vote:
    """One annotator on one pair of candidates: `value` is 1 if `first` ranks better, 0 if worse, ½
    for a tie.

    `grade` in (0, 1] says how strongly, where that was asked. `rewritten`: the first is the second,
    corrected, which says that it is better and nothing of how much: it gives no margin.
    """

    item_id: str
    first: int
    second: int
    annotator: str
    value: float
    first_shown_earlier: bool
    grade: float = 1.0
    rewritten: bool = False


def votes_of(
    item_id: str, said: Opinion, *, scale: int = 1, dimension: str | None = None
) -> list[Vote]:
    """The votes in an opinion: of a ranking all its pairs; of a pair its side, with the grade
    |strength| / k; of ratings the order of each candidate's mean over the attributes that were
    rated for all candidates; of a rubric the order of the scores (`scores.score`); of a best and a
    worst, the best over all others and all others over the worst, and nothing between those.

    k is the opinion's own `scale`, else `scale`. With a `dimension`, what a pair's judge said of
    that one; nothing where it was not asked.
    """
    if dimension is not None:
        said = of_dimension(said, dimension)
    ranks = ranks_in(said)
    if ranks is None:
        return []
    strength, grade = said.payload.get("strength"), 1.0
    if said.kind == "pairwise" and strength:
        grade = min(1.0, abs(strength) / (said.scale or scale))
    place = {candidate: at for at, candidate in enumerate(said.presented or ())}
    found: list[Vote] = []
    for i, j in combinations(range(len(ranks)), 2):
        if said.kind == "best_worst" and ranks[i] == ranks[j]:
            continue  # neither the best nor the worst: nothing was said of the two
        value = 0.5 if ranks[i] == ranks[j] else float(ranks[i] < ranks[j])
        earlier = place.get(i, i) < place.get(j, j)
        found.append(Vote(item_id, i, j, said.annotator, value, earlier, grade))
    return found


def of_dimension(said: Opinion, dimension: str) -> Opinion:
    """The opinion as if a dimension had been all that was asked."""
    strength = said.payload.get("preferences", {}).get(dimension)
    payload = {} if strength is None else {"strength": strength}
    return replace(said, kind="pairwise", ranks=None, payload=payload)


def ranks_in(said: Opinion) -> tuple[float, ...] | None:
    """The places that an opinion gives to the candidates, lower is better; None where it gives
    none. Of a best and a worst the others share the place between."""
    if said.ranks is not None:
        return said.ranks
    scores = scores_in(said)
    if scores is not None:
        return None if len(scores) < 2 else tuple(-score for score in scores)
    strength = said.payload.get("strength")
    if said.kind == "pairwise" and strength is not None:
        return (float(strength < 0), float(strength > 0))
    ratings: Iterable[Sequence[int | None]] = said.payload.get("ratings", {}).values()
    whole = [values for values in ratings if values and None not in values]
    if said.kind != "likert" or not whole or len(whole[0]) < 2:
        return None
    columns = zip(*whole, strict=True)
    return tuple(
        -sum(value for value in values if value is not None) / len(whole) for values in columns
    )


def scale_in(items: Iterable[LabelledItem]) -> int:
    """The largest strength that occurs where no scale is told: what such strengths are measured
    by."""
    unknown = [said for item in items for said in item.opinions if said.scale is None]
    strengths = [abs(said.payload.get("strength") or 0) for said in unknown]
    strengths += [
        abs(given) for said in unknown for given in said.payload.get("preferences", {}).values()
    ]
    turns = [abs(turn["strength"]) for said in unknown for turn in said.payload.get("turns", ())]
    return max([*strengths, *turns, 1])
