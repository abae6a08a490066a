"""Labels for other tools: rows in a layout, and the bytes of a file with a manifest. The same project gives the same bytes.

An export carries a version, a content hash, and who voted how under pseudonyms (`Snapshot.pseudonym`): in the layouts that
have a place for annotators there, else in a column `votes`.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from burnish.annotation.aggregation import reliabilities
from burnish.annotation.export_tools import argilla, labelstudio, openai
from burnish.annotation.labels import (
    SPEAKERS,
    LabelOptions,
    answer_votes,
    comparisons,
    data_answers,
    demonstration_data,
    is_ai,
    preference_data,
    prompt_text,
)
from burnish.annotation.records import Labelled
from burnish.annotation.snapshot import Entry, Snapshot
from burnish.errors import UserError
from burnish.jsonio import dumps, undefined_as_null

LAYOUT_VERSION = 1
"""Goes up when a layout's columns change."""
FILE_KINDS = (".jsonl", ".json", ".parquet")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Export:
    """The rows, and the manifest that goes beside them. `left_out` counts items that the layout cannot hold, by reason."""

    rows: tuple[Row, ...]
    manifest: Mapping[str, Any]

    def data(self, file_kind: str) -> bytes:
        """The bytes of a .jsonl, .json or .parquet file. Raises UserError for another kind, and for no rows at all."""
        if not self.rows:
            reasons = ", ".join(f"{count} {why}" for why, count in self.manifest["left_out"].items()) or "no labels yet"
            raise UserError(f"there is nothing to export ({reasons}).")
        if file_kind == ".jsonl":
            return "".join(_line(row) + "\n" for row in self.rows).encode("utf-8", "surrogatepass")
        if file_kind == ".json":
            return ("[\n" + ",\n".join(_line(row) for row in self.rows) + "\n]\n").encode("utf-8", "surrogatepass")
        if file_kind == ".parquet":
            return _parquet(self.rows, self.manifest)
        raise UserError(f'"{file_kind}" is no kind of file that is written. There are {", ".join(FILE_KINDS)}.')


@dataclass(slots=True)
class _Work:
    """What the layouts share: the snapshot, its answers that count, by item."""

    snapshot: Snapshot
    options: LabelOptions
    answers: list[Labelled]
    by_item: dict[str, list[Labelled]] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)

    def votes(self, item_id: str) -> list[Row]:
        """Who said what of an item."""
        return [vote_row(self.snapshot, one) for one in self.by_item.get(item_id, ())]


def export(snapshot: Snapshot, layout: str, options: LabelOptions | None = None) -> Export:
    """The labels of a project in a layout of `LAYOUTS`. Raises UserError for another.

    The snapshot needs its pseudonym key (`snapshot.with_key`).
    """
    if layout not in LAYOUTS:
        raise UserError(f'there is no layout "{layout}". There are: {", ".join(LAYOUTS)}.', field="format")
    if not snapshot.key:
        raise ValueError("a snapshot without a pseudonym key cannot be exported")
    options = options or LabelOptions()
    work = _Work(snapshot, options, data_answers(snapshot, human_share=options.human_share))
    for one in work.answers:
        work.by_item.setdefault(one.item_id, []).append(one)
    rows = tuple(LAYOUTS[layout](work))
    return Export(rows, _manifest(work, layout, rows))


def vote_row(snapshot: Snapshot, one: Labelled) -> Row:
    """One annotator's answer under a pseudonym, as the column `votes` holds it."""
    kept = {name: value for name, value in one.answer.payload().items() if name not in ("text", "turns")}
    said: Row = {
        "annotator": snapshot.pseudonym(one.annotator),
        "annotator_kind": one.annotator_kind,
        "kind": one.answer.kind,
        "source": one.source,
        "presented": list(one.answer.presented),
        "ranks": None if one.answer.ranks is None else list(one.answer.ranks),
    }
    return said | kept


def _burnish(work: _Work) -> list[Row]:
    rows = []
    for entry in work.snapshot.entries:
        if entry.part != "work" or entry.gold is not None:
            work.left_out["items for training or testing annotators"] += 1
            continue
        answers = []
        for one in work.by_item.get(entry.item_id, ()):
            more = {"seconds": one.seconds, "created_at": one.created_at.isoformat()}
            answers.append(vote_row(work.snapshot, one) | one.answer.payload() | more)
        rows.append(
            {
                "item_id": entry.item_id, "kind": entry.kind, "messages": _messages(entry), "columns": dict(entry.prompt.columns),
                "candidates": list(entry.candidates), "sources": list(entry.sources), "answers": answers,
            }
        )  # fmt: skip
    return rows


def _pairs(work: _Work) -> list[tuple[Any, Any, str, str]]:
    """(group, comparison, chosen, rejected) of every comparison that prefers a side."""
    found = []
    for group in preference_data(work.snapshot, work.options):
        for pair in group.comparisons:
            if pair.probability == 0.5:
                work.left_out["undecided pairs"] += 1
                continue
            better, worse = (pair.first, pair.second) if pair.probability > 0.5 else (pair.second, pair.first)
            found.append((group, pair, group.responses[better], group.responses[worse]))
    return found


def _label_columns(work: _Work, group: Any, pair: Any) -> Row:
    return {
        "probability": round(max(pair.probability, 1.0 - pair.probability), 6),
        **({"margin": round(pair.margin, 6)} if work.options.strength == "margin" else {}),
        "votes": work.votes(_item_of(work, group.prompt.id)),
    }


def _item_of(work: _Work, name: str) -> str:
    """The item that a group's prompt is of: a later turn of a chat, and a second group, have more behind a "/"."""
    while name not in work.snapshot.by_id and "/" in name:
        name = name.rpartition("/")[0]
    return name


def _paired(work: _Work) -> list[Row]:
    return [
        {
            "id": f"{group.prompt.id}#{pair.first}-{pair.second}" if len(group.comparisons) > 1 else group.prompt.id,
            "prompt": [dict(m) for m in group.prompt.messages],
            "chosen": [{"role": "assistant", "content": chosen}],
            "rejected": [{"role": "assistant", "content": rejected}],
            **_label_columns(work, group, pair),
        }
        for group, pair, chosen, rejected in _distinct_ids(_pairs(work))
    ]


def _distinct_ids(pairs: Sequence[tuple[Any, Any, str, str]]) -> list[tuple[Any, Any, str, str]]:
    """Several groups may go by one prompt's id (an item's votes, and its correction); later ones get a number."""
    from dataclasses import replace

    seen: dict[str, int] = {}
    known: dict[int, Any] = {}
    found = []
    for group, pair, chosen, rejected in pairs:
        if id(group) not in known:
            number = seen[group.prompt.id] = seen.get(group.prompt.id, 0) + 1
            new = group.prompt if number == 1 else replace(group.prompt, id=f"{group.prompt.id}/{number}")
            known[id(group)] = replace(group, prompt=new)
        found.append((known[id(group)], pair, chosen, rejected))
    return found


def _hh(work: _Work) -> list[Row]:
    rows = []
    for group, pair, chosen, rejected in _pairs(work):
        messages = group.prompt.messages
        if any(m["role"] == "system" for m in messages):
            work.left_out["pairs with a system turn"] += 1
        elif any(
            "\n\nHuman:" in text or "\n\nAssistant:" in text
            for text in (chosen, rejected, *(m["content"] for m in messages))
        ):
            work.left_out["pairs whose text holds a turn marker"] += 1
        else:
            start = "".join(f"\n\n{SPEAKERS[m['role']]}: {m['content']}" for m in messages)
            sides = {"chosen": f"{start}\n\nAssistant: {chosen}", "rejected": f"{start}\n\nAssistant: {rejected}"}
            rows.append(sides | _label_columns(work, group, pair))
    return rows


def _unpaired(work: _Work) -> list[Row]:
    """An answer is desirable if it wins more than half of what it was compared in, or its mean rating is above the middle
    of the scale; not if less; and not if most annotators said that both are bad. Exactly half says nothing."""
    rows = []
    wins = _win_shares(work)
    scales = {attribute.name: (attribute.low + attribute.high) / 2 for attribute in work.snapshot.settings.attributes}
    for entry in work.snapshot.entries:
        answers = work.by_item.get(entry.item_id, [])
        bad = sum(one.answer.both_bad for one in answers) * 2 > len(answers)
        for i, text in enumerate(entry.candidates):
            share = 0.0 if bad and answers else wins.get((entry.item_id, i))
            if share is None:
                share = _rated(answers, i, scales)
            if share is None or share == 0.5:
                work.left_out["candidates without a verdict"] += 1
                continue
            rows.append(
                {
                    "id": f"{entry.item_id}#{i}", "prompt": _messages(entry),
                    "completion": [{"role": "assistant", "content": text}], "label": share > 0.5,
                    "votes": work.votes(entry.item_id),
                }
            )  # fmt: skip
    return rows


def _ranking(work: _Work) -> list[Row]:
    wins, rows = _win_shares(work), []
    for entry in work.snapshot.entries:
        shares = [wins.get((entry.item_id, i)) for i in range(len(entry.candidates))]
        known = [share for share in shares if share is not None]
        if len(known) < 2 or len(known) < len(shares):
            work.left_out["items that are not ranked"] += 1
            continue
        ranks = [1 + sum(other > share + 1e-9 for other in known) for share in known]
        rows.append(
            {
                "id": entry.item_id, "prompt": _messages(entry), "responses": list(entry.candidates), "ranks": ranks,
                "sources": list(entry.sources), "votes": work.votes(entry.item_id),
            }
        )  # fmt: skip
    return rows


def _ultrafeedback(work: _Work) -> list[Row]:
    rows = []
    for entry in work.snapshot.entries:
        means = _mean_ratings(work.by_item.get(entry.item_id, []), len(entry.candidates))
        if not means:
            work.left_out["items that are not rated"] += 1
            continue
        completions = []
        for i, text in enumerate(entry.candidates):
            known = [value for values in means.values() if (value := values[i]) is not None]
            completions.append(
                {
                    "model": entry.sources[i], "response": text,
                    "annotations": {
                        name: {"Rating": "N/A" if values[i] is None else str(round(values[i] or 0.0)), "Rationale": ""}
                        for name, values in means.items()
                    },
                    "overall_score": round(sum(known) / len(known), 4) if known else None,
                }
            )  # fmt: skip
        rows.append(
            {
                "id": entry.item_id, "instruction": prompt_text(entry.prompt.messages), "completions": completions,
                "votes": work.votes(entry.item_id),
            }
        )  # fmt: skip
    return rows


def _helpsteer(work: _Work) -> list[Row]:
    rows = []
    for entry in work.snapshot.entries:
        means = _mean_ratings(work.by_item.get(entry.item_id, []), len(entry.candidates))
        if not means:
            work.left_out["items that are not rated"] += 1
        for i, text in enumerate(entry.candidates if means else ()):
            rated = {name: None if values[i] is None else round(values[i] or 0.0) for name, values in means.items()}
            row = {"id": entry.item_id, "prompt": prompt_text(entry.prompt.messages), "response": text}
            rows.append(row | rated | {"votes": work.votes(entry.item_id)})
    return rows


def _helpsteer2_preference(work: _Work) -> list[Row]:
    """Strengths −3 to 3, negative where response 1 is better: ours (k steps a side) scaled to three, its sign turned."""
    scale, rows = work.snapshot.settings.strength, []
    for entry in work.snapshot.entries:
        said = [one for one in work.by_item.get(entry.item_id, []) if one.answer.strength is not None]
        if len(entry.candidates) != 2 or not said:
            work.left_out["items that are not judged in pairs"] += 1
            continue
        single = [
            {
                "strength": _three(one.answer.strength or 0, scale), "statement": one.answer.critique,
                "annotator": work.snapshot.pseudonym(one.annotator), "annotator_kind": one.annotator_kind,
            }
            for one in said
        ]  # fmt: skip
        mean = sum(one["strength"] for one in single) / len(single)
        rows.append(
            {
                "id": entry.item_id, "prompt": prompt_text(entry.prompt.messages),
                "response_1": entry.candidates[0], "response_2": entry.candidates[1],
                "preference_strength": round(mean), "all_preferences_unprocessed": single,
            }
        )  # fmt: skip
    return rows


def _demonstrations(work: _Work) -> list[Row]:
    found = demonstration_data(work.snapshot, human_share=work.options.human_share)
    return [{"id": one.id, "messages": [dict(m) for m in one.messages]} for one in found]


def _tool(write: Callable[[Snapshot, Entry, Sequence[Labelled]], list[Row]]) -> Callable[[_Work], list[Row]]:
    def rows(work: _Work) -> list[Row]:
        found = []
        for entry in work.snapshot.entries:
            made = write(work.snapshot, entry, work.by_item.get(entry.item_id, []))
            if not made:
                work.left_out["items without labels of a kind that the layout holds"] += 1
            found += made
        return found

    return rows


LAYOUTS: Mapping[str, Callable[[_Work], list[Row]]] = {
    "burnish": _burnish,
    "paired": _paired,
    "hh": _hh,
    "unpaired": _unpaired,
    "ranking": _ranking,
    "demonstrations": _demonstrations,
    "ultrafeedback": _ultrafeedback,
    "helpsteer": _helpsteer,
    "helpsteer2-preference": _helpsteer2_preference,
    "labelstudio": _tool(labelstudio),
    "argilla": _tool(argilla),
    "openai": _tool(openai),
}


def _manifest(work: _Work, layout: str, rows: Sequence[Row]) -> Row:
    snapshot = work.snapshot
    trust = reliabilities(answer_votes(data_answers(snapshot), scale=snapshot.settings.strength))
    counts = Counter((one.annotator, one.annotator_kind) for one in work.answers)
    content = hashlib.sha256("".join(_line(row) + "\n" for row in rows).encode("utf-8", "surrogatepass")).hexdigest()
    machine = sum(is_ai(one.annotator_kind) for one in work.answers)
    people = {
        snapshot.pseudonym(name): {
            "kind": kind, "labels": count, "reliability": round(trust[name], 4) if name in trust else None,
        }
        for (name, kind), count in counts.items()
    }  # fmt: skip
    return {
        "layout": layout,
        "version": f"{LAYOUT_VERSION}.{len(work.answers)}",
        "content_hash": content,
        "project_hash": snapshot.content_hash(),
        "project": snapshot.project,
        "options": asdict(work.options),
        "rows": len(rows),
        "labels": len(work.answers),
        "human_labels": len(work.answers) - machine,
        "ai_labels": machine,
        "left_out": dict(sorted(work.left_out.items())),
        "annotators": dict(sorted(people.items())),
    }


def _win_shares(work: _Work) -> dict[tuple[str, int], float]:
    """Of each candidate, the mean probability of being better than those it was compared with."""
    answers = work.answers
    scale = work.snapshot.settings.strength
    found = answer_votes(answers, scale=scale)
    trust = reliabilities(answer_votes(data_answers(work.snapshot), scale=scale)) if work.options.weighted else None
    sums: dict[tuple[str, int], list[float]] = {}
    for (item, first, second), label in comparisons(found, trust, work.options).items():
        sums.setdefault((item, first), []).append(label.probability)
        sums.setdefault((item, second), []).append(1.0 - label.probability)
    return {key: sum(values) / len(values) for key, values in sums.items()}


def _mean_ratings(answers: Sequence[Labelled], candidates: int) -> dict[str, list[float | None]]:
    """By attribute, each candidate's mean rating over annotators."""
    names = dict.fromkeys(name for one in answers for name in one.answer.ratings)
    found: dict[str, list[float | None]] = {}
    for name in names:
        given = [one.answer.ratings[name] for one in answers if name in one.answer.ratings]
        columns = [[row[i] for row in given if i < len(row) and row[i] is not None] for i in range(candidates)]
        found[name] = [sum(v for v in col if v is not None) / len(col) if col else None for col in columns]
    return found


def _rated(answers: Sequence[Labelled], candidate: int, middles: Mapping[str, float]) -> float | None:
    """1, 0 or ½ as the mean rating lies above, below or on the middle of its scale; an unknown scale's middle is ½."""
    sides = [
        value - middles.get(name, 0.5)
        for one in answers
        for name, values in one.answer.ratings.items()
        if candidate < len(values) and (value := values[candidate]) is not None
    ]
    mean = sum(sides) / len(sides) if sides else None
    return None if mean is None else 0.5 if mean == 0 else float(mean > 0)


def _three(strength: int, scale: int) -> int:
    """A strength of `scale` steps on HelpSteer2's three, its sign turned; a preference stays one."""
    if strength == 0:
        return 0
    size = max(1, round(abs(strength) * 3 / scale))
    return -size if strength > 0 else size


def _messages(entry: Entry) -> list[Row]:
    return [dict(message) for message in entry.prompt.messages]


def _line(row: Row) -> str:
    return dumps(undefined_as_null(row), compact=True, default=str)


def _parquet(rows: Sequence[Row], manifest: Mapping[str, Any]) -> bytes:
    """Columns whose values have no common type are JSON text; the manifest is in the schema's metadata (key `burnish`)."""
    import pyarrow
    from pyarrow import parquet

    names = dict.fromkeys(name for row in rows for name in row)
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        try:
            made = pyarrow.array(values)
            if _holds_empty_struct(made.type):  # Parquet has no struct without fields
                raise pyarrow.ArrowInvalid
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):
            made = pyarrow.array([dumps(undefined_as_null(value)) for value in values])
        columns[name] = made
    table = pyarrow.table(columns).replace_schema_metadata(
        {"burnish": dumps(undefined_as_null(manifest), sort_keys=True)}
    )
    target = io.BytesIO()
    parquet.write_table(table, target, compression="zstd")
    return target.getvalue()


def _holds_empty_struct(kind: Any) -> bool:
    import pyarrow

    if pyarrow.types.is_struct(kind):
        return kind.num_fields == 0 or any(_holds_empty_struct(kind.field(i).type) for i in range(kind.num_fields))
    return pyarrow.types.is_list(kind) and _holds_empty_struct(kind.value_type)
