"""What the stages of a run found out, each by its name, from the report's data. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from burnish.evaluation.words import part, rows_of

ReportData = Mapping[str, Any]
KINDS = ("sft", "sample", "compare", "select", "revise", "merge", "reward", "preference", "online", "evaluate")


@dataclass(frozen=True, slots=True)
class Found:
    """A finished stage: its name, its kind and its result; `alone`: no other stage of this kind is finished."""

    name: str
    kind: str
    result: Mapping[str, Any]
    alone: bool = True

    @property
    def prefix(self) -> str:
        """Begins the identifiers of its figures, which are to be different from those of other stages; empty where there are none."""
        return "" if self.alone else re.sub(r"[^A-Za-z0-9_-]", lambda sign: f"_{ord(sign[0]):x}_", self.name) + "-"


def found_of(data: ReportData, *kinds: str) -> list[Found]:
    """The finished stages of these kinds, in the order in which they ran."""
    rows = rows_of(data, "results") or [
        {"name": kind, "kind": kind, **part(data, kind)} for kind in KINDS if part(data, kind)
    ]
    of_kind = [str(row.get("kind")) for row in rows]
    return [
        Found(str(row.get("name")), kind, row, alone=of_kind.count(kind) == 1)
        for row, kind in zip(rows, of_kind, strict=True)
        if kind in kinds
    ]


def focused(data: ReportData, found: Found) -> ReportData:
    """The data as if this stage were the only one of its kind."""
    return {**data, found.kind: found.result}
