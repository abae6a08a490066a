"""What is answered where a request cannot be: OpenAI's form, which its clients turn into exceptions
of their own."""

from __future__ import annotations

from typing import Any


class RefusedError(Exception):
    """A request that is answered with an error.

    `status` is that of HTTP, `code` OpenAI's name of the error where it has one, `param` the field
    that it is about.
    """

    def __init__(
        self, message: str, *, status: int = 400, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.message, self.status, self.code, self.param = message, status, code, param

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        return error_body(self.message, status=self.status, code=self.code, param=self.param)


def error_body(
    message: str, *, status: int, code: str | None = None, param: str | None = None
) -> dict[str, Any]:
    """OpenAI's error object; its `type` follows from the status."""
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
