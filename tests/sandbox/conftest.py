from __future__ import annotations

from collections.abc import Iterator

import pytest

from burnish.errors import UserError
from burnish.sandbox import TIERS, Limits, Sandbox, Tier


def open_or_skip(tier: Tier, **settings: object) -> Sandbox:
    try:
        return Sandbox(tier, **settings)  # type: ignore[arg-type]
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=TIERS)
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """A sandbox of each tier with roomy clocks: a busy machine is no fault of an honest program."""
    with open_or_skip(request.param, limits=Limits(seconds=30, cpu_seconds=10), parallel=2) as opened:
        yield opened
