"""Labels for other tools: rows in a layout, and the bytes of a file with a manifest. The same
project gives the same bytes.

An export carries a version, a content hash, and who voted how under pseudonyms
(`Snapshot.pseudonym`). What Burnish reads back gives the labels of the store again; what a layout
has no place for is said in the manifest (`cannot_hold`).
"""

from __future__ import annotations

import hashlib
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from burnish.annotation.export_layouts import LAYOUTS
from burnish.annotation.export_work import Row, Work
from burnish.annotation.labels import LabelOptions, check_dimension, is_ai
from burnish.annotation.snapshot import Snapshot
from burnish.annotation.tables import IMAGE_NAME
from burnish.errors import UserError
from burnish.jsonio import dumps, undefined_as_null

__all__ = ["FILE_KINDS", "LAYOUTS", "Export", "export"]

_IMAGE = re.compile(rf"\bimage:({IMAGE_NAME})\b")
_IMAGES = "images: texts name them (image:NAME); the server has their bytes under /images/NAME"
LAYOUT_VERSION = 2
"""Goes up when a layout's columns change."""
FILE_KINDS = (".jsonl", ".json", ".parquet")

_AS_TEXT = ("answers", "burnish", "columns", "meta", "traces", "votes")
"""Columns whose values have other keys in every row: in Parquet JSON text, since a table would give
each row all keys."""


@dataclass(frozen=True, slots=True)
class Export:
    """The rows, and the manifest that goes beside them. `left_out` counts items that the layout
    cannot hold, by reason."""

    rows: tuple[Row, ...]
    manifest: Mapping[str, Any]

    def data(self, file_kind: str) -> bytes:
        """The bytes of a .jsonl, .json or .parquet file. Raises UserError for another kind, and for
        no rows at all."""
        if not self.rows:
            reasons = (
                ", ".join(f"{count} {why}" for why, count in self.manifest["left_out"].items())
                or "no labels yet"
            )
            raise UserError(f"there is nothing to export ({reasons}).")
        if file_kind == ".jsonl":
            return _lines(self.rows).encode("utf-8", "surrogatepass")
        if file_kind == ".json":
            return ("[\n" + ",\n".join(_line(row) for row in self.rows) + "\n]\n").encode(
                "utf-8", "surrogatepass"
            )
        if file_kind == ".parquet":
            return _parquet(self.rows, self.manifest)
        raise UserError(
            f'"{file_kind}" is no kind of file that is written. There are {", ".join(FILE_KINDS)}.'
        )


def export(snapshot: Snapshot, layout: str, options: LabelOptions | None = None) -> Export:
    """The labels of a project in a layout of `LAYOUTS`. Raises UserError for another.

    The snapshot needs its pseudonym key (`snapshot.with_key`).
    """
    if layout not in LAYOUTS:
        raise UserError(
            f'there is no layout "{layout}". There are: {", ".join(LAYOUTS)}.', field="format"
        )
    if not snapshot.key:
        raise ValueError("a snapshot without a pseudonym key cannot be exported")
    work = Work(snapshot, options or LabelOptions())
    check_dimension(snapshot, work.options.dimension)
    rows = tuple(LAYOUTS[layout].write(work))
    return Export(rows, _manifest(work, layout, rows))


def _manifest(work: Work, layout: str, rows: Sequence[Row]) -> Row:
    snapshot = work.snapshot
    counts = Counter((one.annotator, one.annotator_kind) for one in work.answers)
    lines = _lines(rows)
    pictures = sorted({*_IMAGE.findall(lines)})
    machine = sum(is_ai(one.annotator_kind) for one in work.answers)
    trust = work.reliability
    people = {
        snapshot.pseudonym(name): {
            "kind": kind,
            "labels": count,
            "reliability": round(trust[name], 4) if name in trust else None,
        }
        for (name, kind), count in counts.items()
    }
    return {
        "layout": layout,
        "version": f"{LAYOUT_VERSION}.{len(work.answers)}",
        "content_hash": hashlib.sha256(lines.encode("utf-8", "surrogatepass")).hexdigest(),
        "project_hash": snapshot.content_hash(),
        "project": snapshot.project,
        "options": asdict(work.options),
        "rows": len(rows),
        "labels": len(work.answers),
        "human_labels": len(work.answers) - machine,
        "ai_labels": machine,
        "comparisons": {"project": work.count(), "file": LAYOUTS[layout].held(work)},
        "versions": _versions(work),
        "disputed": sum(entry.disputed for entry in snapshot.entries),
        "cannot_hold": [*LAYOUTS[layout].cannot_hold, *([_IMAGES] if pictures else [])],
        "images": pictures,
        "left_out": dict(sorted(work.left_out.items())),
        "annotators": dict(sorted(people.items())),
    }


def _versions(work: Work) -> list[Row]:
    """What was asked when: each version with the answers that were given under it, and a hash of
    its guidelines."""
    given = Counter(one.version for one in work.answers)
    return [
        {
            "number": version.number,
            "since": version.created_at.isoformat(),
            "schema": dict(version.schema),
            "guidelines_hash": hashlib.sha256(
                version.guidelines.encode("utf-8", "surrogatepass")
            ).hexdigest(),
            "labels": given[id],
        }
        for id, version in work.snapshot.versions.items()
    ]


def _lines(rows: Sequence[Row]) -> str:
    """The rows as JSON, one a line."""
    return "".join(_line(row) + "\n" for row in rows)


def _line(row: Row) -> str:
    return dumps(undefined_as_null(row), compact=True, default=str)


def _parquet(rows: Sequence[Row], manifest: Mapping[str, Any]) -> bytes:
    """Columns of `_AS_TEXT`, and those whose values have no common type, are JSON text; the
    manifest is in the schema's metadata (key `burnish`)."""
    import pyarrow
    from pyarrow import parquet

    names = dict.fromkeys(name for row in rows for name in row)
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        try:
            if name in _AS_TEXT:
                raise pyarrow.ArrowInvalid
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
        return kind.num_fields == 0 or any(
            _holds_empty_struct(kind.field(i).type) for i in range(kind.num_fields)
        )
    return pyarrow.types.is_list(kind) and _holds_empty_struct(kind.value_type)
