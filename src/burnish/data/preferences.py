"""From pairs to groups: all comparisons of one prompt together, each response once.

A group is one batch element of a reward model, because the comparisons of one ranking are
correlated: split over batch elements they make the model overfit (Ouyang et al. 2022,
arXiv:2203.02155, section 3.5).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from itertools import combinations

from burnish.data.columns import Loaded, NothingLeft, contents
from burnish.records import Comparison, PreferenceGroup


def comparisons_from_ranks(ranks: Sequence[int]) -> tuple[Comparison, ...]:
    """The K(K−1)/2 comparisons (i, j), i < j, of a ranking: 1 where i ranks better (lower), 0 where
    worse, ½ for a tie."""
    return tuple(
        Comparison(i, j, 0.5 if ranks[i] == ranks[j] else float(ranks[i] < ranks[j]))
        for i, j in combinations(range(len(ranks)), 2)
    )


def desirability(responses: int, comparisons: Sequence[Comparison]) -> tuple[float | None, ...]:
    """For each response the mean, over its comparisons, of the probability that it is the better
    one; None: in none.

    This is how pairs are taken apart: of a single pair, p for the first and 1 − p for the second.
    """
    won, met = [0.0] * responses, [0] * responses
    for pair in comparisons:
        for index, p in ((pair.first, pair.probability), (pair.second, 1.0 - pair.probability)):
            won[index] += p
            met[index] += 1
    return tuple(w / m if m else None for w, m in zip(won, met, strict=True))


def comparisons_from_labels(labels: Sequence[float]) -> tuple[Comparison, ...]:
    """Every pair of responses judged differently, the more desirable one first: p = (1 + label_w −
    label_l)/2.

    True and false give 1; of two equal labels neither is preferred, and there is no comparison.
    """
    return tuple(
        Comparison(i, j, (1.0 + labels[i] - labels[j]) / 2.0)
        for i in range(len(labels))
        for j in range(len(labels))
        if labels[i] > labels[j]
    )


def extremes(group: PreferenceGroup) -> PreferenceGroup:
    """The best response and the worst alone, of those that were compared with one another: the pair
    with the largest gap in `desirability` (the first of equals). Groups of one comparison, or of
    none, stay as they are."""
    if len(group.comparisons) < 2:
        return group
    found = [0.0 if p is None else p for p in desirability(len(group.responses), group.comparisons)]
    best = max(group.comparisons, key=lambda c: abs(found[c.first] - found[c.second]))
    sides = {best.first, best.second}
    between = [c for c in group.comparisons if {c.first, c.second} == sides]
    kept = sorted(sides)
    moved = tuple(
        replace(c, first=kept.index(c.first), second=kept.index(c.second)) for c in between
    )
    labels = tuple(group.labels[i] for i in kept) if group.labels else ()
    return replace(
        group, responses=tuple(group.responses[i] for i in kept), comparisons=moved, labels=labels
    )


def merge_by_prompt(groups: Iterable[PreferenceGroup]) -> Loaded[PreferenceGroup]:
    """One group for each different conversation, in the order of first sight, its equal responses
    made one.

    Comparisons are kept, pointed at the merged responses; several annotators of one pair stay
    several comparisons. Those of a response with an equal one say nothing: dropped and counted as
    "comparison of equal responses". The first group's prompt (id, columns) stays. Labels of single
    responses stay where nothing is merged.
    """
    merged: dict[Hashable, PreferenceGroup] = {}
    dropped: Counter[str] = Counter()
    for group in groups:
        key = contents(group.prompt.messages)
        known = merged.get(key, PreferenceGroup(group.prompt, (), ()))
        responses = tuple(dict.fromkeys((*known.responses, *group.responses)))
        place = [responses.index(response) for response in group.responses]
        moved = [
            replace(c, first=place[c.first], second=place[c.second]) for c in group.comparisons
        ]
        telling = [c for c in moved if c.first != c.second]
        if len(telling) < len(moved):
            dropped["comparison of equal responses"] += len(moved) - len(telling)
        labels = group.labels if key not in merged and responses == group.responses else ()
        traces = {**known.traces, **group.traces}
        merged[key] = PreferenceGroup(
            known.prompt, responses, (*known.comparisons, *telling), labels, traces
        )
    return Loaded(tuple(merged.values()), dict(dropped))


def informative(groups: Iterable[PreferenceGroup]) -> Loaded[PreferenceGroup]:
    """The groups in which some response is preferred to another.

    Dropped and counted: "no comparison" (fewer than two different responses, or none compared) and
    "all tied" (every comparison has probability ½). Raises NothingLeft when none is.
    """
    kept: list[PreferenceGroup] = []
    dropped: Counter[str] = Counter()
    for group in groups:
        if not group.comparisons:
            dropped["no comparison"] += 1
        elif all(comparison.probability == 0.5 for comparison in group.comparisons):
            dropped["all tied"] += 1
        else:
            kept.append(group)
    if not kept:
        counts = (
            ", ".join(f"{reason}: {count}" for reason, count in sorted(dropped.items()))
            or "no groups"
        )
        raise NothingLeft(
            f"no preference is left to learn from ({counts}).", hint="Collect labels that differ."
        )
    return Loaded(tuple(kept), dict(dropped))
