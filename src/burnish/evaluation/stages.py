"""What the stages of a run found out, each by its name, from the report's data. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from burnish.config.kinds import KINDS
from burnish.evaluation.words import part, rows_of

ReportData = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """A finished stage: its name, its kind and its result; `alone`: no other stage of this kind is
    finished."""

    name: str
    kind: str
    result: Mapping[str, Any]
    alone: bool = True

    @property
    def prefix(self) -> str:
        """Begins the identifiers of its figures, which are to be different from those of other
        stages; empty where there are none."""
        return (
            ""
            if self.alone
            else re.sub(r"[^A-Za-z0-9_-]", lambda sign: f"_{ord(sign[0]):x}_", self.name) + "-"
        )


@dataclass(frozen=True, slots=True)
class Text:
    """A text of a sample, with what it is."""

    label: str
    text: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """What the report says of one stage: a sentence or two; `samples` are (prompt, texts);
    `figures` are `figures.Figure`."""

    sentence: str
    samples: tuple[tuple[str, tuple[Text, ...]], ...] = ()
    figures: tuple[Any, ...] = ()


def finished(data: ReportData) -> list[Found]:
    """The finished stages, in the order in which they ran."""
    rows = rows_of(data, "results") or [
        {"name": kind, "kind": kind, **part(data, kind)}
        for kind in data
        if kind in KINDS and part(data, kind)
    ]
    kinds = [str(row.get("kind")) for row in rows]
    return [
        Found(str(row.get("name")), kind, row, alone=kinds.count(kind) == 1)
        for row, kind in zip(rows, kinds, strict=True)
    ]


def found_of(data: ReportData, *kinds: str) -> list[Found]:
    """Those of these kinds."""
    return [stage for stage in finished(data) if stage.kind in kinds]


def focused(data: ReportData, found: Found) -> ReportData:
    """The data as if this stage were the only one of its kind."""
    return {**data, found.kind: found.result}
