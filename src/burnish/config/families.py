"""Names that say a kind of stage and a row of it at once. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from burnish.config.online import AlgorithmName
from burnish.config.preference import LOSS_NAMES

_LOSS = {name: ("preference", "loss") for name in LOSS_NAMES}
_ALGORITHM = {name: ("online", "algorithm") for name in get_args(AlgorithmName) if name != "ppo"}
FAMILIES: Mapping[str, tuple[str, str]] = _LOSS | _ALGORITHM
"""Names that say a kind and a row of it at once: (kind, the key of the section whose `name` is the row)."""
