"""A file that tells how far a job is: written by the job, read by ``uas status``.

One small JSON file beside what the job makes, replaced as a whole, so that a reader on another
machine sees one state or the next. A time that stands still is the sign of a job that hangs.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

from uas_plugin.atomic import write_json

HEARTBEAT_NAME = "heartbeat.json"
EVERY = 10.0  # seconds between two writes


class Heartbeat:
    """Writes the state of one job.

    Args:
        folder: the job's output folder.
        job: what is done, for people ("training", "token dump").
        fields: facts that do not change (``max_epoch``, ``total``).
    """

    def __init__(self, folder: str | os.PathLike[str], job: str, **fields: Any) -> None:
        self.path = Path(folder) / HEARTBEAT_NAME
        self.began = time.time()
        self.fields: dict[str, Any] = {"job": job, "pid": os.getpid(), **fields}
        self._last = float("-inf")

    def beat(self, *, force: bool = False, **state: Any) -> None:
        """Take ``state`` up; write it if the last write is long enough ago, or by ``force``.

        A full disk or a lost mount is no reason to stop the work: then nothing is written.
        """
        self.fields.update(state)
        now = time.monotonic()
        if not force and now - self._last < EVERY:
            return
        self._last = now
        with contextlib.suppress(OSError):
            write_json(self.path, {**self.fields, "began": self.began, "time": time.time()})

    def remove(self) -> None:
        """The job is done: what it made speaks for itself."""
        self.path.unlink(missing_ok=True)


def read_heartbeat(folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The last state of the job that writes to ``folder``; None where there is none."""
    try:
        value = json.loads((Path(folder) / HEARTBEAT_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) and "time" in value else None
