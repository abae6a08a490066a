"""Names that say a kind of stage and a row of it at once. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from burnish.config.describe import defaults
from burnish.config.online import AlgorithmName, Online
from burnish.config.preference import LOSS_NAMES
from burnish.config.sections import Section

_LOSS = {name: ("preference", "loss") for name in LOSS_NAMES}
_ALGORITHM = {name: ("online", "algorithm") for name in get_args(AlgorithmName)}
FAMILIES: Mapping[str, tuple[str, str]] = _LOSS | _ALGORITHM
"""Names that say a kind and a row of it at once: (kind, the key of the section whose `name` is the row)."""


def defaults_of(section: type[Section], settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a stage has for everything that its `settings` leave out, as JSON: the section's defaults, and over them its row's."""
    below = defaults(section)
    if section is not Online:
        return below
    algorithm = settings.get("algorithm")
    name = algorithm.get("name") if isinstance(algorithm, Mapping) else None
    row = Online.model_construct(**Online.defaults_of(str(name))).model_dump(mode="json")
    return {**row, "algorithm": below["algorithm"]}
