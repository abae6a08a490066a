"""What the REST API answers where it refuses something, for its OpenAPI document."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class Problem(BaseModel):
    """Why something was refused."""

    detail: str = Field(description="What is wrong, in words, in the language of who asked.")
    field: str | None = Field(default=None, description="The field that is wrong, where it is one.")


_WHY = {
    401: "Nobody is logged in, or the token is not known (any more).",
    403: "It is not the caller's to do, or the session's CSRF token is missing.",
    404: "There is no such thing, or none that the caller may see.",
    409: "It does not go with what is there by now.",
    413: "The request is too long.",
    422: "Something in the request does not fit; nothing was done.",
    429: "Too often; the header `Retry-After` says when again.",
}
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": why} for status, why in _WHY.items()
}
"""By status, for every route."""
