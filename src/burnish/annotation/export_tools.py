"""The layouts of annotation tools: Label Studio's tasks, Argilla's records, OpenAI's comparisons.
One item in, rows out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from burnish.annotation.labels import is_ai, opinion_of, prompt_text
from burnish.annotation.records import Labelled
from burnish.annotation.snapshot import Entry, Snapshot
from burnish.labels.votes import ranks_in

Row = dict[str, Any]


def labelstudio(snapshot: Snapshot, entry: Entry, answers: Sequence[Labelled]) -> list[Row]:
    """A task: two candidates as in the pairwise template (`answer1`, `answer2`), more as in the
    ranker's (`items`)."""
    names = [f"answer{i + 1}" for i in range(len(entry.candidates))]
    pair = len(names) == 2
    data: Row = {"prompt": _text(entry)}
    if pair:
        data |= dict(zip(names, entry.candidates, strict=True))
    else:
        data["items"] = [
            {"id": n, "body": text} for n, text in zip(names, entry.candidates, strict=True)
        ]
    annotations = []
    for one in answers:
        result = _labelstudio_result(one, names, pair=pair)
        if result:
            annotations.append(
                {
                    "completed_by": snapshot.pseudonym(one.annotator), "result": result,
                    "was_cancelled": False,
                    "lead_time": one.seconds, "created_at": one.created_at.isoformat(),
                }
            )  # fmt: skip
    return [{"id": entry.item_id, "data": data, "annotations": annotations}] if annotations else []


def _labelstudio_result(one: Labelled, names: Sequence[str], *, pair: bool) -> list[Row]:
    result: list[Row] = []
    ranks = ranks_in(opinion_of(one)) if one.answer.kind != "likert" else None
    if ranks is not None and pair and ranks[0] != ranks[1]:
        side = "left" if ranks[0] < ranks[1] else "right"
        result.append(
            {
                "from_name": "pw",
                "to_name": "answer1,answer2",
                "type": "pairwise",
                "value": {"selected": side},
            }
        )
    elif ranks is not None and not pair:
        order = [names[i] for i in sorted(range(len(names)), key=lambda i: (ranks[i], i))]
        result.append(
            {
                "from_name": "rank",
                "to_name": "items",
                "type": "ranker",
                "value": {"ranker": {"rank": order}},
            }
        )
    for attribute, values in one.answer.ratings.items():
        result += [
            {
                "from_name": attribute,
                "to_name": names[i],
                "type": "rating",
                "value": {"rating": value},
            }
            for i, value in enumerate(values)
            if value is not None
        ]
    if result and one.answer.critique:
        value = {"text": [one.answer.critique]}
        result.append(
            {"from_name": "critique", "to_name": "prompt", "type": "textarea", "value": value}
        )
    return result


def argilla(snapshot: Snapshot, entry: Entry, answers: Sequence[Labelled]) -> list[Row]:
    """A record: `response-1` ... as fields; questions `preference` (a ranking),
    ATTRIBUTE_response-N (ratings) and `critique`.

    People's answers are responses; a model's are suggestions, where there is one for each question.
    """
    names = [f"response-{i + 1}" for i in range(len(entry.candidates))]
    responses: dict[str, list[Row]] = {}
    suggestions: dict[str, Row] = {}
    for one in answers:
        for question, value in _argilla_values(one, names).items():
            who = snapshot.pseudonym(one.annotator)
            if is_ai(one.annotator_kind):
                suggestions.setdefault(question, {"value": value, "agent": who, "score": None})
            else:
                responses.setdefault(question, []).append(
                    {"value": value, "user_id": who, "status": "submitted"}
                )
    if not responses and not suggestions:
        return []
    fields = {"prompt": _text(entry)} | dict(zip(names, entry.candidates, strict=True))
    metadata = {k: v for k, v in entry.prompt.columns.items() if isinstance(v, str | int | float)}
    return [
        {
            "id": entry.item_id, "fields": fields, "metadata": metadata, "responses": responses,
            "suggestions": suggestions,
        }
    ]  # fmt: skip


def _argilla_values(one: Labelled, names: Sequence[str]) -> Row:
    found: Row = {}
    ranks = ranks_in(opinion_of(one)) if one.answer.kind != "likert" else None
    if ranks is not None:
        found["preference"] = [
            {"value": name, "rank": 1 + sum(r < rank for r in ranks)}
            for name, rank in zip(names, ranks, strict=True)
        ]
    for attribute, values in one.answer.ratings.items():
        found |= {
            f"{attribute}_{names[i]}": value for i, value in enumerate(values) if value is not None
        }
    if found and one.answer.critique:
        found["critique"] = one.answer.critique
    return found


def openai(snapshot: Snapshot, entry: Entry, answers: Sequence[Labelled]) -> list[Row]:
    """One row for each annotator who preferred one of two: `info`, `summaries`, `choice`, `worker`.
    Ties have no place there."""
    if len(entry.candidates) != 2:
        return []
    rows = []
    for one in answers:
        ranks = ranks_in(opinion_of(one))
        if ranks is None or ranks[0] == ranks[1]:
            continue
        rows.append(
            {
                "info": {"id": entry.item_id, "prompt": _text(entry)},
                "summaries": [
                    {"text": text, "policy": source, "note": ""}
                    for text, source in zip(entry.candidates, entry.sources, strict=True)
                ],
                "choice": 0 if ranks[0] < ranks[1] else 1,
                "worker": snapshot.pseudonym(one.annotator),
                "extra": {"annotator_kind": one.annotator_kind},
            }
        )
    return rows


def _text(entry: Entry) -> str:
    return prompt_text(entry.prompt.messages)
