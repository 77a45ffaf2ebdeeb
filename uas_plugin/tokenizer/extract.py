"""Tokens of any number of audios: read ahead, sort within a window, pack, encode, give in order.

Worker threads decode and resample (both release the interpreter's lock) while the encoder runs.
Audios are collected into windows; within a window the chunks are sorted by length and packed until
a batch, padding included, fills its budget. One window is encoded while the next is read: about two
windows of audio are in memory, however many there are in all (one audio is held whole: 3 hours at
16 kHz are 0.7 GB).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

from uas_plugin.data.audio import seconds_of
from uas_plugin.errors import UASError
from uas_plugin.tokenizer.features import CHUNK_SECONDS

Result: TypeAlias = np.ndarray | UASError


@dataclass(frozen=True)
class Batching:
    """How audios are batched.

    Attributes:
        batch_seconds: audio of a batch, padding included; a single longer chunk is one batch.
        window_seconds: audio that is sorted by length together.
        window_items: at most so many audios in a window (short ones would make it long to fill).
        num_workers: threads that read.
    """

    batch_seconds: float = 120.0
    window_seconds: float = 1200.0
    window_items: int = 512
    num_workers: int = 2

    def __post_init__(self) -> None:
        for name in ("batch_seconds", "window_seconds", "window_items", "num_workers"):
            if not getattr(self, name) > 0:
                raise UASError(f"{name} must be above 0, not {getattr(self, name)!r}")

    @classmethod
    def of(cls, batch_size: int) -> Batching:
        """The batching that fits ``batch_size`` chunks of 30 s."""
        if batch_size < 1:
            raise UASError(f"batch_size must be at least 1, not {batch_size}")
        seconds = float(batch_size * CHUNK_SECONDS)
        return cls(batch_seconds=seconds, window_seconds=max(10 * seconds, 1200.0))


class ChunkEncoder(Protocol):
    """What is needed of a tokenizer."""

    sampling_rate: int

    def waveform(self, audio: Any, name: str) -> np.ndarray:
        """(samples,) float32 at ``sampling_rate``; raises UASError."""
        ...

    def encode_chunks(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Ids of one batch."""
        ...


def extract(
    tokenizer: ChunkEncoder, audios: Iterable[tuple[str, Any]], batching: Batching
) -> Iterator[tuple[str, Result]]:
    """``(key, ids)`` in the order of ``audios``; an audio that cannot be used gives its error."""

    def read(item: tuple[str, Any]) -> tuple[str, Result]:
        key, audio = item
        try:
            return key, tokenizer.waveform(audio, key)
        except UASError as error:
            return key, error

    with ThreadPoolExecutor(batching.num_workers, thread_name_prefix="audio") as pool:
        window: list[tuple[str, Result]] = []
        seconds = 0.0
        for key, waveform in _read_ahead(pool, read, audios, batching):
            window.append((key, waveform))
            if not isinstance(waveform, UASError):
                seconds += len(waveform) / tokenizer.sampling_rate
            if seconds < batching.window_seconds and len(window) < batching.window_items:
                continue
            yield from _encode_window(tokenizer, window, batching)
            window, seconds = [], 0.0
        yield from _encode_window(tokenizer, window, batching)


def _read_ahead(
    pool: ThreadPoolExecutor,
    read: Callable[[tuple[str, Any]], tuple[str, Result]],
    audios: Iterable[tuple[str, Any]],
    batching: Batching,
) -> Iterator[tuple[str, Result]]:
    """``read`` of every audio, in order; about a window of them is begun before it is asked for."""
    running: deque[tuple[Future, float]] = deque()
    begun = 0.0
    try:
        for item in audios:
            seconds = seconds_of(item[1])
            while running and (
                begun + seconds > batching.window_seconds or len(running) >= batching.window_items
            ):
                future, took = running.popleft()
                begun -= took
                yield future.result()
            running.append((pool.submit(read, item), seconds))
            begun += seconds
        while running:
            yield running.popleft()[0].result()
    finally:
        for future, _ in running:
            future.cancel()


def _encode_window(
    tokenizer: ChunkEncoder, window: list[tuple[str, Result]], batching: Batching
) -> Iterator[tuple[str, Result]]:
    size = CHUNK_SECONDS * tokenizer.sampling_rate
    chunks: list[tuple[int, np.ndarray]] = []
    for index, (_, waveform) in enumerate(window):
        if not isinstance(waveform, UASError):
            chunks += [(index, waveform[at : at + size]) for at in range(0, len(waveform), size)]
    parts: list[np.ndarray | None] = [None] * len(chunks)
    budget = int(batching.batch_seconds * tokenizer.sampling_rate)
    for batch in packed([len(chunk) for _, chunk in chunks], budget):
        rows = tokenizer.encode_chunks([chunks[k][1] for k in batch])
        for k, ids in zip(batch, rows, strict=True):
            parts[k] = ids
    joined: list[list[np.ndarray]] = [[] for _ in window]
    for (index, _), ids in zip(chunks, parts, strict=True):
        assert ids is not None
        joined[index].append(ids)
    empty = np.zeros(0, dtype=np.int64)
    for (key, waveform), ids_of in zip(window, joined, strict=True):
        if isinstance(waveform, UASError):
            yield key, waveform
        else:
            yield key, np.concatenate(ids_of) if ids_of else empty


def packed(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Batches of positions, longest first, whose padded size stays within ``budget``.

    The longest go first so that a batch too large for the memory fails at once.
    """
    batch: list[int] = []
    for k in sorted(range(len(lengths)), key=lambda k: -lengths[k]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget:
            yield batch
            batch = []
        batch.append(k)
    if batch:
        yield batch
