"""Requests that come at about the same time are answered in one batch.

One worker thread has the model. A batch is begun when the oldest request has waited a few
milliseconds, and takes those that are asked for in the same way (equal ``key``), oldest first; all
that come while the worker is busy wait for their turn. The queue is bounded.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from uas_plugin.serve.errors import APIError


class Job:
    """One answer on its way: the worker emits events, the HTTP side takes them.

    Args:
        key: jobs of equal key may be answered together. payload: what is asked.
    """

    def __init__(self, key: Hashable, payload: Any) -> None:
        self.key, self.payload = key, payload
        self.gone = False  # nobody waits for it; read by the worker thread
        self.arrived = time.monotonic()
        self.events: asyncio.Queue[Any] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()

    def emit(self, event: Any) -> None:
        """Hand over a piece of the answer, its end, or an exception; from any thread."""
        if not self.gone:
            self._loop.call_soon_threadsafe(self.events.put_nowait, event)


class Batcher:
    """Collects jobs and runs them in a thread of its own.

    Args:
        run: called in the worker thread with jobs of one key; it emits their events. An exception
            of it goes to those jobs.
        max_batch: jobs of a batch. wait: seconds that the first job of a batch waits for others.
        max_waiting: jobs that may wait.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Job]], None],
        *,
        max_batch: int,
        wait: float,
        max_waiting: int,
    ) -> None:
        self._run, self._max_batch, self._wait = run, max_batch, wait
        self._max_waiting = max_waiting
        self._waiting: list[Job] = []
        self._running: list[Job] = []
        self._arrived = asyncio.Event()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="uas-serve")
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._mean_seconds = 0.0
        self.stats = {"requests": 0, "batches": 0, "largest_batch": 0, "abandoned": 0}

    def start(self) -> None:
        """Begin to work; needs a running event loop."""
        self._task = asyncio.create_task(self._work())

    @property
    def healthy(self) -> bool:
        """Whether jobs are taken and worked on."""
        return self._task is not None and not self._task.done() and not self._closing

    def load(self) -> dict[str, int]:
        """Jobs that wait and run now, and counts since the start."""
        return {"waiting": len(self._waiting), "running": len(self._running), **self.stats}

    def check_room(self, count: int = 1) -> None:
        """See whether ``count`` more jobs would be taken.

        Raises:
            APIError: 429 when too many wait, 503 while shutting down.
        """
        if self._closing:
            raise APIError(503, "the server is shutting down", code="shutting_down")
        if len(self._waiting) + count > self._max_waiting:
            batches = math.ceil(len(self._waiting) / self._max_batch)
            seconds = min(60, max(1, math.ceil(batches * self._mean_seconds)))
            raise APIError(
                429,
                f"{len(self._waiting)} answers are waiting already: try again in {seconds} s",
                code="queue_full",
                retry_after=seconds,
            )

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue ``jobs``: all or none.

        Raises:
            APIError: as :meth:`check_room`.
        """
        self.check_room(len(jobs))
        self._waiting += jobs
        self.stats["requests"] += len(jobs)
        self._arrived.set()

    def abandon(self, job: Job) -> None:
        """Nobody waits for ``job``: it is dropped, or left out of what still runs."""
        if not job.gone:
            job.gone = True
            self.stats["abandoned"] += job in self._waiting or job in self._running
            self._waiting = [other for other in self._waiting if other is not job]

    async def close(self) -> None:
        """Refuse what waits, give up what runs, and end the thread."""
        self._closing = True
        stopped = APIError(503, "the server is shutting down", code="shutting_down")
        for job in [*self._waiting, *self._running]:
            job.emit(stopped)
            self.abandon(job)
        if self._task is not None:
            self._task.cancel()
        await asyncio.to_thread(self._executor.shutdown, wait=True)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            await self._gather_company()
            batch = self._take()
            if not batch:
                continue
            self._running = batch
            begin = time.monotonic()
            try:
                await loop.run_in_executor(self._executor, self._run, batch)
            except Exception as error:
                logging.exception("a batch of %d failed", len(batch))
                for job in batch:
                    job.emit(error)
            finally:
                self._running = []
            seconds = time.monotonic() - begin
            self._mean_seconds = 0.8 * self._mean_seconds + 0.2 * seconds

    async def _gather_company(self) -> None:
        if self._waiting:
            left = self._waiting[0].arrived + self._wait - time.monotonic()
            if left > 0:
                await asyncio.sleep(left)

    def _take(self) -> list[Job]:
        """The oldest job and those that fit to it, out of the queue."""
        key = self._waiting[0].key if self._waiting else None
        batch = [job for job in self._waiting if job.key == key][: self._max_batch]
        taken = set(map(id, batch))
        self._waiting = [job for job in self._waiting if id(job) not in taken]
        if not self._waiting:
            self._arrived.clear()
        if batch:
            self.stats["batches"] += 1
            self.stats["largest_batch"] = max(self.stats["largest_batch"], len(batch))
        return batch
