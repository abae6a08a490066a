"""What people said of answers, in whatever layout it comes, as groups: pairs, and answers judged singly; and back to rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any

from burnish.data.columns import (
    Loaded,
    NothingLeft,
    Origin,
    _conversation,
    _Dropped,
    _fail,
    _id,
    _other_columns,
    _shown,
    _turns,
    contents,
    preference_pairs,
)
from burnish.data.labelled import layout_of, read_labelled
from burnish.data.messages import answer_text
from burnish.data.preferences import (
    comparisons_from_labels,
    comparisons_from_ranks,
    desirability,
    informative,
    merge_by_prompt,
)
from burnish.data.sources import Row
from burnish.errors import UserError
from burnish.records import Comparison, LabelledItem, Opinion, PreferenceGroup, Prompt

UNPAIRED = ("prompt", "completion", "label")


def preference_groups(rows: Sequence[Row]) -> Loaded[PreferenceGroup]:
    """Groups from rows of pairs (`chosen` and `rejected`, see `preference_pairs`), of single judgements (`prompt`, `completion`,
    `label`, see `judged_answers`), or in a layout of `burnish.data.labelled` (rankings, ratings, other tools' exports); the
    first row says which."""
    first = rows[0].values if rows else {}
    if all(first.get(column) is not None for column in UNPAIRED):
        return judged_answers(rows)
    if "chosen" in first or "rejected" in first or not rows or not _of_another_layout(rows[0]):
        return preference_pairs(rows)
    return voted_groups(rows)


def voted_groups(rows: Sequence[Row]) -> Loaded[PreferenceGroup]:
    """Rankings, ratings and pairs that others have labelled, as soft labels: p is the mean of an item's votes on a pair.

    A vote is 1 for the first response, ½ for a tie, 0 for the second: by the annotator's ranks, or by the order of the
    responses' means over the attributes that were rated for all of them. A stated strength s of the largest that occurs, S,
    counts ½ ± ½·s/S. What says nothing is dropped and counted (`informative`).
    """
    read = read_labelled(rows)
    strengths = [abs(o.payload.get("strength") or 0) for item in read.items for o in item.opinions]
    scale = max([*strengths, 1])
    groups = [
        PreferenceGroup(item.prompt, item.candidates, _mean_votes(item, scale))
        for item in read.items
        if len(item.candidates) > 1
    ]
    single = len(read.items) - len(groups)
    merged = merge_by_prompt(groups)
    try:
        kept = informative(merged.items)
    except NothingLeft as error:
        raise NothingLeft(error.problem, file=rows[0].file, hint=error.hint) from None
    dropped = {**read.dropped, **merged.dropped, **kept.dropped, **({"a single response": single} if single else {})}
    return Loaded(kept.items, dropped, read.origins)


def judged_answers(rows: Sequence[Row]) -> Loaded[PreferenceGroup]:
    """Answers judged singly: `prompt`, `completion` and `label`, true or false, or a number in [0, 1] (a share of people).

    The rows of one prompt make one group, equal answers one answer with the mean of its labels; its comparisons are those
    that follow from the labels (`comparisons_from_labels`). Nothing is dropped.
    """
    found: dict[Hashable, tuple[Prompt, dict[str, list[float]]]] = {}
    origins: dict[str, Origin] = {}
    for row in rows:
        missing = next((column for column in UNPAIRED if row.values.get(column) is None), None)
        if missing is not None:
            _fail(row, missing, f"is missing or null. A row of single judgements has {', '.join(UNPAIRED)}.")
        try:
            turns = [*_turns(row, "prompt", text_as="user"), *_turns(row, "completion", text_as="assistant")]
        except _Dropped as reason:
            _fail(row, "prompt", f"is a transcript that cannot be read ({reason}). Mend it, or remove the row.")
        messages = _conversation(row, turns, last="assistant")
        prompt = Prompt(_id(row), messages[:-1], _other_columns(row, *UNPAIRED))
        key = contents(prompt.messages)
        known, answers = found.setdefault(key, (prompt, {}))
        origins.setdefault(known.id, Origin(row.file, row.number, row.reading))
        answers.setdefault(answer_text(row, "completion", messages[-1]), []).append(_label(row))
    items = []
    for prompt, answers in found.values():
        labels = tuple(sum(given) / len(given) for given in answers.values())
        items.append(PreferenceGroup(prompt, tuple(answers), comparisons_from_labels(labels), labels))
    if not items:
        raise UserError("there are no rows to learn from.")
    return Loaded(tuple(items), {}, origins)


def unpaired_rows(groups: Iterable[PreferenceGroup]) -> Iterator[dict[str, Any]]:
    """Rows `prompt`, `completion`, `label`, one for each answer that was compared or judged: pairs taken apart.

    A label is true or false where it is certain, else the probability that the answer is desirable (`desirability`).
    """
    for group in groups:
        labels = group.labels or desirability(len(group.responses), group.comparisons)
        for number, (text, p) in enumerate(zip(group.responses, labels, strict=True)):
            if p is not None:
                label = bool(p) if p in (0.0, 1.0) else p
                yield {
                    "id": f"{group.prompt.id}/{number}",
                    "prompt": [dict(m) for m in group.prompt.messages],
                    "completion": [{"role": "assistant", "content": text}],
                    "label": label,
                    **_split_of(group),
                }


def paired_rows(groups: Iterable[PreferenceGroup], *, dropped: Counter[str]) -> Iterator[dict[str, Any]]:
    """Rows `prompt`, `chosen`, `rejected`, with `probability` and `margin` where they say something: one for each comparison
    that has a better side. What cannot be paired is counted in `dropped`."""
    for group in groups:
        decided = [c for c in group.comparisons if c.probability != 0.5]
        dropped["tie"] += len(group.comparisons) - len(decided)
        if not group.comparisons:
            dropped["no answer of the other kind to this prompt"] += 1
        for number, pair in enumerate(decided):
            sides = (pair.first, pair.second) if pair.probability > 0.5 else (pair.second, pair.first)
            p = max(pair.probability, 1.0 - pair.probability)
            chosen, rejected = ([{"role": "assistant", "content": group.responses[i]}] for i in sides)
            row: dict[str, Any] = {
                "id": f"{group.prompt.id}/{number}" if len(decided) > 1 else group.prompt.id,
                "prompt": [dict(m) for m in group.prompt.messages],
                "chosen": chosen,
                "rejected": rejected,
                **_split_of(group),
            }
            yield row | ({"probability": p} if p < 1.0 else {}) | ({"margin": pair.margin} if pair.margin else {})


def _split_of(group: PreferenceGroup) -> dict[str, Any]:
    """The column that says which part a row is of: what is held out stays held out in another form."""
    split = group.prompt.columns.get("split")
    return {} if split is None else {"split": split}


def _of_another_layout(row: Row) -> bool:
    try:
        return bool(layout_of(row))
    except UserError:
        return False


def _mean_votes(item: LabelledItem, scale: float) -> tuple[Comparison, ...]:
    votes: dict[tuple[int, int], list[float]] = {}
    for opinion in item.opinions:
        ranks = opinion.ranks or _ranks_of_ratings(opinion, len(item.candidates))
        strength = opinion.payload.get("strength")
        for c in comparisons_from_ranks(ranks) if ranks is not None else ():
            sure = abs(strength) / scale if strength else 1.0
            votes.setdefault((c.first, c.second), []).append(0.5 + (c.probability - 0.5) * sure)
    return tuple(Comparison(i, j, sum(given) / len(given)) for (i, j), given in sorted(votes.items()))


def _ranks_of_ratings(opinion: Opinion, candidates: int) -> tuple[int, ...] | None:
    """1 for the highest mean; None if no attribute was rated for every candidate."""
    ratings = [r for r in opinion.payload.get("ratings", {}).values() if len(r) == candidates and None not in r]
    if not ratings:
        return None
    means = [sum(r[i] for r in ratings) for i in range(candidates)]
    return tuple(1 + sum(other > mean for other in means) for mean in means)


def _label(row: Row) -> float:
    value = row.values["label"]
    if isinstance(value, bool):
        return float(value)
    if not isinstance(value, int | float) or not math.isfinite(value) or not 0.0 <= value <= 1.0:
        _fail(row, "label", f"must be true, false or a number between 0 and 1, not {_shown(value)}.")
    return float(value)
