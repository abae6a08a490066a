"""What the service answers when it does not do what was asked. The HTTP layer turns each into its
status."""

from __future__ import annotations

from burnish.errors import UserError


class NotFoundError(UserError):
    """There is no such thing, or it is not this person's to see: the two look alike on purpose."""


class ForbiddenError(UserError):
    """The person is known, and may not."""


class ConflictError(UserError):
    """It was done already, or something changed meanwhile."""


class TooManyError(UserError):
    """Too many attempts; `seconds` until the next may succeed."""

    def __init__(self, problem: str, *, seconds: int) -> None:
        super().__init__(problem)
        self.seconds = seconds
