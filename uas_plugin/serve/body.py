"""Reading a request's body: never more than is allowed, never longer than is allowed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from uas_plugin.serve.errors import APIError

if TYPE_CHECKING:
    from starlette.requests import Request

# A client that is told too early, while it still sends, sees a broken connection and no answer.
# So what is refused is read on and thrown away, up to so many times the limit.
DRAIN = 4


class BodyReader:
    """Reads bodies under a limit for each, a limit for all together, and a time-out.

    The budget counts bytes that have come, so a slow upload holds only what it has sent.

    Args:
        limit: bytes of one body. budget: bytes of all bodies that are being read.
        timeout: seconds for one body.
    """

    def __init__(self, limit: int, *, budget: int, timeout: float) -> None:
        self.limit, self.budget, self.timeout = limit, budget, timeout
        self.held = 0

    async def read(self, request: Request) -> bytes:
        """The whole body.

        Raises:
            APIError: too large (413), too slow (408), or too many uploads at once (429).
            starlette.requests.ClientDisconnect: the client left.
        """
        too_large = APIError(
            413,
            f"the request is larger than {self.limit} bytes: send shorter or compressed (FLAC) "
            "audio",
            code="request_too_large",
        )
        announced = request.headers.get("content-length", "")
        waits = "100-continue" in request.headers.get("expect", "").lower()
        if announced.isdigit() and int(announced) > self.limit and waits:
            raise too_large  # it asked first, so nothing is on the way
        chunks: list[bytes] = []
        size = seen = 0
        refusal: APIError | None = None
        try:
            async with asyncio.timeout(self.timeout):
                async for chunk in request.stream():
                    seen += len(chunk)
                    refusal = refusal or self._refusal(seen, len(chunk), too_large)
                    if refusal is None:
                        chunks.append(chunk)
                        size += len(chunk)
                        self.held += len(chunk)
                    elif seen > DRAIN * self.limit:
                        break
        except TimeoutError:
            message = f"the request did not arrive within {self.timeout:g} s"
            raise refusal or APIError(408, message, code="request_timeout") from None
        finally:
            self.held -= size
        if refusal is not None:
            raise refusal
        return b"".join(chunks)

    def _refusal(self, seen: int, more: int, too_large: APIError) -> APIError | None:
        if seen > self.limit:
            return too_large
        if self.held + more > self.budget:
            return APIError(
                429, "too many uploads at once: try again", code="rate_limit", retry_after=1
            )
        return None
