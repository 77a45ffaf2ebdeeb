"""Labelling the shards of a manifest in one event loop: all of them, or one process's share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from uas_plugin.annotate.cache import Cache, content_key
from uas_plugin.annotate.client import ChatClient, first_error
from uas_plugin.annotate.label import Labeller, Outcome
from uas_plugin.annotate.options import AnnotateOptions
from uas_plugin.annotate.prompt import load_prompt
from uas_plugin.annotate.shards import Shards, chunks, digest
from uas_plugin.data.manifests import load_cuts
from uas_plugin.errors import UASError

# While the last answers of a shard are waited for, the next ones are asked: no request in flight
# is missing at a seam. More would only cost memory.
OPEN_SHARDS = 3


@dataclass
class Tally:
    """What a share of the work came to.

    Attributes:
        finished: numbers of the shards that are complete. done: their cuts.
        requests, retries, cache_hits: of this call.
        failure: why it stopped early, if it did.
    """

    finished: set[int] = field(default_factory=set)
    done: int = 0
    requests: int = 0
    retries: int = 0
    cache_hits: int = 0
    failure: str | None = None

    def add(self, other: Tally) -> None:
        """Take another share's figures in."""
        self.finished |= other.finished
        self.done += other.done
        self.requests += other.requests
        self.retries += other.retries
        self.cache_hits += other.cache_hits
        self.failure = self.failure or other.failure


def label_shards(
    cuts_path: Path,
    output: Path,
    options: AnnotateOptions,
    cache: Cache,
    bar: Callable[[int], Any],
    share: tuple[int, int] = (0, 1),
) -> Tally:
    """Label the shards that are not finished.

    Args:
        bar: called with so many cuts that are done.
        share: (k, n): shards k, k + n, k + 2 n, ...
    Returns:
        What was done; a failure stands in it, since what was finished before counts all the same.
    """
    run = _Run(cuts_path, output, options, cache, bar, share)
    try:
        asyncio.run(run.go())
    except* UASError as errors:
        run.tally.failure = str(first_error(errors))
    run.count()
    return run.tally


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
    """The state of one call: its clients, and how far it is."""

    def __init__(
        self,
        cuts_path: Path,
        output: Path,
        options: AnnotateOptions,
        cache: Cache,
        bar: Callable[[int], Any],
        share: tuple[int, int],
    ) -> None:
        self.cuts_path, self.options, self.cache = cuts_path, options, cache
        self.bar, self.share = bar, share
        self.shards = Shards(output)
        self.tally = Tally()
        self.labeller: Labeller | None = None
        self._clients: list[ChatClient] = []

    async def go(self) -> None:
        """Label all shards of the share that are not finished."""
        mark = fingerprint(self.options)
        self._connect()
        gate = asyncio.Semaphore(self.options.concurrency)
        room = asyncio.Semaphore(OPEN_SHARDS)
        numbered = enumerate(chunks(load_cuts(self.cuts_path), self.options.shard_size))
        mine = islice(numbered, self.share[0], None, self.share[1])
        try:
            async with asyncio.TaskGroup() as group:
                # Reading and hashing leave the loop to the requests on their way.
                while item := await asyncio.to_thread(_next, mine, mark):
                    index, chunk, made_from = item
                    if self.shards.is_done(index, made_from):
                        self._finish(index, len(chunk))
                        self.bar(len(chunk))
                        continue
                    await room.acquire()
                    group.create_task(self._shard(index, chunk, made_from, gate, room))
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
        self, index: int, chunk: list[Any], made_from: str, gate: Any, room: Any
    ) -> None:
        async def one(cut: Any) -> Outcome:
            assert self.labeller is not None
            async with gate:
                outcome = await self.labeller.label(cut)
            self.bar(1)
            return outcome

        # Semaphores serve in order, so the cuts of an earlier shard go first.
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(cut)) for cut in chunk]
        outcomes = [task.result() for task in tasks]
        await asyncio.to_thread(self.shards.write, index, made_from, outcomes)
        self._finish(index, len(chunk))
        room.release()

    def _finish(self, index: int, cuts: int) -> None:
        self.tally.finished.add(index)
        self.tally.done += cuts

    def count(self) -> None:
        """Put the requests of this call into the tally."""
        self.tally.requests = sum(client.requests for client in self._clients)
        self.tally.retries = sum(client.retries for client in self._clients)
        self.tally.cache_hits = self.labeller.hits if self.labeller else 0


def _next(numbered: Iterator[tuple[int, list[Any]]], mark: str) -> Any:
    """The next (index, cuts, digest), or None at the end."""
    item = next(numbered, None)
    return None if item is None else (*item, digest(item[1], mark))


def response_schema() -> dict[str, Any]:
    """JSON schema of the Unified Audio Schema, as servers that constrain answers take it."""
    from uas_plugin.schema import UnifiedAudioSchema

    return UnifiedAudioSchema.model_json_schema(by_alias=True)
