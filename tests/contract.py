"""The contract that any input is held to: it is taken, or refused in one line that names its place;
nothing else."""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any

from burnish.errors import UserError

ACCEPTED, REFUSED = "accepted", "refused well"
LONGEST = 1500
"""Characters of a line: the longest list what there is to choose from."""
SECONDS = 10.0
"""Of computing, whatever else the machine does: what never ends takes minutes."""


class Tally:
    """How the inputs of one group fared; `broken` holds what became of those that were neither
    taken nor refused well."""

    def __init__(self, group: str) -> None:
        self.group = group
        self.counts: Counter[str] = Counter()
        self.broken: list[str] = []

    def hold(self, what: Any, attempt: Callable[[], Any], **options: Any) -> str:
        """What became of one input; what breaks the contract is remembered."""
        outcome = outcome_of(attempt, **options)
        self.counts[outcome if outcome in (ACCEPTED, REFUSED) else "broken"] += 1
        if outcome not in (ACCEPTED, REFUSED):
            self.broken.append(f"{str(what)[:300]!r}: {outcome}")
        return outcome

    def __str__(self) -> str:
        tried = sum(self.counts.values())
        right = self.counts[ACCEPTED] + self.counts[REFUSED]
        return (
            f"{self.group}: {tried} inputs, {self.counts[ACCEPTED]} accepted,"
            f" {self.counts[REFUSED]} refused well, {self.counts['broken']} broken"
            f" ({right / max(tried, 1):.1%} right)"
        )


def outcome_of(
    attempt: Callable[[], Any],
    *,
    refused: bool = False,
    names: str = "",
    lines: int = 1,
    errors: tuple[type, ...] = (),
) -> str:
    """ "accepted", "refused well", or what is wrong.

    Args:
        attempt: tries the input; raises UserError where it refuses it.
        refused: whether the input may not be taken.
        names: what a refusal must name.
        lines: how many lines it may have.
        errors: what else than UserError may be raised, in a library's own form.
    """
    start = time.process_time()
    try:
        attempt()
        outcome = "taken, though it cannot be meant" if refused else ACCEPTED
    except UserError as error:
        outcome = _fault_of(str(error), names, lines) or REFUSED
    except errors as error:
        outcome = _fault_of(str(error), names, lines) or REFUSED
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        outcome = f"{type(error).__name__} at {where.name}: {str(error)[:200]}"
    seconds = time.process_time() - start
    return outcome if seconds < SECONDS else f"took {seconds:.0f} s, then: {outcome}"


def _fault_of(told: str, names: str, lines: int) -> str | None:
    if not told.strip():
        return "refused without a word"
    if len(told.splitlines()) > lines:
        return f"refused in {len(told.splitlines())} lines: {told[:300]}"
    if max(map(len, told.splitlines())) > LONGEST:
        return f"refused in a line of {len(told)} characters"
    if "Traceback" in told or "pydantic" in told.lower():
        return f"refused in a programmer's words: {told[:300]}"
    return None if names in told else f"refused without naming {names}: {told[:300]}"
