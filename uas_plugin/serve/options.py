"""Limits of a server."""

from __future__ import annotations

from dataclasses import dataclass, fields

from uas_plugin.errors import UASError

MEGABYTE = 2**20


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """How much a server takes on.

    Args:
        max_batch: answers that are generated together.
        wait_ms: how long the first request of a batch waits for others, in ms.
        max_waiting: answers that may wait; more are told to come back (429).
        max_new_tokens: longest answer that a request may ask for.
        default_new_tokens: longest answer where a request does not say.
        max_body_mb: largest request, in MiB (413).
        max_audio_seconds: longest audio part, in seconds.
        timeout: from the whole request to its answer, in seconds (504).
        read_timeout: for the upload of a request, in seconds (408).

    Raises:
        UASError: a value is not above 0 (``wait_ms`` may be 0).
    """

    max_batch: int = 32
    wait_ms: float = 5.0
    max_waiting: int = 256
    max_new_tokens: int = 2048
    default_new_tokens: int = 256
    max_body_mb: float = 25.0
    max_audio_seconds: float = 120.0
    timeout: float = 120.0
    read_timeout: float = 30.0

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not (value > 0 or (item.name == "wait_ms" and value == 0)):
                raise UASError(f"{item.name} must be above 0, not {value}")

    @property
    def max_body(self) -> int:
        """Bytes of the largest request."""
        return int(self.max_body_mb * MEGABYTE)
