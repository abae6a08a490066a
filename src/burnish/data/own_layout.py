"""Items as `burnish annotate export` writes them, in its own layout or beside another tool's, with
every answer whole."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from burnish.data.columns import _conversation, _fail, _shown, _turns, as_json
from burnish.data.labelled_fields import (
    _moment,
    _name,
    _numbers,
    _object,
    _objects,
    _objects_in,
    _remark,
    _seconds,
    _texts,
    _whole,
)
from burnish.data.sources import Row
from burnish.labels.traces import trace_text
from burnish.records import LabelledItem, Message, Opinion, Prompt

_COLUMNS = {
    "kind", "annotator", "annotator_kind", "ranks", "seconds", "created_at", "presented", "source",
    "scale", "reliability", "version",
}  # fmt: skip


def named_item(row: Row) -> str | None:
    """The id of the item that a row carries, or says that another row carries; None: the row is
    another tool's alone."""
    carried = _carried(row)
    name = None if carried is None else carried.get("item_id")
    return None if name is None else str(name)


def own_item(row: Row) -> LabelledItem | None:
    """The item that a row of another tool's layout carries; None where it carries none."""
    carried = _carried(row)
    if carried is None or "answers" not in carried:
        return None
    lacking = next(
        (name for name in ("item_id", "messages", "candidates") if carried.get(name) is None), None
    )
    if lacking is not None:
        _fail(row, f"burnish.{lacking}", "is missing. Export the file anew, or remove the column.")
    return read_item(Row(row.file, row.number, carried, row.key), "imported")


def read_item(row: Row, annotator: str) -> LabelledItem:
    """A row of our own layout."""
    values = {name: _parsed(row, name, value) for name, value in row.values.items()}
    inner = Row(row.file, row.number, values, row.key)
    form = str(values.get("kind") or "")
    columns = as_json(row, _object(row, "columns", values.get("columns")))
    prompt = Prompt(_name(row, "item_id", values["item_id"]), _messages(inner, form), columns)
    texts = _texts(inner, "candidates", least=0)
    opinions = tuple(
        _opinion(row, f"answers[{i}]", one, texts, annotator)
        for i, one in enumerate(_objects(inner, "answers", least=0))
    )
    given = values.get("sources") or [""] * len(texts)
    if not isinstance(given, list) or len(given) != len(texts):
        _fail(row, "sources", f"must be a list of {len(texts)} names, one for each candidate.")
    sources = tuple(_remark(row, f"sources[{i}]", one) for i, one in enumerate(given))
    return LabelledItem(prompt, texts, sources, opinions, form, _traces(inner, texts))


def _traces(row: Row, texts: tuple[str, ...]) -> dict[str, tuple[Message, ...]]:
    """The turns of the candidates that are more than a text: the column `traces` has a list of
    messages, or null, for each."""
    given = row.values.get("traces")
    if given is None:
        return {}
    if not isinstance(given, list) or len(given) != len(texts):
        _fail(
            row,
            "traces",
            f"must be a list of {len(texts)}, a list of messages or null for each candidate.",
        )
    found = {}
    for i, text in enumerate(texts):
        if given[i]:
            column = f"traces[{i}]"
            turns = _turns(Row(row.file, row.number, {column: given[i]}, row.key), column)
            found[text] = tuple(message for _, message in turns)
            if trace_text(found[text]) != text:
                _fail(
                    row, column, f"says something else than candidates[{i}]. Export the file anew."
                )
    return found


def _carried(row: Row) -> Mapping[str, Any] | None:
    """The column `burnish`, or what stands under that name in the place that a tool has for what is
    not its own."""
    places = [row.values, *(_parsed(row, name, row.values.get(name)) for name in ("meta", "extra"))]
    for place in places:
        given = (
            _parsed(row, "burnish", place.get("burnish")) if isinstance(place, Mapping) else None
        )
        if isinstance(given, Mapping):
            return given
    return None


def _parsed(row: Row, name: str, value: Any) -> Any:
    """What a Parquet file keeps as JSON text, read; anything else as it is."""
    if name not in ("answers", "burnish", "columns", "extra", "meta", "traces") or not isinstance(
        value, str
    ):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        _fail(row, name, f"must be JSON, not {_shown(value)}.")


def _messages(row: Row, form: str) -> tuple[Message, ...]:
    """A conversation that ends with the user; that of a chat may be empty, or hold the system's
    turn alone."""
    if form == "chat" and not row.values["messages"]:
        return ()
    turns = _turns(row, "messages")
    last = turns[-1][1]["role"] if form == "chat" else "user"
    return (
        _conversation(row, turns, last=last)
        if last != "system"
        else tuple(message for _, message in turns)
    )


def _opinion(
    row: Row, field: str, one: Mapping[str, Any], texts: tuple[str, ...], annotator: str
) -> Opinion:
    count, ranks, shown_as, scale = (
        len(texts),
        one.get("ranks"),
        one.get("presented"),
        one.get("scale"),
    )
    if scale is not None and not 1 <= _whole(row, f"{field}.scale", scale) <= 10:
        _fail(row, f"{field}.scale", f"must lie between 1 and 10, not {_shown(scale)}.")
    return Opinion(
        str(one.get("kind", "ranking")),
        _name(row, f"{field}.annotator", one.get("annotator") or annotator),
        None if ranks is None else _numbers(row, f"{field}.ranks", ranks, count),
        _payload(row, field, one, count),
        str(one.get("annotator_kind", "person")),
        _seconds(row, f"{field}.seconds", one.get("seconds")),
        _moment(one.get("created_at")),
        None if shown_as is None else _numbers(row, f"{field}.presented", shown_as, count, least=0),
        str(one.get("source", "label")),
        None if scale is None else int(scale),
        _reliability(row, f"{field}.reliability", one.get("reliability")),
    )


def _reliability(row: Row, field: str, value: Any) -> float | None:
    if value is None:
        return None
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or not 0 < value < 1
    ):
        _fail(row, field, f"must be a number between 0 and 1, not {_shown(value)}.")
    return float(value)


def _payload(row: Row, field: str, one: Mapping[str, Any], count: int) -> dict[str, Any]:
    """What an answer holds beside its columns. What labels are made of is checked; the rest is
    kept."""
    given = {
        name: value for name, value in one.items() if name not in _COLUMNS and value is not None
    }
    payload = as_json(row, given)
    if "strength" in payload:
        payload["strength"] = _whole(row, f"{field}.strength", payload["strength"])
    if "ratings" in payload:
        ratings = _object(row, f"{field}.ratings", payload["ratings"])
        payload["ratings"] = {
            name: _ratings(row, f"{field}.ratings.{name}", ratings[name], count) for name in ratings
        }
    if "preferences" in payload:
        given = _object(row, f"{field}.preferences", payload["preferences"])
        payload["preferences"] = {
            n: _whole(row, f"{field}.preferences.{n}", value) for n, value in given.items()
        }
    for name in ("text", "critique"):
        if name in payload:
            payload[name] = _remark(row, f"{field}.{name}", payload[name])
    if "corrected" in payload:
        payload["corrected"] = _position(row, f"{field}.corrected", payload["corrected"], count)
    for name in ("best", "worst"):
        if name in payload:
            payload[name] = _position(row, f"{field}.{name}", payload[name], count)
    if "verdicts" in payload:
        _check_verdicts(row, f"{field}.verdicts", payload, count)
    if "step_verdicts" in payload:
        _check_step_verdicts(row, f"{field}.step_verdicts", payload["step_verdicts"], count)
    turns = _objects_in(row, f"{field}.turns", payload.get("turns"))
    if turns:
        payload["turns"] = [_turn(row, f"{field}.turns[{i}]", turn) for i, turn in enumerate(turns)]
    return payload


def _ratings(row: Row, field: str, values: Any, count: int) -> tuple[int | None, ...]:
    if not isinstance(values, list) or len(values) != count:
        _fail(row, field, f"must be a list of {count} ratings, one for each candidate.")
    read = (
        None if value is None else _whole(row, f"{field}[{i}]", value)
        for i, value in enumerate(values)
    )
    return tuple(read)


def _check_verdicts(row: Row, field: str, payload: Mapping[str, Any], count: int) -> None:
    """True or false by criterion and candidate, a weight for each criterion, one above 0."""
    rows, weights = payload["verdicts"], payload.get("weights")
    if not isinstance(rows, list) or any(
        not isinstance(one, list) or len(one) != count or not all(isinstance(v, bool) for v in one)
        for one in rows
    ):
        _fail(row, field, f"must be lists of {count} times true or false, one for each criterion.")
    known = isinstance(weights, list) and len(weights) == len(rows)
    if not known or not all(
        isinstance(w, int | float) and not isinstance(w, bool) and math.isfinite(w)
        for w in weights or ()
    ):
        _fail(row, field, f"needs `weights`: {len(rows)} numbers, one for each criterion.")
    if not any(w > 0 for w in weights or ()):
        _fail(row, field, "needs a weight above 0.")


def _check_step_verdicts(row: Row, field: str, rows: Any, count: int) -> None:
    """By candidate and step 1, 0, −1 or null."""
    known = isinstance(rows, list) and len(rows) == count
    if not known or any(
        not isinstance(one, list)
        or any(v is not None and (isinstance(v, bool) or v not in (-1, 0, 1)) for v in one)
        for one in rows
    ):
        _fail(row, field, f"must be {count} lists of 1, 0, -1 or null, one for each candidate.")


def _position(row: Row, field: str, value: Any, count: int) -> int:
    position = _whole(row, field, value)
    if not 0 <= position < count:
        _fail(row, field, f"must lie between 0 and {count - 1}, not {_shown(value)}.")
    return position


def _turn(row: Row, field: str, turn: Mapping[str, Any]) -> dict[str, Any]:
    candidates = turn.get("candidates")
    if (
        not isinstance(candidates, list)
        or not candidates
        or not all(isinstance(text, str) for text in candidates)
    ):
        _fail(row, f"{field}.candidates", "must be a list of texts.")
    count = len(candidates)
    shown_as = turn.get("presented")
    return {
        "user": _remark(row, f"{field}.user", turn.get("user")),
        "candidates": [_remark(row, f"{field}.candidates", text) for text in candidates],
        "presented": list(
            _numbers(row, f"{field}.presented", shown_as or list(range(count)), count, least=0)
        ),
        "strength": _whole(row, f"{field}.strength", turn.get("strength")),
        "chosen": _position(row, f"{field}.chosen", turn.get("chosen"), count),
        "both_bad": bool(turn.get("both_bad", False)),
    }
