from __future__ import annotations

from collections.abc import Iterator

import pytest
from opening import open_or_skip

from burnish.sandbox import TIERS, Limits, Sandbox


@pytest.fixture(scope="module", params=TIERS)
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """A sandbox of each tier with roomy clocks: a busy machine is no fault of an honest program."""
    with open_or_skip(
        request.param, limits=Limits(seconds=30, cpu_seconds=10), parallel=2
    ) as opened:
        yield opened
