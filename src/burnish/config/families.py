"""Names that say a kind of stage and a row of it at once. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping

from burnish.config.kinds import KINDS

FAMILIES: Mapping[str, tuple[str, str]] = {
    name: (kind, stage.family)
    for kind, stage in KINDS.items()
    if stage.family is not None
    for name in stage.rows
}
"""Names that say a kind and a row of it at once: (kind, the key of the section whose `name` is the
row)."""
