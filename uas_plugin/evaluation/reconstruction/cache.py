"""Run measurements in chunks, in other processes where that helps, and keep finished chunks.

A chunk's file is named after everything its values depend on: the measure's settings and the bytes
of the audio. So a killed run continues, a changed file or judge is measured anew, and audio that
stands in several rows is measured once.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from uas_plugin.atomic import write_json
from uas_plugin.evaluation.judges.measure import Item, Measure
from uas_plugin.progress import progress


class Runner:
    """Measures items; a context manager, as it may hold processes.

    Args:
        folder: of the chunks' files.
        num_workers: processes for measures that gain by them; 1 measures in this process.
    """

    def __init__(self, folder: Path, num_workers: int = 1) -> None:
        self.folder, self.num_workers = folder, num_workers
        self._known: dict[str, dict[str, Any]] = {}  # measure -> item -> value
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Runner:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def run(self, measure: Measure, items: Sequence[Item], what: str = "") -> list[Any]:
        """The value of each item, in order.

        Raises:
            UASError: the measure cannot be loaded, or audio cannot be read any more.
        """
        settings = measure.settings()
        known = self._known.setdefault(json.dumps(settings, sort_keys=True), {})
        keys = [json.dumps(item.key()) for item in items]
        new = {key: item for key, item in zip(keys, items, strict=True) if key not in known}
        values = self._measure(measure, settings, list(new.values()), what)
        known.update(zip(new, values, strict=True))
        return [known[key] for key in keys]

    def _measure(
        self, measure: Measure, settings: dict[str, Any], items: Sequence[Item], what: str
    ) -> list[Any]:
        size = measure.chunk
        chunks = [list(items[at : at + size]) for at in range(0, len(items), size)]
        paths = [self.folder / f"{chunk_key(settings, chunk)}.json" for chunk in chunks]
        todo = [k for k, path in enumerate(paths) if not path.exists()]
        spread = self.num_workers > 1 and not measure.main_process and len(todo) > 1
        waiting: dict[int, Future] = {}
        if spread:
            waiting = {k: self._processes().submit(_work, measure, chunks[k]) for k in todo}
        for k in progress(todo, desc=f"{measure.name} of {what}"):
            values = waiting[k].result() if spread else measure.measure(chunks[k])
            write_json(paths[k], {"measure": settings, "values": values})
        found = [json.loads(path.read_text(encoding="utf-8"))["values"] for path in paths]
        return [value for values in found for value in values]

    def _processes(self) -> ProcessPoolExecutor:
        if self._pool is None:
            import multiprocessing

            # Not forked: a fork of a process whose libraries run threads may hang.
            self._pool = ProcessPoolExecutor(
                self.num_workers, multiprocessing.get_context("spawn"), _start
            )
        return self._pool


def chunk_key(settings: dict[str, Any], items: Sequence[Item]) -> str:
    """Hexadecimal fingerprint of a measurement of a chunk."""
    text = json.dumps([settings, [item.key() for item in items]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


_LOADED: dict[str, Measure] = {}  # of a worker: models stay loaded from chunk to chunk


def _start() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"  # before a worker imports what reads it


def _work(measure: Measure, items: Sequence[Item]) -> list[Any]:
    key = json.dumps(measure.settings(), sort_keys=True)
    return _LOADED.setdefault(key, measure).measure(items)
