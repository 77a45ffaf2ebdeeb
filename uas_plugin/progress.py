"""Progress: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from uas_plugin.heartbeat import Heartbeat

T = TypeVar("T")


def _beating(iterable: Iterable[T], total: int | None, heartbeat: Heartbeat) -> Iterator[T]:
    for done, item in enumerate(iterable, 1):
        yield item
        heartbeat.beat(items=done, total=total)


def progress(
    iterable: Iterable[T],
    total: int | None = None,
    desc: str = "",
    every: float = 15.0,
    heartbeat: Heartbeat | None = None,
) -> Iterator[T]:
    """Pass ``iterable`` on, showing how far it is.

    Args:
        total: how many there are. desc: what they are. every: seconds between two log lines.
        heartbeat: file that tells it too, for ``uas status``.
    """
    if total is None and hasattr(iterable, "__len__"):
        total = len(iterable)  # type: ignore[arg-type]
    if heartbeat is not None:
        iterable = _beating(iterable, total, heartbeat)
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(iterable, total=total, desc=desc)
        return
    start = last = time.monotonic()
    done = 0
    for done, item in enumerate(iterable, 1):
        yield item
        now = time.monotonic()
        if now - last >= every:
            last = now
            logging.info("%s: %d/%s, %.0f s", desc, done, total or "?", now - start)
    logging.info("%s: %d done, %.1f s", desc, done, time.monotonic() - start)
