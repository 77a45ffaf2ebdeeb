"""Batches of cuts of like length, from a manifest that is read lazily."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lhotse import CutSet

SHUFFLE_BUFFER = 20_000


def bucketed_batches(
    cuts: CutSet,
    *,
    max_duration: float,
    seed: int,
    num_buckets: int = 10,
    shuffle: bool = True,
    min_cut: float = 0.1,
    max_cut: float = 30.0,
    rank: int = 0,
    world_size: int = 1,
) -> Any:
    """Lhotse's dynamic bucketing sampler over one pass of ``cuts``.

    Args:
        cuts: cuts, lazy or eager; those shorter than ``min_cut`` or longer than ``max_cut``
            seconds are left out.
        max_duration: seconds of audio in a batch.
        seed: orders the pass; every rank must give the same one.
        num_buckets: groups of like duration (fewer where there are few cuts).
        rank, world_size: this process; ranks get different batches.

    Returns:
        A sampler that yields one CutSet a batch.
    """
    from lhotse.dataset import DynamicBucketingSampler

    kept = cuts.filter(lambda cut: min_cut <= cut.duration <= max_cut)
    return DynamicBucketingSampler(
        kept,
        max_duration=max_duration,
        num_buckets=num_buckets,
        shuffle=shuffle,
        seed=seed,
        buffer_size=SHUFFLE_BUFFER,
        shuffle_buffer_size=SHUFFLE_BUFFER,
        drop_last=False,
        sync_buckets=False,
        rank=rank,
        world_size=world_size,
        # Estimating bucket borders from fewer cuts than there are buckets fails.
        num_cuts_for_bins_estimate=10_000,
    )


def loaded(dataset: Any, sampler: Any, num_workers: int = 0) -> Iterator[Any]:
    """``dataset[batch of cuts]`` for every batch, read ahead by ``num_workers`` processes."""
    from torch.utils.data import DataLoader

    return iter(
        DataLoader(
            dataset,
            sampler=sampler,
            batch_size=None,
            num_workers=num_workers,
            prefetch_factor=4 if num_workers else None,
        )
    )
