"""A whole annotation: cuts in, shards of labelled cuts out, and what it cost."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from uas_plugin.annotate.cache import Cache, content_key
from uas_plugin.annotate.client import ChatClient, first_error
from uas_plugin.annotate.label import Labeller, Outcome
from uas_plugin.annotate.options import AnnotateOptions
from uas_plugin.annotate.prompt import load_prompt
from uas_plugin.annotate.shards import Shards, chunks, digest, only_run
from uas_plugin.data.manifests import load_cuts
from uas_plugin.errors import UASError
from uas_plugin.progress import progress

# While the last answers of a shard are waited for, the next ones are asked: no request in flight
# is missing at a seam. More would only cost memory.
OPEN_SHARDS = 3


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
    with only_run(output), Cache(cache_path or output / "cache.sqlite") as cache:
        run = _Run(cuts_path, output, options, cache, total)
        start = time.monotonic()
        failure: UASError | None = None
        try:
            asyncio.run(run.go())
        except* UASError as errors:
            failure = first_error(errors)
        run.shards.merge(sorted(run.finished), partial=failure is not None)
        if failure is None:
            run.shards.drop_after(len(run.finished))
        cost = {**run.spent(), "seconds": round(time.monotonic() - start, 2)}
        report = write_report(output, options, cost, cache.totals(), complete=failure is None)
        if failure is not None:
            raise UASError(
                f"{str(failure).rstrip('.')}. {run.done} of {total} cuts are done and every answer"
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


def fingerprint(options: AnnotateOptions) -> str:
    """Hash of every option that can change a label."""
    names = (
        "model", "caption_model", "temperature", "max_tokens", "seed", "response_format", "repair",
        "asks", "words_base", "words_per_second", "events_base", "events_per_second",
        "chars_per_second",
    )  # fmt: skip
    prompts = [load_prompt(name).sha256 for name in (options.prompt, options.caption_prompt)]
    return content_key([prompts, {name: getattr(options, name) for name in names}])


class _Run:
    """The state of one call: which shards are finished, and how far it is."""

    def __init__(
        self, cuts_path: Path, output: Path, options: AnnotateOptions, cache: Cache, total: int
    ) -> None:
        self.cuts_path, self.options, self.cache, self.total = cuts_path, options, cache, total
        self.shards = Shards(output)
        self.finished: set[int] = set()
        self.done = 0
        self.labeller: Labeller | None = None
        self._clients: list[ChatClient] = []

    async def go(self) -> None:
        """Label all shards that are not finished."""
        mark = fingerprint(self.options)
        self._connect()
        assert self.labeller is not None
        gate = asyncio.Semaphore(self.options.concurrency)
        room = asyncio.Semaphore(OPEN_SHARDS)
        numbered = enumerate(chunks(load_cuts(self.cuts_path), self.options.shard_size))
        with _bar(self.total) as bar:
            try:
                async with asyncio.TaskGroup() as group:
                    # Reading and hashing leave the loop to the requests on their way.
                    while item := await asyncio.to_thread(_next, numbered, mark):
                        index, chunk, made_from = item
                        if self.shards.is_done(index, made_from):
                            self._finish(index, len(chunk))
                            bar(len(chunk))
                            continue
                        await room.acquire()
                        group.create_task(self._shard(index, chunk, made_from, gate, room, bar))
            finally:
                for client in self._clients:
                    await client.close()

    def _connect(self) -> None:
        options = self.options
        assert options.url and options.model
        writer = ChatClient(
            options.url, options.model, options.api_key_env, options, response_schema()
        )
        self._clients.append(writer)
        captioner = None
        if options.caption_model:
            captioner = ChatClient(
                options.caption_url or options.url,
                options.caption_model,
                options.caption_api_key_env,
                options,
                None,
            )
            self._clients.append(captioner)
        self.labeller = Labeller(options, self.cache, writer, captioner)

    async def _shard(
        self, index: int, chunk: list[Any], made_from: str, gate: Any, room: Any, bar: Any
    ) -> None:
        async def one(cut: Any) -> Outcome:
            assert self.labeller is not None
            async with gate:
                outcome = await self.labeller.label(cut)
            bar(1)
            return outcome

        # Semaphores serve in order, so the cuts of an earlier shard go first.
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(cut)) for cut in chunk]
        outcomes = [task.result() for task in tasks]
        await asyncio.to_thread(self.shards.write, index, made_from, outcomes)
        self._finish(index, len(chunk))
        room.release()

    def _finish(self, index: int, cuts: int) -> None:
        self.finished.add(index)
        self.done += cuts

    def spent(self) -> dict[str, int]:
        """Requests of this call."""
        return {
            "requests": sum(client.requests for client in self._clients),
            "retries": sum(client.retries for client in self._clients),
            "cache_hits": self.labeller.hits if self.labeller else 0,
        }


def _next(numbered: Iterator[tuple[int, list[Any]]], mark: str) -> Any:
    """The next (index, cuts, digest), or None at the end."""
    item = next(numbered, None)
    return None if item is None else (*item, digest(item[1], mark))


@contextlib.contextmanager
def _bar(total: int) -> Iterator[Any]:
    """A function that moves the progress on by so many cuts."""
    ticks = progress(itertools.repeat(None), total, "annotate")
    next(ticks)
    try:
        yield lambda count: next(itertools.islice(ticks, count - 1, None)) if count else None
    finally:
        ticks.close()  # type: ignore[attr-defined]


def response_schema() -> dict[str, Any]:
    """JSON schema of the Unified Audio Schema, as servers that constrain answers take it."""
    from uas_plugin.schema import UnifiedAudioSchema

    return UnifiedAudioSchema.model_json_schema(by_alias=True)
