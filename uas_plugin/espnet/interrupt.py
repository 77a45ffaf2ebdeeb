"""When a training is to stop: on a signal, or ahead of its time limit.

Slurm sends SIGTERM before it takes a node away (preemption, ``scancel``, the end of the time limit)
and SIGKILL ``KillWait`` seconds later; ``sbatch --signal=USR1@300`` sends SIGUSR1 ahead of the
limit. A handler only notes it; the trainer looks between two steps, saves, and ends the process
with :data:`RETRY_EXIT`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

import torch

RETRY_EXIT = os.EX_TEMPFAIL
"""Status of a training that has saved and wants to be started again (75, sysexits.h)."""

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
LEAST_MARGIN, MARGIN_SHARE = 60.0, 0.05  # seconds; share of the limit: time to save


class StopRequest:
    """Whether the training is to stop.

    Args:
        max_runtime_min: minutes that the job may run; it stops 5 % and at least a minute earlier.
    """

    def __init__(self, max_runtime_min: float | None = None) -> None:
        self.reason: str | None = None
        self._end = float("inf")
        if max_runtime_min is not None:
            limit = 60.0 * max_runtime_min
            self._end = time.monotonic() + limit - max(LEAST_MARGIN, MARGIN_SHARE * limit)

    def note(self, number: int, _frame: FrameType | None = None) -> None:
        """The signal handler."""
        self.reason = signal.Signals(number).name

    @contextlib.contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Take the signals inside the block (in a main thread; elsewhere they are not ours)."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.signal(number, self.note) for number in SIGNALS}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def asked(self) -> bool:
        """Whether this process was asked to stop."""
        if self.reason is None and time.monotonic() >= self._end:
            self.reason = "the time limit"
        return self.reason is not None

    def agreed(self) -> bool:
        """Whether any process was asked to; the same in all. Every process must call it as often.

        A cluster may signal one process of many, and not all in the same step.
        """
        asked = self.asked()
        distributed = torch.distributed
        if not (distributed.is_available() and distributed.is_initialized()):
            return asked
        device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        count = torch.tensor(int(asked), device=device)
        distributed.all_reduce(count)
        if count and not asked:
            self.reason = "a signal to another process"
        return bool(count)

    def leave(self, what: str) -> None:
        """End the process with :data:`RETRY_EXIT`."""
        logging.warning("stopped by %s, %s: exit %d, start again", self.reason, what, RETRY_EXIT)
        raise SystemExit(RETRY_EXIT)
