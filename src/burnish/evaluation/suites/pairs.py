"""Preference files that reward models are held to: RewardBench 1 and 2, LLMBar, and rows of prompt,
chosen and rejected; and how often a model's scores agree. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from burnish.evaluation.suites.items import Row
from burnish.statistics.paired import clustered_mean
from burnish.statistics.uncertainty import mcnemar_exact

ALL = "all"


@dataclass(frozen=True, slots=True)
class Pairs:
    """A prompt with better and worse answers."""

    id: str
    subset: str
    messages: tuple[Mapping[str, str], ...]
    chosen: tuple[str, ...]
    rejected: tuple[str, ...]


def pairs_of(rows: Sequence[Row]) -> list[Pairs]:
    """The items of a file. Raises UserError for a row without a prompt or answers."""
    return [_pairs(row) for row in rows]


def _pairs(row: Row) -> Pairs:
    named = row.first("id", "key")
    subset = str(row.first("subset", "category", "source") or ALL)
    chosen, rejected = row.first("chosen"), row.first("rejected")
    outputs = (row.first("output_1"), row.first("output_2"))
    if chosen is None and all(isinstance(text, str) for text in outputs):
        label = str(row.first("label"))
        if label not in ("1", "2"):
            raise row.error("label is neither 1 nor 2.", "label")
        chosen, rejected = outputs if label == "1" else outputs[::-1]
    return Pairs(
        str(row.number if named is None else named), subset, _messages(row),
        _answers(row, "chosen", chosen), _answers(row, "rejected", rejected),
    )  # fmt: skip


def _messages(row: Row) -> tuple[Mapping[str, str], ...]:
    prompt = row.first("prompt", "input", "instruction")
    if isinstance(prompt, Sequence) and not isinstance(prompt, str):
        return tuple(prompt)
    return ({"role": "user", "content": row.text("prompt", "input", "instruction")},)


def _answers(row: Row, name: str, found: Any) -> tuple[str, ...]:
    listed: list[Any] = [found] if isinstance(found, str) else list(found or ())
    if listed and isinstance(listed[0], Mapping):
        listed = [listed]  # one answer, as the turns that lead to it
    texts = [_last_text(answer) for answer in listed]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise row.error(f"the column {name} holds no answers.", name)
    return tuple(map(str, texts))


def _last_text(answer: Any) -> Any:
    """An answer's text: itself, or what its last turn says."""
    if not isinstance(answer, list | tuple) or not answer:
        return answer
    last: Any = answer[-1]
    return last.get("content") if isinstance(last, Mapping) else None


def right(chosen: Sequence[float], rejected: Sequence[float]) -> float:
    """1/k where the better answer is among the k that share the highest score, else 0; of several
    better ones all must stand above every worse one (1 or 0)."""
    if len(chosen) > 1:
        return float(min(chosen) > max(rejected))
    top = max(*chosen, *rejected)
    return 1.0 / [*chosen, *rejected].count(top) if chosen[0] == top else 0.0


def accuracies(
    items: Sequence[Pairs], scores: Mapping[str, Sequence[tuple[Sequence[float], Sequence[float]]]]
) -> list[dict[str, Any]]:
    """A row for each subset and for all: of every model the share that it gets right with its
    interval over items, and between every two McNemar's exact p (ties counting as wrong)."""
    subsets = list(dict.fromkeys(item.subset for item in items))
    named = [*subsets, ALL] if subsets != [ALL] else [ALL]
    found = []
    for subset in named:
        places = [i for i, item in enumerate(items) if subset in (ALL, item.subset)]
        marks = {
            name: [right(*own[place]) for place in places] for name, own in scores.items()
        }  # fmt: skip
        groups = [items[place].id for place in places]
        found.append(
            {
                "subset": subset,
                "items": len(places),
                "models": {
                    name: clustered_mean(own, groups=groups).estimate.to_dict()
                    for name, own in marks.items()
                },
                "mcnemar": [
                    {"a": a, "b": b, **_mcnemar(marks[a], marks[b])}
                    for a, b in combinations(marks, 2)
                ],
            }
        )
    return found


def _mcnemar(a: Sequence[float], b: Sequence[float]) -> dict[str, Any]:
    only_a = sum(x == 1.0 != y for x, y in zip(a, b, strict=True))
    only_b = sum(y == 1.0 != x for x, y in zip(a, b, strict=True))
    return {"only_a": only_a, "only_b": only_b, "p": mcnemar_exact(only_a, only_b)}
