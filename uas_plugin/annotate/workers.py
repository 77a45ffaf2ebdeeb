"""Labelling in several processes: each asks with its own loop and its share of the shards.

One loop keeps some hundreds of requests a second going, which a server of a large model does not
reach; a fleet of them does. A question that two processes have at the same moment is asked twice.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import connection
from pathlib import Path
from typing import Any

from uas_plugin.annotate.cache import Cache
from uas_plugin.annotate.labelling import Tally, label_shards
from uas_plugin.annotate.options import AnnotateOptions

_LOOK_S = 0.2  # between two looks at how far the processes are
_count: Any = None


def label_in_processes(
    cuts_path: Path,
    output: Path,
    options: AnnotateOptions,
    cache_path: Path,
    bar: Callable[[int], Any],
) -> Tally:
    """:func:`label_shards` in ``options.num_workers`` processes.

    A process that is killed is a failure of the run: the shards it had finished stay, and the next
    run goes on from them.
    """
    context = multiprocessing.get_context("spawn")
    count = context.Value("q", 0)
    number = options.num_workers
    tally, shown = Tally(), 0
    with ProcessPoolExecutor(number, context, _start, (count,)) as pool:
        left: set[Future[Tally]] = {
            pool.submit(_work, cuts_path, output, _part(options, k), cache_path, (k, number))
            for k in range(number)
        }
        while left:
            finished, left = wait(left, timeout=_LOOK_S)
            now = count.value
            bar(now - shown)
            shown = now
            for future in finished:
                tally.add(_result(future))
    bar(count.value - shown)
    return tally


def _part(options: AnnotateOptions, k: int) -> AnnotateOptions:
    """The options of process ``k``: together they have the whole's requests in flight."""
    each, more = divmod(options.concurrency, options.num_workers)
    return replace(options, concurrency=each + (k < more), num_workers=1)


def _result(future: Future[Tally]) -> Tally:
    try:
        return future.result()
    except BrokenProcessPool:
        return Tally(failure="a process of the annotation was killed (out of memory?)")


def _start(count: Any) -> None:
    """In each process: where it counts, and that it ends with the one that started it."""
    global _count
    _count = count
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        # What is half done is not written: the lock on the folder is gone with the parent.
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _work(
    cuts_path: Path,
    output: Path,
    options: AnnotateOptions,
    cache_path: Path,
    share: tuple[int, int],
) -> Tally:
    def bar(cuts: int) -> None:
        with _count.get_lock():
            _count.value += cuts

    with Cache(cache_path) as cache:
        return label_shards(cuts_path, output, options, cache, bar, share)
