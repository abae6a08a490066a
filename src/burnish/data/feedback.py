"""What people said of answers, in whatever layout it comes, as groups: pairs, and answers judged
singly; and back to rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from burnish.data.columns import (
    DROPPED,
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
from burnish.data.layouts import known
from burnish.data.messages import Empty, answer_of
from burnish.data.preferences import (
    comparisons_from_labels,
    desirability,
    informative,
    merge_by_prompt,
)
from burnish.data.sources import Row
from burnish.errors import UserError
from burnish.jsonio import read_object
from burnish.labels.groups import preference_groups as soft_groups
from burnish.labels.soft import LabelOptions
from burnish.labels.traces import answer_turns
from burnish.records import Message, PreferenceGroup, Prompt

UNPAIRED = ("prompt", "completion", "label")


def preference_groups(
    rows: Sequence[Row], options: LabelOptions | None = None, *, drop: Collection[str] = DROPPED
) -> Loaded[PreferenceGroup]:
    """Groups from rows of pairs (`chosen` and `rejected`, see `preference_pairs`), of single
    judgements (`prompt`, `completion`, `label`, see `judged_answers`), or in a layout of
    `burnish.data.labelled` (rankings, ratings, other tools' exports); the first row says which.
    `options` is for the last: rows of pairs bring their probabilities and margins along.

    What a manifest of `burnish annotate export` beside the file says was left out is counted among
    what is dropped.
    """
    rows = [known(row) for row in rows]
    first = rows[0].values if rows else {}
    if all(first.get(column) is not None for column in UNPAIRED):
        loaded = judged_answers(rows, drop=drop)
    elif "chosen" in first or "rejected" in first or not rows or not _of_another_layout(rows[0]):
        loaded = preference_pairs(rows, drop=drop)
    else:
        loaded = voted_groups(rows, options)
    lost = _lost_by_the_export(rows[0].file)
    return replace(loaded, dropped={**loaded.dropped, **lost}) if lost else loaded


def voted_groups(
    rows: Sequence[Row], options: LabelOptions | None = None
) -> Loaded[PreferenceGroup]:
    """Rankings, ratings and pairs that others have labelled, as soft labels: by the formulas that
    an annotation store's answers go through (`burnish.labels.groups.preference_groups`).

    The scale of a strength is the layout's (HelpSteer2: three steps), or stands beside the answer,
    else it is the largest strength that occurs. What says nothing is dropped and counted
    (`informative`).
    """
    read = read_labelled(rows)
    dropped: Counter[str] = Counter()
    groups = soft_groups(read.items, options, dropped=dropped)
    compared = {group.prompt.id for group in groups}
    others = [item for item in read.items if item.prompt.id not in compared]
    dropped["no comparison"] = sum(len(item.candidates) > 1 for item in others)
    dropped["a single response"] = sum(len(item.candidates) == 1 for item in others)
    merged = merge_by_prompt(groups)
    try:
        kept = informative(merged.items)
    except NothingLeft as error:
        raise NothingLeft(error.problem, file=rows[0].file, hint=error.hint) from None
    counts = Counter(read.dropped) + dropped + Counter(merged.dropped) + Counter(kept.dropped)
    return Loaded(kept.items, dict(counts), read.origins)


def judged_answers(
    rows: Sequence[Row], *, drop: Collection[str] = DROPPED
) -> Loaded[PreferenceGroup]:
    """Answers judged singly: `prompt`, `completion` and `label`, true or false, or a number in [0,
    1] (a share of people).

    The rows of one prompt make one group, equal answers one answer with the mean of its labels; its
    comparisons are those that follow from the labels (`comparisons_from_labels`). Nothing is
    dropped but, where `drop` says so, what is empty.
    """
    found: dict[Hashable, tuple[Prompt, dict[str, list[float]]]] = {}
    origins: dict[str, Origin] = {}
    traces: dict[Hashable, dict[str, tuple[Message, ...]]] = {}
    dropped: Counter[str] = Counter()
    for row in rows:
        try:
            prompt, answer = _judged(row)
        except Empty:
            if "empty" not in drop:
                raise
            dropped["empty"] += 1
            continue
        key = contents(prompt.messages)
        first, answers = found.setdefault(key, (prompt, {}))
        origins.setdefault(first.id, Origin(row.file, row.number, row.reading))
        text, turns_of_it = answer_of(row, "completion", answer)
        if turns_of_it:
            traces.setdefault(key, {})[text] = turns_of_it
        answers.setdefault(text, []).append(_label(row))
    items = []
    for key, (prompt, answers) in found.items():
        labels = tuple(sum(given) / len(given) for given in answers.values())
        own = traces.get(key, {})
        items.append(
            PreferenceGroup(prompt, tuple(answers), comparisons_from_labels(labels), labels, own)
        )
    if not items:
        raise UserError("there are no rows to learn from.")
    return Loaded(tuple(items), dict(dropped), origins)


def _judged(row: Row) -> tuple[Prompt, tuple[Message, ...]]:
    """The prompt of a row that judges one answer, and the turns of the answer."""
    missing = next((column for column in UNPAIRED if row.values.get(column) is None), None)
    if missing is not None:
        problem = f"is missing or null. A row of single judgements has {', '.join(UNPAIRED)}."
        _fail(row, missing, problem, error=Empty if missing in row.values else UserError)
    try:
        asked = _turns(row, "prompt", text_as="user")
        turns = [*asked, *_turns(row, "completion", text_as="assistant")]
    except _Dropped as reason:
        _fail(
            row,
            "prompt",
            f"is a transcript that cannot be read ({reason}). Mend it, or remove the row.",
        )
    messages = _conversation(row, turns, last="assistant")
    # A completion that ends in a conversation's last turn is answered by that turn; one that calls
    # tools is a trace.
    alone = any(message["role"] == "user" for message in messages[len(asked) :])
    cut = len(messages) - 1 if alone else len(asked)
    return Prompt(_id(row), messages[:cut], _other_columns(row, *UNPAIRED)), messages[cut:]


def unpaired_rows(groups: Iterable[PreferenceGroup]) -> Iterator[dict[str, Any]]:
    """Rows `prompt`, `completion`, `label`, one for each answer that was compared or judged: pairs
    taken apart.

    A label is true or false where it is certain, else the probability that the answer is desirable
    (`desirability`).
    """
    for group in groups:
        labels = group.labels or desirability(len(group.responses), group.comparisons)
        for number, (text, p) in enumerate(zip(group.responses, labels, strict=True)):
            if p is not None:
                label = bool(p) if p in (0.0, 1.0) else p
                yield {
                    "id": f"{group.prompt.id}/{number}",
                    "prompt": [dict(m) for m in group.prompt.messages],
                    "completion": answer_turns(text, group.traces),
                    "label": label,
                    **_split_of(group),
                }


def paired_rows(
    groups: Iterable[PreferenceGroup], *, dropped: Counter[str]
) -> Iterator[dict[str, Any]]:
    """Rows `prompt`, `chosen`, `rejected`, with `probability` and `margin` where they say
    something: one for each comparison that has a better side. What cannot be paired is counted in
    `dropped`."""
    for group in groups:
        decided = [c for c in group.comparisons if c.probability != 0.5]
        dropped["tie"] += len(group.comparisons) - len(decided)
        if not group.comparisons:
            dropped["no answer of the other kind to this prompt"] += 1
        for number, pair in enumerate(decided):
            sides = (
                (pair.first, pair.second) if pair.probability > 0.5 else (pair.second, pair.first)
            )
            p = max(pair.probability, 1.0 - pair.probability)
            chosen, rejected = (answer_turns(group.responses[i], group.traces) for i in sides)
            row: dict[str, Any] = {
                "id": f"{group.prompt.id}/{number}" if len(decided) > 1 else group.prompt.id,
                "prompt": [dict(m) for m in group.prompt.messages],
                "chosen": chosen,
                "rejected": rejected,
                **_split_of(group),
            }
            yield (
                row
                | ({"probability": p} if p < 1.0 else {})
                | ({"margin": pair.margin} if pair.margin else {})
            )


def _split_of(group: PreferenceGroup) -> dict[str, Any]:
    """The column that says which part a row is of: what is held out stays held out in another
    form."""
    split = group.prompt.columns.get("split")
    return {} if split is None else {"split": split}


def _lost_by_the_export(file: str) -> dict[str, int]:
    """Comparisons of the project that the layout of an export could not hold, where its manifest
    lies beside it."""
    try:
        manifest = read_object(Path(f"{file}.manifest.json"), hint="")
        counted = manifest["comparisons"]["project"] - manifest["comparisons"]["file"]
    except (OSError, UserError, KeyError, TypeError):
        return {}
    layout = manifest.get("layout")
    return (
        {f"comparison that the layout {layout} could not hold when it was exported": counted}
        if counted
        else {}
    )


def _of_another_layout(row: Row) -> bool:
    try:
        return bool(layout_of(row))
    except UserError:
        return False


def _label(row: Row) -> float:
    value = row.values["label"]
    if isinstance(value, bool):
        return float(value)
    if not isinstance(value, int | float) or not math.isfinite(value) or not 0.0 <= value <= 1.0:
        _fail(
            row, "label", f"must be true, false or a number between 0 and 1, not {_shown(value)}."
        )
    return float(value)
