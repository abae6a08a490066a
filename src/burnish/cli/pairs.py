"""`burnish pairs`: pairs to single judgements, and back."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from burnish.atomic import write_text
from burnish.data.feedback import paired_rows, preference_groups, unpaired_rows
from burnish.data.sources import read_rows
from burnish.errors import UserError
from burnish.jsonio import json_lines

_FORMS = ("paired", "unpaired")


def convert(source: str, out: Path, *, to: str) -> list[str]:
    """Write the rows of `source` in the other form; returns what to tell the person who asked."""
    if to not in _FORMS:
        raise UserError(f'must be {" or ".join(_FORMS)}, not "{to}".', field="--to")
    if not out.name.endswith(".jsonl"):
        raise UserError("must end with .jsonl.", file=out, field="--out")
    rows = read_rows(source)
    loaded = preference_groups(rows)
    dropped = Counter(loaded.dropped)
    found = list(
        unpaired_rows(loaded.items)
        if to == "unpaired"
        else paired_rows(loaded.items, dropped=dropped)
    )
    if not found:
        raise UserError(
            "nothing can be paired: no prompt has both a desirable and an undesirable answer.",
            file=source,
            hint="KTO learns from single judgements as they are: a stage of the kind kto.",
        )
    write_text(out, json_lines(found))
    said = [f"{len(found)} rows written to {out}"]
    left = [f"{count} ({reason})" for reason, count in dropped.items() if count]
    return [*said, *([f"left out: {', '.join(left)}"] if left else [])]
