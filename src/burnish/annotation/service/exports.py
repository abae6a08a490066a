"""Labels and figures on their way out of a running server: who may, and the line in the audit
log."""

from __future__ import annotations

from typing import Any

from burnish.annotation.dashboard import dashboard
from burnish.annotation.export import FILE_KINDS, LAYOUTS, Export, export
from burnish.annotation.labels import LabelOptions
from burnish.annotation.service.accounts import Caller, record
from burnish.annotation.service.database import Database
from burnish.annotation.service.projects import role_in
from burnish.annotation.snapshot import take_snapshot, with_key
from burnish.errors import UserError
from burnish.jsonio import dumps, undefined_as_null

EXPORT_LAYOUTS = {name: layout.cannot_hold for name, layout in LAYOUTS.items()}
"""By layout, what it cannot hold."""
TYPES = {
    ".jsonl": "application/x-ndjson",
    ".json": "application/json",
    ".parquet": "application/vnd.apache.parquet",
}


def make_export(
    database: Database,
    caller: Caller,
    project_id: int,
    layout: str,
    *,
    human_share: float | None = None,
    dimension: str | None = None,
) -> Export:
    """A project's labels in a layout, for its owners; the export is noted in the audit log. With a
    `dimension`, soft labels are of what was said of that one."""
    with database.read() as session:
        name = role_in(session, caller, project_id, least="owner", scope="export").name
    if layout not in LAYOUTS:
        raise UserError(f"layouts are {', '.join(LAYOUTS)}.", field="layout")
    made = export(
        with_key(database, name), layout, LabelOptions(human_share=human_share, dimension=dimension)
    )
    with database.write() as session:
        digest = made.manifest.get("content_hash", "")
        record(
            session,
            "exported",
            caller=caller,
            project_id=project_id,
            subject=layout,
            rows=len(made.rows),
            hash=digest,
        )
    return made


def file_of(made: Export, ending: str) -> tuple[bytes, str]:
    """The bytes of an export and their media type. Raises UserError for a kind of file that is not
    written."""
    if ending not in FILE_KINDS:
        raise UserError(f"files end with {', '.join(FILE_KINDS)}.", field="file")
    return made.data(ending), TYPES[ending]


def manifest_of(made: Export) -> bytes:
    """The manifest as JSON."""
    return (dumps(undefined_as_null(made.manifest), indent=2) + "\n").encode()


def figures(database: Database, caller: Caller, project_id: int) -> dict[str, Any]:
    """The dashboard's numbers, for owners."""
    with database.read() as session:
        name = role_in(session, caller, project_id, least="owner", scope="read").name
    return dashboard(take_snapshot(database, name))
