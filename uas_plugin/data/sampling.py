"""Batches of cuts, from a manifest that is read lazily; random numbers by name."""

from __future__ import annotations

import atexit
import functools
import hashlib
import multiprocessing
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from uas_plugin.data.manifests import load_cuts
from uas_plugin.errors import UASError

if TYPE_CHECKING:
    from lhotse import CutSet

MIN_CUT = 0.1
# Cuts held while shuffling and forming buckets; a larger manifest is shuffled within this window.
BUFFER = 2_000


def seeded(*key: Any) -> np.random.Generator:
    """A random generator that depends on ``key`` alone (not on order, process or hash seed)."""
    digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def corpora(value: Any) -> list[tuple[str, float]]:
    """``(manifest, weight)`` of each corpus, from one path or a list of {cuts, weight}.

    Raises:
        UASError: the list is malformed.
    """
    if isinstance(value, str):
        return [(value, 1.0)]
    found = []
    for item in value or []:
        if not isinstance(item, dict) or set(item) - {"cuts", "weight"} or "cuts" not in item:
            raise UASError(f"training cuts: expected a list of {{cuts, weight}}, found {item!r}")
        weight = float(item.get("weight", 1.0))
        if not weight > 0:
            raise UASError(f"training cuts: the weight of {item['cuts']} must be above 0")
        found.append((item["cuts"], weight))
    if not found:
        raise UASError("training cuts: the list is empty")
    return found


def all_cuts(value: Any) -> CutSet:
    """Every cut of all corpora once, lazily, one corpus after another."""
    sets = [load_cuts(path) for path, _ in corpora(value)]
    return functools.reduce(lambda a, b: a + b, sets)


def mixed(value: Any, seed: int, max_cut: float = 30.0) -> CutSet:
    """An endless stream of cuts in which the corpora have the shares of their weights.

    Args:
        value: one manifest, or a list of {cuts, weight} (see :func:`corpora`).
        seed: of the draw between the corpora.
        max_cut: cuts longer than so many seconds, or shorter than 0.1 s, are left out.

    Raises:
        UASError: a corpus has no cut of that length.
    """
    from lhotse import CutSet

    sets, weights = [], []
    for path, weight in corpora(value):
        fitting = _fitting(load_cuts(path), max_cut)
        if next(iter(fitting), None) is None:
            raise UASError(
                f"{path}: no cut has a duration from {MIN_CUT} to {max_cut} s: nothing to train on"
            )
        sets.append(fitting.repeat(preserve_id=True))
        weights.append(weight)
    return sets[0] if len(sets) == 1 else CutSet.mux(*sets, weights=weights, seed=seed)


def bucketed_batches(
    cuts: CutSet,
    *,
    max_duration: float,
    seed: int,
    num_buckets: int = 8,
    rank: int = 0,
    world_size: int = 1,
) -> Any:
    """Endless training batches of like duration, by Lhotse's dynamic bucketing.

    At the end of a finite stream the bucketing sampler drops what does not fill a batch, which on a
    small corpus is a good part of it: hence an endless one.

    Args:
        cuts: an endless stream (:func:`mixed`).
        max_duration: seconds of audio in a batch.
        seed: orders the stream; every rank must give the same one.
        num_buckets: groups of like duration.
        rank, world_size: this process; ranks get different batches.

    Returns:
        A sampler that yields one CutSet a batch.
    """
    from lhotse.dataset import DynamicBucketingSampler

    return DynamicBucketingSampler(
        cuts,
        max_duration=max_duration,
        num_buckets=num_buckets,
        shuffle=True,
        seed=seed,
        buffer_size=BUFFER,
        shuffle_buffer_size=BUFFER,
        num_cuts_for_bins_estimate=BUFFER,
        rank=rank,
        world_size=world_size,
    )


def one_pass(
    cuts: CutSet,
    *,
    max_duration: float,
    seed: int = 0,
    shuffle: bool = False,
    max_cut: float = 30.0,
) -> Any:
    """Every cut once, in batches of at most ``max_duration`` seconds (validation, statistics)."""
    from lhotse.dataset import DynamicCutSampler

    return DynamicCutSampler(
        _fitting(cuts, max_cut),
        max_duration=max_duration,
        shuffle=shuffle,
        seed=seed,
        drop_last=False,
        rank=0,
        world_size=1,
    )


def _fitting(cuts: CutSet, max_cut: float) -> CutSet:
    # A named function: loader processes must be able to unpickle it.
    return cuts.filter(functools.partial(_fits, max_cut=max_cut))


def _fits(cut: Any, max_cut: float) -> bool:
    return MIN_CUT <= cut.duration <= max_cut


def loaded(dataset: Any, sampler: Any, num_workers: int = 0) -> Iterator[Any]:
    """``dataset[batch of cuts]`` for every batch, read ahead by ``num_workers`` processes."""
    from torch.utils.data import DataLoader

    if num_workers:
        atexit.unregister(_end_readers)  # once is enough
        atexit.register(_end_readers)
    return iter(
        DataLoader(
            dataset,
            sampler=sampler,
            batch_size=None,
            num_workers=num_workers,
            prefetch_factor=4 if num_workers else None,
            worker_init_fn=_leave_signals,
        )
    )


def _end_readers() -> None:
    """Readers that are left when their trainer ends: the SIGTERM of Python's exit is lost on them,
    and it would wait for them for ever."""
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()


def _leave_signals(_worker: int) -> None:
    """A signal to stop goes to all processes of a job: readers work on until their trainer ends."""
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
