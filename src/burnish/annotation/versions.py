"""Versions of what a project asks. An answer keeps the one under which it was given, so later
settings never change labels.

A version is the part of the settings that says what an answer means (`SCHEMA`) and the guidelines.
It is stored once, when a project changes; names that were renamed from one version to the next
stand in the later one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from burnish.annotation.settings import Settings, settings_of
from burnish.annotation.tables import Project, Version

SCHEMA = (
    "kind",
    "steps",
    "tie",
    "both_bad",
    "attributes",
    "flags",
    "critique",
    "turns",
    "dimensions",
    "edit_winner",
    "step_verdicts",
)
"""The settings that say what an answer means."""

NAMED = ("flags", "attributes", "dimensions")
"""The fields of a schema that hold names, which may be renamed."""

Renames = Mapping[str, Mapping[str, str]]
"""By field of `NAMED`, old name -> new name."""


def schema_of(settings: Settings) -> dict[str, Any]:
    """The part of some settings that is versioned."""
    return settings.model_dump(mode="json", include=set(SCHEMA))


def under(settings: Settings, schema: Mapping[str, Any] | None) -> Settings:
    """A project's settings as they were under a version's schema; None: as they are."""
    return (
        settings
        if schema is None
        else Settings.model_validate({**settings.model_dump(), **filled(schema)})
    )


def filled(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema with what had not been thought of when it was stored: that was not asked."""
    return {**schema_of(Settings()), **schema}


def scale_of(schema: Mapping[str, Any]) -> int:
    """k of a schema's scale: strengths run from −k to k."""
    return int(schema["steps"]) // 2


def version_of(session: Session, project: Project) -> Version | None:
    """The version that a project is at; None: it has not changed since before there were
    versions."""
    return session.get(Version, project.version_id) if project.version_id is not None else None


def renew(session: Session, project: Project, *, renames: Renames | None = None) -> Version:
    """The version that a project is at, a new one where schema or guidelines have changed since the
    last."""
    session.flush()
    before = version_of(session, project)
    schema = schema_of(settings_of(project.settings))
    if (
        before is not None
        and filled(before.schema) == schema
        and before.guidelines == project.guidelines
    ):
        return before
    made = _add(session, project, schema, before, renames or {})
    project.version_id = made.id
    return made


def for_scale(session: Session, project: Project, scale: int) -> Version:
    """A version whose strengths run from −scale to scale: the project's own, or one that holds
    imported answers alone."""
    own = renew(session, project)
    rows = session.scalars(
        select(Version).where(Version.project_id == project.id).order_by(Version.number)
    )
    known = [own, *rows]
    found = next((row for row in known if scale_of(row.schema) == scale), None)
    return found or _add(session, project, {**own.schema, "steps": 2 * scale}, own, {})


def _add(
    session: Session,
    project: Project,
    schema: dict[str, Any],
    before: Version | None,
    renames: Renames,
) -> Version:
    last = (
        session.scalar(select(func.max(Version.number)).where(Version.project_id == project.id))
        or 0
    )
    same_text = before is not None and before.guidelines == project.guidelines
    made = Version(
        project_id=project.id,
        number=last + 1,
        schema=schema,
        guidelines=project.guidelines,
        renames={field: dict(names) for field, names in renames.items()},
        guidelines_number=before.guidelines_number
        if before is not None and same_text
        else last + 1,
    )
    session.add(made)
    session.flush()
    return made


def renamed_since(versions: Sequence[Version], version_id: int | None) -> dict[str, dict[str, str]]:
    """What names of a version are called now: the renames of all later ones, one after the
    other."""
    found: dict[str, dict[str, str]] = {field: {} for field in NAMED}
    number = next((row.number for row in versions if row.id == version_id), 0)
    for row in sorted(versions, key=lambda row: row.number):
        if row.number <= number:
            continue
        for field, names in found.items():
            new = row.renames.get(field, {})
            found[field] = {old: new.get(name, name) for old, name in names.items()}
            found[field] |= {old: name for old, name in new.items() if old not in found[field]}
    return found


_PARTS_OF_ANSWERS = (
    ("ratings", "attributes"),
    ("flags", "flags"),
    ("preferences", "dimensions"),
    ("reasons", "dimensions"),
)


def with_new_names(payload: Mapping[str, Any], renamed: Renames) -> dict[str, Any]:
    """An answer's payload (or a draft's answer) with its flags, attributes and dimensions under
    their present names."""
    given = dict(payload)
    for part, field in _PARTS_OF_ANSWERS:
        if isinstance(given.get(part), Mapping):
            given[part] = {
                renamed.get(field, {}).get(name, name): value for name, value in given[part].items()
            }
    return given


def mapped_draft(
    draft: Mapping[str, Any] | None, renamed: Renames, old: Settings, new: Settings
) -> dict[str, Any] | None:
    """A draft under another schema: what still has a place there keeps it, the rest is left for the
    person to say anew.

    Names follow their renames; flags and attributes that are gone, ratings off the new scale and
    strengths of another scale go; text stays always.
    """
    answer = None if draft is None else draft.get("answer")
    if draft is None or not isinstance(answer, Mapping):
        return None if draft is None else dict(draft)
    given = with_new_names(answer, renamed)
    if isinstance(given.get("flags"), Mapping):
        given["flags"] = {
            name: places for name, places in given["flags"].items() if name in new.flags
        }
    if isinstance(given.get("ratings"), Mapping):
        bounds = {attribute.name: (attribute.low, attribute.high) for attribute in new.attributes}
        given["ratings"] = {
            name: [
                value if value is not None and bounds[name][0] <= value <= bounds[name][1] else None
                for value in values
            ]
            for name, values in given["ratings"].items()
            if name in bounds and isinstance(values, list)
        }
    names = {dimension.name for dimension in new.dimensions}
    for part in ("preferences", "reasons"):
        if isinstance(given.get(part), Mapping):
            kept = {name: value for name, value in given[part].items() if name in names}
            given[part] = {} if part == "preferences" and old.strength != new.strength else kept
    if old.strength != new.strength or (
        given.get("strength") == 0 and not new.ties and not given.get("both_bad")
    ):
        given.pop("strength", None)
    if new.step_verdicts == "off":
        given.pop("step_verdicts", None)
    if given.get("both_bad") and not new.both_bad:
        given.pop("both_bad")
    return {**draft, "answer": given}
