"""Refusals in the form that OpenAI's clients understand."""

from __future__ import annotations

from typing import Any

KINDS = {
    401: "authentication_error",
    408: "timeout_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class APIError(Exception):
    """A request that is not answered.

    Args:
        status: HTTP status. message: one line that names the mend.
        param: the argument at fault, e.g. ``messages[0].role``. code: a word for programs.
        retry_after: seconds after which another try may succeed.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        self.param, self.code, self.retry_after = param, code, retry_after

    def to_dict(self) -> dict[str, Any]:
        """The body of the answer."""
        kind = KINDS.get(self.status)
        kind = kind or ("server_error" if self.status >= 500 else "invalid_request_error")
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": error}

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        found = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return found | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})


class ClientGone(Exception):
    """Nobody is left to answer."""
