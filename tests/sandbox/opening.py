"""Opening a sandbox in tests."""

from __future__ import annotations

import pytest

from burnish.errors import UserError
from burnish.sandbox import Sandbox, Tier


def open_or_skip(tier: Tier, **settings: object) -> Sandbox:
    """A sandbox of this tier; where the machine has none, the test is skipped with the reason."""
    try:
        return Sandbox(tier, **settings)  # type: ignore[arg-type]
    except UserError as error:
        pytest.skip(str(error))
