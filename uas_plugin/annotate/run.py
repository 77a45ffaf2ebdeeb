"""A whole annotation: cuts in, shards of labelled cuts out, and what it cost."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from uas_plugin.annotate.cache import Cache
from uas_plugin.annotate.labelling import label_shards
from uas_plugin.annotate.options import AnnotateOptions
from uas_plugin.annotate.shards import Shards, only_run
from uas_plugin.annotate.workers import label_in_processes
from uas_plugin.errors import UASError
from uas_plugin.progress import progress


def annotate(
    cuts_path: Path, output: Path, options: AnnotateOptions, cache_path: Path | None = None
) -> dict[str, Any]:
    """Label the cuts of a manifest; killed at any moment and called again, it goes on.

    Args:
        cuts_path: Lhotse cuts (``.jsonl`` or ``.jsonl.gz``), read lazily.
        output: folder to write: ``cuts.jsonl.gz``, ``rejected.jsonl``, ``report.json``,
            ``report.html``, and ``shards`` and ``cache.sqlite`` to go on from.
        options: models and rules.
        cache_path: file of answers; default: ``cache.sqlite`` in ``output``.
    Returns:
        What report.json holds.
    Raises:
        UASError: options are missing, the manifest cannot be read, or the server is down (what is
            finished stands in ``partial.cuts.jsonl.gz`` then).
    """
    from uas_plugin.annotate.report import write_report

    if not options.url or not options.model:
        raise UASError("annotation needs a server and a model: --url and --model")
    total = count_lines(cuts_path)
    cache_path = cache_path or output / "cache.sqlite"
    with only_run(output), Cache(cache_path) as cache, _bar(total) as bar:
        start = time.monotonic()
        if options.num_workers > 1:
            tally = label_in_processes(cuts_path, output, options, cache_path, bar)
        else:
            tally = label_shards(cuts_path, output, options, cache, bar)
        seconds = round(time.monotonic() - start, 2)
        shards, complete = Shards(output), tally.failure is None
        shards.merge(sorted(tally.finished), partial=not complete)
        if complete:
            shards.drop_after(len(tally.finished))
        cost = {
            "requests": tally.requests,
            "retries": tally.retries,
            "cache_hits": tally.cache_hits,
            "seconds": seconds,
        }
        report = write_report(output, options, cost, cache.totals(), complete=complete)
    if tally.failure is not None:
        raise UASError(
            f"{tally.failure.rstrip('.')}. {tally.done} of {total} cuts are done and every answer"
            " is kept: run the same command again to go on."
        )
    return report


def count_lines(path: Path) -> int:
    """Lines of a text file, gzipped or not, in constant memory."""
    if not path.is_file():
        raise UASError(f"manifest {path} is missing; the stage data (stage 1) makes such files")
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as stream:
            return sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 20), b""))
    except (OSError, EOFError) as error:
        raise UASError(f"manifest {path} cannot be read: {error}") from None


@contextlib.contextmanager
def _bar(total: int) -> Iterator[Callable[[int], Any]]:
    """A function that moves the progress on by so many cuts."""
    ticks = progress(itertools.repeat(None), total, "annotate")
    next(ticks)
    try:
        yield lambda count: next(itertools.islice(ticks, count - 1, None)) if count else None
    finally:
        ticks.close()  # type: ignore[attr-defined]
